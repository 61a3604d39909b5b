//! What a layout is made of. The table of all items is [`ITEMS`].

use super::{items::ITEMS, versions::Codes};
use crate::releases::{
    Since,
    since::{common, first, never},
};

/// Codes from here on are opcodes; value types lie below.
pub const OPCODE_FIRST: u8 = 240;

pub const EOF: u8 = 255;
pub const TYPE_MODULE_2: u8 = 7;

/// One kind of item: an opcode with its operands, or a type byte with a key and a value.
#[derive(Debug)]
pub struct Item {
    pub code: u8,
    /// Whose snapshots the code means this in.
    pub codes: &'static [Codes],
    /// As in `rdb.h`, without its `RDB_TYPE_` or `RDB_OPCODE_`.
    pub name: &'static str,
    pub role: Role,
    /// The first releases that load it.
    pub since: Since,
    /// What becomes of it for a release that does not.
    pub older: Older,
    pub decided: DecidedBy,
    /// What follows the code, and the key of a value.
    pub body: &'static [Step],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Stands by itself.
    Alone,
    /// Belongs to the key that follows, and goes with it.
    Attribute,
    /// A key and its value.
    Value,
}

#[derive(Clone, Copy, Debug)]
pub enum Older {
    /// Other types say the same, or most of it: the first that the target loads.
    As(&'static [Form]),
    /// Only a hint: leaving it out loses nothing.
    Hint,
    /// Nothing says the same: a loss of this kind.
    Lost(&'static str),
}

/// Another type that an item can become.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    pub code: u8,
    /// How the item's own body is read for it; `None`: as for the item itself.
    pub body: Option<&'static [Step]>,
}

/// Where it shows whether an item can stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecidedBy {
    /// By its code alone.
    Code,
    /// Once the module is known that it belongs to.
    Module,
    /// Where it takes another form: once it is known whether a field has a TTL.
    FieldTtls,
}

/// One step of a layout.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub op: Op,
    /// Dropped for a release that does not have it, when the item takes another form.
    pub since: Since,
}

#[derive(Clone, Copy, Debug)]
pub enum Op {
    /// A number in the length encoding.
    Number(Meaning),
    /// So many bytes as they are.
    Bytes(usize, Meaning),
    /// A string in any encoding.
    Text(Meaning),
    /// A string holding one list element. Older form: a ziplist of that one entry.
    PlainNode,
    /// A string holding a listpack. Older form: see [`Packed`].
    Packed(Packed),
    /// A score as text: its length in one byte, then the text; 253 nan, 254 inf, 255 -inf stand alone.
    TextScore,
    /// A count, then the steps that many times.
    Repeat(&'static [Step]),
    /// The steps as many times as a [`Meaning::Times`] said.
    Times(&'static [Step]),
    /// A node's container (1 plain, 2 packed), then the string. The older form has no container.
    Node,
    /// The kind of an array's element, then the element.
    Element,
    /// What a module wrote: values, each behind its kind, until kind 0.
    ModuleValues,
    /// Nothing is read: the other form has this here.
    Own(Own),
    /// A stream's consumers: as [`Op::Repeat`]; the other form waits for [`Op::Nacked`].
    Consumers(&'static [Step]),
    /// A count of IDs that no consumer has, and these. The other form: a consumer that has them.
    Nacked,
}

/// What only another form has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// A hash loses the TTLs of its fields here.
    NoFieldTtls,
    /// What follows up to [`Own::FieldTtlNumber`] stands behind that.
    Aside,
    /// The TTL that was read last, as a number: Unix ms − 1 (the hash's earliest) + 1; 0: none.
    FieldTtlNumber,
    /// The TTL that was read last, in 8 bytes: Unix ms; −1: none.
    FieldTtlBytes,
    /// An earliest TTL of 1 ms, from which [`Own::FieldTtlNumber`] counts.
    HashMinTtl,
    /// How many fields the template has.
    FieldCount,
    /// The name of the template's next field.
    FieldName,
}

/// What a listpack holds, which tells its other form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packed {
    /// field, value, … → a ziplist: a store loads it as it is, and a HASH field by field
    Hash,
    /// field, value, TTL, … → the body of a HASH, without the TTLs
    HashWithTtls,
    /// field, value, TTL, … → the body of Valkey's HASH_2
    HashAndTtls,
    /// member, … → the body of a SET
    Set,
    /// member, score, … → a ziplist
    SortedSet,
    /// element, … → a ziplist
    ListNode,
    /// template, value, … → the body of a HASH
    TemplateValues,
    /// something, value, … of the template that stands before it → the body of a HASH
    OwnTemplateValues,
}

/// What the rewriter needs to know of what it passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    None,
    Key,
    Database,
    ModuleId,
    LibraryCode,
    /// How often an [`Op::Times`] is to come.
    Times,
    StreamLength,
    /// Either half of an ID.
    StreamMaxDeleted,
    StreamEntriesAdded,
    ConsumerActiveTime,
    /// How long, in seconds, and how many a stream remembers of its producers.
    IdempotenceSetting,
    /// How many ids of producers a stream has remembered.
    IdempotenceAdded,
    /// The earliest TTL of a hash, Unix ms; 0: no field has one.
    HashMinTtl,
    /// 0: none, else (Unix ms − the earliest TTL of the hash) + 1.
    HashFieldTtl,
    /// As [`Self::HashMinTtl`] and [`Self::HashFieldTtl`], and the other form keeps them.
    HashMinTtlKept,
    HashFieldTtlKept,
    /// Unix ms; −1: none.
    HashFieldTtlBytes,
    /// A template's id: its fields follow.
    Template,
    /// The name of one of its fields.
    TemplateField,
    /// A listpack of all its fields' names.
    TemplateFields,
    /// The id of the template that a hash is of.
    TemplateOf,
}

