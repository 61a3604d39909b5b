//! How many files the process may have open: each link needs two sockets.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit of open files to what is wanted, or as far as the system lets us. What it is now.
pub fn raise_limit(wanted: usize) -> usize {
    let wanted = wanted as u64;
    let now = getrlimit(Resource::Nofile);
    if now.current.is_none_or(|current| current >= wanted) {
        return limit();
    }
    // Beyond the hard limit only with CAP_SYS_RESOURCE.
    let hard = now.maximum.map_or(wanted, |maximum| maximum.max(wanted));
    let all = Rlimit { current: Some(wanted), maximum: now.maximum.map(|_| hard) };
    if setrlimit(Resource::Nofile, all).is_err() {
        let maximum = now.maximum.map_or(wanted, |maximum| maximum.min(wanted));
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(maximum), maximum: now.maximum });
    }
    limit()
}

/// How many are open now; none where `/proc` does not tell.
#[must_use]
pub fn open() -> Option<usize> {
    std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count)
}

fn limit() -> usize {
    let current = getrlimit(Resource::Nofile).current;
    current.and_then(|current| usize::try_from(current).ok()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_and_never_lowered() {
        let before = limit();
        assert_eq!(raise_limit(1), before);
        assert!(raise_limit(before.saturating_add(1)) >= before);
    }
}
