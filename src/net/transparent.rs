//! Sockets for connections that the kernel hands over: marked, and with addresses that are not ours.
//!
//! All of it needs CAP_NET_ADMIN.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    sync::atomic::{AtomicU16, Ordering::Relaxed},
    time::Duration,
};

use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpSocket, TcpStream, lookup_host};

use super::prepare;

/// Where the ports of connections in a peer's name come from: below the range that Linux gives to a peer's
/// own connections (`net.ipv4.ip_local_port_range`, from 32768). The kernel would mix up one of those and one
/// of ours if they had the same port.
const SOURCE_PORT_MIN: u16 = 16_384;
const SOURCE_PORTS: u16 = 16_384;
/// So many of them may be in use one after the other before a dial is given up.
const SOURCE_PORT_TRIES_MAX: u16 = 64;
const BACKLOG_CONNECTIONS_MAX: i32 = 1024;

/// A listener of one family alone, non-blocking. `transparent`: also for connections to foreign addresses.
///
/// # Errors
/// The system's own, with the address.
pub fn bind(address: SocketAddr, transparent: bool) -> io::Result<TcpListener> {
    let bound = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        if transparent {
            set_transparent(&socket, address.ip())?;
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG_CONNECTIONS_MAX)?;
        Ok(socket.into())
    };
    bound().map_err(|error: io::Error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
    })
}

/// Connects to `host:port` with a mark.
///
/// # Errors
/// The system's own, of the last address of the host; or `TimedOut`.
pub async fn dial_marked(address: &str, mark: u32, limit: Duration) -> io::Result<TcpStream> {
    let dial = async {
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in lookup_host(address).await? {
            let socket = marked(address.ip(), mark)?;
            match socket.connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    };
    within(limit, dial).await
}

/// Connects to an address of this host with a mark, in the name of `from`, at a port of our choice.
///
/// # Errors
/// The system's own; `AddrInUse` where no port is left; or `TimedOut`.
pub async fn dial_in_the_name_of(
    from: IpAddr,
    to: SocketAddr,
    mark: u32,
    limit: Duration,
) -> io::Result<TcpStream> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let dial = async {
        for _ in 0..SOURCE_PORT_TRIES_MAX {
            let port = SOURCE_PORT_MIN.saturating_add(NEXT.fetch_add(1, Relaxed) % SOURCE_PORTS);
            let socket = marked(from, mark)?;
            socket.set_reuseaddr(true)?;
            set_transparent(&SockRef::from(&socket), from)?;
            let connected = match socket.bind(SocketAddr::new(from, port)) {
                Ok(()) => socket.connect(to).await,
                Err(error) => Err(error),
            };
            match connected {
                Err(error) if is_taken(&error) => {}
                other => return other,
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, format!("no port is left to dial from as {from}")))
    };
    within(limit, dial).await
}

async fn within(limit: Duration, dial: impl Future<Output = io::Result<TcpStream>>) -> io::Result<TcpStream> {
    let stream = tokio::time::timeout(limit, dial)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit:?}")))??;
    prepare(&stream)?;
    Ok(stream)
}

fn marked(ip: IpAddr, mark: u32) -> io::Result<TcpSocket> {
    let socket = socket(ip)?;
    let allowed = SockRef::from(&socket).set_mark(mark);
    allowed.map_err(|error| unprivileged("mark a connection", error))?;
    Ok(socket)
}

fn set_transparent(socket: &Socket, ip: IpAddr) -> io::Result<()> {
    let allowed = match ip {
        IpAddr::V4(_) => socket.set_ip_transparent_v4(true),
        IpAddr::V6(_) => socket.set_ip_transparent_v6(true),
    };
    allowed.map_err(|error| unprivileged("use foreign addresses", error))
}

fn unprivileged(what: &str, error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            let message = format!("[intercept] needs CAP_NET_ADMIN to {what}: {error}");
            io::Error::new(error.kind(), message)
        }
        _ => error,
    }
}

fn socket(ip: IpAddr) -> io::Result<TcpSocket> {
    if ip.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
}

/// Every address of a family, where interception listens.
#[must_use]
pub const fn everywhere(ipv6: bool) -> IpAddr {
    if ipv6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) }
}

/// Loopback of a family, where the own store's redirected connections arrive.
#[must_use]
pub const fn loopback(ipv6: bool) -> IpAddr {
    if ipv6 { IpAddr::V6(Ipv6Addr::LOCALHOST) } else { IpAddr::V4(Ipv4Addr::LOCALHOST) }
}

/// The port was taken at bind, or together with this destination at connect.
fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_listen_on_one_port() {
        let four = bind(SocketAddr::new(loopback(false), 0), false).unwrap();
        let port = four.local_addr().unwrap().port();
        let everywhere_6 = SocketAddr::new(everywhere(true), port);
        // Not taken by IPv4's listener: this one is of IPv6 alone.
        let six = bind(everywhere_6, false).unwrap();
        assert_eq!(six.local_addr().unwrap(), everywhere_6);
    }

    #[test]
    fn a_taken_address_is_named() {
        let first = bind(SocketAddr::new(loopback(false), 0), false).unwrap();
        let address = first.local_addr().unwrap();
        let error = bind(address, false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().starts_with(&format!("cannot listen on {address}: ")), "{error}");
    }
}
