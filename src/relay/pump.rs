//! Moves the bytes of one link: read, feed the session, carry out its effects in order, write.
//!
//! No side is read while the other side's queue is over [`QUEUE_BYTES_MAX`], nor while the session says
//! [`Flow::Hold`]: backpressure reaches from end to end.

use std::{collections::VecDeque, io, sync::atomic::Ordering::Relaxed, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use segue_wire::{Effect, Effects, Fault, Flow, Session, Side};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

use super::{link::Link, opening::Opening};

/// Read at most this much at once.
const READ_BYTES_MAX: usize = 64 << 10;
/// Beyond this, what feeds a queue is not read any more.
pub const QUEUE_BYTES_MAX: usize = 1 << 20;
/// How long the last bytes of an ending link may take.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(1);

/// Why a link ended.
#[derive(Debug)]
pub enum Stop {
    /// Both ends closed it, or one that the other can't do without.
    Closed,
    /// The sidecar ends it: a toggle, a newer link of the same replica, the end of the process.
    Ended,
    Io(Side, io::Error),
    Fault(Fault),
}

pub struct Pump<'a> {
    link: &'a Link,
    opening: &'a Opening,
    /// None once the bytes pass unchanged.
    session: Option<Box<dyn Session>>,
    effects: Effects,
    /// The dialer's and the listener's.
    ends: [End; 2],
}

struct End {
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    input: BytesMut,
    queue: VecDeque<Bytes>,
    queued_bytes: usize,
    flow: Flow,
    read_closed: bool,
    write_closed: bool,
}

impl<'a> Pump<'a> {
    pub fn new(
        link: &'a Link,
        opening: &'a Opening,
        session: Box<dyn Session>,
        dialer: TcpStream,
        listener: TcpStream,
    ) -> Self {
        Self {
            link,
            opening,
            session: Some(session),
            effects: Effects::new(),
            ends: [End::new(dialer), End::new(listener)],
        }
    }

    pub async fn run(mut self) -> Stop {
        let stop = self.until_stop().await;
        if let Some(mut session) = self.session.take() {
            session.finish(&mut self.effects);
            // What is to be saved is saved; there is nobody left to send to.
            let _ = self.carry_out().await;
        }
        let [dialer, listener] = &mut self.ends;
        let _ = timeout(FLUSH_TIME_MAX, async { tokio::join!(dialer.flush(), listener.flush()) }).await;
        self.link.held_bytes.store(0, Relaxed);
        stop
    }

    async fn until_stop(&mut self) -> Stop {
        loop {
            if let Err(fault) = self.turn().await {
                return Stop::Fault(fault);
            }
            if self.session.is_some() && self.ends.iter().any(|end| end.read_closed) {
                return Stop::Closed;
            }
            if self.ends.iter().all(|end| end.read_closed && end.queue.is_empty()) {
                return Stop::Closed;
            }
            match self.move_bytes().await {
                Ok(()) => {}
                Err(stop) => return stop,
            }
        }
    }

    /// Feeds the session until it takes and gives no more.
    async fn turn(&mut self) -> Result<(), Fault> {
        loop {
            let mut moved = false;
            for (side, index) in [(Side::Dialer, 0), (Side::Listener, 1)] {
                let before = self.ends[index].input.len();
                let Some(session) = &mut self.session else {
                    self.pass(index);
                    continue;
                };
                let fed = session.feed(side, &mut self.ends[index].input, &mut self.effects);
                moved |= self.carry_out().await?;
                self.ends[index].flow = fed?;
                moved |= self.ends[index].input.len() != before;
            }
            if !moved {
                let held: usize = self.ends.iter().map(|end| end.input.len() + end.queued_bytes).sum();
                self.link.held_bytes.store(held as u64, Relaxed);
                return Ok(());
            }
        }
    }

    fn pass(&mut self, from: usize) {
        self.ends[from].flow = Flow::More;
        if !self.ends[from].input.is_empty() {
            let bytes = self.ends[from].input.split().freeze();
            self.ends[1 - from].enqueue(bytes);
        }
    }

