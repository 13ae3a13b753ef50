//! The allocator's heaps.

use tokio::task::{self, JoinHandle};

/// Gives back to the system what this thread's heap holds and does not need.
///
/// The allocator does so by itself where a thread goes on to allocate; one that has little to do from here on keeps what it had.
pub fn give_back() {
    // SAFETY: it has no requirement. Where another allocator is in use, there is nothing to give back.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// Does something for a deployment that takes a while, on the pool for such work, and gives back what it needed memory for.
///
/// That pool has many threads, and which one is next is chance: each would keep some megabytes until its turn comes again.
pub fn spawn_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    task::spawn_blocking(move || {
        let done = work();
        give_back();
        done
    })
}
