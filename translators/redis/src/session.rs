//! One replication link between two releases.
//!
//! ```text
//!            dialer (replica)                        listener (master)
//! Handshake  PING, AUTH, REPLCONF …          ->      one line each
//!            PSYNC id offset                 ->      (offset mapped, or a full sync asked for)
//! Asked                                      <-      +FULLRESYNC id offset | +CONTINUE [id]
//! Snapshot                                   <-      $<len> or $EOF:<mark>, the snapshot rewritten
//! Loading    REPLCONF ACK                    ->      (nothing of the stream before this)
//! Streaming  REPLCONF ACK offset (mapped)    ->
//!                                            <-      commands, rewritten and padded
//! ```
//!
//! A dialer that says anything else is a client of the store: its bytes pass unchanged.

use bytes::{Bytes, BytesMut};
use segue_wire::{
    Answer, Effect, Effects, End, Fault, FaultKind, Flow, Hints, Limits, Note, Question, Refusal, Session,
    Side, StreamKey, Verdict,
};

use crate::{
    handshake::{self, Announced, Decision, Kind, Psync},
    offsets::OffsetMap,
    releases::Pair,
    resp::{self, Collect, Command, Head},
    rules::Rules,
    saved::Saved,
    snapshot::Snapshot,
    stream::Stream,
};

const REPLICA: Side = Side::Dialer;
const MASTER: Side = Side::Listener;

pub struct RedisSession {
    hints: Hints,
    limits: Limits,
    announced: Announced,
    /// Replica and master, once asked for.
    ends: Option<(End, End)>,
    /// What was saved of the stream that the replica asks for; for the replica, for the master.
    saved: Option<(Option<Saved>, Option<Saved>)>,
    refuse_early: Option<Refusal>,
    waiting: bool,
    collect: Collect,
    /// A command of the dialer's that waits for an answer.
    pending: Option<(Bytes, Command)>,
    phase: Phase,
    /// Bytes taken from the dialer and from the listener.
    taken: [u64; 2],
    spoiled: bool,
}

enum Phase {
    Handshake { replies_due: u64, in_line: bool },
    Asked { pair: Pair, resume: Option<Resume> },
    Announced { pair: Pair, key: StreamKey, offset: u64 },
    Snapshot { snapshot: Box<Snapshot>, pair: Pair, key: StreamKey, offset: u64 },
    Loading(Box<Stream>),
    Streaming(Box<Stream>),
    Over,
}

/// A partial resync that was asked for.
struct Resume {
    key: StreamKey,
    map: OffsetMap,
}

impl RedisSession {
    pub fn new(hints: Hints, limits: Limits) -> Self {
        Self {
            hints,
            limits,
            announced: Announced::default(),
            ends: None,
            saved: None,
            refuse_early: None,
            waiting: false,
            collect: Collect::default(),
            pending: None,
            phase: Phase::Handshake { replies_due: 0, in_line: false },
            taken: [0; 2],
            spoiled: false,
        }
    }
}

// === impl Session ===

impl Session for RedisSession {
    fn feed(&mut self, from: Side, input: &mut BytesMut, out: &mut Effects) -> Result<Flow, Fault> {
        if self.waiting {
            return Ok(Flow::Hold);
        }
        let before = input.len();
        let flow = match from {
            Side::Dialer => self.take_from_dialer(input, out),
            Side::Listener => self.take_from_listener(input, out),
        };
        let taken = &mut self.taken[usize::from(from == Side::Listener)];
        *taken += (before - input.len()) as u64;
        let position = *taken;
        flow.map_err(|kind| {
            self.spoiled |= !matches!(kind, FaultKind::Refused(_));
            Fault { kind, side: from, position }
        })
    }

    fn answer(&mut self, answer: Answer, _: &mut Effects) -> Result<(), Fault> {
        self.waiting = false;
        match answer {
            Answer::Ends { dialer, listener, refuse_early } => {
                self.ends = Some((dialer, listener));
                self.refuse_early = refuse_early;
            }
            Answer::Stream { dialer, listener } => {
                let decode = |saved: Bytes| Saved::decode(&saved, self.limits.offset_marks_max);
                self.saved = Some((dialer.map(decode), listener.map(decode)));
            }
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Effects) {
        if let Phase::Loading(stream) | Phase::Streaming(stream) =
            std::mem::replace(&mut self.phase, Phase::Over)
        {
            if self.spoiled {
                stream.spoil(out);
            } else {
                stream.save(out);
            }
        }
    }
}

// === the dialer's bytes ===

impl RedisSession {
    fn take_from_dialer(&mut self, input: &mut BytesMut, out: &mut Effects) -> Result<Flow, FaultKind> {
        loop {
            if matches!(self.phase, Phase::Over) {
                return Ok(Flow::More);
            }
            if let Some((raw, command)) = self.pending.take() {
                if !self.dialer_command(raw, command, out)? {
                    return Ok(Flow::Hold);
                }
                continue;
            }
            match resp::head(input)? {
                Head::Incomplete => return self.bounded(input),
                Head::Blank(len) => out.send(MASTER, input.split_to(len).freeze()),
                Head::Foreign => self.pass_on(out),
                Head::Command { name, .. } if self.is_client(name) => self.pass_on(out),
                Head::Command { .. } => {
                    let max = self.limits.handshake_bytes_max;
                    self.pending = self.collect.take(input, "handshake_bytes_max", max)?;
                    if self.pending.is_none() {
                        return Ok(Flow::More);
                    }
                }
            }
        }
    }

