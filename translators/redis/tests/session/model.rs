//! A master and a replica that count as real ones do, with a session between them, link after link.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use segue_redis::Redis;
use segue_wire::{
    Answer, Effect, Effects, End, Hints, Limits, LossPolicy, Mode, Protocol, Question, SecondConnection,
    Session, Side, StreamKey,
};

use crate::link::{EMPTY_12, ID, MARK, command};

/// The master's offset before its stream.
pub const START: usize = 100;

/// Where a link breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Never,
    /// The replica has got so many bytes on this link.
    AtReplica(usize),
    /// The master has sent so many bytes of its stream, and the replica got all that came of them.
    AtMaster(usize),
}

/// What becomes of the sidecar when the link breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sidecar {
    /// It sees the end.
    Lives,
    /// It leaves what it had saved before the last byte was sent.
    Dies,
}

pub struct Site {
    /// The replica's and the master's.
    releases: [&'static str; 2],
    pub stream: Vec<u8>,
    /// Bytes that the session is fed at once.
    pub piece: usize,
    pub replica: Replica,
    pub full_syncs: usize,
    pub partial_syncs: usize,
    /// The replica's offset in the master's count, as the master was told last.
    pub acknowledged: usize,
    /// Links at whose beginning the replica had nothing to go on from.
    pub from_nothing: usize,
    saved: BTreeMap<StreamKey, Vec<u8>>,
    links: u8,
}

impl Site {
    pub fn new(releases: [&'static str; 2], stream: &[u8]) -> Self {
        Self {
            releases,
            stream: stream.to_vec(),
            piece: usize::MAX,
            replica: Replica::default(),
            full_syncs: 0,
            partial_syncs: 0,
            acknowledged: 0,
            from_nothing: 0,
            saved: BTreeMap::new(),
            links: 0,
        }
    }

    /// Links until nothing is left to say.
    pub fn finish(&mut self) {
        for _ in 0..5 {
            if !self.link(Cut::Never, Sidecar::Lives).closed {
                return;
            }
        }
        panic!("the session ends one link after another");
    }

    /// One link, from its handshake to the cut or to where nothing moves any more.
    pub fn link(&mut self, cut: Cut, sidecar: Sidecar) -> Wire {
        self.links += 1;
        self.from_nothing += usize::from(self.replica.follows.is_none());
        let hints = Hints {
            near: Side::Listener,
            mode: Mode::Auto,
            on_loss: LossPolicy::Degrade,
            second_connection: SecondConnection::Strip,
            nonce: [self.links; 20],
        };
        let mut wire = Wire { cut, sidecar, got: 0, broken: false, closed: false };
        let mut session = Redis.open(hints, Limits::default());
        let mut input = [BytesMut::from(&self.replica.dial()[..]), BytesMut::new()];
        let mut unfed = [BytesMut::new(), BytesMut::new()];
        loop {
            let mut moved = false;
            for (side, at) in [(Side::Dialer, 0), (Side::Listener, 1)] {
                let mut out = Effects::new();
                let piece = unfed[at].len().min(self.piece);
                input[at].unsplit(unfed[at].split_to(piece));
                let before = input[at].len();
                session.feed(side, &mut input[at], &mut out).unwrap();
                moved |= piece > 0 || input[at].len() != before;
                moved |= self.carry_out(out, &mut *session, &mut wire, &mut unfed);
                if wire.broken && sidecar == Sidecar::Dies {
                    self.replica.cut_off();
                    return wire;
                }
            }
            if !moved || wire.closed {
                break;
            }
        }
        let mut out = Effects::new();
        session.finish(&mut out);
        wire.broken = true;
        self.carry_out(out, &mut *session, &mut wire, &mut unfed);
        self.replica.cut_off();
        wire
    }

    fn carry_out(
        &mut self,
        mut out: Effects,
        session: &mut dyn Session,
        wire: &mut Wire,
        unfed: &mut [BytesMut; 2],
    ) -> bool {
        let mut any = false;
        for effect in out.drain().collect::<Vec<_>>() {
            any = true;
            match effect {
                Effect::Save(key, state) => drop(self.saved.insert(key, state.to_vec())),
                Effect::Append(key, step) => self.saved.get_mut(&key).unwrap().extend(step),
                Effect::Forget(key) => drop(self.saved.remove(&key)),
                Effect::Ask(question) => {
                    let answer = self.answer(&question);
                    session.answer(answer, &mut Effects::new()).unwrap();
                }
                Effect::Close => wire.closed = true,
                Effect::Splice => panic!("the link is not rewritten"),
                Effect::Offer(..) | Effect::Tell(_) => panic!("there is one connection"),
                Effect::Send(Side::Listener, bytes) => {
                    unfed[1].extend_from_slice(&self.master(&bytes, wire.cut));
                }
                Effect::Send(Side::Dialer, _) if wire.broken => {}
                Effect::Send(Side::Dialer, bytes) => {
                    let got = wire.take(&bytes);
                    unfed[0].extend_from_slice(&self.replica.take(got, self.full_syncs));
                    if wire.broken && wire.sidecar == Sidecar::Dies {
                        return any;
                    }
                }
            }
        }
        any
    }

    fn answer(&self, question: &Question) -> Answer {
        let end = |name: &str, release: &str| End { name: name.into(), release: release.parse().ok() };
        let recall = |stream: &str, follower: &str| {
            let key = |follower: &str| StreamKey { stream: stream.into(), follower: follower.into() };
            let saved = self.saved.get(&key(follower)).or_else(|| self.saved.get(&key("")));
            saved.map(|state| Bytes::copy_from_slice(state))
        };
        match question {
            Question::Ends { .. } => Answer::Ends {
                dialer: end("n2", self.releases[0]),
                listener: end("n1", self.releases[1]),
                refuse_early: None,
                joined: None,
            },
            Question::Stream(id) => Answer::Stream { dialer: recall(id, "n2"), listener: recall(id, "n1") },
            Question::Bus { .. } | Question::Client | Question::OwnOffsets | Question::Told => {
                panic!("a replica was taken for {question:?}")
            }
        }
    }

    /// What the master answers: a line, a snapshot, its stream from there on.
    fn master(&mut self, asked: &[u8], cut: Cut) -> Vec<u8> {
        let mut answer = Vec::new();
        for words in commands(asked) {
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            match words[..] {
                ["REPLCONF", "ACK", offset] => {
                    let offset = offset.parse().unwrap();
                    assert!(offset >= self.acknowledged, "the master was told less than before");
                    self.acknowledged = offset;
                }
                ["PSYNC", id, next] => {
                    let end = match cut {
                        Cut::AtMaster(sent) => sent,
                        _ => self.stream.len(),
                    };
                    let from = next.parse::<usize>().ok().and_then(|next| next.checked_sub(START + 1));
                    match from.filter(|from| id == ID && *from <= end) {
                        Some(from) => {
                            self.partial_syncs += 1;
                            answer.extend_from_slice(b"+CONTINUE\r\n");
                            answer.extend_from_slice(&self.stream[from..end]);
                        }
                        None => {
                            self.full_syncs += 1;
                            let head = format!("+FULLRESYNC {ID} {START}\r\n$EOF:{MARK}\r\n");
                            answer.extend_from_slice(head.as_bytes());
                            answer.extend_from_slice(EMPTY_12);
                            answer.extend_from_slice(MARK.as_bytes());
                            answer.extend_from_slice(&self.stream[..end]);
                        }
                    }
                }
                _ => answer.extend_from_slice(b"+OK\r\n"),
            }
        }
        answer
    }
}

/// One link's way to the replica.
pub struct Wire {
    cut: Cut,
    sidecar: Sidecar,
    pub got: usize,
    broken: bool,
    /// The session has ended it.
    pub closed: bool,
}

impl Wire {
    fn take<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let left = match self.cut {
            Cut::AtReplica(most) => most - self.got,
            _ => usize::MAX,
        };
        let got = &bytes[..left.min(bytes.len())];
        self.got += got.len();
        self.broken = got.len() == left;
        got
    }
}

/// Counts as every release was seen to: blank lines only with the next command, a transaction only at its end.
#[derive(Default)]
pub struct Replica {
    /// The stream that it follows, and how far it has come.
    pub follows: Option<(String, usize)>,
    /// What it has done, each in its database.
    pub done: Vec<String>,
    pub db: String,
    input: Vec<u8>,
    mark: Option<Vec<u8>>,
    phase: Phase,
    read: usize,
    queued: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Handshake,
    Snapshot,
    Stream,
}

impl Replica {
    fn dial(&self) -> String {
        let psync = match &self.follows {
            Some((id, offset)) => format!("PSYNC {id} {}", offset + 1),
            None => "PSYNC ? -1".to_owned(),
        };
        ["PING", "REPLCONF listening-port 6402", "REPLCONF capa eof capa psync2", &psync]
            .map(command)
            .concat()
    }

