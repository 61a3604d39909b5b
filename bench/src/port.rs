//! Free ports on loopback.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result};

/// A port that was free a moment ago: the system's choice for a listener that is closed again.
///
/// Another process may take it before the caller's does. [`crate::server::Server`] tries again with another
/// port when the store says that its address is in use; a sidecar, whose ports stand in its config, does not.
///
/// # Errors
/// The system has no port left.
pub fn free() -> Result<u16> {
    free_ports().map(|[port]| port)
}

/// As [`free`], several at once and all different.
///
/// # Errors
/// As [`free`].
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    let mut listeners = Vec::with_capacity(N);
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on loopback")?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    #[test]
    fn ports_taken_together_differ() {
        let ports: [u16; 50] = super::free_ports().unwrap();
        assert_eq!(HashSet::from(ports).len(), 50);
    }
}
