//! A snapshot on a connection of its own, while the stream already flows on the first one.
//!
//! ```text
//! Redis 8 (`capa rdb-channel-repl`)
//! first    PSYNC id offset                              ->
//!                                                       <-  +RDBCHANNELSYNC client
//! second   REPLCONF … main-ch-client-id client, PSYNC   ->
//!                                                       <-  +FULLRESYNC id offset, the snapshot
//! first                                                 <-  the stream from there on
//!
//! Valkey 8 (`capa dual-channel`)
//! first    PSYNC id offset                              ->
//!                                                       <-  +DUALCHANNELSYNC
//! second   REPLCONF … rdb-channel 1, SYNC               ->
//!                                                       <-  $ENDOFF:offset id db client, the snapshot
//! first    REPLCONF set-rdb-client-id client            ->
//!          PSYNC id offset                              ->
//!                                                       <-  +CONTINUE id, the stream from there on
//! ```
//!
//! The first session offers the id by which the replica is to go on; the second one says it to the replica,
//! and tells the first one which stream the snapshot is of, and up to where. The end mark needs no pause:
//! nothing comes behind it.
//!
//! Whether anything is left out is known only at the snapshot's end, when the stream already flows. Until then a
//! replica counts as incomplete wherever it could be; and until it has the snapshot, what was known of it in its
//! master's own stream holds.

use bytes::{Bytes, BytesMut};
use segue_wire::{Effect, Effects, FaultKind, LossPolicy, Note, Question, Refusal};

use super::{MASTER, Phase, REPLICA, RedisSession, Resume, master::unexpected_reply};
use crate::{handshake, offsets::OffsetMap, releases::Pair, resp::Command, saved, stream::Course};

/// How far the replica has come with a snapshot that comes on another connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Apart {
    Awaited,
    /// Loaded, but perhaps not yet what of the stream came meanwhile.
    Loaded,
}

/// What the first connection offers.
pub(super) struct Offered {
    /// The id of the replica's own, if it is to have one.
    branch: Option<String>,
}

impl Offered {
    fn encode(branch: Option<&str>) -> Bytes {
        Bytes::copy_from_slice(branch.unwrap_or_default().as_bytes())
    }

    pub(super) fn decode(offered: &[u8]) -> Option<Self> {
        let branch = std::str::from_utf8(offered).ok()?;
        Some(Self { branch: (!branch.is_empty()).then(|| branch.to_owned()) })
    }
}

/// What the second connection tells: which stream its snapshot is of, and up to where.
pub(super) struct SnapshotAt {
    trunk: String,
    offset: u64,
    /// Something was left out; before the snapshot's end: could be.
    incomplete: bool,
}

impl SnapshotAt {
    fn encode(&self) -> Bytes {
        format!("{} {} {}", self.trunk, self.offset, u8::from(self.incomplete)).into()
    }

    pub(super) fn decode(told: &[u8]) -> Option<Self> {
        let words: Vec<_> = std::str::from_utf8(told).ok()?.split(' ').collect();
        let [trunk, offset, incomplete] = *words else { return None };
        Some(Self { trunk: trunk.to_owned(), offset: offset.parse().ok()?, incomplete: incomplete != "0" })
    }
}

// === the first connection ===

impl RedisSession {
    /// The master sends its snapshot on another connection, to the replica that dials with this.
    pub(super) fn await_apart(
        &mut self,
        pair: Pair,
        client: Option<u64>,
        resume: Option<Resume>,
        out: &mut Effects,
    ) {
        let branch = self.branch_anew(&pair, resume, out);
        let offered = Offered::encode(branch.as_deref());
        self.apart = Some(Apart::Awaited);
        match client {
            Some(client) => {
                out.push(Effect::Offer(handshake::joined_by_client(client), offered));
                self.phase = Phase::AwaitsStream { pair, branch };
            }
            // The replica asks for its stream by itself.
            None => {
                out.push(Effect::Offer(self.announced.joined_by_port(), offered));
                self.phase = Phase::Handshake { replies_due: 0, in_line: false };
            }
        }
    }

    /// False as long as it is not known where.
    pub(super) fn begin_stream(&mut self, out: &mut Effects) -> Result<bool, FaultKind> {
        let SnapshotAt { trunk, offset, incomplete } = match self.told.take() {
            Some(told) => told.map_err(FaultKind::Refused)?,
            None => {
                out.push(Effect::Ask(Question::Told));
                self.waiting = true;
                return Ok(false);
            }
        };
        if let Phase::AwaitsStream { pair, branch } = std::mem::replace(&mut self.phase, Phase::Over) {
            let course = Course { incomplete, ..self.course_anew(trunk, branch) };
            let map = OffsetMap::new(offset, offset, self.limits.offset_marks_max);
            self.phase = Phase::Streaming(Box::new(self.stream(pair, course, map, out)));
        }
        Ok(true)
    }

