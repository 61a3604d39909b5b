//! Single values, from the DUMP of redis 8.0.6.

use segue_redis::rdb::{Payload, Target, rewrite_function_payload, rewrite_payload};
use segue_wire::{FaultKind, Limits};

use crate::support::{signed, target};

const INT: &str = "00c139300c0056e2dee769d696f0";
const HASH: &str =
    "10c322407f1a7f0000000600816602817602816e020701846c6f6e6705e0646162e059010166ff0c0023d83c4ead448825";
const ZSET: &str =
    "1125250000000800816302842d696e660581640283302e310481610283312e35048162020301ff0c0002052bc940fd8511";
const SET: &str = "140c0c00000002008161020101ff0c0042e9698050aecf88";
const HASH_TTLS: &str =
    "1900d8c32cbb0300001d1d00000006008161020101f400d8c32cbb0300000981620202010001ff0c0045a4795c939a9c04";
const HASH_NO_TTLS: &str = "1900d8c32cbb0300000e0e000000030081610201010001ff0c0004af6d68a329da98";
const VECTORS: &str = "0781bde72da2bb1eb4000203020102500102000504656c656d05032a557f0206020102800100000002000220020002813f4d41b2406f7751000c00e5ab1cca1a23bfe0";
const FUNCTIONS: &str = "f5404623216c7561206e616d653d6d796c69620a72656469732e72656769737465725f66756e6374696f6e282766272c2066756e6374696f6e28292072657475726e203120656e64290c000e47ea3cb5dedbd0";

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn rewritten(hex: &str, version: u16) -> (Vec<u8>, Vec<&'static str>) {
    match rewrite_payload(&bytes(hex), &target(version), &Limits::default()).unwrap() {
        Payload::Rewritten(payload, losses) => {
            assert!(losses.iter().all(|loss| loss.key.is_none()));
            (payload, losses.iter().map(|loss| loss.kind).collect())
        }
        other => panic!("{other:?}"),
    }
}

fn payload(version: u16, body: &[u8]) -> Vec<u8> {
    signed([body, &version.to_le_bytes()].concat())
}

#[test]
fn same() {
    for hex in [INT, HASH, ZSET, SET, HASH_TTLS] {
        assert_eq!(rewrite_payload(&bytes(hex), &target(12), &Limits::default()), Ok(Payload::Same));
    }
}

#[test]
fn a_value_that_both_know_gets_the_older_version() {
    assert_eq!(rewritten(INT, 9), (payload(9, b"\x00\xc1\x39\x30"), vec![]));
    let body = &bytes(HASH)[..bytes(HASH).len() - 10];
    assert_eq!(rewritten(HASH, 10), (payload(10, body), vec![]));
}

#[test]
fn older_forms() {
    let long = [&b"\x02\x04long\x06\x40\x64"[..], &b"ab".repeat(50)].concat();
    let fields = [b"\0\x01f\x03\x01v\x03\x01n\x03\xf8", &long[..]].concat();
    let hash = [&b"\x0d\x40\x83"[..], b"\x83\0\0\0\x1b\0\0\0\x06\0", &fields, b"\xff"].concat();
    assert_eq!(rewritten(HASH, 9), (payload(9, &hash), vec![]));
    assert_eq!(rewritten(SET, 10), (payload(10, b"\x02\x02\x01a\xc0\x01"), vec![]));
    let members = b"\0\x01c\x03\x04-inf\x06\x01d\x03\x030.1\x05\x01a\x03\x031.5\x05\x01b\x03\xf4";
    let zset = [&b"\x0c\x29"[..], b"\x29\0\0\0\x26\0\0\0\x08\0", members, b"\xff"].concat();
    assert_eq!(rewritten(ZSET, 9), (payload(9, &zset), vec![]));
}

#[test]
fn field_ttls() {
    assert_eq!(
        rewritten(HASH_TTLS, 11),
        (payload(11, b"\x04\x02\x01a\xc0\x01\x01b\xc0\x02"), vec!["hash-field-ttl"])
    );
    assert_eq!(rewritten(HASH_NO_TTLS, 9), (payload(9, b"\x04\x01\x01a\xc0\x01"), vec![]));
}

/// From redis 8.10.2, whose HIMPORT sends them without a checksum, too.
#[test]
fn hashes_with_their_template() {
    const LISTPACK: &str = "1d001b1b0000000300846265746105\
        85616c706861068567616d6d6106ff12120000000400000183\
        74776f0401010301ff0f000000000000000000";
    const ARRAY: &str = "1f001b1b00000003008462657461058561\
        6c706861068567616d6d6106ff0362626201780\
        17a0f000000000000000000";
    let hash = b"\x04\x03\x04beta\x03two\x05alpha\xc0\x01\x05gamma\xc0\x03";
    let of_array = b"\x04\x03\x04beta\x03bbb\x05alpha\x01x\x05gamma\x01z";
    for version in [9, 12, 13, 80] {
        assert_eq!(rewritten(LISTPACK, version), (payload(version, hash), vec![]));
        assert_eq!(rewritten(ARRAY, version), (payload(version, of_array), vec![]));
    }
    for hex in [LISTPACK, ARRAY] {
        assert_eq!(rewrite_payload(&bytes(hex), &target(15), &Limits::default()), Ok(Payload::Same));
    }
}

