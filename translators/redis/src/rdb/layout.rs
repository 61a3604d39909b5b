//! The layout of every item of an RDB, as data.
//!
//! Read beside `rdbSaveObject`, `rdbSaveRio` and `rdbSaveModulesAux` in `rdb.c` of the release that
//! brought a type. To add a release, add its items to [`ITEMS`] and raise [`VERSIONS`].
//!
//! | RDB version | written by |
//! |---|---|
//! | 9 | Redis 5.0, 6.0, 6.2 |
//! | 10 | Redis 7.0 |
//! | 11 | Redis 7.2, Valkey 7.2 to 8.1 |
//! | 12 | Redis 7.4, 8.0, 8.2, Redict 7.3 |
//!
//! The version is only the header's: which items a release loads is told by the release.

use std::ops::RangeInclusive;

use crate::releases::{
    Level, Since,
    since::{common, first, redis, redis_patch},
};

/// The RDB versions that this table covers. From 5 on an RDB ends in a checksum.
pub const VERSIONS: RangeInclusive<u16> = 6..=12;

/// Whether an RDB or a DUMP payload of this version can be read.
#[must_use]
pub fn reads(version: u16) -> bool {
    VERSIONS.contains(&version)
}

/// Codes from here on are opcodes; value types lie below.
pub const OPCODE_FIRST: u8 = 240;

pub const EOF: u8 = 255;
pub const TYPE_MODULE_2: u8 = 7;

/// One kind of item: an opcode with its operands, or a type byte with a key and a value.
#[derive(Debug)]
pub struct Item {
    pub code: u8,
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
    /// Other types say the same: their codes, newest first.
    As(&'static [u8]),
    /// Only a hint: leaving it out loses nothing.
    Hint,
    /// Nothing says the same: a loss of this kind.
    Lost(&'static str),
}

/// Where it shows whether an item can stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecidedBy {
    /// By its code alone.
    Code,
    /// Once the module is known that it belongs to.
    Module,
    /// Where it needs an older form: once it is known whether a field has a TTL.
    FieldTtls,
}

/// One step of a layout.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub op: Op,
    /// Dropped for a release that does not have it, when the item takes an older form.
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
    /// A node's container (1 plain, 2 packed), then the string. The older form has no container.
    Node,
    /// What a module wrote: values, each behind its kind, until kind 0.
    ModuleValues,
}

/// What a listpack holds, which tells its older form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packed {
    /// field, value, … → a ziplist: a store loads it as it is, and a HASH field by field
    Hash,
    /// field, value, TTL, … → the body of a HASH, without the TTLs
    HashWithTtls,
    /// member, … → the body of a SET
    Set,
    /// member, score, … → a ziplist
    SortedSet,
    /// element, … → a ziplist
    ListNode,
}

/// What the rewriter needs to know of what it passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    None,
    Key,
    Database,
    ModuleId,
    LibraryCode,
    StreamLength,
    /// Either half of an ID.
    StreamMaxDeleted,
    StreamEntriesAdded,
    ConsumerActiveTime,
    /// The earliest TTL of a hash, Unix ms; 0: no field has one.
    HashMinTtl,
    /// 0: none, else (Unix ms − the earliest TTL of the hash) + 1.
    HashFieldTtl,
}

/// The table's entry for a code.
#[must_use]
pub fn find(code: u8) -> Option<&'static Item> {
    ITEMS.get(usize::from(BY_CODE[usize::from(code)]))
}

/// Stands in for a type byte that the table does not have, until its key has been read.
pub static UNKNOWN: Item = Item {
    code: 0,
    name: "UNKNOWN",
    role: Role::Value,
    since: first(),
    older: LOST,
    decided: DecidedBy::Module,
    body: &[],
};

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

