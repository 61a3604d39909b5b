use bytes::{Buf, BufMut, Bytes, BytesMut};
use segue_wire::{FaultKind, Grade, Limits, Loss, LossPolicy, Refusal, Release};

use super::{Layout, layout_at};
use crate::{
    rdb::{self, Progress},
    releases::Pair,
    resp::{self, Collect, Command, Head, Pass},
    rules::{Handling, Rewritten, Rules},
};

/// Rewrites the files of an AOF to what an older release loads, as they are read.
///
/// They are fed one after the other, in the order in which a server loads them, with [`Rewriter::end_file`]
/// after each. For a release that keeps one file, what comes out belongs into one.
///
/// What it holds is bounded: a command that has to be rewritten and what the snapshot defers take at most
/// [`Limits::held_bytes_max`]; all else passes through.
pub struct Rewriter {
    rules: Rules,
    policy: LossPolicy,
    limits: Limits,
    layout: Layout,
    stage: Stage,
    unit: Unit,
    in_transaction: bool,
    /// Of the commands that are read, and of those that were put out.
    db: u64,
    written_db: u64,
    files_ended: u64,
    /// What of the current file was consumed and put out.
    done: Kept,
    /// … up to the end of the last command outside a transaction.
    kept: Kept,
}

enum Stage {
    Start,
    Snapshot(Box<rdb::Rewriter>),
    Commands,
}

/// What stands at the front of the input.
enum Unit {
    Unknown,
    /// The rest of a command that passes.
    Passing(Pass),
    /// A command that must be seen whole.
    Collecting(Collect),
}

/// How a file ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Whole,
    /// Inside a command or a transaction, as a crash leaves it. Every release loads the last file up to there
    /// (`aof-load-truncated yes`); what was put out beyond has to be taken back.
    CutOff(Kept),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// From the start of the file that is read.
    pub read_bytes: u64,
    /// From where its first byte was put out.
    pub written_bytes: u64,
}

/// No server writes a longer line between commands.
const ANNOTATION_BYTES_MAX: usize = 1024;

impl Rewriter {
    /// `None` if one of the releases is not known.
    #[must_use]
    pub fn new(from: &Release, to: &Release, policy: LossPolicy, limits: Limits) -> Option<Self> {
        let pair = Pair::new(from, to)?;
        Some(Self {
            layout: layout_at(pair.to),
            rules: Rules::new(pair, policy),
            policy,
            limits,
            stage: Stage::Start,
            unit: Unit::Unknown,
            in_transaction: false,
            db: 0,
            written_db: 0,
            files_ended: 0,
            done: Kept::default(),
            kept: Kept::default(),
        })
    }

    /// Takes what it can from the front of `input`, appends the rewritten bytes to `out`, and pushes what
    /// was left out to `losses`. What stays in `input` is the start of something whose end has not come.
    ///
    /// # Errors
    ///
    /// As [`rdb::Rewriter::feed`]. Do not call again after an error.
    pub fn feed(
        &mut self,
        input: &mut BytesMut,
        out: &mut BytesMut,
        losses: &mut Vec<Loss>,
    ) -> Result<(), FaultKind> {
        let mut tape = Tape { done: self.done, input, out };
        let fed = self.advance(&mut tape, losses);
        self.done = tape.done;
        fed
    }

    /// The current file ends, and the next one can be fed. `left` is what stayed of it.
    ///
    /// # Errors
    ///
    /// [`FaultKind::Truncated`] inside a snapshot, which no release loads in part.
    pub fn end_file(&mut self, left: &[u8]) -> Result<Ending, FaultKind> {
        if let Stage::Snapshot(rewriter) = &self.stage {
            rewriter.finish()?;
        }
        let whole = left.is_empty() && matches!(self.unit, Unit::Unknown) && !self.in_transaction;
        let ending = if whole { Ending::Whole } else { Ending::CutOff(self.kept) };
        // Every file is loaded by a client of its own, which begins in database 0.
        (self.stage, self.unit, self.in_transaction, self.db) = (Stage::Start, Unit::Unknown, false, 0);
        if self.layout == Layout::Folder {
            self.written_db = 0;
        }
        self.files_ended = self.files_ended.saturating_add(1);
        (self.done, self.kept) = (Kept::default(), Kept::default());
        Ok(ending)
    }

