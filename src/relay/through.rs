//! Moves bytes that pass unchanged, at the kernel's speed and with next to no memory.
//!
//! A connection has no buffer of its own: bytes are read into one that all connections of a thread share,
//! and written at once. Only what the receiver does not take is kept, and nothing more is read until it is
//! gone: backpressure reaches from end to end. Where bytes come in bulk, a pipe is borrowed and they move
//! inside the kernel; it goes back as soon as they pause.
//!
//! What else an end does passes too: a half-close is a half-close on the other side, a reset a reset.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    net::Shutdown,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use segue_wire::Side;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, Interest, ReadBuf},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    task::yield_now,
    time::timeout,
};

use super::{
    link::Link,
    pump::{FLUSH_TIME_MAX, LITTLE_BYTES, Stop},
};
use crate::net::pipes::{LentPipe, Pipes};

/// Each worker thread has one buffer of this size.
const SHARED_BYTES: usize = 64 << 10;
/// So many reads in a row that filled half of the shared buffer or more: bytes come in bulk.
const LARGE_READS: u8 = 2;
/// A wake-up that brought less than this was the end of the bulk.
const BULK_BYTES_MIN: usize = 16 << 10;
/// After so many reads of one direction, other connections have their turn.
const READS_MAX: u32 = 32;

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; SHARED_BYTES].into());
}

/// What a side has sent and the other side does not have yet, where the passing begins.
#[derive(Debug, Default)]
pub struct Begun {
    pub leftover: Bytes,
    pub read_closed: bool,
}

/// Passes the bytes of both sides until both have closed, one is broken, or the link is to end.
/// `streams` and `begun` are the dialer's and the listener's.
pub async fn run(link: &Link, pipes: &Pipes, mut streams: [TcpStream; 2], begun: [Begun; 2]) -> Stop {
    let stop = pass(link, pipes, &mut streams, begun).await;
    if let Stop::Io(..) = stop {
        streams.iter().for_each(reset);
    }
    link.hold(0);
    stop
}

