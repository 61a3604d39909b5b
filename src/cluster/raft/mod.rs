//! The sidecars agree by a raft of their own.

pub mod metrics;

use std::{net::TcpListener, path::PathBuf, sync::Arc};

use segue_wire::PeerName;
use tokio::runtime::Handle;

use super::{Agreement, Machine};
use crate::config::Mesh;
pub use metrics::Metrics;

/// What a member starts with.
pub struct Settings {
    pub node: PeerName,
    pub mesh: Mesh,
    /// On [`Mesh::listen`].
    pub listener: TcpListener,
    /// Where the log is; made when it is not there. One process has it at a time.
    pub folder: PathBuf,
    pub metrics: Metrics,
}

#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    #[error("the mesh does not start: {0}")]
    Start(String),
}

/// Joins the mesh; its tasks run on this runtime. A process before this one may take its time to let go of
/// the folder: that long it waits.
///
/// # Errors
/// A folder that can't be used, or is another node's.
pub async fn start<M: Machine>(
    settings: Settings,
    runtime: &Handle,
) -> Result<Arc<dyn Agreement<M>>, MeshError> {
    let _ = (settings, runtime);
    Err(MeshError::Start("not written yet".to_owned()))
}
