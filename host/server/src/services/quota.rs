//! Quotas of the node: what it has at hand of each is an atomic, shared by all threads, and found without a lock after a thread's
//! first use.
//!
//! What is at hand was written down before it got there, by the [`ledger`] of this node or of its origin. The [`keeper`] sees
//! to it that there is some, and gives back what is not needed. A request waits only where nothing is at hand.

pub mod keeper;
pub mod ledger;

use std::cell::RefCell;
use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use tidegate_model::quota::{Change, Period, Terms};
use tidegate_sandbox::capabilities::Waiting;
use tidegate_sandbox::wit::{QuotaPeriod, QuotaStanding, QuotaTaken, QuotaTerms};
use tokio::sync::Notify;

use super::known::{self, Known};

/// What a take comes to: at once, or after some waiting.
pub type Taking = Result<QuotaTaken, Waiting<Result<QuotaTaken, String>>>;

/// The quotas that this node uses.
pub struct Quotas {
    /// Which node these are of, for the threads' own tables.
    generation: u64,
    /// By `scope`, NUL, period, NUL, `key`.
    all: Mutex<HashMap<String, Arc<Quota>>>,
    /// Those that the keeper is to look at.
    flagged: Mutex<Vec<Arc<Quota>>>,
    wake: Notify,
}

/// A quota, as far as it is at hand.
struct Quota {
    name: String,
    period: Period,
    /// What is at hand; [`GONE`] once the keeper has dropped it.
    left: AtomicU64,
    /// When that becomes void, in milliseconds since 1970.
    ends: AtomicU64,
    /// What there is beside it, as far as is known.
    beyond: AtomicU64,
    /// Below this the keeper fetches more.
    low: AtomicU64,
    /// The keeper got less than requests waited for: who finds too little is refused, and more is asked for from then on.
    dry_until: AtomicU64,
    /// What somebody was refused since the keeper asked last.
    refused: AtomicU64,
    /// What requests wait for.
    waiting: AtomicU64,
    flagged: AtomicBool,
    limit: AtomicU32,
    offset: AtomicU32,
    /// Why nothing can be had.
    problem: Mutex<Option<String>>,
    /// The keeper has seen to it.
    news: Notify,
}

/// What a thread finds.
enum Attempt {
    Taken {
        taken: QuotaTaken,
        /// The keeper should fetch more.
        flag: bool,
    },
    /// Nothing is known, or too little is at hand.
    Short,
    /// It is another object by now.
    Gone,
}

thread_local! {
    static KNOWN: RefCell<Known<Quota>> = RefCell::default();
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            generation: known::generation(),
            all: Mutex::default(),
            flagged: Mutex::default(),
            wake: Notify::new(),
        }
    }
}

impl Quotas {
    /// Takes `amount` from a quota.
    pub fn take(
        self: &Arc<Self>,
        scope: &str,
        key: &str,
        amount: u32,
        terms: QuotaTerms,
    ) -> Taking {
        let terms = terms_of(terms);
        let parts = [scope, terms.period.as_str(), key];
        let find = |name: &str| self.find(name, terms.period);
        let short = KNOWN.with_borrow_mut(|known| {
            let quota = known.get(self.generation, &parts, find)?;
            match quota.attempt(amount.into(), now()) {
                Attempt::Taken { taken, flag } => {
                    if flag {
                        quota.keep_terms(terms);
                        self.flag(quota);
                    }
                    Some(Ok(taken))
                }
                Attempt::Short => Some(Err(quota.clone())),
                Attempt::Gone => {
                    known.forget();
                    Some(Err(known.get(self.generation, &parts, find)?.clone()))
                }
            }
        });
        match short {
            Some(Ok(taken)) => Ok(taken),
            Some(Err(quota)) => Err(Box::pin(self.clone().wait(quota, amount.into(), terms))),
            None => Err(Box::pin(async { Err(CROWDED.to_owned()) })),
        }
    }

    async fn wait(
        self: Arc<Self>,
        mut quota: Arc<Quota>,
        amount: u64,
        terms: Terms,
    ) -> Result<QuotaTaken, String> {
        loop {
            if let Some(taken) = self.wait_once(&quota, amount, terms).await? {
                return Ok(taken);
            }
            if quota.left.load(Ordering::Acquire) == GONE {
                let found = self.find(&quota.name, terms.period);
                quota = found.ok_or_else(|| CROWDED.to_owned())?;
            }
        }
    }

    /// Takes, or waits until the keeper has seen to the quota.
    async fn wait_once(
        &self,
        quota: &Arc<Quota>,
        amount: u64,
        terms: Terms,
    ) -> Result<Option<QuotaTaken>, String> {
        let _waits = Waits::begin(quota, amount);
        let mut news = pin!(quota.news.notified());
        news.as_mut().enable(); // before looking: what happens after that is not missed
        match quota.attempt(amount, now()) {
            Attempt::Taken { taken, .. } => Ok(Some(taken)),
            Attempt::Gone => Ok(None),
            Attempt::Short => {
                quota.keep_terms(terms);
                self.flag(quota);
                news.await;
                lock(&quota.problem).clone().map_or(Ok(None), Err)
            }
        }
    }

