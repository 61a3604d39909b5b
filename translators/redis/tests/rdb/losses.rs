//! What an older release cannot represent is named, and goes as a whole or not at all.

use segue_redis::rdb::Target;
use segue_wire::{FaultKind, Grade, Limits, Loss, LossPolicy, Refusal};

use crate::support::{listpack, rewrite, rewrite_in, snapshot, string, target, unsigned};

const BEFORE: &[u8] = b"\x00\x06before\x01v";
const AFTER: &[u8] = b"\x00\x05after\x01v";
/// Expires, and has been idle and used.
const ATTRIBUTES: &[u8] = b"\xfc\x00\x01\x02\x03\x04\x05\x06\x07\xf8\x05\xf9\x07";
const FIELD_TTL: u64 = 1_900_000_000_000;

fn data(kind: &'static str, what: &str, key: Option<&[u8]>) -> Loss {
    Loss { kind, grade: Grade::Data, what: what.to_owned(), key: key.map(<[u8]>::to_vec), db: 2 }
}

/// The item among others is a loss: degraded, it becomes `instead`; refused, nothing of it comes out.
fn check(item: &[u8], version: u16, loss: &Loss, instead: &[u8]) {
    check_from(12, item, version, loss, instead);
}

fn check_from(from: u16, item: &[u8], version: u16, loss: &Loss, instead: &[u8]) {
    let select: &[u8] = b"\xfe\x02";
    let source = snapshot(from, &[select, BEFORE, item, AFTER]);
    let degraded = rewrite(&source, version, LossPolicy::Degrade);
    assert_eq!(degraded.losses, std::slice::from_ref(loss));
    assert_eq!(degraded.result, Ok(()));
    assert_eq!(degraded.out, snapshot(version, &[select, BEFORE, instead, AFTER]));

    for cut in [1, source.len()] {
        let refused = rewrite_in(source.chunks(cut), target(version), LossPolicy::Refuse, Limits::default());
        let to = target(version).release;
        assert_eq!(
            refused.result,
            Err(FaultKind::Refused(Refusal::Loss { to, loss: Box::new(loss.clone()) }))
        );
        let kept = unsigned(version, &[select, BEFORE]);
        assert_eq!(refused.out, kept[..kept.len() - 1], "nothing of the item, cut {cut}");
    }
}

/// The id of a module by its name, encoding version 1.
fn module_id(name: &[u8; 9]) -> Vec<u8> {
    let id = name.iter().fold(0u64, |id, byte| id << 6 | u64::from(byte - b'a' + 26)) << 10 | 1;
    [&[0x81], &id.to_be_bytes()[..]].concat()
}

/// One value of each kind, then the end.
const MODULE_VALUES: &[u8] = b"\x01\x05\x02\x41\x00\x03abcd\x04abcdefgh\x05\x03str\x00";

#[test]
fn module_values_go_with_their_attributes() {
    for (name, kind, what) in [
        (b"vectorset", "vector-set", "vector set"),
        (b"something", "module-type", "value of module type something"),
    ] {
        let item = [ATTRIBUTES, b"\x07\x03key", &module_id(name), MODULE_VALUES].concat();
        check(&item, 12, &data(kind, what, Some(b"key")), b"");
        check(&item, 9, &data(kind, what, Some(b"key")), b"");
    }
}

#[test]
fn a_module_that_the_target_has_stays() {
    let item = [ATTRIBUTES, b"\x07\x03key", &module_id(b"vectorset"), MODULE_VALUES].concat();
    let aux = [b"\xf7", &module_id(b"vectorset")[..], b"\x02\x02", MODULE_VALUES].concat();
    let source = snapshot(12, &[&aux, BEFORE, &item, AFTER]);
    let with = Target { modules: vec!["vectorset"], ..target(12) };
    for cut in [1, source.len()] {
        let outcome = rewrite_in(source.chunks(cut), with.clone(), LossPolicy::Refuse, Limits::default());
        assert_eq!((outcome.result, &outcome.out), (Ok(()), &source));
    }
}

#[test]
fn what_modules_save_beside_the_keys() {
    let item = [b"\xf7", &module_id(b"something")[..], b"\x02\x02", MODULE_VALUES].concat();
    check(&item, 12, &data("module-aux", "data of module something", None), b"");
}

