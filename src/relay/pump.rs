//! Moves the bytes of one link while a session sees them: read, feed the session, carry out its effects in
//! order, write. Once the session lets go, [`through`] moves them.
//!
//! No side is read while the other side's queue is over [`QUEUE_BYTES_MAX`], nor while the session says
//! [`Flow::Hold`]: backpressure reaches from end to end. A link that waits for bytes has no buffer.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::Pin,
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes, BytesMut};
use segue_wire::{Effect, Effects, Fault, Flow, Note, Session, Side};
use tokio::{
    io::AsyncWriteExt,
    task::yield_now,
    time::{sleep, timeout},
};

use super::{
    bounds::{Place, Turn},
    link::Link,
    opening::Opening,
    sealed,
    through::{self, Begun},
};
use crate::tls::{
    Stream, TlsError, begins_tls,
    stream::{ReadHalf, WriteHalf},
};

/// Read at most this much at once.
const READ_BYTES_MAX: usize = 64 << 10;
/// After so much was read and rewritten, other links of the thread go on.
const RUN_BYTES_MAX: usize = 256 << 10;
/// While all links together hold what they may: enough for what is small.
pub const LITTLE_BYTES: usize = 1 << 10;
/// How often a link that waits until others hold less looks again.
const LOOK_PERIOD: Duration = Duration::from_millis(20);
/// Beyond this, what feeds a queue is not read any more.
pub const QUEUE_BYTES_MAX: usize = 1 << 20;
/// How long the last bytes of an ending link may take.
pub const FLUSH_TIME_MAX: Duration = Duration::from_secs(1);

/// Why a link ended.
#[derive(Debug)]
pub enum Stop {
    /// Both ends closed it, or one that the other can't do without.
    Closed,
    /// The sidecar ends it: a toggle, a newer link of the same replica, the end of the process; or its
    /// session does.
    Ended,
    Io(Side, io::Error),
    /// That side does not speak what the config says.
    Tls(Side, TlsError),
    Fault(Fault),
    /// A command of the handshake has not come to its end in time.
    Slow(Side),
    /// All links hold what they may, and this one held more without coming to an end.
    HeldTotal,
}

pub struct Pump<'a> {
    link: &'a Link,
    opening: &'a Opening,
    session: Box<dyn Session>,
    undecided: Place<'a>,
    /// The dialer's and the listener's.
    streams: Box<[Stream; 2]>,
}

impl<'a> Pump<'a> {
    pub fn new(
        link: &'a Link,
        opening: &'a Opening,
        session: Box<dyn Session>,
        undecided: Place<'a>,
        streams: Box<[Stream; 2]>,
    ) -> Self {
        Self { link, opening, session, undecided, streams }
    }

    /// Each part of its life is on the heap, and gone when the next one begins: most connections are passed
    /// for most of their life.
    pub fn run(self) -> impl Future<Output = Stop> + Send + 'a {
        let feeding = Box::pin(self.feed());
        async move {
            match feeding.await {
                Ok(passing) => passing.await,
                Err(stop) => stop,
            }
        }
    }

    /// Until the session lets go, and then what passes the bytes.
    async fn feed(self) -> Result<Passing<'a>, Stop> {
        let Self { link, opening, session, undecided, mut streams } = self;
        let begun = match Feeding::new(link, opening, session, undecided, &mut streams).run().await {
            Outcome::Spliced(begun) => begun,
            Outcome::Stopped(stop) => return Err(stop),
        };
        Ok(match *streams {
            [Stream::Plain(dialer), Stream::Plain(listener)] => {
                Box::pin(through::run(link, &opening.shared.pipes, [dialer, listener], begun))
            }
            streams => Box::pin(sealed::run(link, streams, begun)),
        })
    }
}

type Passing<'a> = Pin<Box<dyn Future<Output = Stop> + Send + 'a>>;

/// How the part of a link ended that a session sees.
enum Outcome {
    Spliced([Begun; 2]),
    Stopped(Stop),
}

struct Feeding<'a, 's> {
    link: &'a Link,
    opening: &'a Opening,
    /// None once the bytes pass unchanged.
    session: Option<Box<dyn Session>>,
    effects: Effects,
    /// None once it is a replication link, and its fate is known.
    undecided: Option<Place<'a>>,
    /// Since when a command of the handshake has been under way, and whose.
    begun: Option<(Instant, Side)>,
    turn: Option<Turn>,
    /// Read since other links of the thread went on.
    run_bytes: usize,
    /// The session wants no more of this link.
    closes: bool,
    ends: [End<'s>; 2],
}

/// What a link may read, given what all links hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Allowance {
    WhileThereIsRoom,
    Turn,
    Nothing,
}

struct End<'s> {
    read: ReadHalf<'s>,
    write: WriteHalf<'s>,
    input: BytesMut,
    queue: VecDeque<Bytes>,
    queued_bytes: usize,
    flow: Flow,
    read_closed: bool,
    write_closed: bool,
    /// It has not said anything yet, and is not to begin with TLS.
    expects_plain: bool,
}