    fn find(&self, name: &str, period: Period) -> Option<Arc<Quota>> {
        let name = bounded(name);
        let mut all = lock(&self.all);
        if !all.contains_key(&name) {
            if all.len() >= IN_USE_MAX {
                return None;
            }
            let quota = Arc::new(Quota::new(name.clone(), period));
            all.insert(name.clone(), quota);
        }
        all.get(&name).cloned()
    }

    /// Has the keeper look at a quota.
    fn flag(&self, quota: &Arc<Quota>) {
        if !quota.flagged.swap(true, Ordering::AcqRel) {
            lock(&self.flagged).push(quota.clone());
            self.wake.notify_one();
        }
    }

    /// Drops a quota that nothing is at hand of, unless somebody waits for it.
    fn drop_idle(&self, quota: &Quota) -> bool {
        let mut all = lock(&self.all);
        let idle = quota.waiting.load(Ordering::Acquire) == 0
            && quota
                .left
                .compare_exchange(0, GONE, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok();
        if idle {
            all.remove(&quota.name);
        }
        idle
    }

    fn is_crowded(&self) -> bool {
        lock(&self.all).len() > IN_USE_MAX / 2
    }
}

impl Quota {
    fn new(name: String, period: Period) -> Self {
        Self {
            name,
            period,
            left: AtomicU64::new(0),
            ends: AtomicU64::new(0),
            beyond: AtomicU64::new(0),
            low: AtomicU64::new(0),
            dry_until: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            flagged: AtomicBool::new(false),
            limit: AtomicU32::new(0),
            offset: AtomicU32::new(0),
            problem: Mutex::default(),
            news: Notify::new(),
        }
    }

    fn attempt(&self, amount: u64, now: u64) -> Attempt {
        let ends = self.ends.load(Ordering::Acquire);
        let mut left = self.left.load(Ordering::Acquire);
        if left == GONE {
            return Attempt::Gone;
        }
        if now >= ends {
            return Attempt::Short;
        }
        let renews_in_ms = u32::try_from(ends - now).unwrap_or(u32::MAX);
        let standing = |left: u64| QuotaStanding {
            left: u32::try_from(left).unwrap_or(u32::MAX),
            renews_in_ms,
        };
        let beyond = self.beyond.load(Ordering::Relaxed);
        while let Some(rest) = left.checked_sub(amount) {
            let order = (Ordering::AcqRel, Ordering::Acquire);
            match self
                .left
                .compare_exchange_weak(left, rest, order.0, order.1)
            {
                Ok(_) => {
                    let low = self.low.load(Ordering::Relaxed);
                    return Attempt::Taken {
                        taken: QuotaTaken::Admitted(standing(rest.saturating_add(beyond))),
                        flag: left >= low && rest < low,
                    };
                }
                Err(GONE) => return Attempt::Gone,
                Err(found) => left = found,
            }
        }
        let dry_until = self.dry_until.load(Ordering::Acquire);
        if dry_until == 0 {
            return Attempt::Short;
        }
        self.refused.fetch_max(amount, Ordering::Relaxed);
        Attempt::Taken {
            taken: QuotaTaken::Exceeded(standing(left)),
            flag: now >= dry_until,
        }
    }

    fn keep_terms(&self, terms: Terms) {
        self.limit.store(terms.limit, Ordering::Relaxed);
        self.offset.store(terms.offset, Ordering::Relaxed);
    }

    fn terms(&self) -> Terms {
        Terms {
            limit: self.limit.load(Ordering::Relaxed),
            offset: self.offset.load(Ordering::Relaxed),
            period: self.period,
        }
    }

    /// What is at hand, which is nothing once the period is over.
    fn at_hand(&self, now: u64) -> u64 {
        match now < self.ends.load(Ordering::Acquire) {
            true => self.left.load(Ordering::Acquire),
            false => 0,
        }
    }

    /// What somebody needs now.
    fn need(&self) -> u64 {
        let refused = self.refused.swap(0, Ordering::Relaxed);
        self.waiting.load(Ordering::Acquire).max(refused)
    }

    /// Takes away up to `amount` of what is at hand.
    fn take_back(&self, amount: u64) -> u64 {
        let order = (Ordering::AcqRel, Ordering::Acquire);
        let taken = self
            .left
            .try_update(order.0, order.1, |left| Some(left - amount.min(left)));
        taken.map_or(0, |left| amount.min(left))
    }

    /// Puts at hand what the keeper got where `need` was needed.
    fn bring(&self, change: Change, need: u64, beyond: u64, ends: u64, now: u64) {
        *lock(&self.problem) = None;
        let (Change::More(got) | Change::Anew(got)) = change;
        let dry_until = if got < need { now + ASK_AGAIN } else { 0 };
        self.beyond.store(beyond, Ordering::Relaxed);
        self.dry_until.store(dry_until, Ordering::Release);
        let left = match change {
            Change::More(more) => self.left.fetch_add(more, Ordering::AcqRel) + more,
            Change::Anew(all) => {
                self.left.store(all, Ordering::Release);
                all
            }
        };
        self.low.store((left / 2).max(1), Ordering::Relaxed);
        self.ends.store(ends, Ordering::Release);
        self.news.notify_waiters();
    }