#[test]
fn function_libraries() {
    let item = [&b"\xf5"[..], &string(b"#!lua name=mylib\nredis.register_function()")].concat();
    check(&item, 9, &data("function-library", "library mylib", None), b"");
    assert_eq!(rewrite(&snapshot(12, &[&item]), 10, LossPolicy::Refuse).out, snapshot(10, &[&item]));
}

#[test]
fn field_ttls_of_a_packed_hash() {
    // Fields and values as texts; a TTL as Redis has it, an i64, or 0.
    let triple = |ttl: u64| {
        let mut list = listpack(&[b"f", b"v", b"g", b"w"]);
        let at = 6 + 6;
        let ttl_entry = [&[0xf4], &ttl.to_le_bytes()[..], &[9]].concat();
        list.splice(at..at, ttl_entry);
        let end = list.len() - 1;
        list.splice(end..end, [0, 1]);
        let total = (list.len() as u32).to_le_bytes();
        list[..4].copy_from_slice(&total);
        list[4] = 6;
        string(&list)
    };
    let item = |ttl: u64| [ATTRIBUTES, b"\x19\x01h", &ttl.to_le_bytes(), &triple(ttl)].concat();
    let hash = [ATTRIBUTES, b"\x04\x01h\x02\x01f\x01v\x01g\x01w"].concat();
    check(&item(FIELD_TTL), 9, &data("hash-field-ttl", "field TTLs of a hash", Some(b"h")), &hash);
    check(&item(FIELD_TTL), 11, &data("hash-field-ttl", "field TTLs of a hash", Some(b"h")), &hash);

    let none = [ATTRIBUTES, b"\x19\x01h", &0u64.to_le_bytes(), &string(&listpack_without_ttl())].concat();
    let outcome = rewrite(&snapshot(12, &[&none]), 11, LossPolicy::Refuse);
    assert_eq!((outcome.result, outcome.losses), (Ok(()), vec![]), "no field has a TTL");
    assert_eq!(outcome.out, snapshot(11, &[ATTRIBUTES, b"\x04\x01h\x01\x01f\x01v"]));
}

fn listpack_without_ttl() -> Vec<u8> {
    let mut list = listpack(&[b"f", b"v"]);
    let end = list.len() - 1;
    list.splice(end..end, [0, 1]);
    list[0] += 2;
    list[4] = 3;
    list
}

#[test]
fn field_ttls_of_a_table() {
    let item = |min: u64, ttl: u8| {
        [ATTRIBUTES, b"\x18\x01h", &min.to_le_bytes(), b"\x02\x00\x01f\x01v", &[ttl], b"\x01g\x01w"].concat()
    };
    let hash = [ATTRIBUTES, b"\x04\x01h\x02\x01f\x01v\x01g\x01w"].concat();
    let loss = data("hash-field-ttl", "field TTLs of a hash", Some(b"h"));
    check(&item(FIELD_TTL, 1), 11, &loss, &hash);
    check(&item(FIELD_TTL, 1), 9, &loss, &hash);
}

#[test]
fn field_ttls_of_valkey() {
    let item = [ATTRIBUTES, b"\x16\x01h\x02\x01f\x01v", &FIELD_TTL.to_le_bytes(), b"\x01g\x01w", &[0xff; 8]]
        .concat();
    let hash = [ATTRIBUTES, b"\x04\x01h\x02\x01f\x01v\x01g\x01w"].concat();
    let loss = data("hash-field-ttl", "field TTLs of a hash", Some(b"h"));
    for version in 9..=11 {
        check_from(80, &item, version, &loss, &hash);
    }
    let metadata = |ttl: &[u8]| {
        [ATTRIBUTES, b"\x18\x01h", &1_u64.to_le_bytes(), b"\x02", ttl, b"\x01f\x01v\x00\x01g\x01w"].concat()
    };
    let kept = rewrite(&snapshot(80, &[&item]), 12, LossPolicy::Refuse);
    let ttl = [&[0x81][..], &FIELD_TTL.to_be_bytes()].concat();
    assert_eq!((kept.result, kept.out), (Ok(()), snapshot(12, &[&metadata(&ttl)])));

    // Redis would end at a time that it can't hold.
    let never = [&item[..ATTRIBUTES.len() + 8], &i64::MAX.to_le_bytes(), b"\x01g\x01w", &[0xff; 8]].concat();
    let outcome = rewrite(&snapshot(80, &[&never]), 12, LossPolicy::Degrade);
    assert_eq!((outcome.result, outcome.losses[0].kind), (Ok(()), "hash-field-ttl"));
    let latest = [&[0x81][..], &((1_u64 << 46) - 1).to_be_bytes()].concat();
    assert_eq!(outcome.out, snapshot(12, &[&metadata(&latest)]));
}