    fn is_client(&self, name: &[u8]) -> bool {
        matches!(self.phase, Phase::Handshake { .. }) && handshake::kind(name) == Kind::Client
    }

    /// False if the command has to wait; it is then kept.
    fn dialer_command(&mut self, raw: Bytes, command: Command, out: &mut Effects) -> Result<bool, FaultKind> {
        let Phase::Handshake { replies_due, .. } = &mut self.phase else {
            self.acknowledgement(&raw, &command, out)?;
            return Ok(true);
        };
        let name = command.first().cloned().unwrap_or_default();
        match handshake::kind(&name) {
            Kind::Client | Kind::Step => {
                *replies_due += 1;
                out.send(MASTER, raw);
            }
            Kind::Replconf => {
                if handshake::has_capabilities(&command) && self.ends.is_none() {
                    self.announced.learn(&command);
                    self.pending = Some((raw, command));
                    self.ask_ends(out);
                    return Ok(false);
                }
                *replies_due += 1;
                self.announced.learn(&command);
                if let Some(release) = self.announced.release() {
                    out.note(Note::Learned(REPLICA, release));
                }
                let rewritten = self.decision().is_some_and(|decision| decision.pair.is_some());
                let older = rewritten.then(|| handshake::on_one_connection(&command)).flatten();
                out.send(MASTER, older.unwrap_or(raw));
            }
            Kind::Psync | Kind::Sync if *replies_due > 0 => {
                self.pending = Some((raw, command));
                return Ok(false);
            }
            Kind::Psync | Kind::Sync if self.ends.is_none() => {
                self.pending = Some((raw, command));
                self.ask_ends(out);
                return Ok(false);
            }
            Kind::Sync => self.begin(raw, None, out)?,
            Kind::Psync => {
                let psync = Psync::parse(&command);
                if let Some((stream, _)) = psync.resume.as_ref().filter(|_| self.saved.is_none()) {
                    out.push(Effect::Ask(Question::Stream(stream.clone())));
                    self.waiting = true;
                    self.pending = Some((raw, command));
                    return Ok(false);
                }
                self.begin(raw, Some(psync), out)?;
            }
        }
        Ok(true)
    }

    fn ask_ends(&mut self, out: &mut Effects) {
        let Announced { listening_port, address, .. } = &self.announced;
        out.push(Effect::Ask(Question::Ends { listening_port: *listening_port, address: address.clone() }));
        self.waiting = true;
    }

    /// What the wire told outranks what was asked.
    fn decision(&self) -> Option<Decision> {
        let (dialer, listener) = self.ends.as_ref()?;
        let release = self.announced.release().or_else(|| dialer.release.clone());
        Some(handshake::decide(&self.hints, &End { release, ..dialer.clone() }, listener))
    }

    /// The dialer asks for the stream: here the link's fate is decided.
    fn begin(&mut self, raw: Bytes, psync: Option<Psync>, out: &mut Effects) -> Result<(), FaultKind> {
        let Some(Decision { verdict, target, pair }) = self.decision() else { return Ok(()) };
        out.note(Note::Decided { verdict: verdict.clone(), target });
        match (verdict, pair) {
            (Verdict::Refuse(refusal), _) => self.refuse(refusal, out),
            (_, Some(pair)) => self.begin_rewrite(pair, psync, out),
            (_, None) => self.begin_same(raw, psync, out),
        }
    }

    fn begin_same(&mut self, raw: Bytes, psync: Option<Psync>, out: &mut Effects) -> Result<(), FaultKind> {
        let (replica, master) = self.saved.take().unwrap_or_default();
        let shifted = |saved: &Option<Saved>| saved.as_ref().is_some_and(Saved::is_shifted);
        if shifted(&replica) || shifted(&master) {
            if psync.as_ref().is_some_and(|psync| psync.failover) {
                return self.refuse(Refusal::ShiftedOffsets, out);
            }
            out.send(MASTER, Psync::write_full());
        } else {
            out.send(MASTER, raw);
        }
        if replica.is_some()
            && let Some((stream, _)) = psync.and_then(|psync| psync.resume)
        {
            out.push(Effect::Forget(self.key(stream)));
        }
        self.pass_on(out);
        Ok(())
    }

