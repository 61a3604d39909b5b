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
    assert_eq!(fault(&[b"\x21\x03keyrest"]), malformed("unknown value type 33 of key \"key\" at byte 9"));
    let of_valkey = b"\x16\x03keyrest";
    assert_eq!(fault(&[of_valkey]), malformed("unknown value type 22 of key \"key\" at byte 9"));
    let of_redis = rewrite(&snapshot(80, &[b"\x18\x03keyrest"]), 9, LossPolicy::Degrade).result.unwrap_err();
    assert_eq!(of_redis, malformed("unknown value type 24 of key \"key\" at byte 9"));
    assert_eq!(fault(&[b"\x00\x01k\x01v", b"\xf6"]), malformed("unknown opcode 246 at byte 14"));
}

#[test]
fn headers() {
    let with = |header: &[u8]| rewrite(header, 9, LossPolicy::Degrade).result.unwrap_err();
    let malformed = |detail: &str| FaultKind::Malformed { what: "RDB header", detail: detail.to_owned() };
    assert_eq!(with(b"REDIS0016"), malformed("version 16 of REDIS; versions 6 to 15 are known"));
    assert_eq!(with(b"REDIS0005"), malformed("version 5 of REDIS; versions 6 to 15 are known"));
    assert_eq!(with(b"VALKEY081"), malformed("version 81 of VALKEY; versions 80 to 80 are known"));
    assert_eq!(with(b"REDIS+012"), malformed("\"REDIS+012\" is not an RDB's"));
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
fn templates_of_hashes() {
    let template: &[u8] = b"\xf2\x05\x02\x01a\x01b";
    let of = |what: &str| malformed(&format!("{what} in HASH_TEMPLATE_ARRAY_REF of key \"k\" at byte 9"));
    assert_eq!(fault(&[b"\x20\x01k\x05"]), of("a template that was not defined"));
    let other = fault(&[template, b"\x20\x01k\x06"]).to_string();
    assert!(other.contains("a template that was not defined"), "{other}");
    let long = [b"\xf2\x05\x01", &string(&[b'n'; 200])[..]].concat();
    let long = fault(&[&long, b"\x20\x01k\x05\x01v"]).to_string();
    assert!(long.contains("longer than 128 bytes on average"), "{long}");
    let kind = fault(&[b"\x1c\x01k\x01\x00\x00\x04"]).to_string();
    assert!(kind.contains("unknown kind of array element in ARRAY of key \"k\""), "{kind}");
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
