//! Wherever a link is cut, the replica does everything once and in order, by a partial resync, and the
//! master is never told more than the replica has.

use std::sync::LazyLock;

use proptest::prelude::*;

use crate::{
    link::{ID, command},
    model::{Cut, START, Sidecar, Site},
};

const TO_6_0: [&str; 2] = ["redis-6.0", "redis-8.0.2"];
const TO_7_4: [&str; 2] = ["redis-7.4", "redis-8.0.2"];

/// Every way to be translated: longer, shorter, as long, not at all, in a transaction; and what pays back.
const STREAM: &[&str] = &[
    "SELECT 2",
    "SET k v",
    "HSETEX h KEEPTTL FIELDS 1 f v",
    "PING",
    "SET k v PXAT 1999999999999",
    "PING",
    "SELECT 2",
    "MULTI",
    "LPOP l 2",
    "SET a b KEEPTTL",
    "HPEXPIREAT h 99 FIELDS 1 f",
    "EXEC",
    "HPEXPIREAT h 1999999999999 FIELDS 1 f",
    "HSETEX h PXAT 1999999999999 FIELDS 1 f v",
    "SELECT 3",
    "REPLCONF GETACK *",
    "zadd z GT 5 a",
    "MULTI",
    "SET x y",
    "SET y PXAT",
    "EXEC",
    "SELECT 3",
    "COPY k l",
    "DEL k",
    "PING",
];

/// The stream with a blank line after each command, as from a master whose own stream is translated.
fn stream(texts: &[&str]) -> Vec<u8> {
    texts.iter().flat_map(|text| (command(text) + "\n").into_bytes()).collect()
}

/// What the replica has done when it has all, and how much of it after each byte of the master's.
struct Expected {
    done: Vec<String>,
    after: Vec<usize>,
}

