//! Seeded simulation of the agreed state of an upgrade, changed by entries alone as the sidecars do it: they
//! crash in the middle of an action, are cut off and see an old state, two believe to lead, stores restart, the
//! mesh loses, repeats and delays messages, hooks fail, the operator changes their mind. After every event the design's
//! invariants 4 to 7 are checked.
//!
//! `SEGUE_SIM_SEED=42 cargo test --test sim` replays one seed and prints what happened;
//! `SEGUE_SIM_SEEDS=100000` tries more of them.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod agreed;
mod checks;
mod mesh;
mod node;
mod run;
mod sidecar;
mod start;

use std::env;

use run::{Ends, Run};

/// In CI; enough to meet every state with every kind of fault.
const SEEDS: u64 = 10_000;

#[test]
fn every_seed_ends_well() {
    let number = |name| env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    if let Some(seed) = number("SEGUE_SIM_SEED") {
        let mut run = Run::new(seed);
        run.shows = true;
        println!("{:?}", run.finish());
        return;
    }
    let mut ends = Ends::default();
    for seed in 0..number("SEGUE_SIM_SEEDS").unwrap_or(SEEDS) {
        match Run::new(seed).finish() {
            Ok(end) => ends.count(end),
            Err(why) => panic!(
                "seed {seed}: {why}\nreplay: SEGUE_SIM_SEED={seed} cargo test --test sim -- --nocapture"
            ),
        }
    }
    println!("{ends:?}");
    assert!(
        ends.done > 0 && ends.rolled_back > 0 && ends.failed > 0,
        "the seeds do not reach every end: {ends:?}"
    );
    assert!(ends.fenced_off > 0 && ends.crashed_at_work > 0, "the seeds hardly try the fence: {ends:?}");
    assert!(ends.paused > 0 && ends.taken_back > 0 && ends.moved > 0, "the seeds meet too little: {ends:?}");
}
