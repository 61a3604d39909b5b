//! What becomes of the agreed state with each entry, and what must be true of that.

use std::{collections::BTreeSet, rc::Rc};

use segue::{
    cluster::Machine,
    upgrade::{
        action::{Action, ActionId, Do, Gate, Moment, Outcome},
        plan::Command,
        state::{Answer, Entry},
        transaction::{Cause, Phase, Transaction},
    },
};

use crate::run::Run;

impl Run {
    /// An entry is agreed on: the state changes, and is checked.
    pub fn agree(&mut self, entry: Entry) -> Result<Answer, String> {
        let before = Rc::clone(&self.agreed);
        let answer = match &entry {
            Entry::Claim { at, id } => self.claimed(&before, *at, *id, entry.clone())?,
            Entry::Ended { id, .. } if !is_pending(&before, *id) => self.repeated(entry.clone())?,
            _ => self.state.apply(entry.clone()),
        };
        if self.transaction() == &*before {
            return Ok(answer);
        }
        self.agreed = Rc::new(self.transaction().clone());
        if self.shows {
            println!("{:7} agreed {entry:?}: {}", self.now, self.agreed.phase.label());
        }
        if let Some(pause) = self.agreed.paused.as_ref().filter(|_| before.paused.is_none()) {
            self.met.paused += 1;
            self.met.taken_back += u64::from(pause.cause == Cause::TakenBack);
        }
        self.check_pause(&before, &entry, &answer)?;
        Ok(answer)
    }

    /// The fence lets through what is pending, and nothing else.
    fn claimed(
        &mut self,
        before: &Transaction,
        at: Moment,
        id: ActionId,
        entry: Entry,
    ) -> Result<Answer, String> {
        let mut unfinished = before.unfinished();
        let wanted =
            !before.phase.is_over() && unfinished.any(|action| action.id == id && action.deadline > at);
        let answer = self.state.apply(entry);
        if (answer == Answer::Done) != wanted {
            return Err(format!("the claim of {id} was answered {answer:?}, and pending is {wanted}"));
        }
        if wanted {
            self.fenced.insert(id);
        } else {
            self.met.fenced_off += 1;
        }
        Ok(answer)
    }

    /// The end of what is not pending any more changes nothing.
    fn repeated(&mut self, entry: Entry) -> Result<Answer, String> {
        let before = self.state.clone();
        let said = format!("{entry:?}");
        let answer = self.state.apply(entry);
        if answer != Answer::Stale || self.state != before {
            return Err(format!("{said} came late, and changed something: {answer:?}"));
        }
        Ok(answer)
    }

    /// While it is paused nothing new is begun, and a node whose gate stayed shut stays where it is.
    fn check_pause(&mut self, before: &Transaction, entry: &Entry, answer: &Answer) -> Result<(), String> {
        let is_back = |transaction: &Transaction| matches!(transaction.phase, Phase::RollingBack { .. });
        let command = match entry {
            Entry::Command { command, .. } => Some(command),
            _ => None,
        };
        let resumed = *answer == Answer::Done && command == Some(&Command::Resume);
        if resumed || is_back(&self.agreed) && !is_back(before) {
            self.shut.clear();
            return Ok(());
        }
        let (at, ended) = match entry {
            Entry::Seen { at, .. } | Entry::Tick { at } | Entry::Command { at, .. } => (*at, None),
            Entry::Ended { at, id, outcome: Outcome::Done, .. } => (*at, Some(*id)),
            Entry::Ended { at, .. } => (*at, None),
            _ => return Ok(()),
        };
        let given_up = |action: &&Action| {
            let late = action.what.is_gate() && action.deadline <= at && Some(action.id) != ended;
            late && !is_pending(&self.agreed, action.id)
        };
        self.shut.extend(before.unfinished().filter(given_up).map(|action| action.node.clone()));
        let known: BTreeSet<_> = before.unfinished().map(|action| action.id).collect();
        for action in self.agreed.unfinished().filter(|action| !known.contains(&action.id)) {
            let begins = action.what == Do::PassGate(Gate::Before);
            if self.shut.contains(&action.node) || begins && before.paused.is_some() {
                return Err(format!("{action:?} is begun while it is paused or its gate is shut"));
            }
        }
        Ok(())
    }
}

fn is_pending(transaction: &Transaction, id: ActionId) -> bool {
    !transaction.phase.is_over() && transaction.unfinished().any(|action| action.id == id)
}
