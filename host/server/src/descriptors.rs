//! How many sockets and files the node may have open.

use std::io;

/// Asks the system for as many descriptors as it may give this process.
///
/// What a process gets without asking, often 1,024, is for programs that use select(2); a gateway needs one for each connection, to
/// viewers and to upstreams. Where the system refuses, the node serves with what it has. Source: getrlimit(2).
pub fn take_all() {
    if let Err(error) = try_take_all() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

fn try_take_all() -> io::Result<()> {
    let mut limit = limit()?;
    limit.rlim_cur = limit.rlim_max;
    set(&limit)
}

fn limit() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the system writes to what lives until the call returns.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    Ok(limit)
}

fn set(limit: &libc::rlimit) -> io::Result<()> {
    // SAFETY: the system reads what lives until the call returns.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, limit) })
}

fn check(returned: libc::c_int) -> io::Result<()> {
    match returned {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_may_be_had_is_taken() {
        let mut limited = limit().unwrap();
        limited.rlim_cur = limited.rlim_max / 2; // enough for the tests beside this one
        set(&limited).unwrap();
        take_all();
        let limit = limit().unwrap();
        assert_eq!(limit.rlim_cur, limit.rlim_max);
    }
}
