//! The admin API and the metrics endpoint: HTTP/1 on two listeners of their own.
//!
//! Reads snapshots and sends commands through [`Sidecar`]; the data path never waits for it.
//!
//! | listener | routes |
//! |---|---|
//! | admin | `GET /v1/status`, `GET /v1/losses`, `GET` and `PUT /v1/translation`, `/livez`, `/readyz` |
//! | | `PUT /v1/translation/all`, `PUT /v1/config/reload` |
//! | | `GET /v1/upgrade`, `POST /v1/upgrade/{plan,start,pause,resume,abort,rollback,finalize}` |
//! | metrics | `GET /metrics`, `/livez`, `/readyz` |
//!
//! Answers are JSON, errors are `{"error": "…"}`; only `/metrics` is the Prometheus text format.

mod metrics;
mod routes;
mod server;
mod upgrade;

use std::sync::Arc;

use crate::{
    status::{ConfigStatus, LossesStatus, Status, TranslationChange, TranslationStatus},
    upgrade::desk::UpgradeDesk,
};

pub use metrics::UpgradeMetrics;
pub use routes::Routes;
pub use server::{BODY_BYTES_MAX, CONNECTION_TIME_MAX, CONNECTIONS_MAX, HEADER_TIME_MAX, serve};

/// What the admin side may ask of the running sidecar. No call may block.
pub trait Sidecar: Send + Sync + 'static {
    fn status(&self) -> Status;

    fn losses(&self) -> LossesStatus;

    fn translation(&self) -> TranslationStatus;

    /// Changes the translation, and records who did it. `who` is always there.
    ///
    /// # Errors
    /// [`ChangeRefused`]; then nothing has changed.
    fn set_translation(&self, change: TranslationChange) -> Result<TranslationStatus, ChangeRefused>;

    /// Reads the config file again and takes over what has changed. The one call that reads files.
    ///
    /// # Errors
    /// [`ChangeRefused`]; then the config is as it was.
    fn reload_config(&self) -> Result<ConfigStatus, ChangeRefused>;

    /// The upgrade of the whole cluster.
    ///
    /// # Errors
    /// This sidecar has no part in it.
    fn upgrade(&self) -> Result<Arc<dyn UpgradeDesk>, NoDesk>;

    /// Whether links are accepted.
    ///
    /// # Errors
    /// Why they are not, for a person.
    fn ready(&self) -> Result<(), String>;

    fn gather_metrics(&self) -> Vec<prometheus::proto::MetricFamily>;
}

/// Why there is no upgrade to speak of here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoDesk {
    #[error(
        "this sidecar is in no mesh: give its config a [mesh] and an [upgrade], and the same to its peers"
    )]
    NoMesh,
    #[error("this sidecar takes no part in the mesh yet: {0}; it is tried again")]
    NoPart(String),
}

/// A change that was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ChangeRefused {
    pub kind: ChangeRefusedKind,
    /// The reason and what to do, for a person.
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeRefusedKind {
    /// The change means nothing: a mode or policy that does not exist, a wrong config file. HTTP 400.
    Invalid,
    /// A live link depends on what would change (`force` overrides it), or it needs a restart. HTTP 409.
    WouldBreak,
}

#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
pub(crate) mod upgrade_tests;
