//! What all sidecars of a cluster agree on, and the entries that change it.

use std::collections::{BTreeMap, VecDeque};

use segue_wire::{PeerName, Release};
use serde::{Deserialize, Serialize};

use super::{
    action::{ActionId, Moment, Outcome},
    fleet::Fleet,
    plan::{Command, Event},
    rules::Rules,
    transaction::{Pending, Phase, Transaction, by_name},
};
use crate::{
    cluster::Machine,
    status::{TranslationChange, TranslationChanged},
};

/// Lines of the journal that are kept; the oldest go first.
pub const JOURNAL_LINES_MAX: usize = 2048;
/// Bytes of one line of the journal; the rest is cut off, visibly.
pub const JOURNAL_LINE_BYTES_MAX: usize = 4096;
/// Bytes of all of them together: with all else, the state has to fit into one value of an etcd.
pub const JOURNAL_BYTES_MAX: usize = 512 << 10;
/// Transactions that are remembered once they are over.
pub const HISTORY_MAX: usize = 16;
/// Steps whose times are remembered.
pub const STEPS_MAX: usize = 1024;
/// Changes of the translation that are remembered.
pub const CHANGES_MAX: usize = 256;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub nodes: BTreeMap<PeerName, Registered>,
    /// The newest one, over or not.
    pub transaction: Option<Transaction>,
    /// Those before it, newest first.
    pub history: VecDeque<Ended>,
    /// What was decided and what came of it, oldest first.
    pub journal: VecDeque<Line>,
    /// The steps that were done, oldest first, of all transactions.
    pub steps: VecDeque<Step>,
    /// The translation's settings that the operator made for all nodes, newest first.
    pub translations: VecDeque<TranslationChanged>,
    /// Of the pending actions, which a node has begun.
    pub claimed: BTreeMap<PeerName, ActionId>,
    next_transaction: u64,
    steps_done: u64,
}

/// What the registry knows of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    pub node: PeerName,
    /// Where clients reach its store; `None` of a witness.
    pub store: Option<String>,
    /// The store's own word: `redis-8.0`.
    pub release: Option<String>,
    pub master: Option<bool>,
    pub in_sync: bool,
    /// Its place among the secondaries, where its config says it.
    #[serde(default)]
    pub number: Option<u32>,
    /// Version of its sidecar.
    pub sidecar: String,
}

/// A transaction that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub id: u64,
    #[serde(with = "by_name")]
    pub from: Release,
    #[serde(with = "by_name")]
    pub to: Release,
    pub phase: Phase,
    pub at: Moment,
}

/// A step that was done, and how long it took from when it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Counted over all transactions, from 1.
    pub number: u64,
    pub transaction: u64,
    pub node: PeerName,
    /// [`Do::label`](super::action::Do::label).
    pub label: String,
    pub took_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub at: Moment,
    pub transaction: u64,
    pub node: Option<PeerName>,
    pub action: Option<ActionId>,
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    Register(Registered),
    Start {
        at: Moment,
        who: String,
        #[serde(with = "by_name")]
        from: Release,
        #[serde(with = "by_name")]
        to: Release,
        rules: Rules,
        fleet: Fleet,
    },
    /// From whoever leads.
    Seen {
        at: Moment,
        fleet: Fleet,
    },
    Tick {
        at: Moment,
    },
    /// The node is about to begin, or to go on with, what was asked of it.
    Claim {
        at: Moment,
        id: ActionId,
    },
    /// How an action went, with what its commands printed.
    Ended {
        at: Moment,
        id: ActionId,
        outcome: Outcome,
        output: Vec<String>,
    },
    Command {
        at: Moment,
        who: String,
        command: Command,
    },
    /// All nodes are to translate like this.
    Translate {
        at: Moment,
        who: String,
        change: TranslationChange,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    Done,
    /// The action is not pending any more: it is not to be begun.
    Stale,
    /// Nothing has changed; why, for a person.
    Rejected(String),
}

impl Machine for State {
    type Entry = Entry;
    type Answer = Answer;

    fn apply(&mut self, entry: Entry) -> Answer {
        match entry {
            Entry::Register(node) => {
                self.nodes.insert(node.node.clone(), node);
                Answer::Done
            }
            Entry::Start { at, who, from, to, rules, fleet } => {
                self.start(at, &who, (from, to), rules, fleet)
            }
            Entry::Seen { at, fleet } => self.happened(Event::Seen(fleet), at),
            Entry::Tick { at } => self.happened(Event::Tick, at),
            Entry::Claim { at, id } => self.claim(id, at),
            Entry::Ended { at, id, outcome, output } => self.ended(id, outcome, output, at),
            Entry::Command { at, who, command } => self.command(&who, command, at),
            Entry::Translate { at, who, change } => self.translate(at, who, change),
        }
    }
}

impl State {
    /// The transaction that runs.
    #[must_use]
    pub fn running(&self) -> Option<&Transaction> {
        self.transaction.as_ref().filter(|transaction| !transaction.phase.is_over())
    }

    /// The release that upgraded nodes speak to the others, as long as this node is not finalized.
    #[must_use]
    pub fn spoken(&self, node: &PeerName) -> Option<&Release> {
        let transaction = self.running()?;
        let finalized = transaction.nodes.get(node).is_some_and(|node| node.finalized);
        (!finalized).then_some(&transaction.from)
    }

