//! Sockets: dialling, and what is set on each of them; listening ([`listeners`]), also on sockets that
//! another process opened ([`inherit`]); how many there may be ([`files`], [`bounded`]); and those of intercepted connections ([`original`], [`transparent`]).

pub mod bounded;
pub mod files;
pub mod inherit;
pub mod listeners;
pub mod original;
pub mod pipes;
pub mod transparent;

use std::{io, os::fd::AsFd, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

pub use listeners::Listeners;

/// A peer that is gone without a word is noticed after about 30 s + 3 * 10 s.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES_MAX: u32 = 3;

/// Connects to `host:port`.
///
/// # Errors
/// The system's own, or `TimedOut`.
pub async fn dial(address: &str, limit: Duration) -> io::Result<TcpStream> {
    let stream = tokio::time::timeout(limit, TcpStream::connect(address))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit:?}")))??;
    prepare(&stream)?;
    Ok(stream)
}

/// Connects to `host:port`, with a mark where there is one.
///
/// # Errors
/// As [`dial`]; a mark needs CAP_NET_ADMIN.
pub async fn dial_with(address: &str, mark: Option<u32>, limit: Duration) -> io::Result<TcpStream> {
    match mark {
        None => dial(address, limit).await,
        Some(mark) => transparent::dial_marked(address, mark, limit).await,
    }
}

/// Small messages go out at once, and a silent end is noticed.
///
/// # Errors
/// The system's own.
pub fn prepare(socket: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES_MAX);
    socket.set_tcp_keepalive(&keepalive)
}

/// As [`prepare`], for a connection from a listener that was prepared: it is so already, unless it waited in a
/// socket that was inherited.
///
/// # Errors
/// The system's own.
pub fn prepare_accepted(socket: &impl AsFd) -> io::Result<()> {
    if SockRef::from(socket).keepalive()? { Ok(()) } else { prepare(socket) }
}
