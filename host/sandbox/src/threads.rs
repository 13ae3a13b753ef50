//! What threads ask of the system's scheduler. Where it refuses, or does not know of it, they run all the same.

use std::io;
use std::mem;

/// For threads that serve requests: they have a core as soon as there is something to do, for a short turn.
///
/// A thread keeps a core that it has for its turn, some 3 ms where nothing else is said, and one whose turns are shorter need not
/// wait for the end of it. What share of the cores it gets stays as it is. Linux has it since 6.12, and ignores it before.
pub fn take_short_turns() {
    change(|attributes| attributes.sched_runtime = TURN_NS);
}

/// For threads that nobody waits for by the millisecond: they get a seventieth of a core that another one wants whole, and
/// let go of it at once.
pub fn give_way() {
    change(|attributes| {
        attributes.sched_nice = NICENESS;
        attributes.sched_runtime = TURN_NS;
    });
}

fn change(change: impl FnOnce(&mut libc::sched_attr)) {
    if let Err(error) = try_change(change) {
        tracing::debug!(%error, "running like every other thread");
    }
}

/// Changes what the calling thread is scheduled by. Source: sched_setattr(2).
fn try_change(change: impl FnOnce(&mut libc::sched_attr)) -> io::Result<()> {
    let size = size_of::<libc::sched_attr>() as u32;
    // SAFETY: zeros are a value of every one of its fields, all integers.
    let mut attributes: libc::sched_attr = unsafe { mem::zeroed() };
    // SAFETY: the kernel writes as many bytes as it is told, to what lives until the call returns.
    check(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) })?;
    change(&mut attributes);
    // SAFETY: the kernel reads the attributes, which live until the call returns, and as many bytes as their size says.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })
}

fn check(returned: libc::c_long) -> io::Result<()> {
    match returned {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The shortest that Linux takes.
const TURN_NS: u64 = 100_000;
/// The lowest priority that has a share where all cores are busy.
const NICENESS: i32 = 19;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_gives_way_has_the_lowest_priority_and_others_keep_theirs() {
        let niceness = || {
            let mut seen = None;
            try_change(|attributes| seen = Some(attributes.sched_nice)).expect("Linux");
            seen
        };
        let before = niceness();
        std::thread::spawn(move || {
            take_short_turns();
            assert_eq!(niceness(), before);
            give_way();
            assert_eq!(niceness(), Some(NICENESS));
        })
        .join()
        .expect("the thread ends");
        assert_eq!(niceness(), before);
    }
}
