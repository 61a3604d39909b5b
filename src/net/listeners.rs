//! The sockets that are listened on: one that is open already, else an inherited one, else a new one.
//!
//! Each is kept here beside the copy that accepts, so that it can be handed to the next process: the
//! kernel's queue of connections stays, and none is refused meanwhile.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    sync::{Mutex, MutexGuard, PoisonError},
};

use socket2::{Domain, SockRef, Socket, Type};

use super::prepare;

/// Connections that the kernel keeps for a listener until they are accepted.
const BACKLOG_CONNECTIONS_MAX: i32 = 1024;

#[derive(Debug, Default)]
pub struct Listeners {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    inherited: Vec<TcpListener>,
    /// By the address they were asked for with.
    open: BTreeMap<SocketAddr, TcpListener>,
}

impl Listeners {
    /// # Errors
    /// A socket that does not listen.
    pub fn new(inherited: Vec<TcpListener>) -> io::Result<Self> {
        for socket in &inherited {
            if !SockRef::from(socket).is_listener()? {
                let at = socket.local_addr()?;
                return Err(io::Error::other(format!("the inherited socket at {at} does not listen")));
            }
            socket.set_nonblocking(true)?;
        }
        Ok(Self { inner: Mutex::new(Inner { inherited, open: BTreeMap::new() }) })
    }

    /// A socket that listens at this address, non-blocking.
    ///
    /// # Errors
    /// The system's own, with the address.
    pub fn open(&self, address: SocketAddr) -> io::Result<TcpListener> {
        self.open_or(address, bind)
    }

    /// As [`Self::open`], where a new socket needs more than the address.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_or(
        &self,
        address: SocketAddr,
        bind: impl FnOnce(SocketAddr) -> io::Result<TcpListener>,
    ) -> io::Result<TcpListener> {
        let mut inner = self.lock();
        if let Some(open) = inner.open.get(&address) {
            return open.try_clone();
        }
        let inherited =
            inner.inherited.iter().position(|socket| socket.local_addr().is_ok_and(|at| at == address));
        let socket = match inherited {
            Some(index) => inner.inherited.swap_remove(index),
            None => bind(address)?,
        };
        prepare(&socket)?;
        let accepting = socket.try_clone()?;
        inner.open.insert(address, socket);
        Ok(accepting)
    }

    /// Gives up the copy kept here; the kernel refuses connections once the accepting one is gone too.
    pub fn close(&self, address: SocketAddr) {
        self.lock().open.remove(&address);
    }

    pub fn close_all(&self) {
        self.lock().open.clear();
    }

    /// Closes inherited sockets that nobody asked for; where they listened.
    pub fn close_unclaimed(&self) -> Vec<SocketAddr> {
        let unclaimed = std::mem::take(&mut self.lock().inherited);
        unclaimed.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// Copies of all open sockets, for another process.
    ///
    /// # Errors
    /// The system's own: no file descriptors left.
    pub fn copies(&self) -> io::Result<Vec<OwnedFd>> {
        self.lock().open.values().map(|socket| Ok(socket.try_clone()?.into())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let bound = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG_CONNECTIONS_MAX)?;
        Ok(socket.into())
    };
    bound().map_err(|error: io::Error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use segue_bench::port;

    use super::{super::prepare_accepted, *};

    /// At a port that no connection gets once it is closed.
    fn loopback() -> TcpListener {
        TcpListener::bind((Ipv4Addr::LOCALHOST, port::free().unwrap())).unwrap()
    }

    #[test]
    fn an_inherited_socket_is_taken_by_its_address() {
        let (wanted, other) = (loopback(), loopback());
        let (at, other_at) = (wanted.local_addr().unwrap(), other.local_addr().unwrap());
        // Dialled before anyone accepts: the connection waits in the socket itself.
        let _early = TcpStream::connect(at).unwrap();
        let listeners = Listeners::new(vec![other, wanted]).unwrap();
        let opened = listeners.open(at).unwrap();
        let (early, _) = opened.accept().expect("the queue of the inherited socket is gone");
        let _late = TcpStream::connect(at).unwrap();
        let (late, _) = opened.accept().unwrap();
        let prepared =
            |stream: &TcpStream| (stream.nodelay().unwrap(), SockRef::from(stream).keepalive().unwrap());
        assert_eq!([prepared(&early), prepared(&late)], [(false, false), (true, true)]);
        prepare_accepted(&early).unwrap();
        assert_eq!(prepared(&early), (true, true));
        assert_eq!(listeners.close_unclaimed(), [other_at]);
        assert!(TcpStream::connect(other_at).is_err(), "the unclaimed socket still listens");
    }

    #[test]
    fn an_address_is_opened_twice_and_refused_after_it_is_closed() {
        let listeners = Listeners::default();
        let at = loopback().local_addr().unwrap();
        let first = listeners.open(at).unwrap();
        let second = listeners.open(at).unwrap();
        drop(first);
        assert_eq!(listeners.copies().unwrap().len(), 1);
        assert!(TcpStream::connect(at).is_ok());
        listeners.close(at);
        assert!(TcpStream::connect(at).is_ok());
        drop(second);
        assert!(TcpStream::connect(at).is_err());
    }

    #[test]
    fn a_taken_address_is_told() {
        let taken = loopback();
        let at = taken.local_addr().unwrap();
        let error = Listeners::default().open(at).unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot listen on {at}: ")), "{error}");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_socket_that_does_not_listen_is_refused() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let error = Listeners::new(vec![socket.into()]).unwrap_err();
        assert_eq!(error.to_string(), "the inherited socket at 0.0.0.0:0 does not listen");
    }
}
