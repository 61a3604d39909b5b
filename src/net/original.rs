//! Where a connection was going before the kernel handed it over.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use socket2::SockRef;
use tokio::net::TcpStream;

/// ENOENT: the kernel never changed where this connection goes.
const NOT_TRACKED: i32 = 2;

/// The destination of a redirected connection, as `SO_ORIGINAL_DST` (IPv4) or `IP6T_SO_ORIGINAL_DST` says;
/// `None` where the kernel knows of none. A connection that came here by itself has its own local address.
///
/// # Errors
/// The system's own.
pub fn original_destination(stream: &TcpStream) -> io::Result<Option<SocketAddr>> {
    let socket = SockRef::from(stream);
    let found = match stream.local_addr()?.ip() {
        IpAddr::V4(_) => socket.original_dst_v4(),
        IpAddr::V6(_) => socket.original_dst_v6(),
    };
    match found {
        Ok(address) => Ok(address.as_socket()),
        Err(error) if error.raw_os_error() == Some(NOT_TRACKED) => Ok(None),
        Err(error) => Err(error),
    }
}