#[test]
fn arrays() {
    // Elements of each kind, and a cursor.
    let item = [
        ATTRIBUTES,
        b"\x1c\x01a\x04\x01\x05\x00\x01",
        &[7; 8],
        b"\x01\x02",
        &[8; 8],
        b"\x07\x03\x01v\x08\x00\x08long-one",
    ]
    .concat();
    for version in [9, 12, 13, 80] {
        check_from(15, &item, version, &data("array", "array", Some(b"a")), b"");
    }
    assert_eq!(rewrite(&snapshot(15, &[&item]), 15, LossPolicy::Refuse).out, snapshot(15, &[&item]));
}

#[test]
fn what_modules_keep_of_a_key() {
    let value: &[u8] = b"\x00\x01k\x01v";
    let item = [ATTRIBUTES, b"\xf3\x02abcd\x05\x03str\x00efgh\x01\x05\x00", value].concat();
    let loss = data("key-metadata", "what modules keep of the key that follows", None);
    for version in [9, 13, 15, 80] {
        check_from(15, &item, version, &loss, &[ATTRIBUTES, value].concat());
    }
}

#[test]
fn slots_that_are_being_imported() {
    let item = [b"\xf3", &string(&[b'j'; 40])[..], b"\x02\x05\x09\x40\x64\x40\xc8"].concat();
    let loss = data("slot-import", "that slots are being imported", None);
    for version in [9, 12, 15] {
        check_from(80, &item, version, &loss, b"");
    }
    assert_eq!(rewrite(&snapshot(80, &[&item]), 80, LossPolicy::Refuse).out, snapshot(80, &[&item]));
}

/// A group g with two entries delivered, one of them to the consumer c, the other waiting for any.
#[test]
fn entries_that_wait_for_any_consumer_get_one() {
    let pending = |id: u8| [&[id; 16][..], &[0; 8], b"\x01"].concat();
    let stream = |code: u8, consumers: &[u8], nacked: &[u8], trailer: &[u8]| {
        let head = [&[code, 1, b's', 0, 4, 9, 0, 1, 0, 0, 0, 4][..], b"\x01\x01g\x09\x00\x04\x02"].concat();
        [&head, &pending(1)[..], &pending(2), consumers, nacked, trailer].concat()
    };
    let consumer = [b"\x01c", &[7; 8][..], &[8; 8], b"\x01", &[1; 16]].concat();
    let own = [b"\x0csegue:nacked", &[0; 8][..], &[0xff; 8], b"\x01", &[2; 16]].concat();
    let none: &[u8] = b"\x40\x64\x40\x64\x00\x00\x00";
    let item = stream(27, &[b"\x01", &consumer[..]].concat(), &[b"\x01", &[2; 16][..]].concat(), none);
    let given = [b"\x02", &consumer[..], &own].concat();
    let loss = Loss {
        db: 0,
        ..data("stream-nacked", "entries of a stream's group that wait for any consumer", Some(b"s"))
    };
    for (version, code, trailer) in [(13, 26, none), (12, 21, b""), (11, 21, b""), (80, 21, b"")] {
        let outcome = rewrite(&snapshot(15, &[&item]), version, LossPolicy::Degrade);
        assert_eq!((outcome.result, &outcome.losses[..]), (Ok(()), &[loss.clone()][..]));
        assert_eq!(outcome.out, snapshot(version, &[&stream(code, &given, b"", trailer)]), "to {version}");
        let refused = rewrite(&snapshot(15, &[&item]), version, LossPolicy::Refuse);
        assert!(matches!(refused.result, Err(FaultKind::Refused(_))));
    }

    let settled = stream(27, &[b"\x01", &consumer[..]].concat(), b"\x00", none);
    let outcome = rewrite(&snapshot(15, &[&settled]), 12, LossPolicy::Refuse);
    assert_eq!((outcome.result, outcome.losses), (Ok(()), vec![]));
    assert_eq!(outcome.out, snapshot(12, &[&stream(21, &[b"\x01", &consumer[..]].concat(), b"", b"")]));
}

