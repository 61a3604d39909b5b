//! A link without sockets: a session, its two ends, and everything that came out of it.

use bytes::{Bytes, BytesMut};
use segue_redis::Redis;
use segue_wire::{
    Answer, Effect, Effects, End, Fault, FaultKind, Hints, Limits, LossPolicy, Mode, Note, Protocol,
    Question, Refusal, SecondConnection, Session, Side, StreamKey,
};

pub const ID: &str = "0123456789012345678901234567890123456789";
/// What a replica follows by once its count may differ.
pub const BRANCH: &str = "0707070707070707070707070707070707070707";
pub const MARK: &str = "mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm";
/// An empty snapshot of 8.0, its checksum not computed; and of 6.0, with it.
pub const EMPTY_12: &[u8] = b"REDIS0012\xff\0\0\0\0\0\0\0\0";
pub const EMPTY_9: &[u8] = b"REDIS0009\xff\x9a\xac\x7a\xbc\xfb\x0f\xad\x74";

/// A session between two ends, with everything that came out of it.
pub struct Link {
    pub session: Box<dyn Session>,
    pub input: [BytesMut; 2],
    pub releases: [Option<&'static str>; 2],
    pub saved: [Option<Bytes>; 2],
    pub refuse_early: Option<Refusal>,
    /// What the other connection of one sync offers, or tells.
    pub joined: Option<Bytes>,
    pub told: Option<Bytes>,
    pub sent: [Vec<u8>; 2],
    pub notes: Vec<Note>,
    pub effects: Vec<Effect>,
    pub fault: Option<Fault>,
}

const HINTS: Hints = Hints {
    near: Side::Listener,
    mode: Mode::Auto,
    on_loss: LossPolicy::Refuse,
    second_connection: SecondConnection::Strip,
    nonce: [7; 20],
};

pub fn index(side: Side) -> usize {
    usize::from(side == Side::Listener)
}

impl Link {
    pub fn open(
        dialer: Option<&'static str>,
        listener: Option<&'static str>,
        mode: Mode,
        on_loss: LossPolicy,
    ) -> Self {
        let hints = Hints { mode, on_loss, ..HINTS };
        let limits = Limits { held_bytes_max: 4096, handshake_bytes_max: 1024, offset_marks_max: 64 };
        Self {
            session: Redis.open(hints, limits),
            input: Default::default(),
            releases: [dialer, listener],
            saved: Default::default(),
            refuse_early: None,
            joined: None,
            told: None,
            sent: Default::default(),
            notes: Vec::new(),
            effects: Vec::new(),
            fault: None,
        }
    }

    /// As seen by a sidecar at the replica's end.
    pub fn at_replica() -> Self {
        let mut link = Self::new(LossPolicy::Refuse);
        link.session = Redis.open(Hints { near: Side::Dialer, ..HINTS }, Limits::default());
        link
    }

    /// With syncs over two connections.
    pub fn apart(dialer: &'static str, listener: &'static str, mode: Mode) -> Self {
        Self::apart_with(dialer, listener, mode, LossPolicy::Refuse)
    }

    pub fn apart_with(dialer: &'static str, listener: &'static str, mode: Mode, on_loss: LossPolicy) -> Self {
        let mut link = Self::open(Some(dialer), Some(listener), mode.clone(), on_loss);
        let hints = Hints { second_connection: SecondConnection::Translate, mode, on_loss, ..HINTS };
        link.session = Redis.open(hints, Limits::default());
        link
    }

    pub fn new(on_loss: LossPolicy) -> Self {
        Self::open(Some("redis-6.0"), Some("redis-8.0.2"), Mode::Auto, on_loss)
    }

    /// A link on which the stream flows, from offset 100.
    pub fn streaming(on_loss: LossPolicy) -> Self {
        let mut link = Self::new(on_loss);
        link.handshake("?", "-1");
        link.master(format!("+FULLRESYNC {ID} 100\r\n$EOF:{MARK}\r\n"));
        link.master([EMPTY_12, MARK.as_bytes()].concat());
        link.replica(command("REPLCONF ACK 100"));
        link.sent = Default::default();
        link.notes.clear();
        link
    }

