//! Free ports on loopback.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, TcpListener},
    ops::RangeInclusive,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result};

/// Below those that Linux gives to connections (`ip_local_port_range`, 32768 and up), of which any may be taken at
/// any time.
const PORTS: RangeInclusive<u16> = 10_000..=32_700;
const TRIES_MAX: u32 = 10_000;

/// Nothing in this process was given one of these before, so that a port can wait for its listener.
static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A port that was free a moment ago, and is given to nobody else in this process.
///
/// Another process may take it before the caller's does. [`crate::server::Server`] tries again with another
/// port when the store says that its address is in use; a sidecar, whose ports stand in its config, does not.
///
/// # Errors
/// No port is left.
pub fn free() -> Result<u16> {
    free_ports().map(|[port]| port)
}

/// As [`free`], several at once.
///
/// # Errors
/// As [`free`].
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    for port in &mut ports {
        *port = first_free(&[0])?;
    }
    Ok(ports)
}

/// As [`free`], and so is the port that is so far above it.
///
/// # Errors
/// As [`free`].
pub fn free_with_one_above(offset: u16) -> Result<u16> {
    first_free(&[0, offset])
}

fn first_free(offsets: &[u16]) -> Result<u16> {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let given = given.get_or_insert_default();
    let is_free = |port: &u16| {
        PORTS.contains(port)
            && !given.contains(port)
            && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()
    };
    let found = (0..TRIES_MAX).find_map(|_| {
        let port = fastrand::u16(PORTS);
        let ports: Vec<u16> = offsets.iter().map(|offset| port.saturating_add(*offset)).collect();
        ports.iter().all(is_free).then_some(ports)
    });
    let ports = found.context("no free port on loopback")?;
    given.extend(&ports);
    ports.first().copied().context("no port was asked for")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let mut given = HashSet::new();
        for _ in 0..50 {
            let store = free_with_one_above(10_000).unwrap();
            assert!(given.insert(store) && given.insert(store + 10_000));
            assert!(given.insert(free().unwrap()));
        }
    }

    #[test]
    fn one_that_is_in_use_is_not_given() {
        let port = free().unwrap();
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        GIVEN.lock().unwrap().as_mut().unwrap().remove(&port);
        let ports: [u16; 500] = free_ports().unwrap();
        assert!(!ports.contains(&port));
    }
}
