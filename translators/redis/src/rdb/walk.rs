use bytes::{BufMut, BytesMut};
use segue_wire::{FaultKind, Grade, Limits, Loss, LossPolicy, Refusal};

use super::{
    encoding::{self, Damage},
    layout::{self, DecidedBy, Item, Meaning, OPCODE_FIRST, Older, Op, Own, Role, Step},
    notes::{Notes, module_name},
    tape::{Deferred, Tape},
    target::Target,
    templates::Templates,
    text::Text,
    versions::{self, Codes},
    ziplist,
};

/// Walks over one item after the other, as [`layout`] describes them, and lets pass what the target
/// loads. It can stop behind any byte and go on in the next call.
///
/// Its stack is as deep as the layouts nest: no input makes it deeper.
#[derive(Debug)]
pub struct Walk {
    pub target: Target,
    policy: LossPolicy,
    codes: Codes,
    pub item: &'static Item,
    pub fate: Fate,
    stack: Vec<Frame>,
    /// The string that the walk is in the middle of.
    pub text: Option<Text>,
    pub notes: Notes,
    pub templates: Templates,
    /// The packed list of [`Self::text`] so far, or the last that its LZF decoder put out.
    pub buffer: Vec<u8>,
    pub ziplist: ziplist::Writer,
    code: u8,
    /// Where the item starts, in bytes from the start of the snapshot.
    start: u64,
}

/// What becomes of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It passes as it is.
    Native,
    /// It passes in another form, as a rule an older one.
    Older,
    LeftOut,
}

/// Where a call has to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// The item goes on behind the input.
    InputEnd,
    ItemEnd,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    steps: &'static [Step],
    next: usize,
    /// How many times more, this one included.
    times: u64,
}

/// The consumer that entries get which wait for any.
const NACKED_CONSUMER: &[u8] = b"segue:nacked";

/// What a stream has that never was told otherwise: 100 s, and 100 ids of each producer.
const IDEMPOTENCE_DEFAULT: u64 = 100;

const NO_TTL: i64 = -1;

/// The latest that Redis lets a field expire at, Unix ms.
const FIELD_TTL_MAX: i64 = (1 << 46) - 1;

/// Most bytes that may stay in the input until more follow: a text score.
pub const TOKEN_BYTES_MAX: usize = 254;

impl Walk {
    pub fn new(target: Target, policy: LossPolicy) -> Self {
        Self {
            target,
            policy,
            codes: Codes::Redis,
            item: &layout::UNKNOWN,
            fate: Fate::Native,
            stack: Vec::new(),
            text: None,
            notes: Notes::default(),
            templates: Templates::default(),
            buffer: Vec::new(),
            ziplist: ziplist::Writer::default(),
            code: 0,
            start: 0,
        }
    }

    pub fn deferred(limits: &Limits) -> Deferred {
        Deferred::new(limits.held_bytes_max)
    }

    /// What follows is of this RDB version, which can be read.
    pub fn read_as(&mut self, version: u16) {
        self.codes = versions::codes(version).unwrap_or(Codes::Redis);
    }

    /// Takes the code of the next item from the front of the tape, which is at `position` of the
    /// snapshot. In a DUMP payload values have no key.
    pub fn begin(
        &mut self,
        code: u8,
        position: u64,
        has_key: bool,
        tape: &mut Tape<'_>,
    ) -> Result<(), FaultKind> {
        (self.code, self.start) = (code, position);
        self.notes.reset(has_key);
        self.item = match layout::find(self.codes, code) {
            Some(item) => item,
            None if code >= OPCODE_FIRST || !has_key => return Err(self.unknown()),
            None => &layout::UNKNOWN,
        };
        let (mut becomes, mut body) = (code, self.item.body);
        self.fate = match self.item.older {
            _ if self.item.since.has(self.target.level) => Fate::Native,
            Older::As(forms) => match forms.iter().find(|form| self.target.loads_type(form.code)) {
                Some(form) => {
                    becomes = form.code;
                    body = form.body.unwrap_or(body);
                    Fate::Older
                }
                None => Fate::LeftOut,
            },
            Older::Hint | Older::Lost(_) => Fate::LeftOut,
        };
        match self.item.role {
            Role::Attribute => tape.defer(),
            Role::Alone => tape.settle(),
            Role::Value => {}
        }
        match (self.fate, self.item.decided) {
            // What belongs to the same key stays.
            (Fate::LeftOut, _) if self.item.role != Role::Attribute => tape.withdraw(),
            (_, DecidedBy::Module) | (Fate::Older, DecidedBy::FieldTtls) => tape.defer(),
            _ if self.item.role == Role::Value => tape.settle(),
            _ => {}
        }
        match self.fate {
            Fate::Native => tape.pass(1)?,
            Fate::LeftOut => tape.skip(1),
            Fate::Older => {
                tape.room(1)?;
                tape.skip(1);
                tape.put(&[becomes]);
            }
        }
        self.push(body, 1);
        if has_key && self.item.role == Role::Value {
            self.push(layout::KEY, 1);
        }
        Ok(())
    }