    fn cut_off(&mut self) {
        if self.phase == Phase::Snapshot {
            self.follows = None;
        }
        self.input.clear();
        (self.queued, self.mark, self.phase) = (None, None, Phase::Handshake);
    }

    /// Takes bytes; what it says to them.
    fn take(&mut self, bytes: &[u8], full_syncs: usize) -> Vec<u8> {
        self.input.extend_from_slice(bytes);
        while match self.phase {
            Phase::Handshake => self.line(),
            Phase::Snapshot => self.snapshot(full_syncs),
            Phase::Stream => self.command(),
        } {}
        match (&self.follows, self.phase) {
            (Some((_, offset)), Phase::Stream) => command(&format!("REPLCONF ACK {offset}")).into(),
            _ => Vec::new(),
        }
    }

    fn line(&mut self) -> bool {
        let Some(end) = self.input.windows(2).position(|window| window == b"\r\n") else { return false };
        let line = String::from_utf8(self.input.drain(..end + 2).collect()).unwrap();
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["+FULLRESYNC", id, offset] => {
                self.follows = Some((id.to_owned(), offset.parse().unwrap()));
                self.phase = Phase::Snapshot;
            }
            ["+CONTINUE", ref id @ ..] => {
                let (follows, offset) = self.follows.as_mut().unwrap();
                id.iter().for_each(|id| *follows = (*id).to_owned());
                self.read = *offset;
                self.phase = Phase::Stream;
            }
            _ => {}
        }
        true
    }

