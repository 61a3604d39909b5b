//! However a snapshot arrives, it gives the same; and whatever arrives, nothing panics.

use proptest::prelude::*;
use segue_redis::rdb::fuzz;
use segue_wire::{FaultKind, Limits, LossPolicy};

use crate::support::{Outcome, SMALL, SMALL_ONES, VERSIONS, rewrite, rewrite_in, snapshot, target};

const REDIS_7_4: &[u8] = include_bytes!("../golden/redis-7.4.1.rdb");

fn cut_into(bytes: &[u8], size: usize, version: u16, policy: LossPolicy) -> Outcome {
    rewrite_in(bytes.chunks(size), target(version), policy, Limits::default())
}

#[test]
fn byte_by_byte_is_the_same() {
    for source in SMALL_ONES.into_iter().chain([REDIS_7_4]) {
        for version in VERSIONS {
            for policy in [LossPolicy::Degrade, LossPolicy::Refuse] {
                let whole = rewrite(source, version, policy);
                assert!(cut_into(source, 1, version, policy) == whole, "to {version}, {policy:?}");
            }
        }
    }
}

#[test]
fn cut_short_anywhere_it_is_truncated() {
    for (source, version) in
        SMALL_ONES.into_iter().flat_map(|source| VERSIONS.map(|version| (source, version)))
    {
        let whole = rewrite(source, version, LossPolicy::Degrade);
        for len in 0..source.len() {
            let outcome = rewrite(&source[..len], version, LossPolicy::Degrade);
            assert!(
                matches!(outcome.result, Err(FaultKind::Truncated { .. })),
                "{len}: {:?}",
                outcome.result
            );
            assert!(whole.out.starts_with(&outcome.out), "{len} bytes, to {version}");
        }
    }
}

#[test]
fn what_follows_stays() {
    let followed = [SMALL, b"*1\r\n$4\r\nPING\r\n"].concat();
    for size in [1, 7, 100, followed.len()] {
        let outcome = cut_into(&followed, size, 9, LossPolicy::Degrade);
        assert_eq!((outcome.result, &outcome.rest[..]), (Ok(()), &b"*1\r\n$4\r\nPING\r\n"[..]), "cut {size}");
    }
}

#[test]
fn damage_shows_at_the_same_place() {
    // Three literals where two bytes were declared; a copy from before the start. More follows each.
    for lzf in [&b"\xc3\x06\x02\x02abc\x00d"[..], b"\xc3\x06\x09\x00a\x20\x07\x00d"] {
        for item in [&b"\xf2\x05\x01"[..], b"\x12\x01l\x01\x01", b"\x14\x01s", b"\x10\x01h"] {
            let damaged = snapshot(15, &[item, lzf]);
            for version in VERSIONS {
                let whole = rewrite(&damaged, version, LossPolicy::Degrade);
                for size in 1..damaged.len() {
                    let cut = cut_into(&damaged, size, version, LossPolicy::Degrade);
                    assert_eq!(cut, whole, "{item:?}, cut {size}, to {version}");
                }
            }
        }
    }
    // Of what is passed and read as well, nothing behind the damage is put out.
    let template =
        rewrite(&snapshot(15, &[b"\xf2\x05\x01\xc3\x06\x02\x02abc\x00d"]), 15, LossPolicy::Degrade);
    assert!(matches!(template.result, Err(FaultKind::Malformed { .. })), "{:?}", template.result);
    assert_eq!((&template.out[..], template.position), (&b"REDIS0015\xf2\x05\x01\xc3\x06\x02\x02"[..], 16));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_cuts_are_the_same(
        version in proptest::sample::select(&VERSIONS[..]),
        cuts in proptest::collection::vec(1..4000usize, 1..200),
        source in proptest::sample::select(vec![REDIS_7_4, SMALL, SMALL_ONES[1], SMALL_ONES[2], SMALL_ONES[3]]),
    ) {
        let mut rest = source;
        let mut pieces = Vec::new();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, later) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = later;
        }
        let outcome = rewrite_in(pieces, target(version), LossPolicy::Degrade, Limits::default());
        prop_assert!(outcome == rewrite(source, version, LossPolicy::Degrade));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn changed_bytes_never_panic(
        source in proptest::sample::select(SMALL_ONES.to_vec()),
        changes in proptest::collection::vec((9..SMALL.len(), any::<u8>()), 1..6),
        len in 0..=SMALL.len(),
    ) {
        let mut bytes = source.to_vec();
        for (place, byte) in changes {
            if let Some(at) = bytes.get_mut(place) {
                *at = byte;
            }
        }
        fuzz(&bytes);
        fuzz(&bytes[..len.min(bytes.len())]);
    }

    #[test]
    fn random_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        fuzz(&body);
        for header in [b"REDIS0012", b"REDIS0015", b"VALKEY080"] {
            fuzz(&[header, &body[..]].concat());
        }
    }
}
