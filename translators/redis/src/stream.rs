//! The command stream, from the master to an older replica.

use bytes::{BufMut, Bytes, BytesMut};
use segue_wire::{
    Effect, Effects, FaultKind, Grade, Limits, Loss, LossPolicy, Note, Refusal, Side, StreamKey,
};

use crate::{
    offsets::OffsetMap,
    resp::{self, Collect, Command, Head, Pass},
    rules::{Handling, Rewritten, Rules},
    saved,
};

const REPLICA: Side = Side::Dialer;
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// Rewrites the stream and keeps account of the offsets.
///
/// Padding stands before what it pads: a replica counts blank lines only when the next command runs.
pub struct Stream {
    rules: Rules,
    limits: Limits,
    policy: LossPolicy,
    course: Course,
    map: OffsetMap,
    unit: Unit,
    in_transaction: bool,
    /// The database selected on this link, once it was.
    db: Option<u64>,
    /// The counts would part here, and the replica still follows by the master's id.
    parting: bool,
    /// Something of this stream was left out.
    lost: bool,
    /// The first loss is not saved yet.
    losing: bool,
    /// Bytes appended since the map was saved whole.
    journal_bytes: usize,
    /// What one feed gives, until what it relies on is saved.
    given: Effects,
}

/// By which id the replica follows.
///
/// Equal offsets of one id mean equal data, for whoever compares them: the master, a sub-replica, a store
/// that no sidecar stands beside. So a replica follows by the master's id only as long as its count has
/// never differed; before it first does, the stream gets an id of its own, as of then.
#[derive(Debug)]
pub struct Course {
    /// The master's id.
    pub trunk: String,
    pub follower: String,
    /// The id of the replica's own.
    pub branch: Option<String>,
    /// The branch that it followed before, until it has acknowledged something of this one.
    pub earlier: Option<StreamKey>,
    /// The replica does not have all: what the policy allowed was left out.
    pub incomplete: bool,
}

impl Course {
    /// Whatever is said in a branch, no other follower hears: its id says it all.
    pub const fn branch_key(id: String) -> StreamKey {
        StreamKey { stream: id, follower: String::new() }
    }

    fn trunk_key(&self) -> StreamKey {
        StreamKey { stream: self.trunk.clone(), follower: self.follower.clone() }
    }
}

/// Would the counts part soon anyhow? A time to live comes with a good part of all writes.
pub fn branches_at_once(rules: &Rules, limits: &Limits) -> bool {
    let timed =
        ["SET", "key", "value", "PXAT", "4102444800000"].map(|word| Bytes::from_static(word.as_bytes()));
    rules.rewrite(timed.into(), limits).commands.len() > 1
}

/// Beyond this, the map is saved whole again.
const JOURNAL_BYTES_MAX: usize = 1 << 20;

/// What stands at the front of the input.
enum Unit {
    Unknown,
    /// The rest of a command that passes.
    Passing(Pass),
    /// A command that must be seen whole.
    Collecting(Collect),
}

/// Does the link go on?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    GoesOn,
    /// What comes next needs an id of its own, which a replica is only told when it dials.
    Parts,
}

impl Stream {
    /// `map` says where the replica stands.
    pub fn new(
        rules: Rules,
        limits: Limits,
        policy: LossPolicy,
        course: Course,
        map: OffsetMap,
        out: &mut Effects,
    ) -> Self {
        let stream = Self {
            rules,
            limits,
            policy,
            course,
            map,
            unit: Unit::Unknown,
            in_transaction: false,
            db: None,
            parting: false,
            lost: false,
            losing: false,
            journal_bytes: 0,
            given: Effects::new(),
        };
        if stream.course.branch.is_some() {
            out.note(Note::OwnOffsets);
        }
        out.note(Note::Shift(stream.map.shift()));
        stream
    }

    pub const fn map(&self) -> &OffsetMap {
        &self.map
    }

    /// Says what is known from here on of the replica in its master's own stream.
    pub fn mark_trunk(&self, out: &mut Effects) {
        let Course { branch, incomplete, .. } = &self.course;
        let key = self.course.trunk_key();
        out.push(if branch.is_some() || self.parting {
            Effect::Save(key, saved::branched_off(*incomplete))
        } else if *incomplete {
            Effect::Save(key, saved::incomplete())
        } else {
            Effect::Forget(key)
        });
    }

    /// The replica has the snapshot that this stream goes on from; was anything left out of that?
    pub fn settle(&mut self, left_out: bool, out: &mut Effects) {
        self.course.incomplete = left_out || self.lost;
        if !self.parting {
            self.mark_trunk(out);
        }
        self.save_whole(out);
    }

