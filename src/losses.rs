//! The loss report: what was left out since the start, counted and bounded.
//!
//! Nothing is left out silently, and nothing grows with it: every loss is counted, the newest are
//! kept whole, and beyond [`COUNTS_MAX`] pairs of kind and peer the rest share one count.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use segue_wire::{Grade, Loss, PeerName};

use crate::status::{LOSSES_KEPT_MAX, LossCount, LossStatus, LossesStatus};

/// Most pairs of kind and peer that are counted apart. Kinds are few and peers come from the config,
/// so that only an error gets here; what is beyond it is counted under [`OTHER`].
pub const COUNTS_MAX: usize = 1024;

/// The kind, and no peer, of what is counted beyond [`COUNTS_MAX`].
pub const OTHER: &str = "other";

/// Longer descriptions are cut to about this many bytes.
pub const WHAT_BYTES_MAX: usize = 512;

/// Counts losses, from any thread.
#[derive(Debug, Default)]
pub struct LossReport {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    total: u64,
    /// Of these, content that a user would miss.
    data: u64,
    counts: BTreeMap<Counted, u64>,
    /// Newest first.
    recent: VecDeque<LossStatus>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Counted {
    kind: &'static str,
    grade: &'static str,
    peer: Option<PeerName>,
}

impl LossReport {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a loss on the link of this peer. `at_unix_s` is now, in seconds since the epoch.
    pub fn record(&self, loss: &Loss, peer: Option<&PeerName>, at_unix_s: u64) {
        let grade = loss.grade.label();
        let status = LossStatus {
            at_unix_s,
            kind: loss.kind.to_owned(),
            grade: grade.to_owned(),
            peer: peer.map(ToString::to_string),
            what: cut(&loss.what),
            key: loss.key_text(),
            db: loss.db,
        };
        let counted = Counted { kind: loss.kind, grade, peer: peer.cloned() };
        let mut inner = self.lock();
        inner.data = inner.data.saturating_add((loss.grade == Grade::Data).into());
        inner.record(counted, status);
    }

    /// How often content was left out that a user would miss.
    #[must_use]
    pub fn data_total(&self) -> u64 {
        self.lock().data
    }

    #[must_use]
    pub fn snapshot(&self) -> LossesStatus {
        let inner = self.lock();
        LossesStatus {
            total: inner.total,
            counts: inner.counts.iter().map(|(counted, count)| counted.status(*count)).collect(),
            recent: inner.recent.iter().cloned().collect(),
        }
    }

    /// No code panics while it holds the lock with the counts half changed, so a poisoned one is whole.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn record(&mut self, counted: Counted, status: LossStatus) {
        let counted = if self.counts.len() < COUNTS_MAX || self.counts.contains_key(&counted) {
            counted
        } else {
            Counted { kind: OTHER, peer: None, ..counted }
        };
        let count = self.counts.entry(counted).or_default();
        *count = count.saturating_add(1);
        self.total = self.total.saturating_add(1);
        self.recent.truncate(LOSSES_KEPT_MAX.saturating_sub(1));
        self.recent.push_front(status);
    }
}

impl Counted {
    fn status(&self, count: u64) -> LossCount {
        LossCount {
            kind: self.kind.to_owned(),
            grade: self.grade.to_owned(),
            peer: self.peer.as_ref().map(ToString::to_string),
            count,
        }
    }
}

fn cut(what: &str) -> String {
    if what.len() <= WHAT_BYTES_MAX {
        return what.to_owned();
    }
    let start = (0..=WHAT_BYTES_MAX).rev().find_map(|end| what.get(..end)).unwrap_or_default();
    format!("{start}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(kind: &'static str, key: &str) -> Loss {
        Loss { kind, grade: Grade::Data, what: format!("{kind} of a key"), key: Some(key.into()), db: 3 }
    }

    #[test]
    fn counts_are_by_kind_grade_and_peer() {
        let report = LossReport::new();
        let (n2, n3): (PeerName, PeerName) = ("n2".into(), "n3".into());
        report.record(&loss("hash-field-ttl", "a"), Some(&n2), 10);
        report.record(&loss("hash-field-ttl", "b\n"), Some(&n2), 11);
        report.record(&loss("hash-field-ttl", "c"), Some(&n3), 12);
        report.record(&Loss { grade: Grade::Bookkeeping, ..loss("counter", "d") }, None, 13);
        let count = |kind: &str, grade: &str, peer: Option<&str>, count| LossCount {
            kind: kind.to_owned(),
            grade: grade.to_owned(),
            peer: peer.map(str::to_owned),
            count,
        };
        let snapshot = report.snapshot();
        assert_eq!((snapshot.total, report.data_total()), (4, 3));
        assert_eq!(
            snapshot.counts,
            [
                count("counter", "bookkeeping", None, 1),
                count("hash-field-ttl", "data", Some("n2"), 2),
                count("hash-field-ttl", "data", Some("n3"), 1),
            ]
        );
        assert_eq!(snapshot.recent.iter().map(|loss| loss.at_unix_s).collect::<Vec<_>>(), [13, 12, 11, 10]);
        let second = LossStatus {
            at_unix_s: 11,
            kind: "hash-field-ttl".to_owned(),
            grade: "data".to_owned(),
            peer: Some("n2".to_owned()),
            what: "hash-field-ttl of a key".to_owned(),
            key: Some("b\\n".to_owned()),
            db: 3,
        };
        assert_eq!(snapshot.recent.get(2), Some(&second));
    }

    #[test]
    fn only_the_newest_are_kept_but_all_are_counted() {
        let report = LossReport::new();
        for at in 0..=LOSSES_KEPT_MAX as u64 {
            report.record(&loss("vector-set", "k"), None, at);
        }
        let snapshot = report.snapshot();
        assert_eq!(snapshot.total, LOSSES_KEPT_MAX as u64 + 1);
        assert_eq!(snapshot.recent.len(), LOSSES_KEPT_MAX);
        assert_eq!(snapshot.recent.first().unwrap().at_unix_s, LOSSES_KEPT_MAX as u64);
        assert_eq!(snapshot.recent.last().unwrap().at_unix_s, 1);
    }

    #[test]
    fn counts_beyond_the_bound_share_one() {
        let report = LossReport::new();
        let peers: Vec<PeerName> = (0..COUNTS_MAX + 5).map(|n| format!("n{n}").into()).collect();
        for peer in peers.iter().chain(peers.first()) {
            report.record(&loss("vector-set", "k"), Some(peer), 0);
        }
        let snapshot = report.snapshot();
        assert_eq!(snapshot.total, COUNTS_MAX as u64 + 6);
        assert_eq!(snapshot.counts.len(), COUNTS_MAX + 1);
        let count_of = |kind: &str, peer: Option<&str>| {
            snapshot.counts.iter().find(|c| c.kind == kind && c.peer.as_deref() == peer).unwrap().count
        };
        assert_eq!(count_of(OTHER, None), 5);
        assert_eq!(count_of("vector-set", Some("n0")), 2);
    }

    #[test]
    fn a_long_description_is_cut() {
        let report = LossReport::new();
        let what = "é".repeat(WHAT_BYTES_MAX);
        report.record(&Loss { what, ..loss("vector-set", "k") }, None, 0);
        assert_eq!(report.snapshot().recent.first().unwrap().what, "é".repeat(WHAT_BYTES_MAX / 2) + "…");
    }
}
