//! What is held is bounded by `held_bytes_max`, whatever a sender declares; the rest streams.

use bytes::BytesMut;
use segue_redis::rdb::{Progress, Rewriter};
use segue_wire::{FaultKind, Limits, LossPolicy};

use crate::support::{Outcome, listpack, rewrite_in, snapshot, string, target};

fn with_limit(items: &[&[u8]], held_bytes_max: usize, cut: usize) -> Outcome {
    let source = snapshot(12, items);
    let limits = Limits { held_bytes_max, ..Limits::default() };
    rewrite_in(source.chunks(cut), target(9), LossPolicy::Degrade, limits)
}

fn too_large(what: &'static str, max: usize) -> Result<(), FaultKind> {
    Err(FaultKind::TooLarge { what, limit: "held_bytes_max", max })
}

#[test]
fn a_packed_value_up_to_the_limit() {
    let list = listpack(&[&b"f"[..]; 40]);
    let item = [&b"\x14\x01s"[..], &string(&list)].concat();
    for cut in [1, 50, 1000] {
        assert_eq!(with_limit(&[&item], list.len(), cut).result, Ok(()));
        assert_eq!(
            with_limit(&[&item], list.len() - 1, cut).result,
            too_large("packed value", list.len() - 1)
        );
    }
}

#[test]
fn a_declared_length_is_refused_before_it_is_held() {
    // Packed into 20 bytes, said to unpack to 4 GiB; and the other way round.
    for head in [
        &b"\xc3\x14\x80\xff\xff\xff\xff"[..],
        b"\xc3\x80\xff\xff\xff\xff\x14",
        b"\x81\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let item = [b"\x10\x01h", head].concat();
        assert_eq!(with_limit(&[&item], 1000, 1).result, too_large("packed value", 1000));
    }
}

#[test]
fn a_declared_length_gets_no_memory_before_the_bytes_come() {
    let item = b"\x10\x01h\xc3\x14\x80\x03\xff\xff\xff";
    let source = &snapshot(12, &[item]);
    let limits = Limits { held_bytes_max: 64 << 20, ..Limits::default() };
    let mut rewriter = Rewriter::new(target(9), LossPolicy::Degrade, limits);
    let (mut input, mut out) = (BytesMut::from(&source[..source.len() - 9]), BytesMut::new());
    rewriter.feed(&mut input, &mut out, &mut Vec::new()).unwrap();
    assert_eq!(rewriter.held_bytes(), 0);
}

#[test]
fn a_key_that_waits_for_a_decision() {
    let key = string(&[b'k'; 100]);
    let item = [&b"\x07"[..], &key, b"\x05\x00"].concat();
    let held = 1 + key.len();
    for cut in [1, 1000] {
        assert_eq!(with_limit(&[&item], held + 1, cut).result, Ok(()), "with the module's id");
        assert_eq!(with_limit(&[&item], held - 1, cut).result, too_large("key", held - 1));
    }
}

#[test]
fn a_key_that_waits_for_nothing_is_not_held() {
    let item = [&b"\x14"[..], &string(&[b'k'; 10_000]), &string(&listpack(&[b"m"]))].concat();
    assert_eq!(with_limit(&[&item], 20, 1).result, Ok(()));
}

#[test]
fn templates_of_hashes_end_at_the_limit() {
    let template = [&b"\xf2\x00\x03"[..], &string(&[b'n'; 40]).repeat(3)].concat();
    let held = 2 * (41 + 4) + 40;
    for cut in [1, 1000] {
        assert_eq!(with_limit(&[&template], held, cut).result, Ok(()));
        assert_eq!(
            with_limit(&[&template], held - 1, cut).result,
            too_large("templates of hashes", held - 1)
        );
    }
    let listed = [b"\xf2\x00\x80", &u32::MAX.to_be_bytes()[..], &b"\x00".repeat(1000)].concat();
    assert_eq!(with_limit(&[&listed], 500, 1).result, too_large("templates of hashes", 500));
}