    /// The master's offset that the replica's stands for.
    pub fn acknowledge(&mut self, replica: u64, out: &mut Effects) -> u64 {
        if let Some(earlier) = self.course.earlier.take() {
            out.push(Effect::Forget(earlier));
        }
        self.map.acknowledge(replica)
    }

    pub fn feed(&mut self, input: &mut BytesMut, out: &mut Effects) -> Result<Fed, FaultKind> {
        let mut given = std::mem::take(&mut self.given);
        let fed = self.translate(input, &mut given);
        self.journal(out);
        out.append(&mut given);
        self.given = given;
        fed?;
        Ok(if self.parting { Fed::Parts } else { Fed::GoesOn })
    }

    fn translate(&mut self, input: &mut BytesMut, out: &mut Effects) -> Result<(), FaultKind> {
        // What stands before `passed` passes unchanged and goes out in one piece.
        let mut passed = 0;
        loop {
            let rest = input.get(passed..).unwrap_or_default();
            match &mut self.unit {
                Unit::Unknown => match resp::head(rest)? {
                    Head::Incomplete => break,
                    // Another sidecar's padding: it says nothing, and where the replica is ahead is not needed.
                    Head::Blank(len) if self.map.shift() > 0 => {
                        self.pass(input.split_to(passed).freeze(), out);
                        passed = 0;
                        self.pay_back(input.split_to(len).len(), 0, "blank-line", out);
                    }
                    Head::Blank(len) => passed += len,
                    Head::Command { argc, name, end } => {
                        if !is_special(name) && self.rules.handling(name, argc) == Handling::Pass {
                            self.unit = Unit::Passing(Pass::new(argc - 1));
                            passed += end;
                        } else {
                            self.unit = Unit::Collecting(Collect::default());
                            self.pass(input.split_to(passed).freeze(), out);
                            passed = 0;
                        }
                    }
                    Head::Foreign => {
                        let byte = rest.first().copied().unwrap_or_default().escape_ascii().to_string();
                        return Err(FaultKind::Malformed {
                            what: "command stream",
                            detail: format!("\"{byte}\" where a command was expected"),
                        });
                    }
                },
                Unit::Passing(pass) => {
                    passed += pass.advance(rest)?;
                    if !pass.done() {
                        break;
                    }
                    self.unit = Unit::Unknown;
                }
                Unit::Collecting(collect) => {
                    let max = self.limits.held_bytes_max;
                    let Some((raw, command)) = collect.take(input, "held_bytes_max", max)? else { break };
                    self.unit = Unit::Unknown;
                    self.command(raw, command, out)?;
                    if self.parting {
                        break;
                    }
                }
            }
        }
        self.pass(input.split_to(passed).freeze(), out);
        Ok(())
    }

    fn command(&mut self, raw: Bytes, command: Command, out: &mut Effects) -> Result<(), FaultKind> {
        let name = command.first().map(|name| name.to_ascii_uppercase()).unwrap_or_default();
        match &*name {
            b"MULTI" => self.in_transaction = true,
            b"EXEC" => self.in_transaction = false,
            b"SELECT" => {
                let db = command.get(1).and_then(|db| resp::integer(db));
                let db = db.and_then(|db| u64::try_from(db).ok());
                if self.map.shift() > 0 && !self.in_transaction && db.is_some() && db == self.db {
                    self.pay_back(raw.len(), 0, "select", out);
                    return Ok(());
                }
                self.db = db.or(self.db);
            }
            // A PING only keeps the link alive: a blank line does as well, and is shorter.
            b"PING" if self.map.shift() > 0 && !self.in_transaction => {
                self.pay_back(raw.len(), 1, "ping", out);
                return Ok(());
            }
            _ => return self.rewrite(raw, command, out),
        }
        self.pass(raw, out);
        Ok(())
    }

    fn rewrite(&mut self, raw: Bytes, command: Command, out: &mut Effects) -> Result<(), FaultKind> {
        let rewritten = self.rules.rewrite(command, &self.limits);
        if rewritten.rules.is_empty() {
            self.pass(raw, out);
            return Ok(());
        }
        let Rewritten { commands, rules, losses } = rewritten;
        let losses: Vec<_> = losses.into_iter().map(|lost| lost.at(self.db.unwrap_or(0))).collect();
        self.refuse(&losses)?;
        let mut older = BytesMut::new();
        resp::write_together(&mut older, &commands, self.in_transaction);
        self.parting = self.course.branch.is_none() && older.len() > raw.len();
        if self.parting {
            return Ok(());
        }
        for loss in losses {
            self.lost |= loss.grade == Grade::Data;
            self.losing |= self.lost && !self.course.incomplete;
            out.note(Note::Lost(loss));
        }
        for rule in rules {
            out.note(Note::Translated(rule));
        }
        self.say(raw.len(), &older, out);
        Ok(())
    }

