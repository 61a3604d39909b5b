//! Where a transaction stands.

use std::collections::BTreeMap;

use segue_wire::{PeerName, Release};
use serde::{Deserialize, Serialize};

use super::{
    action::{Action, ActionId, Generation, Moment},
    fleet::Fleet,
    rules::Rules,
};

/// One upgrade of one cluster. It is journalled whole before anything that it says is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    pub id: u64,
    #[serde(with = "by_name")]
    pub from: Release,
    #[serde(with = "by_name")]
    pub to: Release,
    pub rules: Rules,
    /// The order of the upgrade; fixed before anything moves.
    pub batches: Vec<Vec<PeerName>>,
    pub nodes: BTreeMap<PeerName, Node>,
    pub phase: Phase,
    /// No node is begun while this is set; one that has been stopped goes on to its end.
    pub paused: Option<Pause>,
    pub pending: Vec<Pending>,
    pub fleet: Fleet,
    pub started_at: Moment,
    pub(super) steps: u64,
    /// The operator has let the master be touched.
    pub(super) barrier_open: bool,
}

/// What was begun and has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    pub action: Action,
    pub asked_at: Moment,
    /// Why it is not done yet, as last heard.
    pub waits_for: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// What all were last told of it.
    pub generation: Generation,
    pub course: Option<Course>,
    /// What is in its way; it goes on when the operator resumes.
    pub blocked: Option<String>,
    /// Whether anything on it may differ from before the transaction.
    pub touched: bool,
    /// Its links speak the new release.
    pub finalized: bool,
}

/// A node on its way to a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Course {
    pub to: Generation,
    /// How many steps of it are done.
    pub done: usize,
    /// How often the next one was tried.
    pub attempts: u32,
    /// Since when nobody can take over from it.
    pub waits_since: Option<Moment>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    Preflight,
    /// This batch is being upgraded, or is next.
    Rolling {
        batch: usize,
    },
    /// The canaries run; this batch is next.
    Resting {
        until: Moment,
        batch: usize,
    },
    /// All are upgraded.
    Soaking {
        until: Moment,
    },
    /// It is for the operator, or for the clock.
    Upgraded {
        finalize_at: Option<Moment>,
    },
    Finalizing,
    Done,
    RollingBack {
        reason: String,
    },
    RolledBack {
        reason: String,
    },
    /// Nothing was touched.
    Failed {
        reason: String,
    },
}

/// Why nothing new is begun: which node, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    pub node: Option<PeerName>,
    pub cause: Cause,
    pub why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    Operator,
    /// The master is next, and the rules ask to hold before it.
    Barrier,
    /// A gate stayed shut.
    Gate,
    /// A step failed, and nothing was changed by it or the node stays where it is.
    Failed,
    /// A step failed, and the node returns to the old release.
    TakenBack,
}

impl Cause {
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Barrier => "barrier",
            Self::Gate => "gate",
            Self::Failed => "failed",
            Self::TakenBack => "taken-back",
        }
    }

    /// What to do.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Operator | Self::Barrier => "segue upgrade resume",
            Self::Gate => "see what it waits for, then segue upgrade resume or rollback",
            Self::Failed => "mend it, then segue upgrade resume",
            Self::TakenBack => "the node is taken back; mend it, then segue upgrade resume or rollback",
        }
    }
}

impl Phase {
    pub const LABELS: [&str; 10] = [
        "preflight",
        "rolling",
        "resting",
        "soaking",
        "upgraded",
        "finalizing",
        "done",
        "rolling-back",
        "rolled-back",
        "failed",
    ];

    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self, Self::Done | Self::RolledBack { .. } | Self::Failed { .. })
    }

    /// Why it failed, or goes or went back.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::RollingBack { reason } | Self::RolledBack { reason } | Self::Failed { reason } => {
                Some(reason)
            }
            _ => None,
        }
    }

    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::Rolling { .. } => "rolling",
            Self::Resting { .. } => "resting",
            Self::Soaking { .. } => "soaking",
            Self::Upgraded { .. } => "upgraded",
            Self::Finalizing => "finalizing",
            Self::Done => "done",
            Self::RollingBack { .. } => "rolling-back",
            Self::RolledBack { .. } => "rolled-back",
            Self::Failed { .. } => "failed",
        }
    }
}

impl Transaction {
    /// Why no other one can begin, for a person.
    pub(super) fn runs_already(&self) -> String {
        let Self { id, from, to, .. } = self;
        format!(
            "transaction {id} runs already ({}, {from} to {to}); see `segue upgrade status`",
            self.phase.label()
        )
    }

    /// What a coordinator that takes over has to see to.
    pub fn unfinished(&self) -> impl Iterator<Item = &Action> {
        self.pending.iter().map(|pending| &pending.action)
    }

    pub(super) fn is_pending_on(&self, node: &PeerName) -> bool {
        self.pending.iter().any(|pending| pending.action.node == *node)
    }

    pub(super) fn take_pending(&mut self, id: ActionId) -> Option<Pending> {
        let at = self.pending.iter().position(|pending| pending.action.id == id)?;
        Some(self.pending.remove(at))
    }

    pub(super) fn generation(&self, node: &PeerName) -> Generation {
        self.nodes.get(node).map_or(Generation::Old, |node| node.generation)
    }
}

/// A release in JSON is its name.
pub(super) mod by_name {
    use segue_wire::Release;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(release: &Release, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(release)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Release, D::Error> {
        let name = String::deserialize(from)?;
        name.parse().map_err(|_| D::Error::custom(format!("{name} is not the name of a release")))
    }
}
