//! The listener's bytes: answers, the snapshot, the stream.

use bytes::{Bytes, BytesMut};
use segue_wire::{Effect, Effects, FaultKind, Flow};

use super::{Begun, Phase, REPLICA, RedisSession, Resume, apart, client::count_replies};
use crate::{
    handshake,
    offsets::OffsetMap,
    releases::Pair,
    rules::Rules,
    snapshot::{Snapshot, hex},
    stream::{Course, Fed, Stream, branches_at_once},
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
                    count_replies(input, replies_due, in_line);
                    out.send(REPLICA, input.split().freeze());
                    return Ok(Flow::More);
                }
                Phase::Client(client) => {
                    client.take_replies(input, out);
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
                Phase::AskedAnew { .. } => {
                    let Some(line) = self.line(input, out)? else { return self.bounded(input) };
                    if let Phase::AskedAnew { spent } = std::mem::replace(&mut self.phase, Phase::Over) {
                        self.anew_reply(line, spent, out);
                    }
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
                Phase::AwaitsStream { .. } => {
                    // A master says nothing here before the stream begins, so that blank lines are of it, too.
                    if input.is_empty() {
                        return Ok(Flow::More);
                    }
                    if !self.begin_stream(out)? {
                        return Ok(Flow::Hold);
                    }
                }
                // A byte that comes with the mark would hang the replica: it looks for the mark at the
                // very end of what it reads.
                Phase::Loading(_) | Phase::Parting(_) => return Ok(Flow::Hold),
                Phase::Streaming(stream) => {
                    if stream.feed(input, out)? == Fed::GoesOn {
                        return Ok(Flow::More);
                    }
                    self.part(out);
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
            (error, ..) if error.starts_with('-') => {
                self.phase = Phase::Handshake { replies_due: 0, in_line: false };
                out.send(REPLICA, line);
            }
            _ if self.announced.snapshot_only => self.snapshot_reply(pair, &text, out)?,
            ("+RDBCHANNELSYNC", Some(client), None) => {
                let Ok(client) = client.parse() else { return Err(unexpected_reply(&text)) };
                self.await_apart(pair, Some(client), resume, out);
                out.send(REPLICA, line);
            }
            ("+DUALCHANNELSYNC", None, _) => {
                self.await_apart(pair, None, resume, out);
                out.send(REPLICA, line);
            }
            ("+FULLRESYNC", Some(trunk), Some(offset)) => {
                self.apart = None;
                let Ok(offset) = offset.parse() else { return Err(unexpected_reply(&text)) };
                let course = self.begin_anew(&pair, trunk.to_owned(), resume, out);
                let id = course.branch.as_deref().unwrap_or(trunk);
                out.send(REPLICA, format!("+FULLRESYNC {id} {offset}\r\n").into());
                self.phase = Phase::Announced { pair, course, offset };
            }
            ("+CONTINUE", id, _) => {
                let Some(resume) = resume else { return Err(unexpected_reply(&text)) };
                let map = resume.map.clone();
                let course = self.go_on(resume, id, out);
                let told = course.branch.as_deref().map(|branch| format!("+CONTINUE {branch}\r\n").into());
                self.phase = Phase::Streaming(Box::new(self.stream(pair, course, map, out)));
                out.send(REPLICA, told.unwrap_or(line));
            }
            _ => return Err(unexpected_reply(&text)),
        }
        Ok(())
    }

    /// A full sync: by the master's id, unless the counts would part soon, or were about to before.
    fn begin_anew(&self, pair: &Pair, trunk: String, resume: Option<Resume>, out: &mut Effects) -> Course {
        let branch = self.branch_anew(pair, resume, out);
        self.course_anew(trunk, branch)
    }

    pub(super) fn branch_anew(
        &self,
        pair: &Pair,
        resume: Option<Resume>,
        out: &mut Effects,
    ) -> Option<String> {
        let parting = resume.as_ref().is_some_and(|resume| resume.begun == Begun::Parting);
        if let Some(resume) = resume {
            out.push(Effect::Forget(self.trunk_key(resume.trunk)));
            if let Begun::Branch { id, follower } = resume.begun
                && follower == self.follower()
            {
                out.push(Effect::Forget(Course::branch_key(id)));
            }
        }
        let branches =
            parting || branches_at_once(&Rules::new(pair.clone(), self.hints.on_loss), &self.limits);
        branches.then(|| self.new_id())
    }

    pub(super) fn course_anew(&self, trunk: String, branch: Option<String>) -> Course {
        Course { trunk, follower: self.follower(), branch, earlier: None, incomplete: false }
    }

    /// A partial resync. A branch is told under a new id each time: of the last one, another follower may
    /// have more than this one.
    fn go_on(&self, resume: Resume, id: Option<&str>, out: &mut Effects) -> Course {
        let Resume { trunk: before, begun, incomplete, .. } = resume;
        let trunk = id.map_or_else(|| before.clone(), str::to_owned);
        let branches = begun != Begun::Trunk;
        if (branches || incomplete) && trunk != before {
            out.push(Effect::Forget(self.trunk_key(before)));
        }
        let earlier = match begun {
            // One that was told with a snapshot on another connection is this link's own.
            Begun::Branch { id, follower } if follower == self.follower() && self.apart.is_none() => {
                Some(Course::branch_key(id))
            }
            _ => None,
        };
        let branch = branches.then(|| self.new_id());
        Course { trunk, follower: self.follower(), branch, earlier, incomplete }
    }

    /// A link begins one stream at most, so one id is enough.
    fn new_id(&self) -> String {
        hex(&self.hints.nonce)
    }

    fn open_snapshot(&mut self, line: &[u8], out: &mut Effects) -> Result<(), FaultKind> {
        let Phase::Announced { pair, course, offset } = std::mem::replace(&mut self.phase, Phase::Over)
        else {
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
        self.phase = Phase::Snapshot { snapshot: Box::new(snapshot), pair, course, offset };
        Ok(())
    }

    fn await_loading(&mut self, out: &mut Effects) {
        if let Phase::Snapshot { snapshot, pair, mut course, offset } =
            std::mem::replace(&mut self.phase, Phase::Over)
        {
            course.incomplete = snapshot.left_out();
            if self.announced.snapshot_only {
                out.push(apart::tell(&course, offset));
                snapshot.end(out);
                return self.pass_on(out);
            }
            let map = OffsetMap::new(offset, offset, self.limits.offset_marks_max);
            self.phase = Phase::Loading(Box::new(self.stream(pair, course, map, out)));
            snapshot.end(out);
        }
    }

    pub(super) fn stream(&self, pair: Pair, course: Course, map: OffsetMap, out: &mut Effects) -> Stream {
        let rules = Rules::new(pair, self.hints.on_loss);
        let mut stream = Stream::new(rules, self.limits, self.hints.on_loss, course, map, out);
        if self.apart.is_none() {
            stream.mark_trunk(out);
        }
        stream.save_whole(out);
        stream
    }
}

pub(super) fn unexpected_reply(text: &str) -> FaultKind {
    FaultKind::Malformed { what: "answer to PSYNC", detail: format!("\"{}\"", text.escape_debug()) }
}
