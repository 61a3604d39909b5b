//! A connection, plain or TLS.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    net::Shutdown,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{BufMut, BytesMut};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, tcp},
};
use tokio_rustls::{
    TlsStream,
    rustls::{ProtocolVersion, pki_types::CertificateDer},
};
use tokio_util::io::poll_read_buf;

/// The most that one TLS record holds.
pub const RECORD_BYTES_MAX: usize = 16 << 10;

/// Those that are spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1_2,
    V1_3,
}

impl Version {
    /// A stable label, as in the status.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::V1_2 => "TLSv1.2",
            Self::V1_3 => "TLSv1.3",
        }
    }
}

pub enum Stream {
    Plain(TcpStream),
    Tls(Box<Tls>),
}

pub struct Tls {
    stream: TlsStream<Wire>,
    wire: Wire,
}

/// Both ways of a connection, whatever it speaks.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

impl Tls {
    pub(super) const fn new(stream: TlsStream<Wire>, wire: Wire) -> Self {
        Self { stream, wire }
    }
}

impl Stream {
    /// Where it is TLS.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        let Self::Tls(tls) = self else { return None };
        match tls.stream.get_ref().1.protocol_version()? {
            ProtocolVersion::TLSv1_2 => Some(Version::V1_2),
            ProtocolVersion::TLSv1_3 => Some(Version::V1_3),
            _ => None,
        }
    }

    /// That the other end showed, where it did.
    #[must_use]
    pub fn certificate(&self) -> Option<CertificateDer<'static>> {
        let Self::Tls(tls) = self else { return None };
        tls.stream.get_ref().1.peer_certificates()?.first().cloned()
    }

    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        match self {
            Self::Plain(tcp) => {
                let (read, write) = tcp.split();
                (ReadHalf::Plain(read), WriteHalf::Plain(write))
            }
            Self::Tls(tls) => {
                let Tls { stream, wire } = &mut **tls;
                let (read, write) = tokio::io::split(stream);
                (ReadHalf::Tls(read), WriteHalf::Tls { write, tcp: &wire.0, unflushed: false })
            }
        }
    }

    /// What is said in it, and the connection below.
    #[must_use]
    pub fn into_parts(self) -> (Box<dyn Duplex>, Arc<TcpStream>) {
        match self {
            Self::Plain(tcp) => {
                let wire = Wire::new(tcp);
                (Box::new(wire.clone()), wire.0)
            }
            Self::Tls(tls) => (Box::new(tls.stream), tls.wire.0),
        }
    }
}

pub enum ReadHalf<'s> {
    Plain(tcp::ReadHalf<'s>),
    Tls(tokio::io::ReadHalf<&'s mut TlsStream<Wire>>),
}

impl ReadHalf<'_> {
    /// Reads at most `bytes_max`, as it is once there is something to read. While there is nothing, an empty
    /// `into` has no buffer.
    pub fn poll_read_into(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut BytesMut,
        bytes_max: &impl Fn() -> usize,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(read) => {
                let ready = read.as_ref().poll_read_ready(cx);
                if ready.is_pending() && into.is_empty() {
                    *into = BytesMut::new();
                }
                ready!(ready)?;
                let bytes_max = bytes_max();
                into.reserve(bytes_max);
                poll_read_buf(Pin::new(read), cx, &mut (&mut *into).limit(bytes_max))
            }
            Self::Tls(read) => {
                let mut record = [MaybeUninit::uninit(); RECORD_BYTES_MAX];
                let mut record = ReadBuf::uninit(&mut record[..bytes_max().min(RECORD_BYTES_MAX)]);
                let ready = poll_read_record(Pin::new(read), cx, &mut record);
                if ready.is_pending() && into.is_empty() {
                    *into = BytesMut::new();
                }
                ready!(ready)?;
                into.extend_from_slice(record.filled());
                Poll::Ready(Ok(record.filled().len()))
            }
        }
    }
}

/// A connection that ends without a word of TLS has ended: some stores never say one, and what they send
/// tells by itself whether it is whole.
pub fn poll_read_record(
    from: Pin<&mut (impl AsyncRead + ?Sized)>,
    cx: &mut Context<'_>,
    into: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    match ready!(from.poll_read(cx, into)) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
        read => Poll::Ready(read),
    }
}

pub enum WriteHalf<'s> {
    Plain(tcp::WriteHalf<'s>),
    Tls { write: tokio::io::WriteHalf<&'s mut TlsStream<Wire>>, tcp: &'s TcpStream, unflushed: bool },
}

impl WriteHalf<'_> {
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(write) => write.as_ref(),
            Self::Tls { tcp, .. } => tcp,
        }
    }

    /// What was written may not be on its way yet: only a flush sees to that.
    pub const fn is_unflushed(&self) -> bool {
        matches!(self, Self::Tls { unflushed: true, .. })
    }
}

impl AsyncWrite for WriteHalf<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(write) => Pin::new(write).poll_write(cx, bytes),
            Self::Tls { write, unflushed, .. } => {
                *unflushed = true;
                Pin::new(write).poll_write(cx, bytes)
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(write) => Pin::new(write).poll_flush(cx),
            Self::Tls { write, unflushed, .. } => {
                ready!(Pin::new(write).poll_flush(cx))?;
                *unflushed = false;
                Poll::Ready(Ok(()))
            }
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(write) => Pin::new(write).poll_shutdown(cx),
            Self::Tls { write, .. } => Pin::new(write).poll_shutdown(cx),
        }
    }
}

/// The connection below TLS, of which its other users see errors and set options.
#[derive(Clone, Debug)]
pub struct Wire(Arc<TcpStream>);

impl Wire {
    pub(super) fn new(tcp: TcpStream) -> Self {
        Self(Arc::new(tcp))
    }

    fn poll_try_write(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match write(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read(into.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => {
                    into.advance(read?);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_try_write(cx, |tcp| tcp.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_try_write(cx, |tcp| tcp.try_write_vectored(pieces))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.0).shutdown(Shutdown::Write))
    }
}
