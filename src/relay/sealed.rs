//! Moves bytes that pass unchanged where an end speaks TLS: opened and sealed again, record by record.
//!
//! As in [`through`], a connection has no buffer of its own while it is idle, nothing more is read until the
//! receiver has taken what was read before, and each end's close and reset passes to the other. What a
//! receiver does not take waits as one record here and, sealed, as 64 KiB in its TLS connection.

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use segue_wire::Side;
use tokio::{io::ReadBuf, net::TcpStream, task::yield_now, time::timeout};

use super::{
    link::Link,
    pump::{FLUSH_TIME_MAX, LITTLE_BYTES, Stop},
    through::{self, Begun, Broken},
};
use crate::tls::{
    Stream,
    stream::{Duplex, RECORD_BYTES_MAX, poll_read_record},
};

/// After so many reads of one direction, other connections have their turn.
const READS_MAX: u32 = 32;

/// As [`through::run`].
pub async fn run(link: &Link, streams: [Stream; 2], begun: [Begun; 2]) -> Stop {
    let [dialer, listener] = streams.map(Stream::into_parts);
    let below = [dialer.1, listener.1];
    let stop = pass(link, [dialer.0, listener.0], &below, begun).await;
    if let Stop::Io(..) = stop {
        below.iter().for_each(|tcp| through::reset(tcp));
    }
    link.hold(0);
    stop
}

async fn pass(
    link: &Link,
    [mut dialer, mut listener]: [Box<dyn Duplex>; 2],
    [dialer_below, listener_below]: &[Arc<TcpStream>; 2],
    [from_dialer, from_listener]: [Begun; 2],
) -> Stop {
    let mut from_dialer = Lane::new(Side::Dialer, from_dialer);
    let mut from_listener = Lane::new(Side::Listener, from_listener);
    let moved = poll_fn(|cx| {
        let one = from_dialer.poll(cx, link, &mut *dialer, &mut *listener)?;
        let other = from_listener.poll(cx, link, &mut *listener, &mut *dialer)?;
        link.hold(from_dialer.leftover.len().saturating_add(from_listener.leftover.len()));
        if one.is_ready() && other.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    });
    tokio::select! {
        biased;
        moved = moved => return moved.map_or_else(|(side, error)| Stop::Io(side, error), |()| Stop::Closed),
        () = link.end.cancelled() => {}
        error = through::broken(dialer_below) => return Stop::Io(Side::Dialer, error),
        error = through::broken(listener_below) => return Stop::Io(Side::Listener, error),
    }
    let flushed = poll_fn(|cx| {
        let one = from_dialer.poll_close(cx, &mut *listener)?;
        let other = from_listener.poll_close(cx, &mut *dialer)?;
        if one.is_ready() && other.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    });
    let _: Result<Result<(), Broken>, _> = timeout(FLUSH_TIME_MAX, flushed).await;
    Stop::Ended
}

/// One direction.
struct Lane {
    from: Side,
    /// Read and not yet written.
    leftover: Bytes,
    /// The sender has closed; what it sent is on its way.
    read_closed: bool,
    /// The receiver knows.
    closed: bool,
}

impl Lane {
    fn new(from: Side, begun: Begun) -> Self {
        Self { from, leftover: begun.leftover, read_closed: begun.read_closed, closed: false }
    }

