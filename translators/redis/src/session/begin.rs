//! `PSYNC`: unchanged, rewritten, refused, or left to another sidecar.

use bytes::Bytes;
use segue_wire::{Effect, Effects, FaultKind, Note, Refusal, Verdict};

use super::{Begun, MASTER, Phase, REPLICA, RedisSession, Resume};
use crate::{
    handshake::{self, Decision, Psync},
    offsets::OffsetMap,
    releases::Pair,
    resp::Command,
    saved::{Branch, Saved},
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
            (_, Some(pair)) => self.begin_rewrite(pair, psync, out)?,
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
        if psync.as_ref().is_some_and(|psync| psync.failover) && saved != (None, None) {
            return self.refuse(Refusal::ShiftedOffsets, out);
        }
        let (replica, _) = saved;
        self.ask_unrewritten(raw, psync, replica, out);
        Ok(())
    }

    /// Only an offset of the master's own stream means anything without a map.
    fn ask_unrewritten(
        &mut self,
        raw: Bytes,
        psync: Option<Psync>,
        replica: Option<Saved>,
        out: &mut Effects,
    ) {
        match &replica {
            None | Some(Saved::BranchedOff) => out.send(MASTER, raw),
            Some(Saved::Branch(_) | Saved::Doubtful) => out.send(MASTER, Psync::write_full()),
        }
        if let Some((stream, _)) = psync.and_then(|psync| psync.resume) {
            match replica {
                Some(Saved::Branch(branch)) => {
                    out.push(Effect::Forget(Course::branch_key(stream)));
                    // Whoever asks by the master's id from here on has it from the full sync.
                    out.push(Effect::Forget(self.trunk_key(branch.trunk)));
                }
                Some(_) => out.push(Effect::Forget(self.trunk_key(stream))),
                None => {}
            }
        }
        self.pass_on(out);
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
        let saved = self.saved.take().unwrap_or_default();
        // A master that hands over goes on in its own stream, if its replica's count never differed.
        if psync.failover && saved != (None, None) {
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
        let same = || OffsetMap::new(offset, offset, self.limits.offset_marks_max);
        match saved {
            // Of an id that is no branch, no replica was ever told another offset than its master's.
            None => Some(Resume { trunk: stream, map: same(), begun: Begun::Trunk }),
            Some(Saved::BranchedOff) => Some(Resume { trunk: stream, map: same(), begun: Begun::Parting }),
            Some(Saved::Branch(Branch { trunk, follower, map })) => {
                let map = map.resume(offset)?;
                Some(Resume { trunk, map, begun: Begun::Branch { id: stream, follower } })
            }
            Some(Saved::Doubtful) => None,
        }
    }

    /// A replica that is told `-NOMASTERLINK` logs the line, keeps its data and tries again later.
    fn refuse(&mut self, refusal: Refusal, out: &mut Effects) -> Result<(), FaultKind> {
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