    pub fn handshake(&mut self, id: &str, offset: &str) {
        self.replica(command("PING"));
        self.master("+PONG\r\n");
        for step in ["REPLCONF listening-port 6402", "REPLCONF capa eof capa psync2"] {
            self.replica(command(step));
            self.master("+OK\r\n");
        }
        self.replica(command(&format!("PSYNC {id} {offset}")));
    }

    pub fn replica(&mut self, bytes: impl AsRef<[u8]>) {
        self.feed(Side::Dialer, bytes.as_ref());
    }

    pub fn master(&mut self, bytes: impl AsRef<[u8]>) {
        self.feed(Side::Listener, bytes.as_ref());
    }

    pub fn feed(&mut self, from: Side, bytes: &[u8]) {
        self.input[index(from)].extend_from_slice(bytes);
        let mut out = Effects::new();
        loop {
            let mut moved = false;
            for side in Side::BOTH {
                if self.fault.is_some() || self.effects.contains(&Effect::Splice) {
                    return;
                }
                let before = self.input[index(side)].len();
                let fed = self.session.feed(side, &mut self.input[index(side)], &mut out);
                moved |= self.input[index(side)].len() != before;
                self.notes.extend(out.drain_notes());
                for effect in out.drain().collect::<Vec<_>>() {
                    moved = true;
                    match &effect {
                        Effect::Send(to, bytes) => self.sent[index(*to)].extend_from_slice(bytes),
                        Effect::Ask(question) => {
                            let answer = self.answer(question);
                            self.session.answer(answer, &mut out).unwrap();
                            self.effects.push(effect);
                        }
                        _ => self.effects.push(effect),
                    }
                }
                self.fault = fed.err();
            }
            if !moved {
                return;
            }
        }
    }

    fn answer(&self, question: &Question) -> Answer {
        let end = |name: &str, release: Option<&str>| End {
            name: name.into(),
            release: release.map(|release| release.parse().unwrap()),
        };
        match question {
            Question::Ends { .. } => Answer::Ends {
                dialer: end("n2", self.releases[0]),
                listener: end("n1", self.releases[1]),
                refuse_early: self.refuse_early.clone(),
                joined: self.joined.clone(),
            },
            Question::Told => Answer::Told(self.told.clone()),
            Question::Bus { .. } | Question::Client => Answer::Stores {
                dialer: end("n2", self.releases[0]).release,
                listener: end("n1", self.releases[1]).release,
                hidden: None,
            },
            Question::OwnOffsets => Answer::OwnOffsets(false),
            Question::Stream(_) => {
                Answer::Stream { dialer: self.saved[0].clone(), listener: self.saved[1].clone() }
            }
        }
    }

    /// What a relay would have on record of the branch now.
    pub fn saved_branch(&self) -> Option<Bytes> {
        let mut state = None;
        for effect in &self.effects {
            match effect {
                Effect::Save(key, saved) if *key == branch_key() => state = Some(saved.to_vec()),
                Effect::Append(key, step) if *key == branch_key() => state.as_mut()?.extend_from_slice(step),
                Effect::Forget(key) if *key == branch_key() => state = None,
                _ => {}
            }
        }
        state.map(Bytes::from)
    }

    pub fn finish(&mut self) -> Vec<Effect> {
        let mut out = Effects::new();
        self.session.finish(&mut out);
        out.drain().collect()
    }

    pub fn replica_got(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.sent[0])).unwrap()
    }

    pub fn master_got(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.sent[1])).unwrap()
    }

    pub fn refusal(&self) -> &Refusal {
        match self.fault.as_ref().map(|fault| &fault.kind) {
            Some(FaultKind::Refused(refusal)) => refusal,
            other => panic!("not refused: {other:?}"),
        }
    }
}

pub fn command(text: &str) -> String {
    let words: Vec<_> = text.split(' ').collect();
    let arguments = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
    format!("*{}\r\n{}", words.len(), arguments.collect::<String>())
}

/// The state of the master's own stream, for the replica.
pub fn trunk_key(stream: &str) -> StreamKey {
    StreamKey { stream: stream.into(), follower: "n2".into() }
}

pub fn branch_key() -> StreamKey {
    StreamKey { stream: BRANCH.into(), follower: String::new() }
}