    /// Ready once this direction is closed.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        link: &Link,
        from: &mut dyn Duplex,
        to: &mut dyn Duplex,
    ) -> Poll<Result<(), Broken>> {
        for _ in 0..READS_MAX {
            if self.read_closed {
                return self.poll_close(cx, to);
            }
            ready!(self.poll_send(cx, to))?;
            match self.poll_receive(cx, link, from, to) {
                Poll::Ready(count) => link.count_bytes(self.from, count? as u64),
                Poll::Pending => {
                    // Nothing comes for now: what is sealed goes out.
                    ready!(Pin::new(to).poll_flush(cx)).map_err(|error| self.write_broken(error))?;
                    return Poll::Pending;
                }
            }
        }
        // As in [`through`].
        pin!(yield_now()).poll(cx).map(Ok)
    }

    /// Ready once nothing is left over.
    fn poll_send(&mut self, cx: &mut Context<'_>, to: &mut dyn Duplex) -> Poll<Result<(), Broken>> {
        while !self.leftover.is_empty() {
            let sent = ready!(Pin::new(&mut *to).poll_write(cx, &self.leftover));
            self.leftover.advance(sent.map_err(|error| self.write_broken(error))?);
        }
        self.leftover = Bytes::new();
        Poll::Ready(Ok(()))
    }

    /// Reads once, and sends at once what the receiver takes. Only where nothing is left over.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        link: &Link,
        from: &mut dyn Duplex,
        to: &mut dyn Duplex,
    ) -> Poll<Result<usize, Broken>> {
        let read_bytes_max = if link.all_held.is_full() { LITTLE_BYTES } else { RECORD_BYTES_MAX };
        let mut record = [MaybeUninit::uninit(); RECORD_BYTES_MAX];
        let mut record = ReadBuf::uninit(&mut record[..read_bytes_max]);
        ready!(poll_read_record(Pin::new(from), cx, &mut record)).map_err(|error| (self.from, error))?;
        let bytes = record.filled();
        if bytes.is_empty() {
            self.read_closed = true;
            return Poll::Ready(Ok(0));
        }
        let sent = match Pin::new(to).poll_write(cx, bytes) {
            Poll::Ready(sent) => sent.map_err(|error| self.write_broken(error))?,
            Poll::Pending => 0,
        };
        if let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            self.leftover = Bytes::copy_from_slice(rest);
        }
        Poll::Ready(Ok(bytes.len()))
    }

    /// Ready once all is sent and the receiver knows that it was all.
    fn poll_close(&mut self, cx: &mut Context<'_>, to: &mut dyn Duplex) -> Poll<Result<(), Broken>> {
        if !self.closed {
            ready!(self.poll_send(cx, to))?;
            match ready!(Pin::new(to).poll_shutdown(cx)) {
                // It is gone altogether: its own direction says how.
                Err(error) if error.kind() != io::ErrorKind::NotConnected => {
                    return Poll::Ready(Err(self.write_broken(error)));
                }
                _ => self.closed = true,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn write_broken(&self, error: io::Error) -> Broken {
        (self.from.other(), error)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use segue_bench::authority::Authority;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        relay::bounds::Held,
        tls::{
            AuthClients, Keys,
            tests::{keys, linked, pair},
        },
    };

    const BULK_BYTES: usize = 8 << 20;

    fn lab_keys() -> Keys {
        let authority = Authority::new("the lab").unwrap();
        keys(&authority.issue("n1").unwrap(), AuthClients::Yes, false)
    }

    fn link(all_held_bytes_max: usize) -> Arc<Link> {
        let address = ([127, 0, 0, 1], 1).into();
        let all_held = Arc::new(Held::new(all_held_bytes_max));
        Arc::new(Link::new(1, address, address, String::new(), all_held, &CancellationToken::new()))
    }

    /// A link whose dialer, listener, or both speak TLS: the far ends, and what becomes of it.
    async fn run_link(
        link: &Arc<Link>,
        [dialer_tls, listener_tls]: [bool; 2],
        begun: [Begun; 2],
    ) -> ([Stream; 2], tokio::task::JoinHandle<Stop>) {
        let keys = lab_keys();
        let (client, dialer) = if dialer_tls { linked(&keys).await } else { plain().await };
        let (listener, store) = if listener_tls { linked(&keys).await } else { plain().await };
        let link = link.clone();
        let running = tokio::spawn(async move { run(&link, [dialer, listener], begun).await });
        ([client, store], running)
    }

    /// Sends to a store that reads nothing, until all buffers are full and the sender has to wait; how much the link
    /// holds then.
    async fn fill(link: &Link, client: &mut (impl AsyncWriteExt + Unpin)) -> usize {
        let piece = vec![7; 64 << 10];
        let filled = async {
            loop {
                let sent = timeout(Duration::from_millis(300), client.write_all(&piece)).await;
                // A link that has not had its turn holds nothing, and there is more room behind it.
                if let (Err(_), held @ 1..) = (sent, link.all_held.bytes()) {
                    return held;
                }
            }
        };
        timeout(Duration::from_secs(60), filled).await.expect("it takes all for a store that reads nothing")
    }

    async fn plain() -> (Stream, Stream) {
        let (far, near) = pair().await;
        (Stream::Plain(far), Stream::Plain(near))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn bulk_passes_both_ways_and_so_do_half_closes() {
        for tls in [[true, true], [true, false], [false, true]] {
            let begun = [
                Begun { leftover: Bytes::from_static(b"begun"), read_closed: false },
                Begun { leftover: Bytes::from_static(b"begun"), read_closed: false },
            ];
            let (ends, running) = run_link(&link(1 << 30), tls, begun).await;
            let moved = ends.map(|end| {
                tokio::spawn(async move {
                    let (mut read, mut write) = tokio::io::split(end.into_parts().0);
                    let sent = async {
                        write.write_all(&vec![7; BULK_BYTES]).await.unwrap();
                        write.shutdown().await.unwrap();
                    };
                    let mut got = Vec::new();
                    let (_, read) = tokio::join!(sent, read.read_to_end(&mut got));
                    read.unwrap();
                    got
                })
            });
            for moved in moved {
                let got = moved.await.unwrap();
                let (begun, rest) = got.split_at(5);
                assert_eq!((begun, rest.len()), (&b"begun"[..], BULK_BYTES), "{tls:?}");
                assert!(rest.iter().all(|byte| *byte == 7));
            }
            let stop = running.await.unwrap();
            assert!(matches!(stop, Stop::Closed), "{stop:?}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_reset_names_the_side_it_came_from_also_while_that_side_is_blocked() {
        let link = link(1 << 30);
        let ([client, store], running) = run_link(&link, [true, true], Default::default()).await;
        let (mut client, client_below) = client.into_parts();
        let held = fill(&link, &mut client).await;
        assert!(held <= RECORD_BYTES_MAX, "{held} bytes are held");
        through::reset(&client_below);
        drop((client, client_below));
        let stop = running.await.unwrap();
        assert!(matches!(stop, Stop::Io(Side::Dialer, _)), "{stop:?}");
        drop(store);
    }

    /// As much passes, in small pieces.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn while_all_links_hold_what_they_may_little_is_read_at_once() {
        let link = link(0);
        let ([client, store], running) = run_link(&link, [true, true], Default::default()).await;
        let (mut client, mut store) = (client.into_parts().0, store.into_parts().0);
        client.write_all(&vec![7; RECORD_BYTES_MAX]).await.unwrap();
        client.flush().await.unwrap();
        let mut got = vec![0; RECORD_BYTES_MAX];
        store.read_exact(&mut got).await.unwrap();
        assert!(got.iter().all(|byte| *byte == 7));
        let held = fill(&link, &mut client).await;
        assert!(held <= LITTLE_BYTES, "{held} bytes at once");
        drop((client, store));
        running.await.unwrap();
    }

    #[tokio::test]
    async fn a_link_that_is_ended_sends_what_it_has_and_says_so() {
        let link = link(1 << 30);
        link.end.cancel();
        let begun = Begun { leftover: Bytes::from(vec![1; 100_000]), read_closed: false };
        let ([client, _store], running) = run_link(&link, [true, true], [Begun::default(), begun]).await;
        let mut got = Vec::new();
        // Without the last word of TLS this would be an error.
        client.into_parts().0.read_to_end(&mut got).await.unwrap();
        assert_eq!(got.len(), 100_000);
        let stop = running.await.unwrap();
        assert!(matches!(stop, Stop::Ended), "{stop:?}");
    }
}