#[test]
fn consumers_wait_for_what_no_consumer_has() {
    // A group of one consumer that has 100 entries, which themselves are left to the imagination.
    let stream = |nacked: &[u8]| {
        let group =
            [b"\x01\x01g\x09\x00\x04\x00\x01\x01c", &[7; 16][..], b"\x40\x64", &[1; 1600], nacked].concat();
        [b"\x1b\x01s\x00\x04\x09\x00\x01\x00\x00\x00\x04", &group[..], b"\x40\x64\x40\x64\x00\x00\x00"]
            .concat()
    };
    let held = 2 + 8 + 2 + 1600;
    for cut in [1, 100_000] {
        let source = snapshot(15, &[&stream(b"\x00")]);
        let limits = |held_bytes_max| Limits { held_bytes_max, ..Limits::default() };
        let result =
            |held| rewrite_in(source.chunks(cut), target(9), LossPolicy::Refuse, limits(held)).result;
        assert_eq!(result(held), Ok(()));
        assert_eq!(result(held - 1), too_large("key", held - 1));
    }
}

#[test]
fn attributes_without_a_key_end_at_the_limit() {
    let attributes = b"\xf9\x01".repeat(1000);
    assert_eq!(with_limit(&[&attributes], 100, 1).result, too_large("key", 100));
}

/// 64 MiB in one string of a list, 128 KiB at a time, with a limit of 64 KiB.
fn stream_element(head: &[u8], body: impl Iterator<Item = Vec<u8>>) -> (u64, usize, usize) {
    let limits = Limits { held_bytes_max: 64 << 10, ..Limits::default() };
    let mut rewriter = Rewriter::new(target(9), LossPolicy::Refuse, limits);
    let start = [b"REDIS0012\x12\x01l\x01\x01", head].concat();
    let (mut held_most, mut out_most) = (0, 0);
    let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
    for piece in std::iter::once(start).chain(body).chain([[&[255][..], &[0; 8]].concat()]) {
        input.extend_from_slice(&piece);
        let progress = rewriter.feed(&mut input, &mut out, &mut Vec::new()).unwrap();
        held_most = held_most.max(rewriter.held_bytes());
        out_most = out_most.max(out.len());
        out.clear();
        assert_eq!(progress == Progress::Done, rewriter.finish().is_ok());
    }
    assert_eq!(rewriter.finish(), Ok(()));
    (rewriter.emitted(), held_most, out_most)
}

const ELEMENT_BYTES: u64 = 64 << 20;
/// Header, type, key, count; then the string's length; then the ziplist around the element; then the end.
const AROUND_BYTES: u64 = 9 + 4 + 5 + (10 + 1 + 5 + 1) + 9;

#[test]
fn a_large_element_streams() {
    let head = [&[0x80], &(ELEMENT_BYTES as u32).to_be_bytes()[..]].concat();
    let (emitted, held, out) = stream_element(&head, (0..512).map(|_| vec![b'x'; 128 << 10]));
    assert_eq!(emitted, ELEMENT_BYTES + AROUND_BYTES);
    assert!(held == 0 && out <= 129 << 10, "held {held}, {out} at once");
}

#[test]
fn a_large_packed_element_streams() {
    // 32 literals, then copies of 256 bytes from 32 back: 3 bytes each.
    let copies = (ELEMENT_BYTES - 32) / 256;
    let rest = ELEMENT_BYTES - 32 - copies * 256;
    assert_eq!(rest, 224);
    let copy = |len: u64| [7 << 5, (len - 9) as u8, 31];
    let packed_len = 33 + 3 * (copies + 1);
    let head = [
        &[0xc3, 0x80],
        &(packed_len as u32).to_be_bytes()[..],
        &[0x80],
        &(ELEMENT_BYTES as u32).to_be_bytes(),
        &[31],
        &[b'y'; 32],
    ]
    .concat();
    let pieces = copies / 1023;
    assert_eq!(copies % 1023, 255);
    let body =
        (0..pieces)
            .map(|_| copy(256).repeat(1023))
            .chain([[copy(256).repeat(255), copy(rest).to_vec()].concat()]);
    let (emitted, held, out) = stream_element(&head, body);
    assert_eq!(emitted, ELEMENT_BYTES + AROUND_BYTES);
    assert!(held <= 8 << 10, "held {held}");
    assert!(out <= 300 << 10, "{out} at once");
}
