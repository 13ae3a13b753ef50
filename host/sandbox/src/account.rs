//! What a binding, or a function, did and costs: counters over all threads.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Counters of one binding or function. What every call adds to comes first, on one line of the processor's cache.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Account {
    calls: AtomicU64,
    nanoseconds: AtomicU64,
    busy_nanoseconds: AtomicU64,
    faults: AtomicU64,
    refused: AtomicU64,
    started: AtomicU64,
    dropped: AtomicU64,
    memory_bytes: AtomicU64,
    host_calls: [AtomicU64; Capability::ALL.len()],
}

/// A capability of the host, whose calls are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    ApiKeys,
    Crypto,
    HttpClient,
    Jwks,
    Log,
    LogOutput,
    Metrics,
    Quota,
    RateLimit,
    Secrets,
    SharedCache,
    /// `wasi:keyvalue`.
    Table,
}

impl Capability {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::ApiKeys,
        Self::Crypto,
        Self::HttpClient,
        Self::Jwks,
        Self::Log,
        Self::LogOutput,
        Self::Metrics,
        Self::Quota,
        Self::RateLimit,
        Self::Secrets,
        Self::SharedCache,
        Self::Table,
    ];

    /// The WIT interface's name; `table` for those of `wasi:keyvalue`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ApiKeys => "api-keys",
            Self::Crypto => "crypto",
            Self::HttpClient => "http-client",
            Self::Jwks => "jwks",
            Self::Log => "log",
            Self::LogOutput => "log-output",
            Self::Metrics => "metrics",
            Self::Quota => "quota",
            Self::RateLimit => "rate-limit",
            Self::Secrets => "secrets",
            Self::SharedCache => "shared-cache",
            Self::Table => "table",
        }
    }
}

impl Account {
    /// Step calls, faulty ones too.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Wall-clock time of all calls, waiting included.
    pub fn time(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed))
    }

    /// The time in which calls held a worker's thread, less than that by what they waited. It is CPU time, but for what the
    /// system took the thread away for: the thread's own clock costs a system call, 0.6 µs, twice, and a call 3.
    pub fn busy(&self) -> Duration {
        Duration::from_nanos(self.busy_nanoseconds.load(Ordering::Relaxed))
    }

    /// Calls that ended in a fault.
    pub fn faults(&self) -> u64 {
        self.faults.load(Ordering::Relaxed)
    }

    /// Calls that were not made, since the circuit was open.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Instances made so far.
    pub fn instances_started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// Instances alive.
    pub fn instances(&self) -> u64 {
        self.instances_started()
            .saturating_sub(self.dropped.load(Ordering::Relaxed))
    }

    /// Linear memory of all instances alive.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes.load(Ordering::Relaxed)
    }

    /// Calls of a capability of the host's.
    pub fn host_calls(&self, capability: Capability) -> u64 {
        self.host_calls[capability as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn host_called(&self, capability: Capability) {
        self.host_calls[capability as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn call_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn memory_grew(&self, bytes: usize) {
        self.memory_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn memory_was_freed(&self, bytes: usize) {
        self.memory_bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn instance_started(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn instance_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Makes a call that began at `began`, and keeps account of it.
    ///
    /// # Cancel safety
    ///
    /// A call that is dropped is not counted.
    pub(crate) async fn of_call<T, E>(
        &self,
        began: Instant,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let mut call = pin!(call);
        let (mut resumed, mut busy, mut ended) = (Some(began), Duration::ZERO, began);
        let answer = poll_fn(|cx| {
            // The first time begins with the call: most calls are over with it, and read the clock once more.
            let from = resumed.take().unwrap_or_else(Instant::now);
            let answer = call.as_mut().poll(cx);
            ended = Instant::now();
            busy += ended.saturating_duration_since(from);
            answer
        })
        .await;
        let took = ended.saturating_duration_since(began);
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.nanoseconds
            .fetch_add(nanoseconds(took), Ordering::Relaxed);
        self.busy_nanoseconds
            .fetch_add(nanoseconds(busy), Ordering::Relaxed);
        if answer.is_err() {
            self.faults.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waiting_is_time_and_holds_no_thread() {
        let account = Account::default();
        let waits = async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            std::thread::sleep(Duration::from_millis(5));
            Err::<(), ()>(())
        };
        account.of_call(Instant::now(), waits).await.unwrap_err();
        assert_eq!((account.calls(), account.faults()), (1, 1));
        assert!(account.busy() >= Duration::from_millis(5));
        assert!(account.busy() <= account.time());
    }
}
