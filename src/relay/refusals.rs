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
    /// The newest of each peer: never displaced by what strangers are refused.
    by_peer: HashMap<PeerName, (Instant, RefusalStatus)>,
}

#[derive(Debug)]
struct Waiting {
    refusal: Refusal,
    until: Instant,
    wait: Duration,
}

impl Refusals {
    pub fn record(&self, peer: Option<PeerName>, status: RefusalStatus, now: Instant) {
        let mut inner = self.lock();
        if let Some(peer) = peer {
            if inner.by_peer.len() >= PEERS_MAX {
                inner.by_peer.clear();
            }
            inner.by_peer.insert(peer, (now, status.clone()));
        }
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

    /// The newest of each peer that is no older than this, by peer.
    pub fn of_peers(&self, age_max: Duration, now: Instant) -> Vec<RefusalStatus> {
        let inner = self.lock();
        let young = |(at, _): &&(Instant, RefusalStatus)| now.saturating_duration_since(*at) <= age_max;
        let mut found: Vec<_> =
            inner.by_peer.values().filter(young).map(|(_, refusal)| refusal.clone()).collect();
        found.sort_by(|a, b| a.peer.cmp(&b.peer));
        found
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

    fn refusal(at_unix_s: u64, peer: Option<&str>) -> RefusalStatus {
        RefusalStatus {
            at_unix_s,
            listen: String::new(),
            peer: peer.map(str::to_owned),
            reason: "loss".into(),
            detail: String::new(),
        }
    }

    #[test]
    fn only_the_newest_refusals_are_kept() {
        let refusals = Refusals::default();
        for at_unix_s in 0..100 {
            refusals.record(None, refusal(at_unix_s, None), Instant::now());
        }
        let recent = refusals.recent();
        assert_eq!((recent.len(), recent[0].at_unix_s), (REFUSALS_KEPT_MAX, 99));
    }

    #[test]
    fn what_peers_were_refused_lately_is_found_behind_any_number_of_strangers() {
        let refusals = Refusals::default();
        let now = Instant::now();
        for (at, peer) in [(1, "n3"), (2, "n2"), (3, "n2")] {
            refusals.record(Some(peer.into()), refusal(at, Some(peer)), now + Duration::from_secs(at));
        }
        for _ in 0..100 {
            refusals.record(None, refusal(4, None), now);
        }
        let within = |s| {
            let found = refusals.of_peers(Duration::from_secs(s), now + Duration::from_secs(4));
            found.iter().map(|refusal| refusal.at_unix_s).collect::<Vec<_>>()
        };
        assert_eq!((within(0), within(1), within(3)), (vec![], vec![3], vec![3, 1]));
        for at in 0..=PEERS_MAX as u64 {
            let peer = format!("10.0.0.9:{at}");
            refusals.record(Some(peer.as_str().into()), refusal(at, Some(&peer)), now);
        }
        assert!(refusals.of_peers(Duration::MAX, now).len() <= PEERS_MAX);
    }
}
