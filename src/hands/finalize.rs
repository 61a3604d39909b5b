//! The own links, turned to the new release: those of a batch of replicas at a time. Whoever counts by an id of its
//! own needs a full sync then, and its master is not to serve all of them at once, nor clients to miss them all.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use segue_wire::PeerName;

use super::{
    Hands,
    perform::{Ground, Stopped},
};
use crate::relay::Glance;

/// Replicas that were turned and are not back yet, and when they were. One that the config does not know has no name.
pub type Turned = BTreeMap<Option<PeerName>, Instant>;

impl Hands {
    pub(super) async fn finalize(&self, ground: &Ground) -> Result<(), Stopped> {
        self.let_go(format!("upgrade transaction {}", ground.transaction.id)).await;
        let rules = &ground.transaction.rules;
        let glance = self.shared.glance();
        let mut turned = self.turned.lock().await;
        for (replica, since) in turned.clone() {
            if self.is_back(ground, &glance, &replica).await {
                turned.remove(&replica);
            } else if since.elapsed() >= rules.gate_time_max {
                tracing::warn!(
                    replica = replica.as_deref(),
                    gate_time_max = ?rules.gate_time_max,
                    "the replica is not back since its link was turned: the next ones are turned all the same"
                );
                turned.remove(&replica);
            }
        }
        let outdated = glance.links.iter().filter(|link| link.outdated).map(|link| link.replica.clone());
        let mut left: BTreeSet<_> = outdated.filter(|replica| !turned.contains_key(replica)).collect();
        while turned.len() < rules.batch
            && let Some(replica) = left.pop_first()
        {
            self.shared.turn(replica.clone());
            turned.insert(replica, Instant::now());
        }
        if turned.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = turned.keys().map(|replica| replica.as_deref().unwrap_or("a replica")).collect();
        let more = if left.is_empty() { String::new() } else { format!(", then {} more", left.len()) };
        Err(Stopped::NotYet(format!("{} is to link anew{more}", names.join(", "))))
    }

    /// Its link is decided anew, and it has all that its master has.
    async fn is_back(&self, ground: &Ground, glance: &Glance, replica: &Option<PeerName>) -> bool {
        let links: Vec<_> = glance.links.iter().filter(|link| link.replica == *replica).collect();
        if links.is_empty() || links.iter().any(|link| link.outdated || link.snapshot_under_way) {
            return false;
        }
        // Where bytes pass unchanged, a snapshot is none of the relay's affairs: the store itself knows.
        let seen = match replica {
            Some(replica) if *replica == self.node => ground.driver.see().await,
            Some(replica) => match self.store_of(replica) {
                Some(store) => ground.driver.see_at(&store).await,
                None => return true,
            },
            None => return true,
        };
        seen.is_ok_and(|seen| seen.linked && !seen.loading)
    }
}
