//! What is wrong with a snapshot is said, with the key and the place.

use segue_wire::{FaultKind, LossPolicy};

use crate::support::{SMALL, listpack, rewrite, signed, snapshot, string, unsigned};

fn fault(items: &[&[u8]]) -> FaultKind {
    rewrite(&snapshot(12, items), 9, LossPolicy::Degrade).result.unwrap_err()
}

fn malformed(detail: &str) -> FaultKind {
    FaultKind::Malformed { what: "RDB", detail: detail.to_owned() }
}

#[test]
fn unknown_types_and_opcodes() {
    assert_eq!(fault(&[b"\x1a\x03keyrest"]), malformed("unknown value type 26 of key \"key\" at byte 9"));
    assert_eq!(fault(&[b"\x00\x01k\x01v", b"\xf6"]), malformed("unknown opcode 246 at byte 14"));
}

#[test]
fn headers() {
    let with = |header: &[u8]| rewrite(header, 9, LossPolicy::Degrade).result.unwrap_err();
    let malformed = |detail: &str| FaultKind::Malformed { what: "RDB header", detail: detail.to_owned() };
    assert_eq!(with(b"REDIS0013"), malformed("version 13; versions 6 to 12 are known"));
    assert_eq!(with(b"REDIS0005"), malformed("version 5; versions 6 to 12 are known"));
    assert_eq!(with(b"VALKEY080"), malformed("\"VALKEY080\" is not a Redis RDB's"));
    assert_eq!(with(b"REDIS+012"), malformed("\"REDIS+012\" is not a Redis RDB's"));
    assert_eq!(with(b"REDIS00"), FaultKind::Truncated { what: "the RDB header" });
}

#[test]
fn packed_values() {
    let odd = [&b"\x10\x01h"[..], &string(&listpack(&[b"f", b"v", b"g"]))].concat();
    assert_eq!(
        fault(&[&odd]),
        malformed("listpack: an incomplete group in HASH_LISTPACK of key \"h\" at byte 9")
    );
    let score = [&b"\x11\x01z"[..], &string(&listpack(&[b"m", b"one"]))].concat();
    assert_eq!(fault(&[&score]), malformed("score is not a number in ZSET_LISTPACK of key \"z\" at byte 9"));
    let integer = b"\x14\x01s\xc0\x05";
    assert_eq!(
        fault(&[integer]),
        malformed("an integer for a packed value in SET_LISTPACK of key \"s\" at byte 9")
    );
    let container = b"\x12\x01l\x01\x03";
    assert_eq!(
        fault(&[container]),
        malformed("unknown list container in LIST_QUICKLIST_2 of key \"l\" at byte 9")
    );
    // A plain element that says it unpacks to 5 bytes and gives 3.
    let short = b"\x12\x01l\x01\x01\xc3\x04\x05\x02abc";
    assert_eq!(
        fault(&[short]),
        malformed("LZF: shorter than declared in LIST_QUICKLIST_2 of key \"l\" at byte 9")
    );
}

#[test]
fn numbers_and_strings() {
    assert_eq!(fault(&[b"\xfe\x82"]), malformed("bad length byte in SELECTDB at byte 9"));
    assert_eq!(fault(&[b"\x00\x01k\xc4"]), malformed("bad string encoding in STRING at byte 9"));
}

#[test]
fn a_checksum_that_does_not_match() {
    let mut bad = SMALL.to_vec();
    let place = bad.windows(4).position(|window| window == b"text").unwrap();
    bad[place] = b'T';
    let outcome = rewrite(&bad, 9, LossPolicy::Degrade);
    let sent = u64::from_le_bytes(*SMALL.last_chunk().unwrap());
    assert!(
        matches!(outcome.result, Err(FaultKind::Checksum { sent: s, .. }) if s == sent),
        "{:?}",
        outcome.result
    );
}

#[test]
fn a_checksum_that_was_not_computed_is_accepted_and_made_good() {
    let item: &[u8] = b"\x00\x01k\x01v";
    let mut bytes = unsigned(12, &[item]);
    bytes.extend_from_slice(&[0; 8]);
    let outcome = rewrite(&bytes, 9, LossPolicy::Refuse);
    assert_eq!((outcome.result, outcome.out), (Ok(()), signed(unsigned(9, &[item]))));
}
