//! How the operator wants an upgrade done.

use std::time::Duration;

use segue_wire::PeerName;
use serde::{Deserialize, Serialize};

/// Most nodes that may be upgraded at one time.
pub const BATCH_MAX: usize = 64;
/// Most times that a step is tried.
pub const ATTEMPTS_MAX: u32 = 16;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    pub order: Order,
    /// These secondaries first, in this order; the others follow by number.
    pub first: Vec<PeerName>,
    /// So many nodes at one time; the master is always alone.
    pub batch: usize,
    /// After so many nodes the transaction rests for `canary_soak`.
    pub canary: usize,
    pub canary_soak: Duration,
    /// Wait for the operator before the master is touched.
    pub hold_before_master: bool,
    /// How long all nodes run on the new release before it may be finalized.
    pub soak: Duration,
    pub finalize: Finalize,
    pub on_failure: OnFailure,
    /// How often a failed step is tried in all.
    pub attempts_max: u32,
    /// How long a step that runs on a node may take.
    pub step_time_max: Duration,
    /// How long a gate may stay shut, and a node take to catch up. Then the transaction pauses.
    pub gate_time_max: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    SecondariesFirst,
    MasterFirst,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finalize {
    /// By the operator.
    Manual,
    /// By itself, so long after all nodes were upgraded.
    After(Duration),
}

/// What becomes of the transaction once a node had to be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    Pause,
    Rollback,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            order: Order::SecondariesFirst,
            first: Vec::new(),
            batch: 1,
            canary: 0,
            canary_soak: Duration::ZERO,
            hold_before_master: false,
            soak: Duration::ZERO,
            finalize: Finalize::Manual,
            on_failure: OnFailure::Pause,
            attempts_max: 3,
            step_time_max: Duration::from_secs(300),
            gate_time_max: Duration::from_secs(600),
        }
    }
}
