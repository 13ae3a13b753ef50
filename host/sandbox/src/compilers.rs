//! The threads that load components. While the node serves they give way to all others of the machine, so that a version that
//! is swapped in takes time from nobody's request; and what they needed memory for, they give back.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

use crate::threads;

/// As many threads as there are cores.
pub(crate) struct Compilers {
    threads: ThreadPool,
    /// Loads under way.
    loads: AtomicUsize,
    give_back: fn(),
}

impl Compilers {
    /// Threads with the priority of all others. Where nothing is left to load, each calls `give_back`.
    ///
    /// # Errors
    ///
    /// Where the system gives no threads.
    pub(crate) fn start(give_back: fn()) -> Result<Self, ThreadPoolBuildError> {
        let threads = ThreadPoolBuilder::new()
            .thread_name(|place| format!("compile-{place}"))
            .build()?;
        Ok(Self {
            threads,
            loads: AtomicUsize::new(0),
            give_back,
        })
    }

    /// Loads something on these threads, and waits for it.
    pub(crate) fn run<R: Send>(&self, load: impl FnOnce() -> R + Send) -> R {
        let _load = Load::begin(self);
        self.threads.install(load)
    }

    /// Makes the threads ones of low priority, for good.
    pub(crate) fn give_way(&self) {
        self.threads.broadcast(|_| threads::give_way());
    }
}

/// A load under way, however it ends.
struct Load<'a>(&'a Compilers);

impl<'a> Load<'a> {
    fn begin(compilers: &'a Compilers) -> Self {
        compilers.loads.fetch_add(1, Ordering::Relaxed);
        Self(compilers)
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        if self.0.loads.fetch_sub(1, Ordering::Relaxed) == 1 {
            // On every thread: each has a heap of its own, which is looked through only where that thread allocates. Else up to
            // 20 MiB would stay for each until the next swap, and on which threads they are would be chance.
            let give_back = self.0.give_back;
            self.0.threads.spawn_broadcast(move |_| give_back());
        }
    }
}