impl<'a, 's> Feeding<'a, 's> {
    fn new(
        link: &'a Link,
        opening: &'a Opening,
        session: Box<dyn Session>,
        undecided: Place<'a>,
        streams: &'s mut [Stream; 2],
    ) -> Self {
        // With the translation off the link may be of anything, TLS from end to end as well.
        let expects_plain = !opening.shared.passes_anything();
        Self {
            link,
            opening,
            session: Some(session),
            effects: Effects::new(),
            undecided: Some(undecided),
            begun: None,
            turn: None,
            run_bytes: 0,
            closes: false,
            ends: streams.each_mut().map(|stream| End::new(stream, expects_plain)),
        }
    }

    async fn run(mut self) -> Outcome {
        let stop = loop {
            if let Err(fault) = self.turn().await {
                break Stop::Fault(fault);
            }
            if self.session.is_none() {
                let [dialer, listener] = self.ends;
                // What waits for the listener came from the dialer.
                let begun = |queue, read_closed| Begun { leftover: joined(queue), read_closed };
                return Outcome::Spliced([
                    begun(listener.queue, dialer.read_closed),
                    begun(dialer.queue, listener.read_closed),
                ]);
            }
            if self.closes {
                break Stop::Ended;
            }
            if self.is_over() {
                break Stop::Closed;
            }
            // However much there is to be moved: what comes from here on is not to go by what was before.
            if self.link.end.is_cancelled() {
                break Stop::Ended;
            }
            if self.run_bytes >= RUN_BYTES_MAX {
                self.run_bytes = 0;
                yield_now().await;
            }
            if let Err(stop) = self.move_bytes().await {
                break stop;
            }
        };
        if let Some(mut session) = self.session.take() {
            session.finish(&mut self.effects);
            // What is to be saved is saved; there is nobody left to send to.
            let _ = self.carry_out().await;
        }
        if matches!(stop, Stop::Io(..)) && self.undecided.is_some() {
            // A client sees what its store did; a replica had better get all that was sent to it.
            self.ends.iter().for_each(|end| through::reset(end.write.tcp()));
        } else {
            let [dialer, listener] = &mut self.ends;
            let _ = timeout(FLUSH_TIME_MAX, async { tokio::join!(dialer.flush(), listener.flush()) }).await;
        }
        self.link.hold(0);
        Outcome::Stopped(stop)
    }