impl Expected {
    fn of(releases: [&'static str; 2], stream: &[u8]) -> Self {
        let mut after = Vec::new();
        for sent in 0..=stream.len() {
            let mut site = Site::new(releases, &stream[..sent]);
            site.finish();
            after.push(site.replica.done.len());
        }
        let mut site = Site::new(releases, stream);
        site.finish();
        Self { done: site.replica.done, after }
    }

    fn assert(&self, site: &Site, what: &str) {
        let all = START + site.stream.len();
        let done = &site.replica.done;
        assert_eq!(*done, self.done, "{what}");
        // A blank line at the very end counts with the next command.
        assert!(site.acknowledged + 1 >= all, "{what}: acknowledged {} of {all}", site.acknowledged);
        // Only where it has nothing to go on from.
        let needless = site.full_syncs > site.from_nothing;
        assert!(!needless, "{what}: {} full syncs, {} needed", site.full_syncs, site.from_nothing);
    }

    /// What the master was told, the replica has.
    fn assert_true(&self, site: &Site, what: &str) {
        let told = site.acknowledged.saturating_sub(START).min(self.after.len() - 1);
        let done = site.replica.done.len();
        assert!(done >= self.after[told], "{what}: {done} done, but {} acknowledged", site.acknowledged);
    }
}

/// Cuts a link there, in every way, after so many that were not, and lets the replica come back.
fn cut_at(releases: [&'static str; 2], stream: &[u8], expected: &Expected, before: usize, cut: Cut) {
    for sidecar in [Sidecar::Lives, Sidecar::Dies] {
        for piece in [usize::MAX, 7] {
            let what =
                format!("{releases:?}, link {before}, {cut:?}, sidecar {sidecar:?}, in pieces of {piece}");
            let mut site = Site::new(releases, stream);
            site.piece = piece;
            for _ in 0..before {
                site.link(Cut::Never, Sidecar::Lives);
            }
            site.link(cut, sidecar);
            expected.assert_true(&site, &what);
            site.finish();
            expected.assert(&site, &what);
        }
    }
}

/// The first link, and the one after it, at each byte that the replica gets.
fn cut_everywhere(releases: [&'static str; 2], stream: &[u8], expected: &Expected) {
    let mut site = Site::new(releases, stream);
    for before in [0, 1] {
        let whole = site.link(Cut::Never, Sidecar::Lives).got;
        for got in 0..=whole {
            cut_at(releases, stream, expected, before, Cut::AtReplica(got));
        }
    }
}

#[test]
fn cut_at_each_byte_that_the_replica_gets_it_goes_on_there() {
    cut_everywhere(TO_6_0, &stream(STREAM), &EXPECTED_OF_6_0);
    cut_everywhere(TO_7_4, &stream(STREAM), &EXPECTED_OF_7_4);
}

#[test]
fn cut_at_each_byte_that_the_master_sends_it_goes_on_there() {
    let stream = stream(STREAM);
    for (releases, expected) in [(TO_6_0, &*EXPECTED_OF_6_0), (TO_7_4, &*EXPECTED_OF_7_4)] {
        for sent in 0..=stream.len() {
            cut_at(releases, &stream, expected, 0, Cut::AtMaster(sent));
        }
    }
}

#[test]
fn the_counts_part_inside_a_transaction() {
    let longer = "HSETEX h PXAT 1999999999999 FIELDS 1 f v";
    let stream = stream(&["SELECT 4", "SET k v", "MULTI", "SET a b", longer, "SET a c", "EXEC", "DEL k"]);
    let expected = Expected::of(TO_7_4, &stream);
    assert_eq!(expected.done.len(), 6);
    cut_everywhere(TO_7_4, &stream, &expected);
}

#[test]
fn a_count_that_never_differs_needs_no_id_of_its_own() {
    let stream = stream(&["SET k v", "HSETEX h KEEPTTL FIELDS 1 f v", "HPEXPIREAT h 99 FIELDS 1 f", "DEL k"]);
    let mut site = Site::new(["redis-6.2", "redis-8.0.2"], &stream);
    site.finish();
    let all = START + stream.len();
    assert_eq!(site.replica.follows, Some((ID.to_owned(), all - 1)), "but for the blank line at the end");
    assert_eq!((site.full_syncs, site.partial_syncs), (1, 0));
}

#[test]
fn a_count_that_is_about_to_differ_gets_an_id_first() {
    let stream = stream(&["SET k v", "HSETEX h PXAT 1999999999999 FIELDS 1 f v"]);
    let mut site = Site::new(TO_7_4, &stream);
    let before = command("SET k v").len();
    assert!(site.link(Cut::Never, Sidecar::Lives).closed);
    assert_eq!(site.replica.follows, Some((ID.to_owned(), START + before)));
    site.finish();
    let (id, offset) = site.replica.follows.clone().unwrap();
    assert_ne!(id, ID);
    assert!(offset > START + stream.len(), "{offset}");
    assert_eq!((site.full_syncs, site.partial_syncs), (1, 1));
    // On each link another: what was said under the last one may be more than this replica has.
    site.finish();
    assert!(site.replica.follows.as_ref().is_some_and(|(again, _)| ![ID, &id].contains(&again.as_str())));
    assert_eq!((site.full_syncs, site.partial_syncs), (1, 2));
}

static EXPECTED_OF_6_0: LazyLock<Expected> = LazyLock::new(|| Expected::of(TO_6_0, &stream(STREAM)));
static EXPECTED_OF_7_4: LazyLock<Expected> = LazyLock::new(|| Expected::of(TO_7_4, &stream(STREAM)));

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn cut_again_and_again_it_goes_on_each_time(
        cuts in prop::collection::vec((0usize..900, any::<bool>()), 1..12),
        piece in 1usize..200,
        to_6_0 in any::<bool>(),
    ) {
        let stream = stream(STREAM);
        let (releases, expected) = if to_6_0 { (TO_6_0, &*EXPECTED_OF_6_0) } else { (TO_7_4, &*EXPECTED_OF_7_4) };
        let mut site = Site::new(releases, &stream);
        site.piece = piece;
        for (got, dies) in cuts {
            site.link(Cut::AtReplica(got), if dies { Sidecar::Dies } else { Sidecar::Lives });
            expected.assert_true(&site, "after a cut");
        }
        site.finish();
        expected.assert(&site, "in the end");
    }
}
