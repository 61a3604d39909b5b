//! What the gates of an upgrade look at each second.

use std::{sync::atomic::Ordering::Relaxed, time::Duration, time::Instant};

use segue_wire::{PeerName, Release, Verdict};

use super::{Shared, link::Link};
use crate::status::RefusalStatus;

/// All links at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glance {
    /// Of the own store, as last known: it is asked by each link that opens, and every ten seconds.
    pub release: Option<Release>,
    pub links: Vec<Replication>,
    /// Links still to be ended because [`Shared::speak`] was told something else since they opened.
    pub outdated: usize,
}

/// One link by which a store follows another, decided and not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replication {
    pub replica: Option<PeerName>,
    pub master: Option<PeerName>,
    pub verdict: Verdict,
    /// Of a rewritten link: its snapshot is asked for, under way or being loaded.
    pub snapshot_under_way: bool,
    /// The release that the link can't be held to, though it should.
    pub unspoken: Option<Release>,
    /// It was decided for another release than it would be now.
    pub outdated: bool,
}

impl Shared {
    pub fn glance(&self) -> Glance {
        let (mut links, mut outdated) = (Vec::new(), 0_usize);
        for link in self.links().values() {
            let is_outdated = self.is_outdated(link);
            outdated = outdated.saturating_add(is_outdated.into());
            links.extend(self.replication(link, is_outdated));
        }
        Glance {
            release: self.peers.last_known(self.peers.own_name()).map(|known| known.release),
            links,
            outdated,
        }
    }

    /// How often content that a user would miss was left out, since start.
    pub fn data_losses(&self) -> u64 {
        self.losses.data_total()
    }

    /// The newest refusal of each peer that was refused a link within this time.
    pub fn refused_peers(&self, within: Duration) -> Vec<RefusalStatus> {
        self.refusals.of_peers(within, Instant::now())
    }

    fn replication(&self, link: &Link, outdated: bool) -> Option<Replication> {
        if !link.is_replication() {
            return None;
        }
        let unspoken = self.unspoken(link);
        let facts = link.facts();
        Some(Replication {
            replica: facts.dialer.name.clone(),
            master: facts.listener.name.clone(),
            verdict: facts.verdict.clone()?,
            snapshot_under_way: link.snapshot_under_way.load(Relaxed),
            unspoken,
            outdated,
        })
    }
}
