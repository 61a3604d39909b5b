//! What is to be done on a node, and what came of it.

use std::{fmt, time::Duration};

use segue_wire::PeerName;
use serde::{Deserialize, Serialize};

/// A point in time, in milliseconds since the epoch. It comes in from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moment(pub u64);

impl Moment {
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// Names one try of one step of one transaction. A node does what a later one says and nothing that an
/// earlier one said, so that a coordinator that was thought dead can't undo what came after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ActionId {
    pub transaction: u64,
    pub step: u64,
    pub attempt: u32,
}

impl fmt::Display for ActionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.transaction, self.step, self.attempt)
    }
}

/// One thing to do. Done twice, it is as if it was done once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    pub id: ActionId,
    pub node: PeerName,
    pub what: Do,
    /// When it has taken too long.
    pub deadline: Moment,
}

/// The releases a node can be on: the one before the upgrade, and the one after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Generation {
    #[default]
    Old,
    New,
}

impl Generation {
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Old => "old",
            Self::New => "new",
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Do {
    /// Is the node there, with hooks that can run, room on its disk, and the releases it needs?
    Preflight,
    /// May the node be touched, may the next one be?
    PassGate(Gate),
    /// Nobody but `to` is master, all others follow it, and no write was lost on the way.
    MoveMaster {
        to: PeerName,
    },
    Stop,
    /// What the store, which is down, has on disk: ready for this generation.
    SetAside(Generation),
    Install(Generation),
    Start,
    /// The node has all that its master has.
    CatchUp,
    /// All sidecars know which generation the node is on.
    Notify(Generation),
    /// Its links speak the new release.
    Finalize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    Before,
    After,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Done,
    /// Not yet, and why. It goes on being tried up to its deadline.
    NotYet(String),
    Failed(String),
}

impl Do {
    /// Whether it only waits for something: then its time-out pauses, and never proceeds.
    #[must_use]
    pub const fn is_gate(&self) -> bool {
        matches!(self, Self::PassGate(_) | Self::CatchUp)
    }

    /// For a person, and for metric labels.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::PassGate(Gate::Before) => "gate-before",
            Self::PassGate(Gate::After) => "gate-after",
            Self::MoveMaster { .. } => "move-master",
            Self::Stop => "stop",
            Self::SetAside(_) => "set-aside",
            Self::Install(_) => "install",
            Self::Start => "start",
            Self::CatchUp => "catch-up",
            Self::Notify(_) => "notify",
            Self::Finalize => "finalize",
        }
    }
}
