//! The sidecars: each watches the agreed state as it knows it, and does what is pending for its own node; one
//! leads, or two believe to.

use std::rc::Rc;

use segue::upgrade::{
    action::{Action, ActionId, Do, Moment, Outcome},
    fleet::Role,
    plan::Event,
    state::{Answer, Entry},
    transaction::Transaction,
};
use segue_wire::PeerName;

use crate::{
    mesh::{Message, Proposer},
    run::Run,
    start::fleet,
};

/// Unanswered, it is proposed again.
const PROPOSE_MS: u64 = 1000;
const TRY_MS: u64 = 500;
const LEAD_MS: u64 = 1000;

#[derive(Clone, Debug)]
pub struct Sidecar {
    /// The state as known here.
    pub view: Rc<Transaction>,
    pub start: u32,
    pub up_at: u64,
    pub cut_off_until: u64,
    pub leads_until: u64,
    hand: Hand,
    at: u64,
}

/// What it is at.
#[derive(Clone, Debug, PartialEq)]
enum Hand {
    Free,
    Claims(Action),
    Performs { action: Action, told: Option<String> },
    Reports(Action, Outcome),
}

impl Sidecar {
    pub const fn new(view: Rc<Transaction>) -> Self {
        let (start, up_at, cut_off_until, leads_until, at) = (0, 0, 0, 0, 0);
        Self { view, start, up_at, cut_off_until, leads_until, hand: Hand::Free, at }
    }

    fn pending(&self, node: &PeerName, now: u64) -> Option<Action> {
        let mut unfinished = self.view.unfinished();
        unfinished.find(|action| action.node == *node && action.deadline.0 > now).cloned()
    }

    fn is_pending(&self, id: ActionId) -> bool {
        !self.view.phase.is_over() && self.view.unfinished().any(|action| action.id == id)
    }
}

impl Run {
    pub fn sidecars(&mut self) -> Result<(), String> {
        self.elect();
        for name in self.nodes.keys().cloned().collect::<Vec<_>>() {
            let (crashes, parts) = (self.faulty(150), self.faulty(200));
            let (away, news) = (self.rng.u64(0..8000), self.rng.u32(0..3) > 0);
            let now = self.now;
            let agreed = Rc::clone(&self.agreed);
            let Some(sidecar) = self.sidecars.get_mut(&name) else { continue };
            if crashes && sidecar.up_at <= now {
                // In the middle of whatever it was at.
                self.met.crashed_at_work += u64::from(sidecar.hand != Hand::Free);
                (sidecar.up_at, sidecar.leads_until, sidecar.hand) = (now + away, 0, Hand::Free);
                sidecar.start += 1;
            }
            if parts {
                sidecar.cut_off_until = now + away;
            }
            if sidecar.up_at > now {
                continue;
            }
            if sidecar.cut_off_until <= now && news {
                sidecar.view = agreed;
            }
            self.work(&name)?;
            if self.now.is_multiple_of(LEAD_MS) {
                self.lead(&name);
            }
        }
        Ok(())
    }

    /// Another one leads from now on; the one before may not know it yet.
    fn elect(&mut self) {
        let now = self.now;
        let is_able = |sidecar: &Sidecar| sidecar.up_at <= now && sidecar.cut_off_until <= now;
        let leads = self.sidecars.values().any(|sidecar| is_able(sidecar) && sidecar.leads_until == u64::MAX);
        if leads && !self.faulty(150) {
            return;
        }
        let known_by = now + self.rng.u64(0..5000);
        for sidecar in self.sidecars.values_mut().filter(|sidecar| sidecar.leads_until == u64::MAX) {
            sidecar.leads_until = known_by;
        }
        let able: Vec<_> = self.sidecars.iter().filter(|(_, sidecar)| is_able(sidecar)).collect();
        let Some(name) = self.rng.choice(able).map(|(name, _)| name.clone()) else { return };
        if let Some(sidecar) = self.sidecars.get_mut(&name) {
            sidecar.leads_until = u64::MAX;
        }
    }

    pub fn propose(&mut self, node: &PeerName, entry: Entry) {
        let Some(sidecar) = self.sidecars.get(node) else { return };
        if sidecar.up_at > self.now || sidecar.cut_off_until > self.now {
            return;
        }
        let by = Proposer { node: node.clone(), start: sidecar.start };
        self.mesh.send(&mut self.rng, self.now, Message::Propose { by, entry: Box::new(entry) });
    }

