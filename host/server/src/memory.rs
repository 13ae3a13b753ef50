//! The allocator's heaps.

/// Gives back to the system what this thread's heap holds and does not need.
///
/// The allocator does so by itself where a thread goes on to allocate; one that has little to do from here on keeps what it had.
pub fn give_back() {
    // SAFETY: it has no requirement. Where another allocator is in use, there is nothing to give back.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
