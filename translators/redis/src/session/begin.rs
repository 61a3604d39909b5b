//! `PSYNC`: unchanged, rewritten, refused, or left to another sidecar.

use bytes::Bytes;
use segue_wire::{Effect, Effects, FaultKind, Note, Refusal, Verdict};

use super::{MASTER, Phase, REPLICA, RedisSession, Resume};
use crate::{
    handshake::{self, Decision, Psync},
    offsets::OffsetMap,
    releases::Pair,
    resp::Command,
    saved::Saved,
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

    /// The peer's own record of this replica is of no use if this sidecar translated for it since.
    fn leave_to_peer(&mut self, raw: Bytes, psync: Option<Psync>, out: &mut Effects) {
        let (replica, _) = self.saved.take().unwrap_or_default();
        match (replica, psync.and_then(|psync| psync.resume)) {
            (Some(_), Some((stream, _))) => {
                out.push(Effect::Forget(self.key(stream)));
                out.send(MASTER, Psync::write_full());
            }
            _ => out.send(MASTER, raw),
        }
        self.pass_on(out);
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

    pub(super) fn pass_on(&mut self, out: &mut Effects) {
        self.phase = Phase::Over;
        out.push(Effect::Splice);
    }
}