    /// Goes on through the item.
    pub fn run(&mut self, tape: &mut Tape<'_>, losses: &mut Vec<Loss>) -> Result<Reached, FaultKind> {
        loop {
            if self.text.is_some() && !self.run_text(tape, losses)? {
                return Ok(Reached::InputEnd);
            }
            let Some(frame) = self.stack.last_mut() else { break };
            let Some(step) = frame.steps.get(frame.next) else {
                frame.next = 0;
                frame.times -= 1;
                if frame.times == 0 {
                    self.stack.pop();
                }
                continue;
            };
            if !self.step(*step, tape, losses)? {
                return Ok(Reached::InputEnd);
            }
        }
        self.end(losses)?;
        Ok(Reached::ItemEnd)
    }

    /// One step; false where the input ends before it.
    fn step(&mut self, step: Step, tape: &mut Tape<'_>, losses: &mut Vec<Loss>) -> Result<bool, FaultKind> {
        let pass = self.passes(step);
        match step.op {
            Op::Number(meaning) => {
                let Some((value, size)) = self.number(tape)? else { return Ok(false) };
                tape.take(size, pass)?;
                self.advance();
                self.notice(meaning, value, pass, tape, losses)?;
            }
            Op::Bytes(count, meaning) => {
                let Some(bytes) = tape.rest().get(..count) else { return Ok(false) };
                tape.take(count, pass)?;
                self.advance();
                if meaning != Meaning::None {
                    let value = bytes.first_chunk().map_or(0, |le| u64::from_le_bytes(*le));
                    self.notice(meaning, value, pass, tape, losses)?;
                }
            }
            Op::TextScore => {
                let Some(&len) = tape.rest().first() else { return Ok(false) };
                let size = if len < 253 { 1 + usize::from(len) } else { 1 };
                if tape.rest().len() < size {
                    return Ok(false);
                }
                tape.take(size, pass)?;
                self.advance();
            }
            Op::Repeat(steps) => {
                let Some((times, size)) = self.number(tape)? else { return Ok(false) };
                tape.take(size, pass)?;
                self.advance();
                self.push(steps, times);
            }
            Op::Times(steps) => {
                self.advance();
                self.push(steps, self.notes.times);
            }
            Op::Node => {
                let Some((container, size)) = self.number(tape)? else { return Ok(false) };
                let string =
                    layout::node(container).ok_or_else(|| self.damage(Damage("unknown list container")))?;
                tape.take(size, pass && self.fate == Fate::Native)?;
                self.advance();
                self.push(string, 1);
            }
            Op::Element => {
                let Some((kind, size)) = self.number(tape)? else { return Ok(false) };
                let element = layout::element(kind)
                    .ok_or_else(|| self.damage(Damage("unknown kind of array element")))?;
                tape.take(size, pass)?;
                self.advance();
                self.push(element, 1);
            }
            Op::Own(own) => {
                self.advance();
                self.put_own(own, tape, losses)?;
            }
            Op::Consumers(steps) => {
                let Some((consumers, size)) = self.number(tape)? else { return Ok(false) };
                tape.take(size, pass && self.fate != Fate::Older)?;
                if self.fate == Fate::Older {
                    self.notes.stream.consumers = consumers;
                    tape.defer();
                }
                self.advance();
                self.push(steps, consumers);
            }
            Op::Nacked => {
                let Some((ids, size)) = self.number(tape)? else { return Ok(false) };
                tape.take(size, pass && self.fate != Fate::Older)?;
                if self.fate == Fate::Older {
                    self.give_nacked(ids, tape, losses)?;
                }
                self.advance();
                self.push(layout::IDS, ids);
            }
            Op::ModuleValues => {
                let Some((kind, size)) = self.number(tape)? else { return Ok(false) };
                tape.take(size, pass)?;
                if kind == 0 {
                    self.advance();
                } else {
                    let value = layout::module_value(kind);
                    let value = value.ok_or_else(|| self.damage(Damage("unknown kind of module value")))?;
                    self.push(value, 1);
                }
            }
            Op::Text(_) | Op::PlainNode | Op::Packed(_) => {
                if !self.begin_text(step.op, pass, tape, losses)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn passes(&self, step: Step) -> bool {
        match self.fate {
            Fate::Native => true,
            Fate::Older => step.since.has(self.target.level),
            Fate::LeftOut => false,
        }
    }

    /// Takes note of a number, which has just been taken from the tape.
    fn notice(
        &mut self,
        meaning: Meaning,
        value: u64,
        pass: bool,
        tape: &mut Tape<'_>,
        losses: &mut Vec<Loss>,
    ) -> Result<(), FaultKind> {
        let stream = &mut self.notes.stream;
        match meaning {
            Meaning::Database => self.notes.db = value,
            Meaning::ModuleId if self.fate == Fate::Native => {
                let name = module_name(value);
                if self.target.loads_module(&name) {
                    tape.settle();
                } else {
                    tape.withdraw();
                    self.fate = Fate::LeftOut;
                    self.lose(self.notes.module_loss(self.item, &name), losses)?;
                }
            }
            Meaning::StreamLength => stream.length = value,
            Meaning::StreamMaxDeleted => stream.max_deleted |= !pass && value != 0,
            Meaning::StreamEntriesAdded if !pass => stream.entries_added = Some(value),
            Meaning::ConsumerActiveTime => stream.active_time |= !pass,
            Meaning::IdempotenceSetting => stream.idempotence |= !pass && value != IDEMPOTENCE_DEFAULT,
            Meaning::IdempotenceAdded => stream.idempotence |= !pass && value != 0,
            Meaning::Times => self.notes.times = value,
            Meaning::Template => self.templates.define(Some(value)),
            Meaning::TemplateOf => {
                let chosen = self.templates.choose(Some(value));
                chosen.map_err(|damage| self.damage(damage))?;
                self.notes.times = self.templates.fields();
            }
            Meaning::HashMinTtlKept => {
                self.notes.min_ttl = value;
                tape.settle();
            }
            Meaning::HashFieldTtlKept => {
                let at =
                    value.checked_sub(1).map(|after| i64::try_from(after.saturating_add(self.notes.min_ttl)));
                let at = at.transpose().map_err(|_| self.damage(Damage("a TTL out of range")))?;
                self.notes.field_ttl = at.unwrap_or(NO_TTL);
            }
            Meaning::HashFieldTtlBytes => self.notes.field_ttl = value.cast_signed(),
            Meaning::HashMinTtl | Meaning::HashFieldTtl if !pass => {
                if value != 0 {
                    self.lose_field_ttls(losses)?;
                }
                tape.settle();
            }
            _ => {}
        }
        Ok(())
    }

    /// Puts what only the other form has.
    fn put_own(&mut self, own: Own, tape: &mut Tape<'_>, losses: &mut Vec<Loss>) -> Result<(), FaultKind> {
        match own {
            Own::NoFieldTtls => {
                self.lose_field_ttls(losses)?;
                tape.settle();
            }
            Own::Aside => {
                tape.settle();
                tape.defer();
            }
            Own::FieldTtlNumber => {
                let at = self.notes.field_ttl;
                if at > FIELD_TTL_MAX {
                    self.lose_field_ttls(losses)?;
                }
                let mut number = BytesMut::new();
                let at = if at == NO_TTL { 0 } else { at.clamp(1, FIELD_TTL_MAX) };
                encoding::put_number(at.cast_unsigned(), &mut number);
                tape.settle_behind(&number);
            }
            Own::FieldTtlBytes => tape.put(&self.notes.field_ttl.to_le_bytes()),
            Own::HashMinTtl => tape.put(&1_u64.to_le_bytes()),
            Own::FieldCount => {
                self.notes.times = self.templates.fields();
                encoding::put_number(self.notes.times, tape.writer());
            }
            Own::FieldName => {
                let name = self.templates.next_field().map(|name| tape.put(name));
                name.map_err(|damage| self.damage(damage))?;
            }
        }
        Ok(())
    }

    /// In releases where no entry waits for any consumer, one of our own has those that do.
    fn give_nacked(
        &mut self,
        ids: u64,
        tape: &mut Tape<'_>,
        losses: &mut Vec<Loss>,
    ) -> Result<(), FaultKind> {
        let mut count = BytesMut::new();
        let consumers = self.notes.stream.consumers;
        encoding::put_number(consumers.saturating_add(u64::from(ids > 0)), &mut count);
        if ids > 0 && !self.notes.lost {
            self.lose(self.notes.nacked_loss(self.item), losses)?;
        }
        tape.settle_behind(&count);
        if ids > 0 {
            let out = tape.writer();
            encoding::put_string(NACKED_CONSUMER, out);
            out.put_i64_le(0); // seen at
            if layout::HAS_ACTIVE_TIME.has(self.target.level) {
                out.put_i64_le(-1);
            }
            encoding::put_number(ids, out);
        }
        Ok(())
    }

    pub fn lose_field_ttls(&mut self, losses: &mut Vec<Loss>) -> Result<(), FaultKind> {
        if self.notes.lost { Ok(()) } else { self.lose(self.notes.field_ttl_loss(self.item), losses) }
    }

    fn end(&mut self, losses: &mut Vec<Loss>) -> Result<(), FaultKind> {
        if std::ptr::eq(self.item, &layout::UNKNOWN) {
            return Err(self.unknown());
        }
        match (self.fate, self.item.older) {
            (Fate::LeftOut, Older::Lost(kind)) if !self.notes.lost => {
                let loss = self.notes.loss(self.item, kind, Grade::Data, self.notes.name(self.item));
                self.lose(loss, losses)
            }
            (Fate::Older, _) => {
                losses.extend(self.notes.stream_losses(self.item));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn lose(&mut self, loss: Loss, losses: &mut Vec<Loss>) -> Result<(), FaultKind> {
        self.notes.lost = true;
        if loss.grade == Grade::Data && self.policy == LossPolicy::Refuse {
            return Err(FaultKind::Refused(Refusal::Loss {
                to: self.target.release.clone(),
                loss: Box::new(loss),
            }));
        }
        losses.push(loss);
        Ok(())
    }

    fn number(&self, tape: &Tape<'_>) -> Result<Option<(u64, usize)>, FaultKind> {
        encoding::number(tape.rest()).map_err(|damage| self.damage(damage))
    }

    fn push(&mut self, steps: &'static [Step], times: u64) {
        if times > 0 && !steps.is_empty() {
            self.stack.push(Frame { steps, next: 0, times });
        }
    }

    pub fn advance(&mut self) {
        if let Some(frame) = self.stack.last_mut() {
            frame.next += 1;
        }
    }

    pub fn damage(&self, Damage(what): Damage) -> FaultKind {
        let detail = format!("{what} in {}{} at byte {}", self.item.name, self.of_key(), self.start);
        FaultKind::Malformed { what: "RDB", detail }
    }

    fn unknown(&self) -> FaultKind {
        let detail = if self.code >= OPCODE_FIRST {
            format!("unknown opcode {} at byte {}", self.code, self.start)
        } else {
            format!("unknown value type {}{} at byte {}", self.code, self.of_key(), self.start)
        };
        FaultKind::Malformed { what: "RDB", detail }
    }

    /// Names the key, where it was noted: that of a value which passes as it is was not.
    fn of_key(&self) -> String {
        const SHOWN_BYTES_MAX: usize = 64;
        let key = &self.notes.text;
        match self.item.role {
            Role::Value if !key.is_empty() => {
                format!(" of key \"{}\"", key.get(..SHOWN_BYTES_MAX).unwrap_or(key).escape_ascii())
            }
            _ => String::new(),
        }
    }
}