    /// A client that has sent its last request still waits for answers. A replication link needs both ends.
    fn is_over(&self) -> bool {
        let [dialer, listener] = &self.ends;
        listener.read_closed || (dialer.read_closed && self.undecided.is_none())
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
            if moved {
                self.begun = None;
            } else {
                let held: usize = self.ends.iter().map(|end| end.input.len() + end.queued_bytes).sum();
                self.link.hold(held + self.session_bytes());
                self.watch_handshake();
                return Ok(());
            }
        }
    }

    fn session_bytes(&self) -> usize {
        self.session.as_ref().map_or(0, |session| session.held_bytes())
    }

    /// Who has said nothing, or whole commands only, may be silent as long as it likes; who waits for the
    /// other side owes nothing.
    fn watch_handshake(&mut self) {
        let owes = |(_, end): &(Side, &End<'_>)| !end.input.is_empty() && end.flow == Flow::More;
        let slow = Side::BOTH.into_iter().zip(&self.ends).find(owes).filter(|_| self.undecided.is_some());
        let since = self.begun.map_or_else(Instant::now, |(since, _)| since);
        self.begun = slow.map(|(side, _)| (since, side));
    }

    /// While all links hold what they may, one at a time may finish what it has begun; the others wait, or
    /// take only what is small where they have begun nothing.
    fn allowance(&mut self) -> Result<Allowance, Stop> {
        let all_held = &self.link.all_held;
        let has_begun = self.ends.iter().any(|end| !end.input.is_empty()) || self.session_bytes() > 0;
        if !all_held.is_full() || !has_begun {
            self.turn = None;
            return Ok(Allowance::WhileThereIsRoom);
        }
        if self.turn.is_none() {
            self.turn = all_held.take_turn();
        }
        match &self.turn {
            Some(turn) if turn.is_over() => Err(Stop::HeldTotal),
            Some(_) => Ok(Allowance::Turn),
            None => Ok(Allowance::Nothing),
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
            if matches!(note, Note::Decided { .. }) {
                self.undecided = None;
            }
            self.opening.note(self.link, note);
        }
        for effect in self.effects.drain().collect::<Vec<_>>() {
            any = true;
            match effect {
                Effect::Send(to, bytes) => self.ends[usize::from(to == Side::Listener)].enqueue(bytes),
                Effect::Save(key, state) => Box::pin(self.opening.save(key, state)).await,
                Effect::Append(key, step) => self.opening.append(&key, &step),
                Effect::Forget(key) => self.opening.forget(key).await,
                Effect::Ask(question) => {
                    // Boxed: finding out takes far more room than waiting for bytes.
                    let answer = Box::pin(self.opening.answer(self.link, question)).await;
                    if let Some(session) = &mut self.session {
                        session.answer(answer, &mut self.effects)?;
                    }
                }
                Effect::Offer(key, words) => self.opening.shared.pairing.offer(self.link, key, words),
                Effect::Tell(words) => self.opening.tell(words),
                Effect::Splice => {
                    self.session = None;
                    self.opening.spliced(self.link);
                }
                Effect::Close => self.closes = true,
            }
        }
        Ok(any)
    }

    /// Waits for one thing to happen: bytes in, bytes out, or the end.
    async fn move_bytes(&mut self) -> Result<(), Stop> {
        let link = self.link;
        let allowance = self.allowance()?;
        let looks_again = allowance != Allowance::WhileThereIsRoom;
        let handshake = self.begun.map(|(since, side)| {
            let limit = self.opening.shared.config().limits.handshake_timeout;
            (limit.saturating_sub(since.elapsed()), side)
        });
        let [dialer, listener] = &mut self.ends;
        let reads = allowance != Allowance::Nothing;
        let bytes_max = || match allowance {
            Allowance::WhileThereIsRoom if link.all_held.is_full() => LITTLE_BYTES,
            _ => READ_BYTES_MAX,
        };
        let (dialer_reads, listener_reads) =
            (reads && dialer.reads(listener), reads && listener.reads(dialer));
        let listener_writes = listener.writes() || listener.closes(dialer);
        let dialer_writes = dialer.writes();
        tokio::select! {
            () = link.end.cancelled() => return Err(Stop::Ended),
            side = passed(handshake), if handshake.is_some() => return Err(Stop::Slow(side)),
            () = sleep(LOOK_PERIOD), if looks_again => {}
            read = read(&mut dialer.read, &mut dialer.input, bytes_max), if dialer_reads => {
                let count = read.map_err(|error| Stop::Io(Side::Dialer, error))?;
                dialer.read_closed = count == 0;
                self.run_bytes += count;
                link.count_bytes(Side::Dialer, count as u64);
                dialer.speaks_as_expected().map_err(|error| Stop::Tls(Side::Dialer, error))?;
            }
            read = read(&mut listener.read, &mut listener.input, bytes_max), if listener_reads => {
                let count = read.map_err(|error| Stop::Io(Side::Listener, error))?;
                listener.read_closed = count == 0;
                self.run_bytes += count;
                link.count_bytes(Side::Listener, count as u64);
                listener.speaks_as_expected().map_err(|error| Stop::Tls(Side::Listener, error))?;
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

impl<'s> End<'s> {
    fn new(stream: &'s mut Stream, expects_plain: bool) -> Self {
        let expects_plain = expects_plain && matches!(stream, Stream::Plain(_));
        let (read, write) = stream.split();
        Self {
            read,
            write,
            input: BytesMut::new(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            flow: Flow::More,
            read_closed: false,
            write_closed: false,
            expects_plain,
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

    /// Is there anything to be sent, or on its way?
    fn writes(&self) -> bool {
        !self.queue.is_empty() || self.write.is_unflushed()
    }

    /// Its first bytes tell; a session would take them for a client's, and let them pass.
    fn speaks_as_expected(&mut self) -> Result<(), TlsError> {
        let begins = std::mem::take(&mut self.expects_plain) && begins_tls(&self.input);
        if begins { Err(TlsError::NotPlain) } else { Ok(()) }
    }

    /// The other end sends no more, and all it sent is on its way: say so.
    fn closes(&self, other: &Self) -> bool {
        other.read_closed && !self.writes() && !self.write_closed
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

/// When a side's time is over.
async fn passed(limit: Option<(Duration, Side)>) -> Side {
    let (time, side) = limit.unwrap_or((Duration::MAX, Side::Dialer));
    sleep(time).await;
    side
}

/// There is a buffer only once there is something to read.
async fn read(
    from: &mut ReadHalf<'_>,
    into: &mut BytesMut,
    bytes_max: impl Fn() -> usize,
) -> io::Result<usize> {
    poll_fn(|cx| from.poll_read_into(cx, into, &bytes_max)).await
}

enum Written {
    Bytes(usize),
    /// There was nothing left to write: the other end was told so.
    End,
}

async fn write(to: &mut WriteHalf<'_>, queue: &mut VecDeque<Bytes>) -> io::Result<Written> {
    let Some(front) = queue.front_mut() else {
        if to.is_unflushed() {
            to.flush().await?;
            return Ok(Written::Bytes(0));
        }
        to.shutdown().await?;
        return Ok(Written::End);
    };
    let written = to.write_buf(front).await?;
    if !front.has_remaining() {
        queue.pop_front();
    }
    Ok(Written::Bytes(written))
}

fn joined(mut queue: VecDeque<Bytes>) -> Bytes {
    match queue.len() {
        0 | 1 => queue.pop_front().unwrap_or_default(),
        _ => queue
            .into_iter()
            .fold(BytesMut::new(), |mut all, bytes| {
                all.extend_from_slice(&bytes);
                all
            })
            .freeze(),
    }
}
