//! What was refused lately, and whether trying again could give anything else.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use segue_wire::{PeerName, Refusal};

use crate::status::{REFUSALS_KEPT_MAX, RefusalStatus};

/// A store tries again every second, and each try could cost its master a fork and a snapshot. So a
/// refused peer is told the same at once, for this long; each further refusal doubles it.
const WAIT_MIN: Duration = Duration::from_secs(2);
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Most peers remembered; beyond, all are forgotten and learned anew.
const PEERS_MAX: usize = 1024;

#[derive(Debug, Default)]
pub struct Refusals {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Newest first.
    recent: VecDeque<RefusalStatus>,
    waiting: HashMap<PeerName, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    refusal: Refusal,
    until: Instant,
    wait: Duration,
}

impl Refusals {
    pub fn record(&self, status: RefusalStatus) {
        let mut inner = self.lock();
        inner.recent.truncate(REFUSALS_KEPT_MAX.saturating_sub(1));
        inner.recent.push_front(status);
    }

    /// The peer was refused for what its master holds: it will be again until that changes.
    pub fn hold_off(&self, peer: &PeerName, refusal: &Refusal, now: Instant) {
        let mut inner = self.lock();
        if inner.waiting.len() >= PEERS_MAX {
            inner.waiting.clear();
        }
        let wait = inner.waiting.get(peer).map_or(WAIT_MIN, |waiting| (waiting.wait * 2).min(WAIT_MAX));
        inner.waiting.insert(peer.clone(), Waiting { refusal: refusal.clone(), until: now + wait, wait });
    }

    /// The refusal that the peer would only get again.
    pub fn early(&self, peer: &PeerName, now: Instant) -> Option<Refusal> {
        let inner = self.lock();
        inner.waiting.get(peer).filter(|waiting| now < waiting.until).map(|waiting| waiting.refusal.clone())
    }

    /// Something changed: whoever waits may try again.
    pub fn clear(&self) {
        self.lock().waiting.clear();
    }

    /// The peer is linked: its next refusal is a new one.
    pub fn linked(&self, peer: &PeerName) {
        self.lock().waiting.remove(peer);
    }

    pub fn recent(&self) -> Vec<RefusalStatus> {
        self.lock().recent.iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_peer_waits_twice_as_long_each_time_up_to_a_bound() {
        let refusals = Refusals::default();
        let peer: PeerName = "n2".into();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..7 {
            refusals.hold_off(&peer, &Refusal::ShiftedOffsets, now);
            let wait =
                (0..=61).find(|s| refusals.early(&peer, now + Duration::from_secs(*s)).is_none()).unwrap();
            waits.push(wait);
            now += Duration::from_secs(wait);
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60]);
        refusals.hold_off(&peer, &Refusal::ShiftedOffsets, now);
        refusals.clear();
        assert_eq!(refusals.early(&peer, now), None);
    }

    #[test]
    fn only_the_newest_refusals_are_kept() {
        let refusals = Refusals::default();
        for at_unix_s in 0..100 {
            refusals.record(RefusalStatus {
                at_unix_s,
                listen: String::new(),
                peer: None,
                reason: "loss".into(),
                detail: String::new(),
            });
        }
        let recent = refusals.recent();
        assert_eq!((recent.len(), recent[0].at_unix_s), (REFUSALS_KEPT_MAX, 99));
    }
}
