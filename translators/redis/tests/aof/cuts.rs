//! Ends that are cut off, input in any pieces, and whatever bytes.

use bytes::BytesMut;
use proptest::prelude::*;
use segue_redis::aof::{Ending, Kept, Manifest, fuzz};
use segue_wire::{FaultKind, Limits, LossPolicy};

use crate::support::{SNAPSHOT, command, commands, rewrite, rewriter};

const LOG: &[&str] = &[
    "SELECT 2",
    "SET k v",
    "SET k v PXAT 1999999999999",
    "MULTI",
    "LPOP l 2",
    "SET a b KEEPTTL",
    "EXEC",
    "HSETEX h KEEPTTL FIELDS 1 f v",
    "HPEXPIREAT h 99 FIELDS 1 f",
    "JSON.SET a $ 1",
    "XADD s MINID 5 9-1 a b",
    "zadd z GT 5 a",
    "DEL k",
];

#[test]
fn an_end_is_kept_up_to_the_last_whole_command_or_transaction() {
    let log = commands(LOG);
    // Where a server stops, in what is read and in what it gives: after each command that is not in a transaction.
    let mut stops = vec![Kept::default()];
    let mut in_transaction = false;
    for count in 1..=LOG.len() {
        let text = LOG[count - 1];
        in_transaction = text == "MULTI" || (in_transaction && text != "EXEC");
        if !in_transaction {
            let read = commands(&LOG[..count]);
            let written = rewrite(&[read.as_bytes()], "redis-6.0", LossPolicy::Degrade).unwrap().text();
            stops.push(Kept { read_bytes: read.len() as u64, written_bytes: written.len() as u64 });
        }
    }
    for len in 0..log.len() {
        let outcome = rewrite(&[&log.as_bytes()[..len]], "redis-6.0", LossPolicy::Degrade).unwrap();
        let last = *stops.iter().rev().find(|stop| stop.read_bytes <= len as u64).unwrap();
        let expected = if last.read_bytes == len as u64 { Ending::Whole } else { Ending::CutOff(last) };
        assert_eq!(outcome.endings, [expected], "{len}");
        assert!(last.written_bytes <= outcome.files[0].len() as u64, "{len}");
    }
}

#[test]
fn a_snapshot_is_whole_or_nothing() {
    for len in 1..SNAPSHOT.len() {
        let fault = rewrite(&[&SNAPSHOT[..len]], "redis-6.0", LossPolicy::Degrade).unwrap_err();
        assert!(matches!(fault, FaultKind::Truncated { .. }), "{len}: {fault}");
    }
    let outcome = rewrite(&[SNAPSHOT], "redis-6.0", LossPolicy::Degrade).unwrap();
    assert_eq!(outcome.endings, [Ending::Whole]);
}

/// A command that passes is never held, one that must be rewritten up to the limit.
#[test]
fn what_is_held_is_bounded() {
    let limits = Limits { held_bytes_max: 1000, ..Limits::default() };
    let (mut input, mut out, mut losses) = (BytesMut::new(), BytesMut::new(), Vec::new());
    let mut passing = rewriter("redis-6.0", LossPolicy::Degrade, limits);
    for piece in command(&format!("SET k {}", "v".repeat(100_000))).as_bytes().chunks(100) {
        input.extend_from_slice(piece);
        passing.feed(&mut input, &mut out, &mut losses).unwrap();
        assert!(input.len() < 32, "{} bytes are held", input.len());
    }
    let mut rewritten = rewriter("redis-6.0", LossPolicy::Degrade, limits);
    let large = command(&format!("SET k {} KEEPTTL", "v".repeat(2000)));
    let fault = rewritten.feed(&mut BytesMut::from(&large.as_bytes()[..99]), &mut out, &mut losses);
    assert_eq!(fault.unwrap_err().to_string(), "a command is larger than held_bytes_max = 1000 bytes");
}

fn files() -> impl Strategy<Value = Vec<u8>> {
    let unit = prop_oneof![
        8 => proptest::sample::select(LOG).prop_map(|text| command(text).into_bytes()),
        1 => Just(b"#TS:1628217470\r\n".to_vec()),
        1 => Just(b"~".to_vec()),
        1 => Just([b"~", SNAPSHOT].concat()),
    ];
    proptest::collection::vec(unit, 0..20).prop_map(|units| units.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_files_in_any_pieces_give_the_same(files in files(), len in any::<prop::sample::Index>()) {
        // The border between files is the first byte, and so is the size of the pieces.
        let files = [b"~", &files[..]].concat();
        fuzz(&files);
        fuzz(&files[..=len.index(files.len())]);
    }

    #[test]
    fn changed_bytes_never_panic(
        files in files(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        border in any::<u8>(),
    ) {
        let mut files = [&[border], &files[..], b"*1\r\n"].concat();
        for (place, byte) in changes {
            let place = place.index(files.len());
            files[place] = byte;
        }
        fuzz(&files);
    }

    #[test]
    fn random_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        fuzz(&body);
    }

    #[test]
    fn any_manifest_is_read_or_said_to_be_wrong(
        words in proptest::collection::vec("(file|seq|type|b|i|h|[1-3]|a[0-9]|[\n ])", 0..30),
    ) {
        let text = words.join(" ");
        if let Ok(manifest) = Manifest::parse(text.as_bytes()) {
            let text = manifest.text();
            if !text.is_empty() {
                prop_assert_eq!(Manifest::parse(text.as_bytes()).unwrap().text(), text);
            }
        }
    }
}