pub const ITEMS: &[Item] = &[
    value(0, "STRING", first(), LOST, &[text(Meaning::None)]),
    value(1, "LIST", first(), LOST, &[repeat(&[text(Meaning::None)])]),
    value(2, "SET", first(), LOST, &[repeat(&[text(Meaning::None)])]),
    value(3, "ZSET", first(), LOST, &[repeat(&[text(Meaning::None), always(Op::TextScore)])]),
    value(4, "HASH", first(), LOST, &[repeat(&[text(Meaning::None), text(Meaning::None)])]),
    value(5, "ZSET_2", first(), LOST, &[repeat(&[text(Meaning::None), bytes(8, Meaning::None)])]),
    Item { decided: DecidedBy::Module, ..value(TYPE_MODULE_2, "MODULE_2", first(), LOST, MODULE) },
    value(9, "HASH_ZIPMAP", first(), LOST, &[text(Meaning::None)]),
    value(10, "LIST_ZIPLIST", first(), LOST, &[text(Meaning::None)]),
    value(11, "SET_INTSET", first(), LOST, &[text(Meaning::None)]),
    value(12, "ZSET_ZIPLIST", first(), LOST, &[text(Meaning::None)]),
    value(13, "HASH_ZIPLIST", first(), LOST, &[text(Meaning::None)]),
    value(14, "LIST_QUICKLIST", first(), LOST, &[repeat(&[text(Meaning::None)])]),
    value(15, "STREAM_LISTPACKS", first(), LOST, STREAM),
    value(16, "HASH_LISTPACK", common(7, 0), Older::As(&[13]), &[always(Op::Packed(Packed::Hash))]),
    value(17, "ZSET_LISTPACK", common(7, 0), Older::As(&[12]), &[always(Op::Packed(Packed::SortedSet))]),
    value(18, "LIST_QUICKLIST_2", common(7, 0), Older::As(&[14]), &[repeat(&[always(Op::Node)])]),
    value(19, "STREAM_LISTPACKS_2", common(7, 0), Older::As(&[15]), STREAM_2),
    value(20, "SET_LISTPACK", common(7, 2), Older::As(&[2]), &[always(Op::Packed(Packed::Set))]),
    value(21, "STREAM_LISTPACKS_3", common(7, 2), Older::As(&[19, 15]), STREAM_3),
    Item {
        decided: DecidedBy::FieldTtls,
        ..value(24, "HASH_METADATA", redis(7, 4), Older::As(&[4]), HASH_METADATA)
    },
    Item {
        decided: DecidedBy::FieldTtls,
        ..value(25, "HASH_LISTPACK_EX", redis(7, 4), Older::As(&[4]), HASH_LISTPACK_EX)
    },
    // slot, keys in it, keys with a TTL in it
    opcode(
        244,
        "SLOT_INFO",
        redis(7, 4).redict(7, 3).valkey(9, 0),
        Older::Hint,
        &[number(Meaning::None), number(Meaning::None), number(Meaning::None)],
    ),
    opcode(245, "FUNCTION2", common(7, 0), Older::Lost("function-library"), &[text(Meaning::LibraryCode)]),
    Item { decided: DecidedBy::Module, ..opcode(247, "MODULE_AUX", first(), LOST, MODULE_AUX) },
    attribute(248, "IDLE", &[number(Meaning::None)]),
    attribute(249, "FREQ", &[bytes(1, Meaning::None)]),
    opcode(250, "AUX", first(), Older::Hint, &[text(Meaning::None), text(Meaning::None)]),
    // keys, keys with a TTL
    opcode(251, "RESIZEDB", first(), Older::Hint, &[number(Meaning::None), number(Meaning::None)]),
    attribute(252, "EXPIRETIME_MS", &[bytes(8, Meaning::None)]),
    attribute(253, "EXPIRETIME", &[bytes(4, Meaning::None)]),
    opcode(254, "SELECTDB", first(), LOST, &[number(Meaning::Database)]),
    opcode(EOF, "EOF", first(), LOST, &[]),
];

/// Where a type is not known that no other type stands for.
const LOST: Older = Older::Lost("value-type");

const MODULE: &[Step] = &[number(Meaning::ModuleId), always(Op::ModuleValues)];