    /// The next piece of what is pending for its node.
    fn work(&mut self, name: &PeerName) -> Result<(), String> {
        let now = self.now;
        let Some(sidecar) = self.sidecars.get_mut(name).filter(|sidecar| sidecar.at <= now) else {
            return Ok(());
        };
        match sidecar.hand.clone() {
            Hand::Free => {
                let Some(action) = sidecar.pending(name, now) else { return Ok(()) };
                (sidecar.hand, sidecar.at) = (Hand::Claims(action.clone()), now + PROPOSE_MS);
                self.propose(name, Entry::Claim { at: Moment(now), id: action.id });
            }
            // Not answered: it looks anew.
            Hand::Claims(_) => sidecar.hand = Hand::Free,
            Hand::Performs { action, .. } if action.deadline.0 <= now || !sidecar.is_pending(action.id) => {
                sidecar.hand = Hand::Free;
            }
            Hand::Performs { action, told } => {
                let outcome = self.perform(&action)?;
                let at = now + TRY_MS;
                let (hand, says) = match &outcome {
                    Outcome::NotYet(why) => {
                        let is_new = told.as_ref() != Some(why);
                        (Hand::Performs { action: action.clone(), told: Some(why.clone()) }, is_new)
                    }
                    _ => (Hand::Reports(action.clone(), outcome.clone()), false),
                };
                let Some(sidecar) = self.sidecars.get_mut(name) else { return Ok(()) };
                let waits = matches!(outcome, Outcome::NotYet(_));
                (sidecar.hand, sidecar.at) = (hand, if waits { at } else { now });
                if says {
                    self.report(name, &action, outcome);
                }
            }
            Hand::Reports(action, outcome) if sidecar.is_pending(action.id) => {
                sidecar.at = now + PROPOSE_MS;
                self.report(name, &action, outcome);
            }
            Hand::Reports(..) => sidecar.hand = Hand::Free,
        }
        Ok(())
    }

    fn report(&mut self, name: &PeerName, action: &Action, outcome: Outcome) {
        let entry = Entry::Ended { at: Moment(self.now), id: action.id, outcome, output: Vec::new() };
        self.propose(name, entry);
    }

    pub fn answered(&mut self, to: &Proposer, about: ActionId, answer: &Answer) {
        let takes = self.rng.u64(0..1000);
        let now = self.now;
        let Some(sidecar) = self.sidecars.get_mut(&to.node) else { return };
        if sidecar.start != to.start || sidecar.up_at > now || sidecar.cut_off_until > now {
            return;
        }
        match &sidecar.hand {
            Hand::Claims(action) if action.id == about => {
                let hand = Hand::Performs { action: action.clone(), told: None };
                let is_let = *answer == Answer::Done;
                (sidecar.hand, sidecar.at) = (if is_let { hand } else { Hand::Free }, now + takes);
            }
            Hand::Reports(action, _) if action.id == about => sidecar.hand = Hand::Free,
            _ => {}
        }
    }

    /// Whoever believes to lead says what it sees, and lets time pass.
    fn lead(&mut self, name: &PeerName) {
        let now = self.now;
        let Some(sidecar) = self.sidecars.get(name).filter(|sidecar| sidecar.leads_until > now) else {
            return;
        };
        let view = Rc::clone(&sidecar.view);
        if view.phase.is_over() {
            return;
        }
        let moves = view.unfinished().any(|action| matches!(action.what, Do::MoveMaster { .. }));
        let mut seen = fleet(&self.nodes, now, view.fleet.moves);
        for (name, member) in &mut seen.members {
            // A move tells by itself who is master.
            if moves {
                member.role = if view.fleet.is_master(name) { Role::Master } else { Role::Secondary };
            }
        }
        if seen.members != view.fleet.members {
            self.propose(name, Entry::Seen { at: Moment(now), fleet: seen });
        }
        let mut ticked = (*view).clone();
        ticked.handle(Event::Tick, Moment(now));
        if ticked != *view {
            self.propose(name, Entry::Tick { at: Moment(now) });
        }
    }
}
