//! What must always be true of the stores.

use segue::upgrade::{
    action::{Action, Do, Generation},
    transaction::Phase,
};
use segue_wire::PeerName;

use crate::{
    node::Node,
    run::{Ends, Run},
};

impl Run {
    pub fn check(&self) -> Result<(), String> {
        let masters: Vec<_> = self.nodes.iter().filter(|(_, node)| node.is_master).collect();
        let [(name, master)] = masters[..] else { return Err(format!("{} masters", masters.len())) };
        if master.writes < self.acknowledged {
            let lost = self.acknowledged - master.writes;
            return Err(format!("{lost} acknowledged writes lost: the master {name} does not have them"));
        }
        if master.finalized && !self.nodes.values().all(|node| node.installed == Generation::New) {
            return Err("finalized before all are upgraded".into());
        }
        Ok(())
    }

    /// No more nodes are down by our doing than the rules allow, and none before its batch.
    pub fn check_order(&self, action: &Action) -> Result<(), String> {
        if action.what != Do::Stop {
            return Ok(());
        }
        let down =
            |(name, node): &(&PeerName, &Node)| **name != action.node && !node.running && !node.crashed;
        let down = self.nodes.iter().filter(down).count();
        if down >= self.transaction().rules.batch {
            return Err(format!("{down} nodes are down already, and {} is to be stopped", action.node));
        }
        Ok(())
    }

    pub fn check_end(mut self) -> Result<Ends, String> {
        let all = |generation| {
            self.nodes.values().all(|node| node.installed == generation && node.notified == generation)
        };
        match &self.transaction().phase.clone() {
            Phase::Done if all(Generation::New) => self.met.done += 1,
            Phase::RolledBack { .. } if all(Generation::Old) => self.met.rolled_back += 1,
            Phase::Failed { .. } if all(Generation::Old) => self.met.failed += 1,
            phase => return Err(format!("ended as {phase:?} with {:#?}", self.nodes)),
        }
        Ok(self.met)
    }
}