/// Module id, the kind of the next (2), when it is to be loaded (before or after the keys), values.
const MODULE_AUX: &[Step] =
    &[number(Meaning::ModuleId), number(Meaning::None), number(Meaning::None), always(Op::ModuleValues)];

/// Earliest TTL, count, (TTL, field, value)…
const HASH_METADATA: &[Step] = &[
    bytes(8, Meaning::HashMinTtl).since(redis(7, 4)),
    repeat(&[number(Meaning::HashFieldTtl).since(redis(7, 4)), text(Meaning::None), text(Meaning::None)]),
];

/// Earliest TTL, then (field, value, TTL as Unix ms or 0)… in a listpack.
const HASH_LISTPACK_EX: &[Step] =
    &[bytes(8, Meaning::None).since(redis(7, 4)), always(Op::Packed(Packed::HashWithTtls))];

// A stream has only ever grown: each type is the one before it with steps put in.

const STREAM: &[Step] = &[
    STREAM_NODES,
    STREAM_LENGTH,
    number(Meaning::None), // last ID, ms
    number(Meaning::None), // last ID, sequence
    repeat(&[
        text(Meaning::None),   // group name
        number(Meaning::None), // last delivered ID, ms
        number(Meaning::None), // last delivered ID, sequence
        PENDING,
        repeat(&[text(Meaning::None), CONSUMER_SEEN_TIME, CONSUMER_PENDING]),
    ]),
];

const STREAM_2: &[Step] = &[
    STREAM_NODES,
    STREAM_LENGTH,
    number(Meaning::None), // last ID, ms
    number(Meaning::None), // last ID, sequence
    STREAM_FIRST_ID,
    STREAM_FIRST_ID,
    STREAM_MAX_DELETED,
    STREAM_MAX_DELETED,
    STREAM_ENTRIES_ADDED,
    repeat(&[
        text(Meaning::None),   // group name
        number(Meaning::None), // last delivered ID, ms
        number(Meaning::None), // last delivered ID, sequence
        GROUP_ENTRIES_READ,
        PENDING,
        repeat(&[text(Meaning::None), CONSUMER_SEEN_TIME, CONSUMER_PENDING]),
    ]),
];

const STREAM_3: &[Step] = &[
    STREAM_NODES,
    STREAM_LENGTH,
    number(Meaning::None), // last ID, ms
    number(Meaning::None), // last ID, sequence
    STREAM_FIRST_ID,
    STREAM_FIRST_ID,
    STREAM_MAX_DELETED,
    STREAM_MAX_DELETED,
    STREAM_ENTRIES_ADDED,
    repeat(&[
        text(Meaning::None),   // group name
        number(Meaning::None), // last delivered ID, ms
        number(Meaning::None), // last delivered ID, sequence
        GROUP_ENTRIES_READ,
        PENDING,
        repeat(&[text(Meaning::None), CONSUMER_SEEN_TIME, CONSUMER_ACTIVE_TIME, CONSUMER_PENDING]),
    ]),
];

/// First ID of the node (16 bytes), its entries in a listpack.
const STREAM_NODES: Step = repeat(&[text(Meaning::None), text(Meaning::None)]);
const STREAM_LENGTH: Step = number(Meaning::StreamLength);
/// Each of these two is one half of an ID, so that they stand twice.
const STREAM_FIRST_ID: Step = number(Meaning::None).since(common(7, 0));
const STREAM_MAX_DELETED: Step = number(Meaning::StreamMaxDeleted).since(common(7, 0));
const STREAM_ENTRIES_ADDED: Step = number(Meaning::StreamEntriesAdded).since(common(7, 0));
const GROUP_ENTRIES_READ: Step = number(Meaning::None).since(common(7, 0));
/// Delivered and not acknowledged: ID, delivery time in Unix ms, delivery count.
const PENDING: Step = repeat(&[bytes(16, Meaning::None), bytes(8, Meaning::None), number(Meaning::None)]);
/// Unix ms.
const CONSUMER_SEEN_TIME: Step = bytes(8, Meaning::None);
/// Unix ms; −1: never.
const CONSUMER_ACTIVE_TIME: Step = bytes(8, Meaning::ConsumerActiveTime).since(common(7, 2));
/// IDs, each in its group's pending entries too.
const CONSUMER_PENDING: Step = repeat(&[bytes(16, Meaning::None)]);