/// The table's entry for a code.
#[must_use]
pub fn find(codes: Codes, code: u8) -> Option<&'static Item> {
    let [redis, valkey] = &BY_CODE;
    let places = if codes == Codes::Valkey { valkey } else { redis };
    ITEMS.get(usize::from(places[usize::from(code)]))
}

/// Stands in for a type byte that the table does not have, until its key has been read.
pub static UNKNOWN: Item = Item { decided: DecidedBy::Module, ..value(0, "UNKNOWN", first(), LOST, &[]) };

/// Where a type is not known that no other type stands for.
pub const LOST: Older = Older::Lost("value-type");

pub const KEY: &[Step] = &[text(Meaning::Key)];

/// The parts of a module's values, by their kind.
#[must_use]
pub fn module_value(kind: u64) -> Option<&'static [Step]> {
    const NUMBER: &[Step] = &[number(Meaning::None)];
    const FLOAT: &[Step] = &[bytes(4, Meaning::None)];
    const DOUBLE: &[Step] = &[bytes(8, Meaning::None)];
    const STRING: &[Step] = &[text(Meaning::None)];
    match kind {
        1 | 2 => Some(NUMBER), // signed, unsigned
        3 => Some(FLOAT),
        4 => Some(DOUBLE),
        5 => Some(STRING),
        _ => None,
    }
}

/// The string of a list node, by its container.
#[must_use]
pub fn node(container: u64) -> Option<&'static [Step]> {
    const PLAIN: &[Step] = &[always(Op::PlainNode)];
    const PACKED: &[Step] = &[always(Op::Packed(Packed::ListNode))];
    match container {
        1 => Some(PLAIN),
        2 => Some(PACKED),
        _ => None,
    }
}

/// Of entries of a stream.
pub const IDS: &[Step] = &[bytes(16, Meaning::None)];

/// Consumers of a stream have an active-time.
pub const HAS_ACTIVE_TIME: Since = common(7, 2);

/// An array's element, by its kind.
#[must_use]
pub fn element(kind: u64) -> Option<&'static [Step]> {
    const EIGHT_BYTES: &[Step] = &[bytes(8, Meaning::None)];
    const STRING: &[Step] = &[text(Meaning::None)];
    match kind {
        1 | 2 => Some(EIGHT_BYTES), // integer, double
        0 | 3 => Some(STRING),      // long, short
        _ => None,
    }
}

/// Code → place in [`ITEMS`], its length where there is none; of Redis, of Valkey.
static BY_CODE: [[u8; 256]; 2] = [by_code(Codes::Redis), by_code(Codes::Valkey)];

const fn by_code(codes: Codes) -> [u8; 256] {
    let mut places = [ITEMS.len() as u8; 256];
    let mut place = 0;
    while place < ITEMS.len() {
        if ITEMS[place].is_of(codes) {
            places[ITEMS[place].code as usize] = place as u8;
        }
        place += 1;
    }
    places
}

const BOTH: &[Codes] = &[Codes::Redis, Codes::Valkey];

pub const fn value(code: u8, name: &'static str, since: Since, older: Older, body: &'static [Step]) -> Item {
    let (role, decided) = (Role::Value, DecidedBy::Code);
    Item { code, codes: BOTH, name, role, since, older, decided, body }
}

pub const fn opcode(code: u8, name: &'static str, since: Since, older: Older, body: &'static [Step]) -> Item {
    Item { role: Role::Alone, ..value(code, name, since, older, body) }
}

pub const fn attribute(code: u8, name: &'static str, body: &'static [Step]) -> Item {
    Item { role: Role::Attribute, ..value(code, name, first(), LOST, body) }
}

impl Item {
    pub const fn of(self, codes: &'static [Codes]) -> Self {
        Self { codes, ..self }
    }

    pub const fn decided_by(self, decided: DecidedBy) -> Self {
        Self { decided, ..self }
    }

    const fn is_of(&self, codes: Codes) -> bool {
        let mut place = 0;
        while place < self.codes.len() {
            if self.codes[place] as u8 == codes as u8 {
                return true;
            }
            place += 1;
        }
        false
    }
}

pub const fn form(code: u8) -> Form {
    Form { code, body: None }
}

pub const fn form_of(code: u8, body: &'static [Step]) -> Form {
    Form { code, body: Some(body) }
}

pub const fn always(op: Op) -> Step {
    Step { op, since: first() }
}

pub const fn number(meaning: Meaning) -> Step {
    always(Op::Number(meaning))
}

pub const fn bytes(count: usize, meaning: Meaning) -> Step {
    always(Op::Bytes(count, meaning))
}

pub const fn text(meaning: Meaning) -> Step {
    always(Op::Text(meaning))
}

pub const fn repeat(steps: &'static [Step]) -> Step {
    always(Op::Repeat(steps))
}

pub const fn own(own: Own) -> Step {
    always(Op::Own(own))
}

impl Step {
    pub const fn since(self, since: Since) -> Self {
        Self { since, ..self }
    }

    /// In no other form.
    pub const fn dropped(self) -> Self {
        self.since(never())
    }
}