    fn snapshot(&mut self, full_syncs: usize) -> bool {
        if self.mark.is_none() {
            let Some(end) = self.input.windows(2).position(|window| window == b"\r\n") else { return false };
            let line: Vec<u8> = self.input.drain(..end + 2).collect();
            self.mark = line.strip_prefix(b"$EOF:").map(|mark| mark[..40].to_vec());
        }
        let Some(mark) = self.mark.as_ref().filter(|mark| self.input.ends_with(mark)) else { return false };
        assert!(self.input.len() > mark.len() && full_syncs > 0);
        self.input.clear();
        self.done.clear();
        self.db = "0".to_owned();
        self.read = self.follows.as_ref().unwrap().1;
        self.phase = Phase::Stream;
        true
    }

    fn command(&mut self) -> bool {
        let blank = self.input.iter().take_while(|byte| b"\r\n".contains(byte)).count();
        self.input.drain(..blank);
        self.read += blank;
        let Some((words, length)) = first_command(&self.input) else { return false };
        self.input.drain(..length);
        self.read += length;
        match (words[0].to_ascii_uppercase().as_str(), &mut self.queued) {
            ("MULTI", queued) => *queued = Some(Vec::new()),
            ("EXEC", queued) => self.done.append(&mut queued.take().unwrap()),
            ("PING" | "REPLCONF", None) => {}
            ("SELECT", None) => self.db.clone_from(&words[1]),
            (_, Some(queued)) => queued.push(format!("{}: {}", self.db, words.join(" "))),
            (_, None) => self.done.push(format!("{}: {}", self.db, words.join(" "))),
        }
        if self.queued.is_none() {
            self.follows.as_mut().unwrap().1 = self.read;
        }
        true
    }
}

pub fn commands(mut bytes: &[u8]) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    while let Some((words, length)) = first_command(bytes) {
        all.push(words);
        bytes = &bytes[length..];
    }
    all
}

/// The words of the command at the front, and its length.
fn first_command(bytes: &[u8]) -> Option<(Vec<String>, usize)> {
    let mut at = 0;
    let mut line = || {
        let end = at + bytes.get(at..)?.windows(2).position(|window| window == b"\r\n")?;
        let line = std::str::from_utf8(&bytes[at..end]).unwrap();
        at = end + 2;
        Some(line)
    };
    let count: usize = line()?.strip_prefix('*').unwrap().parse().unwrap();
    let mut words = Vec::new();
    for _ in 0..count {
        line()?;
        words.push(line()?.to_owned());
    }
    Some((words, at))
}
