//! Listening sockets that another process opened: the service manager, or the sidecar that ran before.
//!
//! systemd's socket activation (sd_listen_fds(3)): file descriptors from 3 on, `LISTEN_FDS` of them, for
//! the process `LISTEN_PID`.
//!
//! Between two sidecars, over a Unix stream socket: u16 BE count of sockets, then messages of one byte
//! [`CARRIER`], each with up to [`SOCKETS_PER_MESSAGE_MAX`] of them as `SCM_RIGHTS` (unix(7)).

use std::{
    io::{self, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    net::TcpListener,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use listenfd::ListenFd;
use rustix::{
    io::retry_on_intr,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, recvmsg, sendmsg,
    },
};

/// The kernel takes up to 253 (`SCM_MAX_FD`).
const SOCKETS_PER_MESSAGE_MAX: usize = 64;
const CARRIER: u8 = b'S';

/// What the service manager passed.
///
/// # Errors
/// A file descriptor that is no TCP socket.
pub fn from_service_manager(mut passed: ListenFd) -> io::Result<Vec<TcpListener>> {
    (0..passed.len()).filter_map(|index| passed.take_tcp_listener(index).transpose()).collect()
}

/// # Errors
/// The system's own; the other process is gone or does not read within the stream's time-out.
pub fn send(mut to: &UnixStream, sockets: &[OwnedFd]) -> io::Result<()> {
    let count = u16::try_from(sockets.len()).map_err(|_| io::Error::other("more than 65535 listeners"))?;
    to.write_all(&count.to_be_bytes())?;
    for message in sockets.chunks(SOCKETS_PER_MESSAGE_MAX) {
        let borrowed: Vec<_> = message.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_PER_MESSAGE_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
            return Err(io::Error::other("too many sockets for one message"));
        }
        let carrier = [IoSlice::new(&[CARRIER])];
        retry_on_intr(|| sendmsg(to, &carrier, &mut control, SendFlags::NOSIGNAL))?;
    }
    Ok(())
}

/// # Errors
/// The system's own; anything but what [`send`] sends.
pub fn receive(mut from: &UnixStream) -> io::Result<Vec<TcpListener>> {
    let mut count = [0; 2];
    from.read_exact(&mut count)?;
    let count = usize::from(u16::from_be_bytes(count));
    let mut sockets = Vec::new();
    while sockets.len() < count {
        let before = sockets.len();
        let mut carrier = [0];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_PER_MESSAGE_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        retry_on_intr(|| {
            recvmsg(from, &mut [IoSliceMut::new(&mut carrier)], &mut control, RecvFlags::CMSG_CLOEXEC)
        })?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                sockets.extend(received.map(TcpListener::from));
            }
        }
        if sockets.len() == before || carrier != [CARRIER] {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{before} of {count} sockets came over"),
            ));
        }
    }
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;

    fn listeners(count: usize) -> Vec<TcpListener> {
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect()
    }

    #[test]
    fn sockets_come_over_whole_and_in_order() {
        for count in [0, 1, SOCKETS_PER_MESSAGE_MAX, SOCKETS_PER_MESSAGE_MAX + 1, 150] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let sockets = listeners(count);
            let at: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
            let early = at.first().map(|at| TcpStream::connect(at).unwrap());
            let copies: Vec<OwnedFd> = sockets.into_iter().map(Into::into).collect();
            send(&ours, &copies).unwrap();
            drop(copies);
            let received = receive(&theirs).unwrap();
            let received_at: Vec<_> = received.iter().map(|socket| socket.local_addr().unwrap()).collect();
            assert_eq!(received_at, at);
            if early.is_some() {
                received[0].accept().unwrap();
            }
        }
    }

    #[test]
    fn fewer_sockets_than_said_are_an_error() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(&3_u16.to_be_bytes()).unwrap();
        // Bytes without sockets, as some other program would send them.
        ours.write_all(b"SSS").unwrap();
        assert_eq!(receive(&theirs).unwrap_err().to_string(), "0 of 3 sockets came over");
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(ours);
        assert_eq!(receive(&theirs).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