    fn begin_rewrite(
        &mut self,
        pair: Pair,
        psync: Option<Psync>,
        out: &mut Effects,
    ) -> Result<(), FaultKind> {
        if let Some(refusal) = self.refuse_early.take() {
            return self.refuse(refusal, out);
        }
        let Some(psync) = psync else {
            return self.refuse(Refusal::MissingCapability { capability: "psync2" }, out);
        };
        if !self.announced.eof {
            return self.refuse(Refusal::MissingCapability { capability: "eof" }, out);
        }
        let (replica, _) = self.saved.take().unwrap_or_default();
        let resume = psync.resume.and_then(|(stream, offset)| {
            let map = match replica {
                Some(Saved::Exact { map, .. }) => map.resume(offset)?,
                // A master that hands over counts in its own stream: there was nothing to shift.
                None if psync.failover => OffsetMap::new(offset, offset, self.limits.offset_marks_max),
                _ => return None,
            };
            Some(Resume { key: self.key(stream), map })
        });
        match &resume {
            Some(resume) => {
                let psync = Psync::write(&resume.key.stream, resume.map.master(), psync.failover);
                out.send(MASTER, psync);
            }
            None if psync.failover => return self.refuse(Refusal::ShiftedOffsets, out),
            None => out.send(MASTER, Psync::write_full()),
        }
        self.phase = Phase::Asked { pair, resume };
        Ok(())
    }

    /// A replica that is told `-NOMASTERLINK` logs the line, keeps its data and tries again later.
    fn refuse(&mut self, refusal: Refusal, out: &mut Effects) -> Result<(), FaultKind> {
        let line = format!("-NOMASTERLINK Segue refuses this link: {refusal}").replace(['\r', '\n'], " ");
        out.send_slice(REPLICA, line.as_bytes());
        out.send_slice(REPLICA, b"\r\n");
        Err(FaultKind::Refused(refusal))
    }

    fn pass_on(&mut self, out: &mut Effects) {
        self.phase = Phase::Over;
        out.push(Effect::Splice);
    }

    fn key(&self, stream: String) -> StreamKey {
        let follower = self.ends.as_ref().map(|(dialer, _)| dialer.name.to_string()).unwrap_or_default();
        StreamKey { stream, follower }
    }

    /// `REPLCONF ACK offset [FACK offset]`: both are offsets of the replica's count.
    fn acknowledgement(
        &mut self,
        raw: &Bytes,
        command: &Command,
        out: &mut Effects,
    ) -> Result<(), FaultKind> {
        let is_ack = command.first().is_some_and(|name| name.eq_ignore_ascii_case(b"REPLCONF"))
            && command.get(1).is_some_and(|word| word.eq_ignore_ascii_case(b"ACK"));
        if !is_ack {
            return Err(FaultKind::Malformed {
                what: "command of the replica",
                detail: format!("\"{}\" where REPLCONF ACK was expected", raw.escape_ascii()),
            });
        }
        if let Phase::Loading(_) = &self.phase
            && let Phase::Loading(stream) = std::mem::replace(&mut self.phase, Phase::Over)
        {
            self.phase = Phase::Streaming(stream);
        }
        // Before its snapshot is complete a replica has nothing to acknowledge.
        let Phase::Streaming(stream) = &mut self.phase else { return Ok(()) };
        let offset = |at: usize| {
            let text = command.get(at)?;
            u64::try_from(resp::integer(text)?).ok()
        };
        let Some(replica) = offset(2) else {
            return Err(FaultKind::Malformed {
                what: "acknowledgement",
                detail: format!("\"{}\" has no offset", raw.escape_ascii()),
            });
        };
        let mut mapped = vec!["REPLCONF".to_owned(), "ACK".to_owned()];
        let durable = offset(4).map(|durable| stream.map().floor(durable).to_string());
        mapped.push(stream.map().acknowledge(replica).to_string());
        mapped.extend(durable.into_iter().flat_map(|durable| ["FACK".to_owned(), durable]));
        resp::write(out.buffer(MASTER), &mapped);
        Ok(())
    }
}

// === the listener's bytes ===

impl RedisSession {
    fn take_from_listener(&mut self, input: &mut BytesMut, out: &mut Effects) -> Result<Flow, FaultKind> {
        loop {
            match &mut self.phase {
                Phase::Over => return Ok(Flow::More),
                Phase::Handshake { replies_due, in_line } => {
                    for &byte in input.iter() {
                        if byte == b'\n' && std::mem::take(in_line) {
                            *replies_due = replies_due.saturating_sub(1);
                        } else if byte != b'\n' && byte != b'\r' {
                            *in_line = true;
                        }
                    }
                    out.send(REPLICA, input.split().freeze());
                    return Ok(Flow::More);
                }
                Phase::Asked { .. } => {
                    let Some(line) = self.line(input, out)? else { return self.bounded(input) };
                    self.psync_reply(line, out)?;
                }
                Phase::Announced { .. } => {
                    let Some(line) = self.line(input, out)? else { return self.bounded(input) };
                    self.open_snapshot(&line, out)?;
                }
                Phase::Snapshot { snapshot, .. } => {
                    if !snapshot.feed(input, out)? {
                        return Ok(Flow::More);
                    }
                    self.await_loading(out);
                }
                // A byte that comes with the mark would hang the replica: it looks for the mark at the
                // very end of what it reads.
                Phase::Loading(_) => return Ok(Flow::Hold),
                Phase::Streaming(stream) => {
                    stream.feed(input, out)?;
                    return Ok(Flow::More);
                }
            }
        }
    }