    /// Bytes of the current file consumed so far.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.done.read_bytes
    }

    fn advance(&mut self, tape: &mut Tape<'_>, losses: &mut Vec<Loss>) -> Result<(), FaultKind> {
        loop {
            match &mut self.stage {
                Stage::Start => match tape.input.first() {
                    None => return Ok(()),
                    // No command begins like this, and every snapshot does: `REDIS`, `VALKEY`.
                    Some(first) if !first.is_ascii_uppercase() => self.stage = Stage::Commands,
                    Some(_) if self.layout == Layout::File && self.files_ended > 0 => {
                        return Err(malformed("a snapshot that is not at the start of the AOF"));
                    }
                    Some(_) => {
                        let target = self.rules.pair().rdb.clone();
                        let rewriter = rdb::Rewriter::new(target, self.policy, self.limits);
                        self.stage = Stage::Snapshot(Box::new(rewriter));
                    }
                },
                Stage::Snapshot(rewriter) => {
                    let progress = rewriter.feed(tape.input, tape.out, losses);
                    tape.done = Kept { read_bytes: rewriter.position(), written_bytes: rewriter.emitted() };
                    if progress? == Progress::More {
                        return Ok(());
                    }
                    self.kept = tape.done;
                    self.stage = Stage::Commands;
                }
                Stage::Commands => {
                    // What stands before `passed` passes unchanged and is moved in one piece.
                    let mut passed = 0;
                    let read = self.commands(tape, &mut passed, losses);
                    tape.pass(passed);
                    return read;
                }
            }
        }
    }

    fn commands(
        &mut self,
        tape: &mut Tape<'_>,
        passed: &mut usize,
        losses: &mut Vec<Loss>,
    ) -> Result<(), FaultKind> {
        loop {
            let rest = tape.input.get(*passed..).unwrap_or_default();
            match &mut self.unit {
                Unit::Unknown if rest.first() == Some(&b'#') => {
                    let Some(len) = annotation(rest)? else { return Ok(()) };
                    if self.layout == Layout::Folder {
                        *passed += len;
                    } else {
                        tape.pass(std::mem::take(passed));
                        tape.skip(len);
                    }
                }
                Unit::Unknown => match resp::head(rest)? {
                    Head::Incomplete => return Ok(()),
                    Head::Command { argc, name, end } => {
                        let is_select = name.eq_ignore_ascii_case(b"SELECT");
                        let passes = !is_special(name) && self.rules.handling(name, argc) == Handling::Pass;
                        if self.written_db != self.db && !is_select {
                            tape.pass(std::mem::take(passed));
                            tape.put(&select(self.db));
                            self.written_db = self.db;
                        }
                        if passes {
                            self.unit = Unit::Passing(Pass::new(argc - 1));
                            *passed += end;
                        } else {
                            tape.pass(std::mem::take(passed));
                            self.unit = Unit::Collecting(Collect::default());
                        }
                        continue;
                    }
                    Head::Blank(_) | Head::Foreign => {
                        let byte = rest.first().copied().unwrap_or_default().escape_ascii();
                        return Err(malformed(&format!("\"{byte}\" where a command was expected")));
                    }
                },
                Unit::Passing(pass) => {
                    *passed += pass.advance(rest)?;
                    if !pass.done() {
                        return Ok(());
                    }
                    self.unit = Unit::Unknown;
                }
                Unit::Collecting(collect) => {
                    let max = self.limits.held_bytes_max;
                    let before = tape.input.len();
                    let collected = collect.take(tape.input, "held_bytes_max", max)?;
                    tape.done.read_bytes += (before - tape.input.len()) as u64;
                    let Some((raw, command)) = collected else { return Ok(()) };
                    self.unit = Unit::Unknown;
                    self.command(&raw, command, tape, losses)?;
                }
            }
            if !self.in_transaction {
                self.kept = tape.after(*passed);
            }
        }
    }

    fn command(
        &mut self,
        raw: &Bytes,
        command: Command,
        tape: &mut Tape<'_>,
        losses: &mut Vec<Loss>,
    ) -> Result<(), FaultKind> {
        let name = command.first().map(|name| name.to_ascii_uppercase()).unwrap_or_default();
        match &*name {
            b"MULTI" => self.in_transaction = true,
            b"EXEC" => self.in_transaction = false,
            b"SELECT" => {
                let db = command.get(1).and_then(|db| resp::integer(db));
                self.db = db.and_then(|db| u64::try_from(db).ok()).unwrap_or(self.db);
                self.written_db = self.db;
            }
            _ => return self.rewrite(raw, command, tape, losses),
        }
        tape.put(raw);
        Ok(())
    }

    fn rewrite(
        &self,
        raw: &Bytes,
        command: Command,
        tape: &mut Tape<'_>,
        losses: &mut Vec<Loss>,
    ) -> Result<(), FaultKind> {
        let Rewritten { commands, rules, losses: lost } = self.rules.rewrite(command, &self.limits);
        if rules.is_empty() {
            tape.put(raw);
            return Ok(());
        }
        for lost in lost {
            let loss = lost.at(self.db);
            if loss.grade == Grade::Data && self.policy == LossPolicy::Refuse {
                let to = self.rules.pair().to_release.clone();
                return Err(FaultKind::Refused(Refusal::Loss { to, loss: Box::new(loss) }));
            }
            losses.push(loss);
        }
        let mut older = BytesMut::new();
        resp::write_together(&mut older, &commands, self.in_transaction);
        tape.put(&older);
        Ok(())
    }
}

