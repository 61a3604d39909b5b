//! `PSYNC`: unchanged, rewritten, refused, or left to another sidecar.

use bytes::Bytes;
use segue_wire::{Effect, Effects, FaultKind, LossPolicy, Mode, Note, Refusal, StreamKey, Verdict};

use super::{Begun, MASTER, Phase, REPLICA, RedisSession, Resume};
use crate::{
    handshake::{self, Decision, Psync},
    offsets::OffsetMap,
    releases::Pair,
    resp::Command,
    saved::{Branch, Place, Saved},
    stream::Course,
};

impl RedisSession {
    /// The dialer asks for the stream: here the link's fate is decided. False if it has to wait for a
    /// word of the peer's.
    pub(super) fn begin(
        &mut self,
        raw: Bytes,
        command: Command,
        psync: Option<Psync>,
        out: &mut Effects,
    ) -> Result<bool, FaultKind> {
        let Some(Decision { verdict, target, pair }) = self.decision() else { return Ok(true) };
        if self.hints.near == REPLICA && verdict != Verdict::Same {
            match self.peer_translates {
                None => {
                    out.send_slice(MASTER, handshake::PEER_QUESTION);
                    self.pending = Some((raw, command));
                    self.phase = Phase::AskedPeer;
                    return Ok(false);
                }
                Some(true) => {
                    out.note(Note::Decided { verdict: Verdict::Same, target });
                    self.leave_to_peer(raw, psync, out);
                    return Ok(true);
                }
                Some(false) => {}
            }
        }
        out.note(Note::Decided { verdict: verdict.clone(), target });
        match (verdict, pair) {
            (Verdict::Refuse(refusal), _) => self.refuse(refusal, out)?,
            (_, Some(pair)) => self.begin_rewrite(pair, raw, psync, out)?,
            (_, None) => self.begin_same(raw, psync, out)?,
        }
        Ok(true)
    }

    /// The other sidecar knows nothing of a branch that this one made.
    fn leave_to_peer(&mut self, raw: Bytes, psync: Option<Psync>, out: &mut Effects) {
        let (replica, _) = self.saved.take().unwrap_or_default();
        self.ask_unrewritten(raw, psync, replica, out);
    }

    fn begin_same(&mut self, raw: Bytes, psync: Option<Psync>, out: &mut Effects) -> Result<(), FaultKind> {
        let saved = self.saved.take().unwrap_or_default();
        if psync.as_ref().is_some_and(|psync| psync.failover) && is_shifted(&saved) {
            return self.refuse(Refusal::ShiftedOffsets, out);
        }
        let (replica, _) = saved;
        self.ask_unrewritten(raw, psync, replica, out);
        Ok(())
    }

    /// Only an offset of the master's own stream means anything without a map. A replica that could not have
    /// all, and can now, gets it.
    fn ask_unrewritten(
        &mut self,
        raw: Bytes,
        psync: Option<Psync>,
        replica: Option<Saved>,
        out: &mut Effects,
    ) {
        let Some(Saved { place, incomplete }) = replica else {
            out.send(MASTER, raw);
            return self.pass_on(out);
        };
        let stream = psync.and_then(|psync| psync.resume).map(|(stream, _)| stream);
        let spent = match (stream, &place) {
            (None, _) => Vec::new(),
            // Whoever asks by the master's id from here on has it from the full sync.
            (Some(stream), Place::Branch(branch)) => {
                vec![Course::branch_key(stream), self.trunk_key(branch.trunk.clone())]
            }
            (Some(stream), _) => vec![self.trunk_key(stream)],
        };
        // With the translation off, bytes pass as they are: nothing else could be had.
        let lacks = incomplete && self.hints.mode != Mode::Off;
        if lacks || matches!(place, Place::Branch(_) | Place::Doubtful) {
            out.send(MASTER, Psync::write_full());
            self.phase = Phase::AskedAnew { spent };
            return;
        }
        out.send(MASTER, raw);
        if !incomplete {
            spent.into_iter().for_each(|key| out.push(Effect::Forget(key)));
        }
        self.pass_on(out);
    }

