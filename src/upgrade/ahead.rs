//! What a transaction has ahead of it if nothing fails: the plan itself, played to its end on a copy.

use std::time::Duration;

use segue_wire::PeerName;

use super::{
    action::{Action, Do, Moment, Outcome},
    plan::{Command, Event},
    transaction::{Cause, Phase, Transaction},
};

/// Most that is foreseen; 64 nodes there and back have 1,100.
pub const AHEAD_MAX: usize = 1 << 14;

/// One thing that will be done, or waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// When it begins.
    pub at: Moment,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Step {
        node: PeerName,
        step: Do,
    },
    /// After the canaries.
    Rest(Duration),
    /// With all nodes upgraded.
    Soak(Duration),
    /// Until the operator lets the master be touched.
    Hold,
    /// Until the operator finalizes, or so long.
    Decide(Option<Duration>),
    /// It is over, in this phase.
    End(Phase),
}

/// Everything ahead, in order, as if it was resumed where it is paused; what is pending comes first. A step takes what `took` says of its label. What
/// waits for the operator takes no time.
#[must_use]
pub fn ahead(transaction: &Transaction, now: Moment, took: impl Fn(&Do) -> Duration) -> Vec<Ahead> {
    let mut played = Played { transaction: transaction.clone(), now, asked: Vec::new(), ahead: Vec::new() };
    let pending =
        transaction.pending.iter().map(|pending| (pending.asked_at, pending.action.clone())).collect();
    played.ask(pending, &took);
    let more = match played.transaction.paused {
        Some(_) => played.told(Command::Resume),
        None => played.transaction.handle(Event::Tick, now),
    };
    played.ask_now(more, &took);
    while played.ahead.len() < AHEAD_MAX {
        if !played.go_on(&took) {
            break;
        }
    }
    played.ahead
}

struct Played {
    transaction: Transaction,
    now: Moment,
    /// With when each ends.
    asked: Vec<(Moment, Action)>,
    ahead: Vec<Ahead>,
}

impl Played {
    fn ask_now(&mut self, actions: Vec<Action>, took: &impl Fn(&Do) -> Duration) {
        let now = self.now;
        self.ask(actions.into_iter().map(|action| (now, action)).collect(), took);
    }

    fn ask(&mut self, actions: Vec<(Moment, Action)>, took: &impl Fn(&Do) -> Duration) {
        for (at, action) in actions {
            let what = What::Step { node: action.node.clone(), step: action.what.clone() };
            self.ahead.push(Ahead { at, what });
            self.asked.push((at.after(took(&action.what)).max(self.now), action));
        }
    }

    /// One more event; `false` once it is over.
    fn go_on(&mut self, took: &impl Fn(&Do) -> Duration) -> bool {
        let first =
            self.asked.iter().enumerate().min_by_key(|(at, (ends, _))| (*ends, *at)).map(|(at, _)| at);
        let more = if let Some(first) = first {
            let (ends, action) = self.asked.remove(first);
            self.now = ends;
            self.transaction.handle(Event::Ended(action.id, Outcome::Done), ends)
        } else if let Some(until) = self.wait() {
            self.now = until.max(self.now);
            self.transaction.handle(Event::Tick, self.now)
        } else if self.transaction.paused.as_ref().is_some_and(|pause| pause.cause == Cause::Barrier) {
            self.note(What::Hold);
            self.told(Command::Resume)
        } else if matches!(self.transaction.phase, Phase::Upgraded { .. }) {
            self.note(What::Decide(None));
            self.told(Command::Finalize)
        } else {
            self.note(What::End(self.transaction.phase.clone()));
            return false;
        };
        self.ask_now(more, took);
        true
    }

    /// Until when the transaction waits by itself.
    fn wait(&mut self) -> Option<Moment> {
        let left = |until: Moment| Duration::from_millis(until.0.saturating_sub(self.now.0));
        let (until, what) = match self.transaction.phase {
            _ if self.transaction.paused.is_some() => return None,
            Phase::Resting { until, .. } => (until, What::Rest(left(until))),
            Phase::Soaking { until } => (until, What::Soak(left(until))),
            Phase::Upgraded { finalize_at: Some(until) } => (until, What::Decide(Some(left(until)))),
            _ => return None,
        };
        if until > self.now {
            self.note(what);
        }
        Some(until)
    }

    fn told(&mut self, command: Command) -> Vec<Action> {
        self.transaction.command(command, self.now).unwrap_or_default()
    }

    fn note(&mut self, what: What) {
        self.ahead.push(Ahead { at: self.now, what });
    }
}

#[cfg(test)]
#[path = "ahead_tests.rs"]
mod tests;
