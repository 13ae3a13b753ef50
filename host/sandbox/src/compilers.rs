//! The threads that compile components. They give way to all others of the machine, so that a version that is swapped in
//! takes time from nobody's request.

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// As many threads as there are cores, each of low priority.
///
/// # Errors
///
/// Where the system gives no threads.
pub(crate) fn start() -> Result<ThreadPool, ThreadPoolBuildError> {
    ThreadPoolBuilder::new()
        .thread_name(|place| format!("compile-{place}"))
        .start_handler(|_| give_way())
        .build()
}

/// Makes this thread one of low priority. Where that is refused it compiles all the same.
fn give_way() {
    // On Linux, a priority set for "this process" (0) is that of the calling thread alone (setpriority(2), "C library/kernel
    // differences").
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "compiling with the priority of everything else");
    }
}

/// A thread of this niceness gets a tenth of a core that another one wants whole.
const NICENESS: i32 = 10;
