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
    /// How often content that a user would miss was left out, since start.
    pub data_losses: u64,
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
            outdated = outdated.saturating_add(self.is_outdated(link).into());
            links.extend(self.replication(link));
        }
        Glance {
            release: self.peers.last_known(self.peers.own_name()).map(|known| known.release),
            data_losses: self.losses.data_total(),
            links,
            outdated,
        }
    }

    /// The newest refusal of each peer that was refused a link within this time.
    pub fn refused_peers(&self, within: Duration) -> Vec<RefusalStatus> {
        self.refusals.of_peers(within, Instant::now())
    }

    fn replication(&self, link: &Link) -> Option<Replication> {
        let (unspoken, outdated) = (self.unspoken(link), self.is_outdated(link));
        let facts = link.facts();
        let verdict = facts.verdict.clone().filter(|_| !(facts.bus || facts.client))?;
        Some(Replication {
            replica: facts.dialer.name.clone(),
            master: facts.listener.name.clone(),
            verdict,
            snapshot_under_way: link.snapshot_under_way.load(Relaxed),
            unspoken,
            outdated,
        })
    }
}
