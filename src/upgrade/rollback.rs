//! The way back: every node that was touched returns to the old release, one at a time.

use segue_wire::PeerName;

use super::{
    action::{Action, Do, Generation, Moment},
    transaction::{Course, Phase, Transaction},
};

impl Transaction {
    /// Nodes on their way to the new release turn round where they are; what was asked of them is of no
    /// interest any more.
    pub(super) fn roll_back(&mut self, reason: String) {
        if matches!(self.phase, Phase::RollingBack { .. }) {
            return;
        }
        self.paused = None;
        self.phase = Phase::RollingBack { reason };
        self.pending.retain(|pending| matches!(pending.action.what, Do::MoveMaster { .. }));
        for node in self.nodes.values_mut() {
            node.blocked = None;
            if node.course.is_some_and(|course| course.to == Generation::New) {
                node.course = node.touched.then_some(Course::new(Generation::Old));
            }
        }
    }

    pub(super) fn go_back(&mut self, reason: String, now: Moment, actions: &mut Vec<Action>) {
        self.advance(now, actions);
        let under_way = self.nodes.values().any(|node| node.course.is_some()) || !self.pending.is_empty();
        if self.paused.is_some() || under_way {
            return;
        }
        let Some(next) = self.next_back() else {
            self.phase = Phase::RolledBack { reason };
            return;
        };
        if let Some(node) = self.nodes.get_mut(&next) {
            node.course = Some(Course::new(Generation::Old));
        }
        self.advance(now, actions);
    }

    /// The last that was upgraded goes first; the master, wherever it is, last: by then there is somebody on
    /// the old release to take over.
    fn next_back(&self) -> Option<PeerName> {
        let touched = |name: &&PeerName| self.nodes.get(*name).is_some_and(|node| node.touched);
        let order = || self.batches.iter().rev().flat_map(|batch| batch.iter().rev()).filter(touched);
        order().find(|name| !self.fleet.is_master(name)).or_else(|| order().next()).cloned()
    }
}