    /// The answer to a full sync that was asked for in the replica's place: what was saved before holds until
    /// the replica has heard of it.
    pub(super) fn anew_reply(&mut self, line: Bytes, spent: Vec<StreamKey>, out: &mut Effects) {
        let is_error = line.starts_with(b"-");
        if !is_error {
            spent.into_iter().for_each(|key| out.push(Effect::Forget(key)));
        }
        out.send(REPLICA, line);
        if is_error {
            self.phase = Phase::Handshake { replies_due: 0, in_line: false };
        } else {
            self.pass_on(out);
        }
    }

    fn begin_rewrite(
        &mut self,
        pair: Pair,
        raw: Bytes,
        psync: Option<Psync>,
        out: &mut Effects,
    ) -> Result<(), FaultKind> {
        if let Some(refusal) = self.refuse_early.take() {
            return self.refuse(refusal, out);
        }
        if self.announced.snapshot_only {
            return self.begin_snapshot_only(pair, raw, out);
        }
        let Some(psync) = psync else {
            return self.refuse(Refusal::MissingCapability { capability: "psync2" }, out);
        };
        if !self.announced.eof {
            return self.refuse(Refusal::MissingCapability { capability: "eof" }, out);
        }
        let saved = self.saved.take().unwrap_or_default();
        // A master that hands over goes on in its own stream, if its replica's count never differed.
        if psync.failover && is_shifted(&saved) {
            return self.refuse(Refusal::ShiftedOffsets, out);
        }
        let (replica, _) = saved;
        let resume = psync.resume.and_then(|(stream, offset)| self.resume(stream, offset, replica));
        out.send(
            MASTER,
            resume.as_ref().map_or_else(Psync::write_full, |resume| {
                Psync::write(&resume.trunk, resume.map.master(), psync.failover)
            }),
        );
        self.phase = Phase::Asked { pair, resume };
        Ok(())
    }

    /// Where a replica goes on that has `stream` up to `offset`, if that can be proved.
    fn resume(&self, stream: String, offset: u64, saved: Option<Saved>) -> Option<Resume> {
        // Of a snapshot that comes on another connection, all else that is known is of before.
        let apart = self.apart.is_some();
        let saved = saved.filter(|saved| !apart || matches!(saved.place, Place::Branch(_)));
        // Of an id that is no branch, no replica was ever told another offset than its master's.
        let incomplete = apart && self.hints.on_loss == LossPolicy::Degrade;
        let Saved { place, incomplete } = saved.unwrap_or(Saved { place: Place::Trunk, incomplete });
        // Whoever has not all, and must have all, gets all: or is refused by what it can't have.
        if incomplete && self.hints.on_loss == LossPolicy::Refuse {
            return None;
        }
        let same = || OffsetMap::new(offset, offset, self.limits.offset_marks_max);
        let (trunk, map, begun) = match place {
            Place::Trunk => (stream, same(), Begun::Trunk),
            Place::BranchedOff => (stream, same(), Begun::Parting),
            Place::Branch(Branch { trunk, follower, map }) => {
                (trunk, map.resume(offset)?, Begun::Branch { id: stream, follower })
            }
            Place::Doubtful => return None,
        };
        Some(Resume { trunk, map, begun, incomplete })
    }

    /// A replica that is told `-NOMASTERLINK` logs the line, keeps its data and tries again later.
    pub(super) fn refuse(&mut self, refusal: Refusal, out: &mut Effects) -> Result<(), FaultKind> {
        let line = format!("-NOMASTERLINK Segue refuses this link: {refusal}").replace(['\r', '\n'], " ");
        out.send_slice(REPLICA, line.as_bytes());
        out.send_slice(REPLICA, b"\r\n");
        Err(FaultKind::Refused(refusal))
    }

    pub(super) fn pass_on(&mut self, out: &mut Effects) {
        self.phase = Phase::Over;
        out.push(Effect::Splice);
    }
}

/// Whether anything is known of the stream by which the counts at its ends may differ.
fn is_shifted((replica, master): &(Option<Saved>, Option<Saved>)) -> bool {
    [replica, master].into_iter().flatten().any(Saved::is_shifted)
}