    /// The next line that is not blank, its end included. Blank ones keep the link alive and pass.
    fn line(&self, input: &mut BytesMut, out: &mut Effects) -> Result<Option<Bytes>, FaultKind> {
        loop {
            let window = input.get(..self.limits.handshake_bytes_max).unwrap_or(input);
            let Some(end) = window.iter().position(|&b| b == b'\n') else { return Ok(None) };
            let line = input.split_to(end + 1).freeze();
            if line.iter().any(|&b| b != b'\r' && b != b'\n') {
                return Ok(Some(line));
            }
            out.send(REPLICA, line);
        }
    }

    fn psync_reply(&mut self, line: Bytes, out: &mut Effects) -> Result<(), FaultKind> {
        let Phase::Asked { pair, resume } = std::mem::replace(&mut self.phase, Phase::Over) else {
            return Ok(());
        };
        let text = String::from_utf8_lossy(line.trim_ascii()).into_owned();
        let mut words = text.split(' ');
        match (words.next().unwrap_or_default(), words.next(), words.next()) {
            ("+FULLRESYNC", Some(stream), Some(offset)) => {
                let Ok(offset) = offset.parse() else { return Err(unexpected_reply(&text)) };
                if let Some(resume) = resume {
                    out.push(Effect::Forget(resume.key));
                }
                let key = self.key(stream.to_owned());
                self.phase = Phase::Announced { pair, key, offset };
            }
            ("+CONTINUE", stream, _) => {
                let Some(Resume { key, map }) = resume else { return Err(unexpected_reply(&text)) };
                let key = match stream {
                    Some(stream) if stream != key.stream => {
                        out.push(Effect::Forget(key));
                        self.key(stream.to_owned())
                    }
                    _ => key,
                };
                self.phase = Phase::Streaming(Box::new(self.stream(pair, key, map, out)));
            }
            (error, ..) if error.starts_with('-') => {
                self.phase = Phase::Handshake { replies_due: 0, in_line: false };
            }
            _ => return Err(unexpected_reply(&text)),
        }
        out.send(REPLICA, line);
        Ok(())
    }

    fn open_snapshot(&mut self, line: &[u8], out: &mut Effects) -> Result<(), FaultKind> {
        let Phase::Announced { pair, key, offset } = std::mem::replace(&mut self.phase, Phase::Over) else {
            return Ok(());
        };
        if line.starts_with(b"-") {
            out.send_slice(REPLICA, line);
            return Ok(());
        }
        let snapshot = Snapshot::open(
            line.trim_ascii_end(),
            &pair,
            self.hints.on_loss,
            self.limits,
            &self.hints.nonce,
            out,
        )?;
        self.phase = Phase::Snapshot { snapshot: Box::new(snapshot), pair, key, offset };
        Ok(())
    }

    fn await_loading(&mut self, out: &mut Effects) {
        if let Phase::Snapshot { pair, key, offset, .. } = std::mem::replace(&mut self.phase, Phase::Over) {
            let map = OffsetMap::new(offset, offset, self.limits.offset_marks_max);
            self.phase = Phase::Loading(Box::new(self.stream(pair, key, map, out)));
        }
    }

    fn stream(&self, pair: Pair, key: StreamKey, map: OffsetMap, out: &mut Effects) -> Stream {
        Stream::new(Rules::new(pair), self.limits, self.hints.on_loss, key, map, out)
    }

    /// Nothing more can be told from `input` yet: is there room to wait?
    fn bounded(&self, input: &BytesMut) -> Result<Flow, FaultKind> {
        let max = self.limits.handshake_bytes_max;
        if input.len() < max {
            return Ok(Flow::More);
        }
        Err(FaultKind::TooLarge { what: "a line of the handshake", limit: "handshake_bytes_max", max })
    }
}

fn unexpected_reply(text: &str) -> FaultKind {
    FaultKind::Malformed { what: "answer to PSYNC", detail: format!("\"{}\"", text.escape_debug()) }
}