/// Input that becomes output, and how far both have come.
struct Tape<'a> {
    input: &'a mut BytesMut,
    out: &'a mut BytesMut,
    done: Kept,
}

impl Tape<'_> {
    fn pass(&mut self, len: usize) {
        self.out.put_slice(self.input.get(..len).unwrap_or_default());
        self.done.written_bytes += len as u64;
        self.skip(len);
    }

    fn skip(&mut self, len: usize) {
        self.input.advance(len);
        self.done.read_bytes += len as u64;
    }

    fn put(&mut self, bytes: &[u8]) {
        self.out.put_slice(bytes);
        self.done.written_bytes += bytes.len() as u64;
    }

    /// How far both will have come when so much has passed.
    const fn after(&self, passed: usize) -> Kept {
        let Kept { read_bytes, written_bytes } = self.done;
        Kept { read_bytes: read_bytes + passed as u64, written_bytes: written_bytes + passed as u64 }
    }
}

/// The length of the line at the front, with its end. `None` while it is incomplete.
fn annotation(input: &[u8]) -> Result<Option<usize>, FaultKind> {
    let window = input.get(..ANNOTATION_BYTES_MAX).unwrap_or(input);
    match window.iter().position(|&byte| byte == b'\n') {
        Some(end) => Ok(Some(end + 1)),
        None if window.len() == ANNOTATION_BYTES_MAX => Err(malformed("an annotation without an end")),
        None => Ok(None),
    }
}

fn select(db: u64) -> BytesMut {
    let mut command = BytesMut::new();
    resp::write(&mut command, &["SELECT".to_owned(), db.to_string()]);
    command
}

/// Commands that change the state of the log itself.
fn is_special(name: &[u8]) -> bool {
    ["MULTI", "EXEC", "SELECT"].iter().any(|special| name.eq_ignore_ascii_case(special.as_bytes()))
}

fn malformed(detail: &str) -> FaultKind {
    FaultKind::Malformed { what: "AOF", detail: detail.to_owned() }
}