    fn refuse(&self, losses: &[Loss]) -> Result<(), FaultKind> {
        let refused = |loss: &&Loss| loss.grade == Grade::Data && self.policy == LossPolicy::Refuse;
        match losses.iter().find(refused) {
            Some(loss) => {
                let to = self.rules.pair().to_release.clone();
                Err(FaultKind::Refused(Refusal::Loss { to, loss: Box::new(loss.clone()) }))
            }
            None => Ok(()),
        }
    }

    fn pass(&mut self, raw: Bytes, out: &mut Effects) {
        self.map.passed(raw.len() as u64);
        out.send(REPLICA, raw);
    }

    /// Says `older` in place of `taken` bytes: padded up to the same length, or as much of it as the
    /// shift leaves open.
    fn say(&mut self, taken: usize, older: &[u8], out: &mut Effects) {
        let shift = self.map.shift();
        let room = usize::try_from(shift).unwrap_or(0);
        let padding = taken.saturating_sub(older.len()).saturating_sub(room);
        // Nothing to say at all: a PING makes the replica count the blank lines at once.
        let ping = if older.is_empty() && !self.in_transaction && padding >= PING.len() { PING } else { b"" };
        let buffer = out.buffer(REPLICA);
        buffer.put_bytes(b'\n', padding - ping.len());
        buffer.put_slice(ping);
        buffer.put_slice(older);
        self.map.translated(taken as u64, (padding + older.len()) as u64);
        if self.map.shift() != shift {
            out.note(Note::Shift(self.map.shift()));
        }
    }

    /// Says at least `least` blank lines in place of `taken` bytes that do nothing, and no more of them than
    /// the shift leaves open.
    fn pay_back(&mut self, taken: usize, least: usize, rule: &'static str, out: &mut Effects) {
        let room = usize::try_from(self.map.shift()).unwrap_or(0);
        let given = taken.saturating_sub(room).max(least);
        out.buffer(REPLICA).put_bytes(b'\n', given);
        // Who has what came before has this, too, although blank lines count only with the next command.
        self.map.translated(taken as u64, 0);
        self.map.translated(0, given as u64);
        out.note(Note::Translated(rule));
        out.note(Note::Shift(self.map.shift()));
    }

    /// Saves what was done since the last time, before it is sent.
    fn journal(&mut self, out: &mut Effects) {
        let loses = std::mem::take(&mut self.losing);
        self.course.incomplete |= loses;
        let Some(branch) = &self.course.branch else {
            if loses {
                out.push(Effect::Save(self.course.trunk_key(), saved::incomplete()));
            }
            return;
        };
        if loses {
            out.push(Effect::Save(self.course.trunk_key(), saved::branched_off(true)));
        }
        if loses || self.journal_bytes > JOURNAL_BYTES_MAX {
            self.save_whole(out);
        } else if let Some(steps) = self.map.take_steps() {
            self.journal_bytes += steps.len();
            out.push(Effect::Append(Course::branch_key(branch.clone()), steps));
        }
    }

    /// Nothing need be known of a replica that counts as its master does.
    pub fn save_whole(&mut self, out: &mut Effects) {
        let Course { trunk, follower, branch: Some(branch), incomplete, .. } = &self.course else { return };
        self.journal_bytes = 0;
        let state = saved::branch(trunk, follower, *incomplete, &mut self.map);
        out.push(Effect::Save(Course::branch_key(branch.clone()), state));
    }

    /// Saves where the replica stands, for the next link.
    pub fn save(mut self, out: &mut Effects) {
        self.save_whole(out);
    }

    /// What comes next for this replica must be a full sync.
    pub fn spoil(self, out: &mut Effects) {
        let trunk = self.course.trunk_key();
        let key = self.course.branch.map_or(trunk, Course::branch_key);
        out.push(Effect::Save(key, saved::doubtful()));
    }
}

/// Commands that change the state of the stream itself.
fn is_special(name: &[u8]) -> bool {
    ["MULTI", "EXEC", "SELECT", "PING"].iter().any(|special| name.eq_ignore_ascii_case(special.as_bytes()))
}
