//! However a snapshot arrives, it gives the same; and whatever arrives, nothing panics.

use proptest::prelude::*;
use segue_redis::rdb::fuzz;
use segue_wire::{FaultKind, Limits, LossPolicy};

use crate::support::{Outcome, SMALL, rewrite, rewrite_in, target};

const REDIS_7_4: &[u8] = include_bytes!("../golden/redis-7.4.1.rdb");

fn cut_into(bytes: &[u8], size: usize, version: u16, policy: LossPolicy) -> Outcome {
    rewrite_in(bytes.chunks(size), target(version), policy, Limits::default())
}

#[test]
fn byte_by_byte_is_the_same() {
    for source in [SMALL, REDIS_7_4] {
        for version in 9..=12 {
            for policy in [LossPolicy::Degrade, LossPolicy::Refuse] {
                let whole = rewrite(source, version, policy);
                assert!(cut_into(source, 1, version, policy) == whole, "to {version}, {policy:?}");
            }
        }
    }
}

#[test]
fn cut_short_anywhere_it_is_truncated() {
    for version in 9..=12 {
        let whole = rewrite(SMALL, version, LossPolicy::Degrade);
        for len in 0..SMALL.len() {
            let outcome = rewrite(&SMALL[..len], version, LossPolicy::Degrade);
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_cuts_are_the_same(
        version in 9..=12u16,
        cuts in proptest::collection::vec(1..4000usize, 1..200),
        large in any::<bool>(),
    ) {
        let source = if large { REDIS_7_4 } else { SMALL };
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
        changes in proptest::collection::vec((9..SMALL.len(), any::<u8>()), 1..6),
        len in 0..=SMALL.len(),
    ) {
        let mut bytes = SMALL.to_vec();
        for (place, byte) in changes {
            bytes[place] = byte;
        }
        fuzz(&bytes);
        fuzz(&bytes[..len]);
    }

    #[test]
    fn random_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        fuzz(&body);
        fuzz(&[b"REDIS0012", &body[..]].concat());
    }
}
