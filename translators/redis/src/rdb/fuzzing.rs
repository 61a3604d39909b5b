use bytes::BytesMut;
use segue_wire::{FaultKind, Limits, Loss, LossPolicy, Release};

use super::{Progress, Rewriter, TOKEN_BYTES_MAX, Target, rewrite_function_payload, rewrite_payload};
use crate::releases::rdb_target;

/// Entry for a fuzzer: `data` is read as a snapshot and as payloads, for every target and both policies.
/// A snapshot must come out the same however it is cut, and no more may be held than the limit allows.
///
/// # Panics
///
/// Where that does not hold.
pub fn fuzz(data: &[u8]) {
    let limits = Limits { held_bytes_max: 4 << 10, ..Limits::default() };
    let releases = [
        Release::new("redis", 5, 0, None),
        Release::new("redis", 7, 0, None),
        Release::new("redis", 8, 0, Some(6)),
        Release::new("redis", 8, 10, None),
        Release::new("valkey", 8, 0, None),
        Release::new("valkey", 9, 0, None),
    ];
    for target in releases.iter().filter_map(rdb_target) {
        for policy in [LossPolicy::Refuse, LossPolicy::Degrade] {
            let whole = in_pieces(data, data.len().max(1), &target, policy, limits);
            let cut = 1 + usize::from(data.last().copied().unwrap_or(0));
            assert_eq!(in_pieces(data, cut, &target, policy, limits), whole, "cut into {cut} bytes");
        }
        // Only that they return: what they give is tested elsewhere.
        let _ = rewrite_payload(data, &target, &limits);
        let _ = rewrite_function_payload(data, &target, &limits);
    }
}

/// What a snapshot in pieces of `cut` bytes gives, and how much of it was read.
fn in_pieces(
    data: &[u8],
    cut: usize,
    target: &Target,
    policy: LossPolicy,
    limits: Limits,
) -> (Result<(), FaultKind>, u64, BytesMut, Vec<Loss>) {
    let mut rewriter = Rewriter::new(target.clone(), policy, limits);
    let (mut input, mut out, mut losses) = (BytesMut::new(), BytesMut::new(), Vec::new());
    for piece in data.chunks(cut) {
        input.extend_from_slice(piece);
        match rewriter.feed(&mut input, &mut out, &mut losses) {
            Err(fault) => return (Err(fault), rewriter.position(), out, losses),
            Ok(Progress::Done) => break,
            Ok(Progress::More) => assert!(input.len() <= TOKEN_BYTES_MAX, "{} bytes stay", input.len()),
        }
        assert!(rewriter.held_bytes() <= limits.held_bytes_max + WINDOW_BYTES, "{}", rewriter.held_bytes());
    }
    (rewriter.finish(), rewriter.position(), out, losses)
}

/// What an LZF copy can reach.
const WINDOW_BYTES: usize = 8 << 10;
