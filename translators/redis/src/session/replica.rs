//! The dialer's bytes: handshake, then acknowledgements.

use bytes::{Bytes, BytesMut};
use segue_wire::{Effect, Effects, FaultKind, Flow, Note, Question, Verdict};

use super::{MASTER, Phase, REPLICA, RedisSession, apart::take_inline_sync};
use crate::{
    handshake::{self, Announced, Kind, Psync},
    resp::{self, Command, Head},
};

impl RedisSession {
    pub(super) fn take_from_dialer(
        &mut self,
        input: &mut BytesMut,
        out: &mut Effects,
    ) -> Result<Flow, FaultKind> {
        loop {
            match self.phase {
                Phase::Over => return Ok(Flow::More),
                Phase::AskedPeer => return Ok(Flow::Hold),
                Phase::Client(_) => return self.take_from_client(input, out),
                _ => {}
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
                Head::Foreign if self.may_be_inline_sync(input) => {
                    self.pending = take_inline_sync(input);
                    if self.pending.is_none() {
                        return self.bounded(input);
                    }
                }
                Head::Foreign => self.pass_on(out),
                Head::Command { name, .. } if self.is_client(name) => {
                    if !self.begin_client(name) {
                        self.pass_on(out);
                    }
                }
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
        if matches!(self.phase, Phase::AwaitsStream { .. }) && !self.begin_stream(out)? {
            self.pending = Some((raw, command));
            return Ok(false);
        }
        let Phase::Handshake { replies_due, .. } = &mut self.phase else {
            self.acknowledgement(&raw, &command, out)?;
            return Ok(!self.waiting);
        };
        let name = command.first().cloned().unwrap_or_default();
        match handshake::kind(&name) {
            Kind::Client | Kind::Step => {
                *replies_due += 1;
                out.send(MASTER, raw);
            }
            Kind::Replconf if self.hints.near == MASTER && handshake::is_peers_question(&command) => {
                if *replies_due > 0 || self.ends.is_none() {
                    let ask = *replies_due == 0;
                    self.pending = Some((raw, command));
                    if ask {
                        self.ask_ends(out);
                    }
                    return Ok(false);
                }
                let sees_to_it = self.decision().is_some_and(|decision| decision.verdict != Verdict::Same);
                out.send_slice(REPLICA, if sees_to_it { handshake::PEER_YES } else { handshake::PEER_NO });
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
                let pair = self.decision().and_then(|decision| decision.pair);
                let second = self.hints.second_connection;
                let said = pair.and_then(|pair| handshake::for_rewriting(&command, &pair, second));
                out.send(MASTER, said.unwrap_or(raw));
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
            Kind::Sync => return self.begin(raw, command, None, out),
            Kind::Psync => {
                let psync = Psync::parse(&command);
                if let Some((stream, _)) = psync.resume.as_ref().filter(|_| self.saved.is_none()) {
                    out.push(Effect::Ask(Question::Stream(stream.clone())));
                    self.waiting = true;
                    self.pending = Some((raw, command));
                    return Ok(false);
                }
                return self.begin(raw, command, Some(psync), out);
            }
        }
        Ok(true)
    }

    fn ask_ends(&mut self, out: &mut Effects) {
        let Announced { listening_port, address, .. } = &self.announced;
        out.push(Effect::Ask(Question::Ends {
            listening_port: *listening_port,
            address: address.clone(),
            joins: self.announced.joins(),
        }));
        self.waiting = true;
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
        let (Phase::Streaming(stream) | Phase::Parting(stream)) = &mut self.phase else { return Ok(()) };
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
        mapped.push(stream.acknowledge(replica, out).to_string());
        mapped.extend(durable.into_iter().flat_map(|durable| ["FACK".to_owned(), durable]));
        resp::write(out.buffer(MASTER), &mapped);
        self.acknowledged_apart(replica, out);
        Ok(())
    }
}
