//! What the sidecar says of itself: the shapes of `/v1/status`, `/v1/losses` and `/v1/translation`.
//!
//! Plain data, read by the admin API and by `segue status`; written by the relay. [`upgrade`]: that of `/v1/upgrade`.

pub mod upgrade;

use serde::{Deserialize, Serialize};

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub node: NodeStatus,
    pub config: ConfigStatus,
    pub translation: TranslationStatus,
    /// `strip` or `translate`.
    #[serde(default)]
    pub second_connection: String,
    pub links: Vec<LinkStatus>,
    #[serde(default)]
    pub limits: Vec<LimitStatus>,
    /// Refusals since start, newest first, at most [`REFUSALS_KEPT_MAX`].
    pub refusals: Vec<RefusalStatus>,
}

pub const REFUSALS_KEPT_MAX: usize = 32;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    pub id: String,
    pub protocol: String,
    /// `None` of a witness.
    pub store: Option<String>,
    pub release: Option<KnownRelease>,
    /// Version of this sidecar.
    pub version: String,
    /// Seconds since start.
    pub uptime_s: u64,
}

/// The answer of `PUT /v1/config/reload`, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// When the config that runs was read; seconds since the epoch.
    pub loaded_at_unix_s: u64,
    /// Why the last reload was not made, if it was not.
    pub last_error: Option<String>,
}

/// A release and how it was learned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownRelease {
    pub release: String,
    pub learned: Learned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Learned {
    /// Said on the link itself (`REPLCONF version`).
    Wire,
    /// Asked by the sidecar (`INFO server`).
    Probe,
    /// From `release` in the config.
    Config,
}

impl Learned {
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Wire => "wire",
            Self::Probe => "probe",
            Self::Config => "config",
        }
    }
}

/// One live link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkStatus {
    pub id: u64,
    /// The configured `listen` address that accepted it.
    pub listen: String,
    pub dialer: EndStatus,
    pub listener: EndStatus,
    /// It joins the stores' buses, and not the stores themselves.
    pub bus: bool,
    /// `handshake`, `same`, `downshift`, `rewrite`; refused links are under `refusals`.
    pub verdict: String,
    /// The release that is spoken to the receiving store.
    pub target: Option<String>,
    /// The release that an upgrade holds links to, where this one can't be held to it: the receiving store
    /// and that release read nothing in common.
    #[serde(default)]
    pub unspoken: Option<String>,
    pub bytes_from_dialer: u64,
    pub bytes_from_listener: u64,
    pub messages_rewritten: u64,
    pub losses: u64,
    /// How far the receiving store's stream position is ahead of the sender's, in bytes.
    pub offset_shift_bytes: i64,
    /// It follows by an id of its own: its position differs, did, or is about to.
    #[serde(default)]
    pub own_offsets: bool,
    /// Bytes read and not yet sent on.
    pub held_bytes: u64,
    /// Seconds since the link was accepted.
    pub age_s: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndStatus {
    /// The name of the peer (or the own node id), where it is known.
    pub peer: Option<String>,
    pub address: String,
    pub release: Option<KnownRelease>,
    /// `TLSv1.3`, where this end speaks TLS.
    pub tls: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitStatus {
    /// Its key in `[limits]`; `open_files` is the system's.
    pub limit: String,
    pub max: u64,
    /// How much of it is used now; none of a time.
    pub used: Option<u64>,
    /// How often it stopped something since start.
    pub hits: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefusalStatus {
    /// Seconds since the epoch.
    pub at_unix_s: u64,
    pub listen: String,
    pub peer: Option<String>,
    /// Stable label, as in `segue_refusals_total{reason}`.
    pub reason: String,
    /// The whole reason, for a person.
    pub detail: String,
}

/// `GET /v1/losses`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LossesStatus {
    pub total: u64,
    /// Counts by kind and peer.
    pub counts: Vec<LossCount>,
    /// The newest ones, newest first, at most [`LOSSES_KEPT_MAX`].
    pub recent: Vec<LossStatus>,
}

pub const LOSSES_KEPT_MAX: usize = 256;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossCount {
    pub kind: String,
    /// `data` or `bookkeeping`.
    pub grade: String,
    pub peer: Option<String>,
    pub count: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossStatus {
    /// Seconds since the epoch.
    pub at_unix_s: u64,
    pub kind: String,
    pub grade: String,
    pub peer: Option<String>,
    pub what: String,
    pub key: Option<String>,
    pub db: u64,
}

/// `GET /v1/translation`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TranslationStatus {
    /// `auto`, `off` or a release name.
    pub mode: String,
    /// `refuse` or `degrade`.
    pub loss: String,
    /// What an upgrade holds the links to until it is finalized.
    #[serde(default)]
    pub spoken: Option<SpokenStatus>,
    /// Every change since start, newest first, at most [`CHANGES_KEPT_MAX`].
    pub changes: Vec<TranslationChanged>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpokenStatus {
    pub release: String,
    /// `upgrade transaction 3`.
    pub who: String,
    /// False while `mode` is not `auto`: an operator's own word outranks it.
    pub in_force: bool,
    /// The sidecar is in no mesh, where it would hear of the upgrade's end: mode `auto`, set by hand, ends it.
    #[serde(default)]
    pub orphaned: bool,
}

pub const CHANGES_KEPT_MAX: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TranslationChanged {
    /// Seconds since the epoch.
    pub at_unix_s: u64,
    pub who: String,
    pub reason: Option<String>,
    pub forced: bool,
    pub mode: String,
    pub loss: String,
}

/// `PUT /v1/translation`. What is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TranslationChange {
    pub mode: Option<String>,
    pub loss: Option<String>,
    pub who: Option<String>,
    pub reason: Option<String>,
    #[serde(default)]
    pub force: bool,
}