    /// True if there was any effect.
    async fn carry_out(&mut self) -> Result<bool, Fault> {
        let mut any = false;
        for note in self.effects.drain_notes().collect::<Vec<_>>() {
            self.opening.note(self.link, note);
        }
        for effect in self.effects.drain().collect::<Vec<_>>() {
            any = true;
            match effect {
                Effect::Send(to, bytes) => self.ends[usize::from(to == Side::Listener)].enqueue(bytes),
                Effect::Save(key, state) => self.opening.save(key, state).await,
                Effect::Append(key, step) => self.opening.append(&key, &step),
                Effect::Forget(key) => self.opening.forget(key).await,
                Effect::Ask(question) => {
                    let answer = self.opening.answer(self.link, question).await;
                    if let Some(session) = &mut self.session {
                        session.answer(answer, &mut self.effects)?;
                    }
                }
                Effect::Splice => {
                    self.session = None;
                    self.opening.spliced(self.link);
                }
            }
        }
        Ok(any)
    }

    /// Waits for one thing to happen: bytes in, bytes out, or the end.
    async fn move_bytes(&mut self) -> Result<(), Stop> {
        let link = self.link;
        let through = self.session.is_none();
        let [dialer, listener] = &mut self.ends;
        let (dialer_reads, listener_reads) = (dialer.reads(listener), listener.reads(dialer));
        let (dialer_closes, listener_closes) =
            (through && dialer.closes(listener), through && listener.closes(dialer));
        let dialer_writes = dialer_closes || !dialer.queue.is_empty();
        let listener_writes = listener_closes || !listener.queue.is_empty();
        tokio::select! {
            () = link.end.cancelled() => return Err(Stop::Ended),
            read = read(&mut dialer.read, &mut dialer.input), if dialer_reads => {
                let count = read.map_err(|error| Stop::Io(Side::Dialer, error))?;
                dialer.read_closed = count == 0;
                link.count_bytes(Side::Dialer, count as u64);
            }
            read = read(&mut listener.read, &mut listener.input), if listener_reads => {
                let count = read.map_err(|error| Stop::Io(Side::Listener, error))?;
                listener.read_closed = count == 0;
                link.count_bytes(Side::Listener, count as u64);
            }
            written = write(&mut dialer.write, &mut dialer.queue), if dialer_writes => {
                dialer.written(written.map_err(|error| Stop::Io(Side::Dialer, error))?);
            }
            written = write(&mut listener.write, &mut listener.queue), if listener_writes => {
                listener.written(written.map_err(|error| Stop::Io(Side::Listener, error))?);
            }
        }
        Ok(())
    }
}

impl End {
    fn new(stream: TcpStream) -> Self {
        let (read, write) = stream.into_split();
        Self {
            read,
            write,
            input: BytesMut::new(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            flow: Flow::More,
            read_closed: false,
            write_closed: false,
        }
    }

    fn enqueue(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.queued_bytes += bytes.len();
            self.queue.push_back(bytes);
        }
    }

    /// Is this end to be read, given where its bytes go?
    fn reads(&self, other: &Self) -> bool {
        !self.read_closed && self.flow == Flow::More && other.queued_bytes < QUEUE_BYTES_MAX
    }

    /// The other end sends no more, and all it sent is on its way: say so.
    fn closes(&self, other: &Self) -> bool {
        other.read_closed && self.queue.is_empty() && !self.write_closed
    }

    fn written(&mut self, written: Written) {
        match written {
            Written::Bytes(count) => self.queued_bytes -= count,
            Written::End => self.write_closed = true,
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        while !self.write_closed {
            let written = write(&mut self.write, &mut self.queue).await?;
            self.written(written);
        }
        Ok(())
    }
}

async fn read(from: &mut OwnedReadHalf, into: &mut BytesMut) -> io::Result<usize> {
    into.reserve(READ_BYTES_MAX);
    from.read_buf(into).await
}

enum Written {
    Bytes(usize),
    /// There was nothing left to write: the other end was told so.
    End,
}

async fn write(to: &mut OwnedWriteHalf, queue: &mut VecDeque<Bytes>) -> io::Result<Written> {
    let Some(front) = queue.front_mut() else {
        to.shutdown().await?;
        return Ok(Written::End);
    };
    let written = to.write_buf(front).await?;
    if !front.has_remaining() {
        queue.pop_front();
    }
    Ok(Written::Bytes(written))
}