    /// The counts would part. A replica that were cut off while it loads its snapshot would need another one.
    pub(super) fn part(&mut self, out: &mut Effects) {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Streaming(stream) if self.apart.is_some() => self.phase = Phase::Parting(stream),
            Phase::Streaming(stream) | Phase::Parting(stream) => {
                stream.mark_trunk(out);
                out.push(Effect::Close);
            }
            _ => {}
        }
    }

    /// A replica acknowledges its snapshot when it is loaded, and then in turn what it has of the stream.
    pub(super) fn acknowledged_apart(&mut self, replica: u64, out: &mut Effects) {
        let (Phase::Streaming(stream) | Phase::Parting(stream)) = &self.phase else { return };
        match self.apart {
            None => {}
            Some(Apart::Awaited) if replica < stream.map().replica() => self.apart = Some(Apart::Loaded),
            Some(Apart::Awaited | Apart::Loaded) => {
                out.push(Effect::Ask(Question::Told));
                self.waiting = true;
            }
        }
    }

    /// The other connection may tell again, and says now what became of the snapshot.
    pub(super) fn hear(&mut self, told: Option<SnapshotAt>, out: &mut Effects) {
        let (Phase::Streaming(stream) | Phase::Parting(stream)) = &mut self.phase else {
            self.told = Some(told.ok_or(Refusal::MissingConnection));
            return;
        };
        self.apart = None;
        stream.settle(told.is_none_or(|told| told.incomplete), out);
        out.note(Note::Synced);
        if matches!(self.phase, Phase::Parting(_)) {
            self.part(out);
        }
    }
}

// === the second connection ===

impl RedisSession {
    /// Valkey asks for its snapshot by a bare word, which no other replica does.
    pub(super) fn may_be_inline_sync(&self, input: &[u8]) -> bool {
        let begin = input.get(..INLINE_SYNC.len()).unwrap_or(input);
        self.announced.snapshot_only && INLINE_SYNC.starts_with(begin)
    }

    pub(super) fn begin_snapshot_only(
        &mut self,
        pair: Pair,
        raw: Bytes,
        out: &mut Effects,
    ) -> Result<(), FaultKind> {
        if self.joined.is_none() {
            return self.refuse(Refusal::MissingConnection, out);
        }
        out.send(MASTER, raw);
        self.phase = Phase::Asked { pair, resume: None };
        Ok(())
    }

    /// The replica will go on as the first connection has offered.
    pub(super) fn snapshot_reply(
        &mut self,
        pair: Pair,
        text: &str,
        out: &mut Effects,
    ) -> Result<(), FaultKind> {
        let words: Vec<_> = text.split(' ').collect();
        let (trunk, offset, rest) = match *words {
            ["+FULLRESYNC", trunk, offset] => (trunk, offset.parse(), None),
            [end, trunk, db, client] => {
                let offset = end.strip_prefix("$ENDOFF:").unwrap_or_default();
                (trunk, offset.parse(), Some((db, client)))
            }
            _ => return Err(unexpected_reply(text)),
        };
        let Ok(offset) = offset else { return Err(unexpected_reply(text)) };
        let branch = self.joined.take().and_then(|offered| offered.branch);
        let incomplete = self.hints.on_loss == LossPolicy::Degrade;
        let course = Course { incomplete, ..self.course_anew(trunk.to_owned(), branch) };
        if let Some(branch) = &course.branch {
            let mut map = OffsetMap::new(offset, offset, self.limits.offset_marks_max);
            let state = saved::branch(trunk, &course.follower, incomplete, &mut map);
            out.push(Effect::Save(Course::branch_key(branch.clone()), state));
        } else if incomplete {
            out.push(Effect::Save(self.trunk_key(trunk.to_owned()), saved::incomplete()));
        }
        out.push(tell(&course, offset));
        let id = course.branch.as_deref().unwrap_or(trunk);
        let said = match rest {
            None => format!("+FULLRESYNC {id} {offset}\r\n"),
            Some((db, client)) => format!("$ENDOFF:{offset} {id} {db} {client}\r\n"),
        };
        out.send(REPLICA, said.into());
        self.phase = Phase::Announced { pair, course, offset };
        Ok(())
    }
}

pub(super) fn tell(course: &Course, offset: u64) -> Effect {
    let Course { trunk, incomplete, .. } = course;
    Effect::Tell(SnapshotAt { trunk: trunk.clone(), offset, incomplete: *incomplete }.encode())
}

const INLINE_SYNC: &[u8] = b"SYNC\r\n";

/// As a command, once it is there whole.
pub(super) fn take_inline_sync(input: &mut BytesMut) -> Option<(Bytes, Command)> {
    let is_sync = input.starts_with(INLINE_SYNC);
    is_sync.then(|| (input.split_to(INLINE_SYNC.len()).freeze(), vec![Bytes::from_static(b"SYNC")]))
}