    /// Nothing can be had.
    fn fail(&self, problem: &str) {
        *lock(&self.problem) = Some(problem.to_owned());
        self.news.notify_waiters();
    }
}

/// Somebody waits for an amount, until this is dropped.
struct Waits<'a> {
    quota: &'a Quota,
    amount: u64,
}

impl<'a> Waits<'a> {
    fn begin(quota: &'a Quota, amount: u64) -> Self {
        quota.waiting.fetch_add(amount, Ordering::AcqRel);
        Self { quota, amount }
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.quota.waiting.fetch_sub(self.amount, Ordering::AcqRel);
    }
}

/// The model's words for what a plugin says.
pub fn terms_of(terms: QuotaTerms) -> Terms {
    Terms {
        limit: terms.limit,
        offset: terms.offset,
        period: match terms.period {
            QuotaPeriod::Day => Period::Day,
            QuotaPeriod::Week => Period::Week,
            QuotaPeriod::Month => Period::Month,
        },
    }
}

/// Milliseconds since 1970, UTC.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// A name that fits into reports and the store: of a longer one, its digest.
fn bounded(name: &str) -> String {
    if name.len() <= NAME_BYTES_MAX {
        return name.to_owned();
    }
    let digest = digest(&SHA256, name.as_bytes());
    digest
        .as_ref()
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const CROWDED: &str = "too many quotas are in use at once";
const GONE: u64 = u64::MAX;
/// Keys that are made of header fields can be long.
pub const NAME_BYTES_MAX: usize = 256;
/// The contract's bound: from half of it on, what rests is dropped at once.
const IN_USE_MAX: usize = 100_000;
/// In milliseconds: how often a quota that is used up is asked for, since others give back and limits are raised.
const ASK_AGAIN: u64 = 250;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1000;

    fn brought(change: Change) -> Quota {
        let quota = Quota::new("q".to_owned(), Period::Day);
        quota.bring(change, 0, 7, now() + 100 * SECOND, now());
        quota
    }

    #[test]
    fn threads_share_what_is_at_hand_and_one_of_them_has_more_fetched() {
        let quota = brought(Change::Anew(50));
        let flags = AtomicU64::new(0);
        let take = || {
            let admitted = |attempt| match attempt {
                Attempt::Taken { taken, flag } => {
                    flags.fetch_add(flag.into(), Ordering::Relaxed);
                    matches!(taken, QuotaTaken::Admitted(_))
                }
                Attempt::Short | Attempt::Gone => false,
            };
            (0..100)
                .filter(|_| admitted(quota.attempt(1, now())))
                .count()
        };
        let admitted: usize = std::thread::scope(|threads| {
            let running: Vec<_> = (0..4).map(|_| threads.spawn(take)).collect();
            let joined = running.into_iter().map(|thread| thread.join());
            joined.map(|admitted| admitted.expect("no panic")).sum()
        });
        assert_eq!((admitted, flags.into_inner()), (50, 1));
    }

    #[test]
    fn who_finds_too_little_waits_unless_there_is_no_more() {
        let shown = |attempt| match attempt {
            Attempt::Taken {
                taken: QuotaTaken::Admitted(it),
                ..
            } => format!("{} left", it.left),
            Attempt::Taken {
                taken: QuotaTaken::Exceeded(it),
                flag,
            } => {
                format!("exceeded, {} left, flag {flag}", it.left)
            }
            Attempt::Short => "short".to_owned(),
            Attempt::Gone => "gone".to_owned(),
        };
        let quota = brought(Change::Anew(3));
        let now = now();
        let attempt = |amount, after| shown(quota.attempt(amount, now + after));
        assert_eq!(attempt(0, 0), "10 left", "with what is elsewhere");
        assert_eq!(attempt(2, 0), "8 left");
        assert_eq!(attempt(2, 0), "short");
        assert_eq!(attempt(1, 200 * SECOND), "short", "the period is over");
        quota.bring(Change::More(0), 2, 0, now + 100 * SECOND, now);
        assert_eq!(attempt(2, 0), "exceeded, 1 left, flag false");
        assert_eq!(attempt(2, ASK_AGAIN), "exceeded, 1 left, flag true");
        assert_eq!(quota.need(), 2, "what was refused is asked for");
        assert_eq!(attempt(1, 0), "0 left");
        assert_eq!(quota.take_back(5), 0);
        quota.left.store(GONE, Ordering::Relaxed);
        assert_eq!(attempt(1, 0), "gone");
    }

    #[test]
    fn long_names_are_cut_to_their_digest() {
        assert_eq!(bounded("a/dev\0day\0k"), "a/dev\0day\0k");
        let (one, other) = (bounded(&"k".repeat(300)), bounded(&"k".repeat(301)));
        assert_eq!((one.len(), one == other), (64, false));
    }
}