/// The stream ends with a reset instead of an orderly close.
pub fn reset(stream: &TcpStream) {
    // One that is reset already has nothing more to be told.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

async fn pass(link: &Link, pipes: &Pipes, streams: &mut [TcpStream; 2], begun: [Begun; 2]) -> Stop {
    let [dialer, listener] = streams;
    let (dialer_read, dialer_write) = dialer.split();
    let (listener_read, listener_write) = listener.split();
    let [from_dialer, from_listener] = begun;
    let mut from_dialer = Lane::new(Side::Dialer, dialer_read, &listener_write, from_dialer);
    let mut from_listener = Lane::new(Side::Listener, listener_read, &dialer_write, from_listener);
    let moved = poll_fn(|cx| {
        let one = from_dialer.poll(cx, link, pipes)?;
        let other = from_listener.poll(cx, link, pipes)?;
        let held = from_dialer.held_bytes() + from_listener.held_bytes();
        link.hold(held);
        if one.is_ready() && other.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    });
    tokio::select! {
        biased;
        moved = moved => return moved.map_or_else(|(side, error)| Stop::Io(side, error), |()| Stop::Closed),
        () = link.end.cancelled() => {}
        // While a lane waits for its receiver it does not read, and would not notice.
        error = broken(dialer_write.as_ref()) => return Stop::Io(Side::Dialer, error),
        error = broken(listener_write.as_ref()) => return Stop::Io(Side::Listener, error),
    }
    let flushed = poll_fn(|cx| {
        let one = from_dialer.poll_send(cx)?;
        let other = from_listener.poll_send(cx)?;
        if one.is_ready() && other.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    });
    let _: Result<Result<(), Broken>, _> = timeout(FLUSH_TIME_MAX, flushed).await;
    Stop::Ended
}

pub async fn broken(stream: &TcpStream) -> io::Error {
    let reset = || io::ErrorKind::ConnectionReset.into();
    match stream.ready(Interest::ERROR).await {
        Ok(_) => stream.take_error().ok().flatten().unwrap_or_else(reset),
        Err(error) => error,
    }
}

pub type Broken = (Side, io::Error);

/// One direction.
struct Lane<'s, 'p> {
    from: Side,
    read: ReadHalf<'s>,
    /// The other side's.
    write: &'s WriteHalf<'s>,
    /// Read and not yet written.
    leftover: Bytes,
    /// Borrowed while bytes come in bulk; what is in it is behind `leftover`.
    pipe: Option<LentPipe<'p>>,
    large_reads: u8,
    /// Since the last pause.
    burst_bytes: usize,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// The sender has closed; what it sent is on its way.
    ReadClosed,
    /// The receiver knows.
    Closed,
}

impl<'s, 'p> Lane<'s, 'p> {
    fn new(from: Side, read: ReadHalf<'s>, write: &'s WriteHalf<'s>, begun: Begun) -> Self {
        let stage = if begun.read_closed { Stage::ReadClosed } else { Stage::Open };
        let leftover = begun.leftover;
        Self { from, read, write, leftover, pipe: None, large_reads: 0, burst_bytes: 0, stage }
    }

    /// Ready once this direction is closed.
    fn poll(&mut self, cx: &mut Context<'_>, link: &Link, pipes: &'p Pipes) -> Poll<Result<(), Broken>> {
        for _ in 0..READS_MAX {
            if self.stage == Stage::Closed {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_send(cx))?;
            if self.stage == Stage::ReadClosed {
                self.shutdown()?;
                return Poll::Ready(Ok(()));
            }
            let count = match self.poll_receive(cx, link, pipes) {
                Poll::Ready(count) => count?,
                Poll::Pending => {
                    self.pause();
                    return Poll::Pending;
                }
            };
            link.count_bytes(self.from, count as u64);
        }
        // Woken at once, it would have its next turn before what has happened meanwhile.
        pin!(yield_now()).poll(cx).map(Ok)
    }

    /// Ready once nothing is left over.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        while self.held_bytes() > 0 {
            let to = self.write.as_ref();
            ready!(to.poll_write_ready(cx)).map_err(|error| self.write_broken(error))?;
            let sent = match &mut self.pipe {
                Some(pipe) if self.leftover.is_empty() => {
                    to.try_io(Interest::WRITABLE, || pipe.drain(to)).map(drop)
                }
                _ => to.try_write(&self.leftover).map(|count| {
                    self.leftover.advance(count);
                    if self.leftover.is_empty() {
                        self.leftover = Bytes::new();
                    }
                }),
            };
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => sent.map_err(|error| self.write_broken(error))?,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once, and sends at once what the receiver takes. Only where nothing is left over.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        link: &Link,
        pipes: &'p Pipes,
    ) -> Poll<Result<usize, Broken>> {
        // While all links hold what they may, no pipe is borrowed either.
        let read_bytes_max = if link.all_held.is_full() { LITTLE_BYTES } else { SHARED_BYTES };
        if self.large_reads >= LARGE_READS && self.pipe.is_none() && read_bytes_max == SHARED_BYTES {
            self.pipe = pipes.lend();
        }
        let count = match &mut self.pipe {
            Some(pipe) => {
                let from = self.read.as_ref();
                loop {
                    ready!(from.poll_read_ready(cx)).map_err(|error| (self.from, error))?;
                    match from.try_io(Interest::READABLE, || pipe.fill(from)) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        filled => break filled.map_err(|error| (self.from, error))?,
                    }
                }
            }
            None => {
                ready!(SHARED.with_borrow_mut(|shared| self.poll_copy(cx, &mut shared[..read_bytes_max])))?
            }
        };
        self.burst_bytes = self.burst_bytes.saturating_add(count);
        if count == 0 {
            self.stage = Stage::ReadClosed;
        }
        Poll::Ready(Ok(count))
    }

    fn poll_copy(&mut self, cx: &mut Context<'_>, shared: &mut [u8]) -> Poll<Result<usize, Broken>> {
        let mut buffer = ReadBuf::new(shared);
        ready!(Pin::new(&mut self.read).poll_read(cx, &mut buffer)).map_err(|error| (self.from, error))?;
        let is_large = buffer.remaining() <= SHARED_BYTES / 2;
        let bytes = buffer.filled();
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.large_reads = if is_large { self.large_reads.saturating_add(1) } else { 0 };
        let sent = match self.write.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            sent => sent.map_err(|error| self.write_broken(error))?,
        };
        if let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            self.leftover = Bytes::copy_from_slice(rest);
        }
        Poll::Ready(Ok(bytes.len()))
    }

    /// The sender has nothing more for now: the pipe goes back. Where the last burst was a short one, the
    /// next bytes are copied.
    fn pause(&mut self) {
        self.pipe = None;
        if std::mem::take(&mut self.burst_bytes) < BULK_BYTES_MIN {
            self.large_reads = 0;
        }
    }

    fn shutdown(&mut self) -> Result<(), Broken> {
        self.pipe = None;
        self.stage = Stage::Closed;
        match SockRef::from(self.write.as_ref()).shutdown(Shutdown::Write) {
            // It is gone altogether: its own direction says how.
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(self.write_broken(error)),
            _ => Ok(()),
        }
    }

    fn held_bytes(&self) -> usize {
        self.leftover.len() + self.pipe.as_ref().map_or(0, LentPipe::held_bytes)
    }

    fn write_broken(&self, error: io::Error) -> Broken {
        (self.from.other(), error)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::relay::bounds::Held;

    /// With the heap's own overhead, two sockets' registrations and the rest of the link's task, this keeps
    /// an idle connection below 4 KiB.
    const FUTURE_BYTES_MAX: usize = 1280;
    const BULK_BYTES: usize = 8 << 20;

    fn link() -> Link {
        let address = ([127, 0, 0, 1], 1).into();
        Link::new(1, address, address, String::new(), Arc::new(Held::new(1 << 30)), &CancellationToken::new())
    }

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (far, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn the_future_of_an_idle_connection_is_small() {
        let ((_client, dialer), (listener, _store)) = (pair().await, pair().await);
        let (link, pipes) = (link(), Pipes::new(1));
        let future = run(&link, &pipes, [dialer, listener], Default::default());
        assert!(size_of_val(&future) <= FUTURE_BYTES_MAX, "{} bytes", size_of_val(&future));
    }

    /// Sends bulk over `count` links at once; the bytes that came, and the most pipes lent at one time.
    async fn bulk(pipes: &'static Pipes, count: usize) -> (Vec<Vec<u8>>, usize) {
        let mut received = tokio::task::JoinSet::new();
        for index in 0..count {
            let ((mut client, dialer), (listener, mut store)) = (pair().await, pair().await);
            tokio::spawn(async move {
                let begun = Begun { leftover: Bytes::from_static(b"begun"), read_closed: false };
                run(&link(), pipes, [dialer, listener], [begun, Begun::default()]).await
            });
            tokio::spawn(async move {
                client.write_all(&vec![index as u8; BULK_BYTES]).await.unwrap();
                client.shutdown().await.unwrap();
                client.read_to_end(&mut Vec::new()).await.unwrap();
            });
            received.spawn(async move {
                let (mut got, mut piece, mut lent_most) = (Vec::new(), vec![0; 256 << 10], 0);
                loop {
                    let count = store.read(&mut piece).await.unwrap();
                    if count == 0 {
                        return (got, lent_most);
                    }
                    lent_most = lent_most.max(pipes.lent());
                    got.extend_from_slice(&piece[..count]);
                }
            });
        }
        let all = received.join_all().await;
        let lent_most = all.iter().map(|(_, lent)| *lent).max().unwrap();
        (all.into_iter().map(|(got, _)| got).collect(), lent_most)
    }

    fn assert_whole(received: Vec<Vec<u8>>) {
        let mut indexes: Vec<u8> = received
            .into_iter()
            .map(|got| {
                let (begun, rest) = got.split_at(5);
                assert_eq!((begun, rest.len()), (&b"begun"[..], BULK_BYTES));
                assert!(rest.iter().all(|byte| *byte == rest[0]), "bytes of two links are mixed");
                rest[0]
            })
            .collect();
        indexes.sort_unstable();
        let wanted: Vec<u8> = (0..indexes.len() as u8).collect();
        assert_eq!(indexes, wanted);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn bulk_borrows_pipes_and_gives_them_back() {
        static PIPES: Pipes = Pipes::new(8);
        let (received, lent_most) = bulk(&PIPES, 2).await;
        assert_whole(received);
        assert!((1..=2).contains(&lent_most), "{lent_most} pipes lent to 2 links");
        assert_eq!(PIPES.lent(), 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn beyond_the_bound_bytes_are_copied() {
        static ONE: Pipes = Pipes::new(1);
        let (received, lent_most) = bulk(&ONE, 4).await;
        assert_whole(received);
        assert!(lent_most <= 1, "{lent_most} pipes lent");
        static NONE: Pipes = Pipes::new(0);
        assert_whole(bulk(&NONE, 2).await.0);
    }

    #[tokio::test]
    async fn a_link_that_is_ended_sends_what_it_has() {
        let ((mut client, dialer), (listener, mut store)) = (pair().await, pair().await);
        let link = link();
        let begun = Begun { leftover: Bytes::from(vec![1; 100_000]), read_closed: false };
        link.end.cancel();
        let pipes = Pipes::new(1);
        let stop = run(&link, &pipes, [dialer, listener], [Begun::default(), begun]).await;
        assert!(matches!(stop, Stop::Ended), "{stop:?}");
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got.len(), 100_000);
        assert_eq!(store.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_reset_names_the_side_it_came_from() {
        let ((client, dialer), (listener, _store)) = (pair().await, pair().await);
        reset(&client);
        drop(client);
        let (link, pipes) = (link(), Pipes::new(1));
        let stop = run(&link, &pipes, [dialer, listener], Default::default()).await;
        assert!(matches!(stop, Stop::Io(Side::Dialer, _)), "{stop:?}");
    }
}