    fn start(
        &mut self,
        at: Moment,
        who: &str,
        releases: (Release, Release),
        rules: Rules,
        fleet: Fleet,
    ) -> Answer {
        if let Some(why) = self.running().map(Transaction::runs_already) {
            return Answer::Rejected(why);
        }
        let id = self.next_transaction.max(1);
        let said = format!("{who} starts the upgrade from {} to {}", releases.0, releases.1);
        match Transaction::begin(id, releases, rules, fleet, at) {
            Err(why) => Answer::Rejected(why.to_string()),
            Ok((transaction, _)) => {
                self.next_transaction = id + 1;
                self.claimed.clear();
                if let Some(over) = self.transaction.replace(transaction) {
                    let Transaction { id, from, to, phase, .. } = over;
                    self.history.push_front(Ended { id, from, to, phase, at });
                    self.history.truncate(HISTORY_MAX);
                }
                self.note(at, None, None, &said);
                Answer::Done
            }
        }
    }

    fn happened(&mut self, event: Event, at: Moment) -> Answer {
        self.change(at, |transaction| {
            transaction.handle(event, at);
            Answer::Done
        })
    }

    fn claim(&mut self, id: ActionId, at: Moment) -> Answer {
        let pending = self.running().and_then(|transaction| {
            transaction.unfinished().find(|action| action.id == id && action.deadline > at).cloned()
        });
        let Some(action) = pending else { return Answer::Stale };
        if self.claimed.insert(action.node.clone(), id) != Some(id) {
            let said = format!("{} begins", action.what.label());
            self.note(at, Some(action.node), Some(id), &said);
        }
        Answer::Done
    }

    fn ended(&mut self, id: ActionId, outcome: Outcome, output: Vec<String>, at: Moment) -> Answer {
        let pending = self
            .running()
            .and_then(|transaction| transaction.pending.iter().find(|pending| pending.action.id == id));
        let Some(Pending { action, asked_at, .. }) = pending.cloned() else { return Answer::Stale };
        for line in output {
            self.note(at, Some(action.node.clone()), Some(id), &line);
        }
        let label = action.what.label();
        let said = match &outcome {
            Outcome::Done => format!("{label} is done"),
            Outcome::NotYet(why) => format!("{label} waits: {why}"),
            Outcome::Failed(why) => format!("{label} failed: {why}"),
        };
        if outcome == Outcome::Done {
            self.steps_done += 1;
            if self.steps.len() >= STEPS_MAX {
                self.steps.pop_front();
            }
            self.steps.push_back(Step {
                number: self.steps_done,
                transaction: id.transaction,
                node: action.node.clone(),
                label: label.to_owned(),
                took_ms: at.0.saturating_sub(asked_at.0),
            });
        }
        self.note(at, Some(action.node), Some(id), &said);
        self.happened(Event::Ended(id, outcome), at)
    }

    fn command(&mut self, who: &str, command: Command, at: Moment) -> Answer {
        let said = format!("{who}: {}", command.label());
        let answer = self.change(at, |transaction| match transaction.command(command, at) {
            Ok(_) => Answer::Done,
            Err(why) => Answer::Rejected(why.to_string()),
        });
        if answer == Answer::Done {
            self.note(at, None, None, &said);
        }
        answer
    }

    fn translate(&mut self, at: Moment, who: String, change: TranslationChange) -> Answer {
        let before = self.translations.front();
        let mode = change.mode.or_else(|| before.map(|before| before.mode.clone()));
        let loss = change.loss.or_else(|| before.map(|before| before.loss.clone()));
        let (Some(mode), Some(loss)) = (mode, loss) else {
            return Answer::Rejected("the first change for all nodes has to name mode and loss".to_owned());
        };
        let changed = TranslationChanged {
            at_unix_s: at.0 / 1000,
            who,
            reason: change.reason,
            forced: change.force,
            mode,
            loss,
        };
        self.translations.push_front(changed);
        self.translations.truncate(CHANGES_MAX);
        Answer::Done
    }

    /// Changes the transaction, and writes down where that has brought it.
    fn change(&mut self, at: Moment, change: impl FnOnce(&mut Transaction) -> Answer) -> Answer {
        let Some(transaction) = self.transaction.as_mut().filter(|transaction| !transaction.phase.is_over())
        else {
            return Answer::Rejected("no transaction runs; begin one with `segue upgrade start`".to_owned());
        };
        let (phase, paused) = (transaction.phase.label(), transaction.paused.clone());
        let answer = change(transaction);
        let now = (transaction.phase.label(), transaction.paused.clone());
        if now.0 != phase {
            self.note(at, None, None, &format!("the transaction is {}", now.0));
        }
        if now.1 != paused {
            match now.1 {
                Some(pause) => self.note(at, pause.node, None, &format!("paused: {}", pause.why)),
                None => self.note(at, None, None, "no longer paused"),
            }
        }
        answer
    }

    fn note(&mut self, at: Moment, node: Option<PeerName>, action: Option<ActionId>, text: &str) {
        let mut text = text.to_owned();
        if text.len() > JOURNAL_LINE_BYTES_MAX {
            let end = (0..=JOURNAL_LINE_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end));
            text.truncate(end.unwrap_or_default());
            text.push_str(" … (cut off)");
        }
        let transaction = self.transaction.as_ref().map_or(0, |transaction| transaction.id);
        let mut bytes: usize = self.journal.iter().map(|line| line.text.len()).sum();
        while self.journal.len() >= JOURNAL_LINES_MAX || bytes.saturating_add(text.len()) > JOURNAL_BYTES_MAX
        {
            let Some(oldest) = self.journal.pop_front() else { break };
            bytes = bytes.saturating_sub(oldest.text.len());
        }
        self.journal.push_back(Line { at, transaction, node, action, text });
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
