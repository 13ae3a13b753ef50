//! The `tidegate` binary.

use std::process::ExitCode;
use std::time::Instant;

// Requests allocate and free on one thread each; mimalloc's per-thread heaps cost a fifth less there than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Called before the first allocation. By default the allocator has its arenas committed whole, and the system fills those with
/// pages of 2 MiB that are never given back: a node took 26 MiB more from its start on, and another few with some thousand swaps.
#[used]
#[cfg_attr(target_os = "linux", unsafe(link_section = ".init_array"))]
static SET_UP_ALLOCATOR: extern "C" fn() = {
    extern "C" fn set_up() {
        // SAFETY: it writes a number, and nothing else runs yet. What `MIMALLOC_ARENA_EAGER_COMMIT` says goes before it.
        unsafe { libmimalloc_sys::mi_option_set_default(ARENA_EAGER_COMMIT, 0) }
    }
    set_up
};

/// `mi_option_arena_eager_commit`, which the crate has no name for.
const ARENA_EAGER_COMMIT: libmimalloc_sys::mi_option_t = 4;

fn main() -> ExitCode {
    tidegate::cli::run(Instant::now())
}
