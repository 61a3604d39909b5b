//! The shape of `/v1/upgrade`.

use serde::{Deserialize, Serialize};

use super::TranslationChanged;

/// `GET /v1/upgrade`: the upgrade as this node knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpgradeStatus {
    /// Whose word this is.
    pub node: String,
    /// When; all times here are in milliseconds, and points in time since the epoch.
    pub at_ms: u64,
    pub mesh: MeshStatus,
    pub nodes: Vec<UpgradeNode>,
    /// The newest, over or not.
    pub transaction: Option<TransactionStatus>,
    /// Those before it, newest first.
    pub history: Vec<TransactionEnded>,
    /// Newest first, at most [`JOURNAL_SHOWN_MAX`].
    pub journal: Vec<JournalLine>,
    /// Settings of the translation that were made for all nodes, newest first.
    pub translations: Vec<TranslationChanged>,
}

pub const JOURNAL_SHOWN_MAX: usize = 200;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshStatus {
    /// `raft` or `etcd`.
    pub backend: String,
    pub leader: Option<String>,
    pub members: Vec<MeshMember>,
    /// Why this node takes no part any more; the rest is as it was then.
    pub failed: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshMember {
    pub id: String,
    pub votes: bool,
    pub reachable: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeNode {
    pub id: String,
    /// `None` of a witness.
    pub store: Option<String>,
    /// What the store itself says it is.
    pub release: Option<String>,
    pub role: NodeRole,
    pub in_sync: bool,
    pub reachable: bool,
    /// How far it is behind the master's stream, where that is known.
    pub behind_bytes: Option<u64>,
    /// Version of its sidecar.
    pub sidecar: String,
    /// The part it has in the transaction.
    pub part: Option<NodePart>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeRole {
    Master,
    Secondary,
    Witness,
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePart {
    /// `old` or `new`: what all were last told of it.
    pub generation: String,
    /// Where it is on its way to, while it is.
    pub heading: Option<String>,
    /// The steps of that way, in order.
    pub steps: Vec<StepStatus>,
    /// What is in its way.
    pub blocked: Option<String>,
    pub finalized: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepStatus {
    pub step: String,
    pub state: StepState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    Done,
    /// It was asked for.
    Pending,
    Ahead,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransactionStatus {
    pub id: u64,
    pub from: String,
    pub to: String,
    /// Stable label, as in `segue_upgrade_transaction{phase}`.
    pub phase: String,
    /// Why it failed or goes back.
    pub reason: Option<String>,
    pub over: bool,
    pub started_at_ms: u64,
    /// The order of the upgrade.
    pub batches: Vec<Vec<String>>,
    pub paused: Option<PauseStatus>,
    pub pending: Vec<PendingStatus>,
    /// Content that was left out for older nodes since the start; going back costs it.
    pub losses: u64,
    /// When what it waits for by itself is over: a rest, a soak, the time up to finalizing.
    pub until_ms: Option<u64>,
    pub steps_done: u64,
    pub steps_ahead: u64,
    /// How long until it is over or the operator is needed; from measured times.
    pub left_ms: Option<u64>,
    /// Some step ahead was never measured and counts as none.
    pub left_is_at_least: bool,
    /// What comes next, for a person.
    pub next: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseStatus {
    pub node: Option<String>,
    /// Stable label: `operator`, `barrier`, `gate`, `failed`, `taken-back`.
    pub cause: String,
    pub why: String,
    /// What to do.
    pub advice: String,
}

/// What was asked of a node and has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingStatus {
    /// Transaction, step and attempt.
    pub id: String,
    pub node: String,
    pub step: String,
    pub attempt: u32,
    /// The node has begun it.
    pub claimed: bool,
    pub waits_for: Option<String>,
    pub asked_at_ms: u64,
    pub deadline_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionEnded {
    pub id: u64,
    pub from: String,
    pub to: String,
    pub phase: String,
    pub reason: Option<String>,
    pub at_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalLine {
    pub at_ms: u64,
    pub transaction: u64,
    pub node: Option<String>,
    pub action: Option<String>,
    pub text: String,
}

/// The answer of `POST /v1/upgrade/plan`: all that would be done, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanStatus {
    pub from: String,
    pub to: String,
    pub batches: Vec<Vec<String>>,
    pub master: String,
    pub steps: Vec<PlannedStep>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// `None` of what concerns no single node.
    pub node: Option<String>,
    /// As in [`StepStatus::step`]; or `rest`, `soak`, `hold`, `decide`.
    pub step: String,
    /// What it does, for a person.
    pub does: String,
}
