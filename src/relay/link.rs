//! One live link, as the rest of the sidecar sees it: counters, who and what, a way to end it.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use segue_wire::{PeerName, Release, Side, Verdict};
use tokio_util::sync::CancellationToken;

use super::bounds::Held;
use crate::{
    peers::Known,
    status::{EndStatus, LinkStatus},
    tls::stream::Version,
};

pub struct Link {
    pub id: u64,
    pub listen: SocketAddr,
    accepted: Instant,
    dialer_address: SocketAddr,
    listener_address: String,
    bytes_from: [AtomicU64; 2],
    /// Of these, how many the metrics have.
    bytes_reported: [AtomicU64; 2],
    pub rewritten: AtomicU64,
    pub losses: AtomicU64,
    held_bytes: AtomicUsize,
    /// By all links.
    pub all_held: Arc<Held>,
    pub shift_bytes: AtomicI64,
    /// The replica follows by an id of its own.
    pub own_offsets: AtomicBool,
    /// The replica waits for, receives or loads a snapshot: cut now, it would need another one.
    pub snapshot_under_way: AtomicBool,
    facts: Mutex<Facts>,
    /// Asks the link to save what it must and end.
    pub end: CancellationToken,
    /// It has.
    pub ended: CancellationToken,
}

/// What becomes known while the link opens.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub dialer: EndFacts,
    pub listener: EndFacts,
    pub verdict: Option<Verdict>,
    pub target: Option<Release>,
    /// The dialer is a client of the store: no replication link at all. It may be another store.
    pub client: bool,
    /// It joins two buses.
    pub bus: bool,
}

impl Facts {
    /// The release of the store that takes the content: who dials to replicate, but not to migrate keys.
    pub fn receiver(&self) -> Option<&Release> {
        let end = if self.client { &self.listener } else { &self.dialer };
        end.known.as_ref().map(|known| &known.release)
    }
}

#[derive(Clone, Debug, Default)]
pub struct EndFacts {
    pub name: Option<PeerName>,
    pub known: Option<Known>,
    /// Its version, where this end speaks TLS.
    pub tls: Option<Version>,
}

impl Link {
    pub fn new(
        id: u64,
        listen: SocketAddr,
        dialer_address: SocketAddr,
        listener_address: String,
        all_held: Arc<Held>,
        parent: &CancellationToken,
    ) -> Self {
        Self {
            id,
            listen,
            accepted: Instant::now(),
            dialer_address,
            listener_address,
            bytes_from: Default::default(),
            bytes_reported: Default::default(),
            rewritten: AtomicU64::new(0),
            losses: AtomicU64::new(0),
            held_bytes: AtomicUsize::new(0),
            all_held,
            shift_bytes: AtomicI64::new(0),
            own_offsets: AtomicBool::new(false),
            snapshot_under_way: AtomicBool::new(false),
            facts: Mutex::default(),
            end: parent.child_token(),
            ended: CancellationToken::new(),
        }
    }

    pub const fn dialer_address(&self) -> SocketAddr {
        self.dialer_address
    }

    pub fn address(&self, side: Side) -> String {
        match side {
            Side::Dialer => self.dialer_address.to_string(),
            Side::Listener => self.listener_address.clone(),
        }
    }

    pub fn count_bytes(&self, from: Side, bytes: u64) {
        self.bytes_from[usize::from(from == Side::Listener)].fetch_add(bytes, Relaxed);
    }

    /// So many bytes are read and not yet sent on.
    pub fn hold(&self, bytes: usize) {
        if self.held_bytes.load(Relaxed) != bytes {
            let before = self.held_bytes.swap(bytes, Relaxed);
            self.all_held.change(before, bytes);
        }
    }

    /// Bytes from each side that the metrics do not have yet; now they do.
    pub fn take_unreported_bytes(&self) -> [(Side, u64); 2] {
        Side::BOTH.map(|side| {
            let index = usize::from(side == Side::Listener);
            let bytes = self.bytes_from[index].load(Relaxed);
            (side, newly_reported(&self.bytes_reported[index], bytes))
        })
    }

    pub fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The peer at the far end: of the two names, the one that is not the own node's.
    pub fn peer(&self, own: &PeerName) -> Option<PeerName> {
        let facts = self.facts();
        [&facts.dialer, &facts.listener]
            .into_iter()
            .filter_map(|end| end.name.clone())
            .find(|name| name != own)
    }

    /// By it a store follows another one.
    pub fn is_replication(&self) -> bool {
        let facts = self.facts();
        facts.verdict.is_some() && !(facts.bus || facts.client)
    }

    /// A stable label, as in `segue_links{verdict}`.
    pub fn verdict_label(&self) -> &'static str {
        let facts = self.facts();
        match &facts.verdict {
            Some(verdict) => verdict.label(),
            None if facts.client => "client",
            None => "handshake",
        }
    }

    pub fn status(&self) -> LinkStatus {
        let verdict = self.verdict_label().to_owned();
        let facts = self.facts();
        let end = |end: &EndFacts, address: String| EndStatus {
            peer: end.name.as_ref().map(ToString::to_string),
            address,
            release: end.known.as_ref().map(Into::into),
            tls: end.tls.map(|version| version.label().to_owned()),
        };
        LinkStatus {
            id: self.id,
            listen: self.listen.to_string(),
            dialer: end(&facts.dialer, self.dialer_address.to_string()),
            listener: end(&facts.listener, self.listener_address.clone()),
            bus: facts.bus,
            verdict,
            target: facts.target.as_ref().map(ToString::to_string),
            unspoken: None,
            bytes_from_dialer: self.bytes_from[0].load(Relaxed),
            bytes_from_listener: self.bytes_from[1].load(Relaxed),
            messages_rewritten: self.rewritten.load(Relaxed),
            losses: self.losses.load(Relaxed),
            offset_shift_bytes: self.shift_bytes.load(Relaxed),
            own_offsets: self.own_offsets.load(Relaxed),
            held_bytes: self.held_bytes.load(Relaxed) as u64,
            age_s: self.accepted.elapsed().as_secs(),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.hold(0);
    }
}

/// What of `bytes` is not reported yet; now it is. Two may report at once, and the later one may have looked
/// earlier: what the other has counted is not its own.
fn newly_reported(reported: &AtomicU64, bytes: u64) -> u64 {
    bytes.saturating_sub(reported.fetch_max(bytes, Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_reported_once_even_by_one_that_looked_before_another_reported() {
        let reported = AtomicU64::new(0);
        assert_eq!([20, 10, 25, 25].map(|bytes| newly_reported(&reported, bytes)), [20, 0, 5, 0]);
    }
}
