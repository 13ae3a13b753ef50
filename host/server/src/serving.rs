//! What workers serve from: a deployment, and for a while a second one that some of the requests get.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use tidegate_model::canary::{Bounds, Observed, Split};
use tokio::sync::Notify;

use crate::deploy::Deployed;

/// What all workers serve from; swapped as a whole.
pub struct Serving {
    pub stable: Arc<Deployed>,
    pub canary: Option<Arc<Canary>>,
    /// Who serves from it by now.
    pub adopted: Adopted,
}

/// Counts the workers that have taken something over.
#[derive(Debug, Default)]
pub struct Adopted {
    workers: AtomicUsize,
    changed: Notify,
}

impl Adopted {
    /// A worker serves its next request from it.
    pub fn by_one_more(&self) {
        self.workers.fetch_add(1, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Waits until so many do.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn by(&self, workers: usize) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable(); // before looking, so that none falls between
            if self.workers.load(Ordering::Acquire) >= workers {
                return;
            }
            changed.await;
        }
    }

    /// Whether so many do.
    pub fn is_by(&self, workers: usize) -> bool {
        self.workers.load(Ordering::Acquire) >= workers
    }
}

/// A second deployment, with another version of one plugin. A request is served by one of both, from its first step to its
/// record.
pub struct Canary {
    /// What nodes know it by: when it began at its origin, in milliseconds since 1970.
    pub id: u64,
    pub deployed: Arc<Deployed>,
    pub split: Split,
    /// The plugin that differs.
    pub plugin: String,
    /// The hash of its new version.
    pub version: String,
    pub began: Instant,
    pub terms: Terms,
    /// What requests of each side came to while both served.
    pub stable_counts: Counts,
    pub canary_counts: Counts,
    /// Faults of the old version when the new one came.
    faults_before: u64,
}

/// How a canary ends by itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terms {
    /// When it becomes the only version; never, where absent.
    pub promote_after: Option<Duration>,
    /// What it is rolled back for.
    pub bounds: Bounds,
}

/// Responses of one side. Shared by the workers, unlike the metrics, since it is there for as long as a canary is.
#[derive(Debug, Default)]
pub struct Counts {
    requests: AtomicU64,
    failures: AtomicU64,
    latency_ns: AtomicU64,
}

/// A side of a canary, for who counts.
pub enum Side {
    Stable(Arc<Canary>),
    Canary(Arc<Canary>),
}

impl Serving {
    /// Two deployments serve.
    pub fn with_canary(stable: Arc<Deployed>, canary: Canary) -> Self {
        Self {
            stable,
            canary: Some(Arc::new(canary)),
            adopted: Adopted::default(),
        }
    }

    /// One deployment serves everything.
    pub fn only(stable: Arc<Deployed>) -> Self {
        Self {
            stable,
            canary: None,
            adopted: Adopted::default(),
        }
    }

    /// All deployments that serve.
    pub fn deployments(&self) -> impl Iterator<Item = &Arc<Deployed>> {
        let canary = self.canary.iter().map(|canary| &canary.deployed);
        std::iter::once(&self.stable).chain(canary)
    }
}

impl Canary {
    /// `deployed`, beside `stable`, from now on.
    pub fn new(
        id: u64,
        stable: &Deployed,
        deployed: Arc<Deployed>,
        (plugin, version): (String, String),
        split: Split,
        terms: Terms,
    ) -> Self {
        Self {
            id,
            faults_before: faults(stable, &plugin),
            deployed,
            split,
            plugin,
            version,
            began: Instant::now(),
            terms,
            stable_counts: Counts::default(),
            canary_counts: Counts::default(),
        }
    }

    /// What became of the old version's requests, and of the new one's, since both serve.
    pub fn observed(&self, stable: &Deployed) -> (Observed, Observed) {
        let old = faults(stable, &self.plugin).saturating_sub(self.faults_before);
        let new = faults(&self.deployed, &self.plugin);
        (
            self.stable_counts.observed(old),
            self.canary_counts.observed(new),
        )
    }
}

impl Counts {
    fn count(&self, status: StatusCode, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.failures
            .fetch_add(u64::from(status.is_server_error()), Ordering::Relaxed);
        self.latency_ns.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    fn observed(&self, faults: u64) -> Observed {
        Observed {
            requests: self.requests.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            latency: Duration::from_nanos(self.latency_ns.load(Ordering::Relaxed)),
            faults,
        }
    }
}

impl Side {
    /// Counts a response.
    pub fn count(&self, status: StatusCode, latency: Duration) {
        match self {
            Self::Stable(canary) => canary.stable_counts.count(status, latency),
            Self::Canary(canary) => canary.canary_counts.count(status, latency),
        }
    }
}

/// Of the plugin's calls, those too that were not made after many faults in a row.
fn faults(deployed: &Deployed, plugin: &str) -> u64 {
    let bindings = deployed.bindings.iter().zip(&deployed.snapshot.bindings);
    bindings
        .filter(|(_, spec)| spec.plugin == plugin)
        .map(|(binding, _)| binding.account.faults() + binding.account.refused())
        .sum()
}
