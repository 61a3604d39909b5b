//! The command stream, from the master to an older replica.

use bytes::{BufMut, Bytes, BytesMut};
use segue_wire::{Effect, Effects, FaultKind, Grade, Limits, LossPolicy, Note, Refusal, Side, StreamKey};

use crate::{
    offsets::OffsetMap,
    resp::{self, Collect, Command, Head, Pass},
    rules::{Handling, Lost, Rewritten, Rules},
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
    key: StreamKey,
    map: OffsetMap,
    unit: Unit,
    in_transaction: bool,
    db: u64,
    /// Have the offsets ever differed on this link; and has that been saved?
    shifted: bool,
    shift_saved: bool,
    /// Bytes appended since the map was saved whole.
    journal_bytes: usize,
    /// What one feed gives, until what it relies on is saved.
    given: Effects,
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

impl Stream {
    /// `map` says where the replica stands.
    pub fn new(
        rules: Rules,
        limits: Limits,
        policy: LossPolicy,
        key: StreamKey,
        map: OffsetMap,
        out: &mut Effects,
    ) -> Self {
        let mut stream = Self {
            rules,
            limits,
            policy,
            key,
            map,
            unit: Unit::Unknown,
            in_transaction: false,
            db: 0,
            shifted: false,
            shift_saved: false,
            journal_bytes: 0,
            given: Effects::new(),
        };
        stream.shifted = stream.map.shift() != 0;
        stream.save_whole(out);
        out.note(Note::Shift(stream.map.shift()));
        stream
    }

    pub const fn map(&mut self) -> &mut OffsetMap {
        &mut self.map
    }

    pub fn feed(&mut self, input: &mut BytesMut, out: &mut Effects) -> Result<(), FaultKind> {
        let mut given = std::mem::take(&mut self.given);
        let fed = self.translate(input, &mut given);
        self.journal(out);
        out.append(&mut given);
        self.given = given;
        fed
    }

    fn translate(&mut self, input: &mut BytesMut, out: &mut Effects) -> Result<(), FaultKind> {
        // What stands before `passed` passes unchanged and goes out in one piece.
        let mut passed = 0;
        loop {
            let rest = input.get(passed..).unwrap_or_default();
            match &mut self.unit {
                Unit::Unknown => match resp::head(rest)? {
                    Head::Incomplete => break,
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
                self.db = db.and_then(|db| u64::try_from(db).ok()).unwrap_or(self.db);
            }
            b"PING" if self.map.shift() > 0 && !self.in_transaction => {
                self.pay_back(raw.len(), out);
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
        self.report(losses, out)?;
        for rule in rules {
            out.note(Note::Translated(rule));
        }
        let mut older = BytesMut::new();
        resp::write_together(&mut older, &commands, self.in_transaction);
        self.say(raw.len(), &older, out);
        Ok(())
    }

    fn report(&self, losses: Vec<Lost>, out: &mut Effects) -> Result<(), FaultKind> {
        for lost in losses {
            let loss = lost.at(self.db);
            if loss.grade == Grade::Data && self.policy == LossPolicy::Refuse {
                let to = self.rules.pair().to_release.clone();
                return Err(FaultKind::Refused(Refusal::Loss { to, loss: Box::new(loss) }));
            }
            out.note(Note::Lost(loss));
        }
        Ok(())
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
            self.shifted = true;
            out.note(Note::Shift(self.map.shift()));
        }
    }

    /// A PING only keeps the link alive: a blank line does as well, and is shorter.
    fn pay_back(&mut self, taken: usize, out: &mut Effects) {
        let room = usize::try_from(self.map.shift()).unwrap_or(0);
        let given = taken.saturating_sub(room).max(1);
        out.buffer(REPLICA).put_bytes(b'\n', given);
        self.map.translated(taken as u64, given as u64);
        out.note(Note::Translated("ping"));
        out.note(Note::Shift(self.map.shift()));
    }

    /// Saves what was done since the last time, before it is sent.
    fn journal(&mut self, out: &mut Effects) {
        let shifts = self.shifted && !self.shift_saved;
        if shifts || self.journal_bytes > JOURNAL_BYTES_MAX {
            self.save_whole(out);
        } else if let Some(steps) = self.map.take_steps() {
            self.journal_bytes += steps.len();
            out.push(Effect::Append(self.key.clone(), steps));
        }
    }

    fn save_whole(&mut self, out: &mut Effects) {
        self.shift_saved = self.shifted;
        self.journal_bytes = 0;
        out.push(Effect::Save(self.key.clone(), saved::exact(&mut self.map, self.shift_saved)));
    }

    /// Saves where the replica stands, for the next link.
    pub fn save(mut self, out: &mut Effects) {
        out.push(Effect::Save(self.key, saved::exact(&mut self.map, false)));
    }

    /// What comes next for this replica must be a full sync.
    pub fn spoil(self, out: &mut Effects) {
        out.push(Effect::Save(self.key, saved::doubtful()));
    }
}

/// Commands that change the state of the stream itself.
fn is_special(name: &[u8]) -> bool {
    ["MULTI", "EXEC", "SELECT", "PING"].iter().any(|special| name.eq_ignore_ascii_case(special.as_bytes()))
}