const fn value(code: u8, name: &'static str, since: Since, older: Older, body: &'static [Step]) -> Item {
    Item { code, name, role: Role::Value, since, older, decided: DecidedBy::Code, body }
}

const fn opcode(code: u8, name: &'static str, since: Since, older: Older, body: &'static [Step]) -> Item {
    Item { code, name, role: Role::Alone, since, older, decided: DecidedBy::Code, body }
}

const fn attribute(code: u8, name: &'static str, body: &'static [Step]) -> Item {
    Item { code, name, role: Role::Attribute, since: first(), older: LOST, decided: DecidedBy::Code, body }
}

const fn always(op: Op) -> Step {
    Step { op, since: first() }
}

const fn number(meaning: Meaning) -> Step {
    always(Op::Number(meaning))
}

const fn bytes(count: usize, meaning: Meaning) -> Step {
    always(Op::Bytes(count, meaning))
}

const fn text(meaning: Meaning) -> Step {
    always(Op::Text(meaning))
}

const fn repeat(steps: &'static [Step]) -> Step {
    always(Op::Repeat(steps))
}

impl Step {
    const fn since(self, since: Since) -> Self {
        Self { since, ..self }
    }
}

/// The modules that come with a store.
pub const MODULES: &[Module] = &[Module {
    name: "vectorset",
    since: redis(8, 0),
    // 8.0.2 dies of what 8.0.6 writes; those in between were not measured.
    changed: &[Changed { written: redis_patch(8, 0, 3), loaded: redis_patch(8, 0, 6) }],
}];

/// A module that comes with a store, and whose values are in its snapshots.
#[derive(Debug)]
pub struct Module {
    pub name: &'static str,
    since: Since,
    changed: &'static [Changed],
}

/// A module began to write in another form.
#[derive(Debug)]
struct Changed {
    written: Since,
    loaded: Since,
}

impl Module {
    pub fn written_by(&self, from: Level) -> bool {
        self.since.has(from)
    }

    /// Whether `to` loads what `from` wrote; `None`: whoever wrote it.
    pub fn loads(&self, from: Option<Level>, to: Level) -> bool {
        let is_older = from.is_some_and(|from| to.descends_from(from));
        let writes = |change: &Changed| from.is_none_or(|from| change.written.has(from));
        self.since.has(to)
            && (is_older || self.changed.iter().all(|change| change.loaded.has(to) || !writes(change)))
    }
}

/// Code → place in [`ITEMS`]; its length where there is none.
static BY_CODE: [u8; 256] = {
    let mut places = [ITEMS.len() as u8; 256];
    let mut place = 0;
    while place < ITEMS.len() {
        places[ITEMS[place].code as usize] = place as u8;
        place += 1;
    }
    places
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_older_form_exists_and_is_older() {
        for item in ITEMS {
            if let Older::As(forms) = item.older {
                for form in forms.iter().map(|code| find(*code).unwrap()) {
                    assert!(item.since.implies(form.since), "{} → {}", item.name, form.name);
                    assert!(!form.since.implies(item.since), "{} → {}", item.name, form.name);
                }
            }
        }
    }

    #[test]
    fn every_code_is_found_once() {
        for item in ITEMS {
            assert_eq!(find(item.code).unwrap().name, item.name);
            assert_eq!(item.role != Role::Value, item.code >= OPCODE_FIRST, "{}", item.name);
        }
        for code in [6, 8, 22, 23, 26, 200, 240, 246] {
            assert!(find(code).is_none(), "{code}");
        }
    }
}