#[test]
fn ids_of_producers_are_lost_where_there_are_any() {
    let kinds = |trailer: &[u8], version| -> Vec<&'static str> {
        let item = [&[0x1a, 1, b's', 0, 4, 9, 0, 1, 0, 0, 0, 4, 0], trailer].concat();
        let outcome = rewrite(&snapshot(13, &[&item]), version, LossPolicy::Refuse);
        assert_eq!(outcome.result, Ok(()), "bookkeeping is never refused");
        outcome.losses.iter().map(|loss| loss.kind).collect()
    };
    let none: &[&str] = &[];
    let unused: &[u8] = b"\x40\x64\x40\x64\x00\x00\x00";
    let used: &[u8] = b"\x40\x64\x40\x64\x01\x01p\x01\x01i\x05\x00\x01\x00";
    let set: &[u8] = b"\x40\x4d\x40\x64\x00\x00\x00";
    assert_eq!((kinds(unused, 12), kinds(used, 13)), (none.to_vec(), none.to_vec()));
    for trailer in [used, set] {
        assert_eq!(kinds(trailer, 12), ["stream-idempotence"]);
        assert_eq!(kinds(trailer, 80), ["stream-idempotence"]);
    }
}

#[test]
fn a_slot_is_only_a_hint() {
    let slot: &[u8] = b"\xf4\x05\x01\x00";
    let source = snapshot(12, &[BEFORE, slot, AFTER]);
    let outcome = rewrite(&source, 11, LossPolicy::Refuse);
    assert_eq!((outcome.result, outcome.losses), (Ok(()), vec![]));
    assert_eq!(outcome.out, snapshot(11, &[BEFORE, AFTER]));
    assert_eq!(rewrite(&source, 12, LossPolicy::Refuse).out, source);
}

/// A stream without nodes: length, last ID, first ID, max-deleted-id, entries-added, groups.
fn stream(max_deleted: u8, added: u8, groups: &[u8]) -> Vec<u8> {
    [&[0x15, 1, b's', 0, 4, 9, 0, 1, 0, max_deleted, 0, added], groups].concat()
}

#[test]
fn stream_counters_are_lost_only_where_they_say_something() {
    let kinds = |item: &[u8], version| -> Vec<&'static str> {
        let outcome = rewrite(&snapshot(12, &[item]), version, LossPolicy::Refuse);
        assert_eq!(outcome.result, Ok(()), "bookkeeping is never refused");
        outcome.losses.iter().map(|loss| loss.kind).collect()
    };
    let none: &[&str] = &[];
    assert_eq!(kinds(&stream(0, 4, &[0]), 9), none);
    assert_eq!(kinds(&stream(3, 4, &[0]), 9), ["stream-counters"]);
    assert_eq!(kinds(&stream(0, 5, &[0]), 9), ["stream-counters"]);
    assert_eq!(kinds(&stream(3, 5, &[0]), 10), none);
    // A group g with a consumer c, nothing pending.
    let group = [b"\x01\x01g\x09\x00\x04\x00\x01\x01c", &[7; 8][..], &[8; 8], b"\x00"].concat();
    assert_eq!(kinds(&stream(0, 4, &group), 10), ["stream-consumer-active-time"]);
    assert_eq!(kinds(&stream(3, 4, &group), 9), ["stream-counters", "stream-consumer-active-time"]);
    assert_eq!(kinds(&stream(3, 4, &group), 11), none);

    let to_9 = rewrite(&snapshot(12, &[&stream(3, 4, &group)]), 9, LossPolicy::Refuse).out;
    let older = [b"\x0f\x01s\x00\x04\x09\x00\x01\x01g\x09\x00\x00\x01\x01c", &[7; 8][..], b"\x00"].concat();
    assert_eq!(to_9, snapshot(9, &[&older]), "the seen-time stays");
}
