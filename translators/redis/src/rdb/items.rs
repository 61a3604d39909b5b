//! The layout of every item of an RDB, as data.
//!
//! Read beside `rdbSaveObject`, `rdbSaveRio` and `rdbSaveModulesAux` in `rdb.c` of the release that
//! brought a type. To add a release, add its items here and its version in [`super::versions`].

use super::{
    layout::{
        DecidedBy, EOF, Item, LOST, Meaning, Older, Op, Own, Packed, Role, Step, TYPE_MODULE_2, always,
        attribute, bytes, form, form_of, number, opcode, own, repeat, text, value,
    },
    streams::{STREAM, STREAM_2, STREAM_3, STREAM_4, STREAM_5},
    versions::Codes,
};
use crate::releases::since::{common, first, never, redis, valkey};

const REDIS: &[Codes] = &[Codes::Redis];
const VALKEY: &[Codes] = &[Codes::Valkey];

pub const ITEMS: &[Item] = &[
    value(0, "STRING", first(), LOST, &[text(Meaning::None)]),
    value(1, "LIST", first(), LOST, &[repeat(&[text(Meaning::None)])]),
    value(2, "SET", first(), LOST, &[repeat(&[text(Meaning::None)])]),
    value(3, "ZSET", first(), LOST, &[repeat(&[text(Meaning::None), always(Op::TextScore)])]),
    value(4, "HASH", first(), LOST, &[repeat(&[text(Meaning::None), text(Meaning::None)])]),
    value(5, "ZSET_2", first(), LOST, &[repeat(&[text(Meaning::None), bytes(8, Meaning::None)])]),
    value(TYPE_MODULE_2, "MODULE_2", first(), LOST, MODULE).decided_by(DecidedBy::Module),
    value(9, "HASH_ZIPMAP", first(), LOST, &[text(Meaning::None)]),
    value(10, "LIST_ZIPLIST", first(), LOST, &[text(Meaning::None)]),
    value(11, "SET_INTSET", first(), LOST, &[text(Meaning::None)]),
    value(12, "ZSET_ZIPLIST", first(), LOST, &[text(Meaning::None)]),
    value(13, "HASH_ZIPLIST", first(), LOST, &[text(Meaning::None)]),
    value(14, "LIST_QUICKLIST", first(), LOST, &[repeat(&[text(Meaning::None)])]),
    value(15, "STREAM_LISTPACKS", first(), LOST, STREAM),
    value(16, "HASH_LISTPACK", common(7, 0), Older::As(&[form(13)]), &[always(Op::Packed(Packed::Hash))]),
    value(
        17,
        "ZSET_LISTPACK",
        common(7, 0),
        Older::As(&[form(12)]),
        &[always(Op::Packed(Packed::SortedSet))],
    ),
    value(18, "LIST_QUICKLIST_2", common(7, 0), Older::As(&[form(14)]), &[repeat(&[always(Op::Node)])]),
    value(19, "STREAM_LISTPACKS_2", common(7, 0), Older::As(&[form(15)]), STREAM_2),
    value(20, "SET_LISTPACK", common(7, 2), Older::As(&[form(2)]), &[always(Op::Packed(Packed::Set))]),
    value(21, "STREAM_LISTPACKS_3", common(7, 2), Older::As(&[form(19), form(15)]), STREAM_3),
    value(
        22,
        "HASH_2",
        valkey(9, 0),
        Older::As(&[form_of(24, HASH_2_AS_METADATA), form_of(4, HASH_2_PLAIN)]),
        HASH_2,
    )
    .of(VALKEY)
    .decided_by(DecidedBy::FieldTtls),
    value(
        24,
        "HASH_METADATA",
        redis(7, 4),
        Older::As(&[form_of(22, METADATA_AS_HASH_2), form(4)]),
        HASH_METADATA,
    )
    .of(REDIS)
    .decided_by(DecidedBy::FieldTtls),
    value(
        25,
        "HASH_LISTPACK_EX",
        redis(7, 4),
        Older::As(&[form_of(22, LISTPACK_AS_HASH_2), form(4)]),
        HASH_LISTPACK_EX,
    )
    .of(REDIS)
    .decided_by(DecidedBy::FieldTtls),
    value(26, "STREAM_LISTPACKS_4", redis(8, 6), Older::As(&[form(21), form(19), form(15)]), STREAM_4)
        .of(REDIS),
    value(
        27,
        "STREAM_LISTPACKS_5",
        redis(8, 10),
        Older::As(&[form(26), form(21), form(19), form(15)]),
        STREAM_5,
    )
    .of(REDIS),
    value(28, "ARRAY", redis(8, 10), Older::Lost("array"), ARRAY).of(REDIS),
    // What HIMPORT makes: the names of the fields stand in a template. 29 and 31 are of a DUMP.
    value(29, "HASH_TEMPLATE_LISTPACK", redis(8, 10), Older::As(&[form(4)]), OWN_TEMPLATE_LISTPACK).of(REDIS),
    value(
        30,
        "HASH_TEMPLATE_LISTPACK_REF",
        redis(8, 10),
        Older::As(&[form(4)]),
        &[always(Op::Packed(Packed::TemplateValues))],
    )
    .of(REDIS),
    value(
        31,
        "HASH_TEMPLATE_ARRAY",
        redis(8, 10),
        Older::As(&[form_of(4, OWN_TEMPLATE_PLAIN)]),
        OWN_TEMPLATE,
    )
    .of(REDIS),
    value(32, "HASH_TEMPLATE_ARRAY_REF", redis(8, 10), Older::As(&[form_of(4, TEMPLATE_PLAIN)]), TEMPLATE)
        .of(REDIS),
    // id, names of the fields
    opcode(
        242,
        "HASH_TEMPLATE",
        redis(8, 10),
        Older::Hint,
        &[number(Meaning::Template), repeat(&[text(Meaning::TemplateField)])],
    )
    .of(REDIS),
    // What modules keep of the key that follows. A release that has no such module may refuse to start, so
    // none gets it.
    Item {
        role: Role::Attribute,
        ..opcode(243, "KEY_META", never(), Older::Lost("key-metadata"), KEY_METADATA)
    }
    .of(REDIS),
    // job, ranges of slots
    opcode(
        243,
        "SLOT_IMPORT",
        valkey(9, 0),
        Older::Lost("slot-import"),
        &[text(Meaning::None), repeat(&[number(Meaning::None), number(Meaning::None)])],
    )
    .of(VALKEY),
    // slot, keys in it, keys with a TTL in it
    opcode(
        244,
        "SLOT_INFO",
        redis(7, 4).redict(7, 3).valkey(9, 0),
        Older::Hint,
        &[number(Meaning::None), number(Meaning::None), number(Meaning::None)],
    ),
    opcode(245, "FUNCTION2", common(7, 0), Older::Lost("function-library"), &[text(Meaning::LibraryCode)]),
    opcode(247, "MODULE_AUX", first(), LOST, MODULE_AUX).decided_by(DecidedBy::Module),
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

const MODULE: &[Step] = &[number(Meaning::ModuleId), always(Op::ModuleValues)];

/// Module id, the kind of the next (2), when it is to be loaded (before or after the keys), values.
const MODULE_AUX: &[Step] =
    &[number(Meaning::ModuleId), number(Meaning::None), number(Meaning::None), always(Op::ModuleValues)];

/// (Module's class, values)…
const KEY_METADATA: &[Step] = &[repeat(&[bytes(4, Meaning::None), always(Op::ModuleValues)])];

// Hashes whose fields have TTLs. Valkey writes them in one form, and only where a field has one.

/// (field, value, TTL)…
const HASH_2: &[Step] =
    &[repeat(&[text(Meaning::None), text(Meaning::None), bytes(8, Meaning::HashFieldTtlBytes)])];

const HASH_2_PLAIN: &[Step] = &[
    own(Own::NoFieldTtls),
    repeat(&[text(Meaning::None), text(Meaning::None), bytes(8, Meaning::None).dropped()]),
];

const HASH_2_AS_METADATA: &[Step] = &[
    own(Own::HashMinTtl),
    repeat(&[
        own(Own::Aside),
        text(Meaning::None),
        text(Meaning::None),
        bytes(8, Meaning::HashFieldTtlBytes).dropped(),
        own(Own::FieldTtlNumber),
    ]),
];

/// Earliest TTL, count, (TTL, field, value)…
const HASH_METADATA: &[Step] = &[
    bytes(8, Meaning::HashMinTtl).since(redis(7, 4)),
    repeat(&[number(Meaning::HashFieldTtl).since(redis(7, 4)), text(Meaning::None), text(Meaning::None)]),
];

const METADATA_AS_HASH_2: &[Step] = &[
    bytes(8, Meaning::HashMinTtlKept).dropped(),
    repeat(&[
        number(Meaning::HashFieldTtlKept).dropped(),
        text(Meaning::None),
        text(Meaning::None),
        own(Own::FieldTtlBytes),
    ]),
];

/// Earliest TTL, then (field, value, TTL as Unix ms or 0)… in a listpack.
const HASH_LISTPACK_EX: &[Step] =
    &[bytes(8, Meaning::None).since(redis(7, 4)), always(Op::Packed(Packed::HashWithTtls))];

const LISTPACK_AS_HASH_2: &[Step] =
    &[bytes(8, Meaning::HashMinTtlKept).dropped(), always(Op::Packed(Packed::HashAndTtls))];

/// Elements, whether there is a cursor, the cursor, (index, element)…
const ARRAY: &[Step] = &[
    number(Meaning::Times),
    repeat(&[number(Meaning::None)]),
    always(Op::Times(&[number(Meaning::None), always(Op::Element)])),
];

/// A number, the fields, the values.
const OWN_TEMPLATE_LISTPACK: &[Step] = &[
    number(Meaning::None).dropped(),
    text(Meaning::TemplateFields).dropped(),
    always(Op::Packed(Packed::OwnTemplateValues)),
];

/// A number, the fields, value…
const OWN_TEMPLATE: &[Step] =
    &[number(Meaning::None), text(Meaning::TemplateFields), always(Op::Times(&[text(Meaning::None)]))];

const OWN_TEMPLATE_PLAIN: &[Step] = &[
    number(Meaning::None).dropped(),
    text(Meaning::TemplateFields).dropped(),
    own(Own::FieldCount),
    FIELDS_AND_VALUES,
];

/// Template, value…
const TEMPLATE: &[Step] = &[number(Meaning::TemplateOf), always(Op::Times(&[text(Meaning::None)]))];

const TEMPLATE_PLAIN: &[Step] =
    &[number(Meaning::TemplateOf).dropped(), own(Own::FieldCount), FIELDS_AND_VALUES];

const FIELDS_AND_VALUES: Step = always(Op::Times(&[own(Own::FieldName), text(Meaning::None)]));

#[cfg(test)]
mod tests {
    use super::{
        super::layout::{OPCODE_FIRST, find},
        *,
    };

    #[test]
    fn every_other_form_exists_and_is_older_or_of_another_line() {
        for item in ITEMS {
            let Older::As(forms) = item.older else { continue };
            for form in forms {
                let codes = if item.codes.len() == 1 && form.code == 22 { VALKEY } else { REDIS };
                let form = find(codes[0], form.code).unwrap();
                assert!(!form.since.implies(item.since), "{} → {}", item.name, form.name);
            }
            let last = forms.last().and_then(|form| find(Codes::Redis, form.code)).unwrap();
            assert!(item.since.implies(last.since), "{} → {}", item.name, last.name);
        }
    }

    #[test]
    fn every_code_is_found_once() {
        for item in ITEMS {
            for codes in item.codes {
                assert_eq!(find(*codes, item.code).unwrap().name, item.name);
            }
            assert_eq!(item.role != Role::Value, item.code >= OPCODE_FIRST, "{}", item.name);
        }
        for code in [6, 8, 23, 33, 200, 240, 241, 246] {
            assert!(find(Codes::Redis, code).is_none() && find(Codes::Valkey, code).is_none(), "{code}");
        }
        assert!(find(Codes::Redis, 22).is_none() && find(Codes::Valkey, 24).is_none());
        assert_eq!(find(Codes::Redis, 243).unwrap().name, "KEY_META");
    }
}