#[test]
fn across_the_families() {
    let hash_2 =
        [&b"\x16\x02\x01a\xc0\x01"[..], &4_000_000_000_000_i64.to_le_bytes(), b"\x01b\xc0\x02", &[0xff; 8]];
    let of_valkey = payload(80, &hash_2.concat());
    let rewrite =
        |payload: &[u8], version| match rewrite_payload(payload, &target(version), &Limits::default())
            .unwrap()
        {
            Payload::Rewritten(payload, losses) => (payload, losses.iter().map(|loss| loss.kind).collect()),
            other => panic!("{other:?}"),
        };
    let ttl = [&[0x81][..], &4_000_000_000_000_u64.to_be_bytes()].concat();
    let metadata =
        [b"\x18", &1_u64.to_le_bytes()[..], b"\x02", &ttl, b"\x01a\xc0\x01\x00\x01b\xc0\x02"].concat();
    assert_eq!(rewrite(&of_valkey, 12), (payload(12, &metadata), vec![]));
    assert_eq!(rewrite(&payload(12, &metadata), 80), (of_valkey.clone(), vec![]), "and back");
    assert_eq!(
        rewrite(&of_valkey, 11),
        (payload(11, b"\x04\x02\x01a\xc0\x01\x01b\xc0\x02"), vec!["hash-field-ttl"])
    );

    let listpack = rewritten(HASH_TTLS, 80);
    let ttl = u64::from_le_bytes(*bytes(HASH_TTLS)[1..].first_chunk().unwrap()).to_le_bytes();
    let hash_2 = [&b"\x16\x02\x01a\xc0\x01"[..], &ttl, b"\x01b\xc0\x02", &[0xff; 8]].concat();
    assert_eq!(listpack, (payload(80, &hash_2), vec![]));
}

#[test]
fn vector_sets() {
    let Ok(Payload::None(loss)) = rewrite_payload(&bytes(VECTORS), &target(12), &Limits::default()) else {
        panic!("a vector set has no older form")
    };
    assert_eq!((loss.kind, loss.key), ("vector-set", None));
    let with = Target { modules: vec!["vectorset"], ..target(12) };
    assert_eq!(rewrite_payload(&bytes(VECTORS), &with, &Limits::default()), Ok(Payload::Same));
}

#[test]
fn functions() {
    let rewrite = |version| rewrite_function_payload(&bytes(FUNCTIONS), &target(version), &Limits::default());
    assert_eq!(rewrite(12), Ok(Payload::Same));
    let body = &bytes(FUNCTIONS)[..bytes(FUNCTIONS).len() - 10];
    assert_eq!(rewrite(10), Ok(Payload::Rewritten(payload(10, body), vec![])));
    let Ok(Payload::Rewritten(left, losses)) = rewrite(9) else {
        panic!("libraries are left out one by one")
    };
    assert_eq!((left, losses[0].what.as_str()), (payload(9, b""), "library mylib"));
}

#[test]
fn damage() {
    let rewrite = |payload: &[u8]| rewrite_payload(payload, &target(9), &Limits::default()).unwrap_err();
    let malformed = |detail: &str| FaultKind::Malformed { what: "DUMP payload", detail: detail.to_owned() };
    assert_eq!(rewrite(b"short"), malformed("shorter than its footer"));
    assert_eq!(rewrite(&payload(16, b"\x00\x01v")), malformed("RDB version 16"));
    assert_eq!(rewrite(&payload(12, b"\xfa\x01v\x01w")), malformed("it does not start with a value type"));
    assert_eq!(rewrite(&payload(12, b"\x00\x01vv")), malformed("bytes behind the value"));
    assert_eq!(rewrite(&payload(12, b"\x00\x02v")), FaultKind::Truncated { what: "a DUMP payload" });
    let unknown = FaultKind::Malformed { what: "RDB", detail: "unknown value type 33 at byte 0".to_owned() };
    assert_eq!(rewrite(&payload(12, b"\x21\x02v")), unknown);
    let mut bad = bytes(INT);
    bad[3] ^= 1;
    assert!(matches!(rewrite(&bad), FaultKind::Checksum { .. }));
    let unsigned = [b"\x00\x01v\x0c\x00", &[0; 8][..]].concat();
    assert_eq!(
        rewrite_payload(&unsigned, &target(9), &Limits::default()),
        Ok(Payload::Rewritten(payload(9, b"\x00\x01v"), vec![])),
        "a checksum that was not computed"
    );
    let limits = Limits { held_bytes_max: 126, ..Limits::default() };
    let too_large = FaultKind::TooLarge { what: "packed value", limit: "held_bytes_max", max: 126 };
    assert_eq!(rewrite_payload(&bytes(HASH), &target(9), &limits), Err(too_large));
}
