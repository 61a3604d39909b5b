//! The listener's bytes: answers, the snapshot, the stream.

use bytes::{Bytes, BytesMut};
use segue_wire::{Effect, Effects, FaultKind, Flow, StreamKey};

use super::{Phase, REPLICA, RedisSession, Resume};
use crate::{
    handshake, offsets::OffsetMap, releases::Pair, rules::Rules, snapshot::Snapshot, stream::Stream,
};

impl RedisSession {
    pub(super) fn take_from_listener(
        &mut self,
        input: &mut BytesMut,
        out: &mut Effects,
    ) -> Result<Flow, FaultKind> {
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
                Phase::AskedPeer => {
                    let Some(line) = self.line(input, out)? else { return self.bounded(input) };
                    self.peer_translates = Some(line == handshake::PEER_YES);
                    self.phase = Phase::Handshake { replies_due: 0, in_line: false };
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
}

fn unexpected_reply(text: &str) -> FaultKind {
    FaultKind::Malformed { what: "answer to PSYNC", detail: format!("\"{}\"", text.escape_debug()) }
}
