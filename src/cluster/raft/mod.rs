//! The sidecars agree by a raft of their own.
//!
//! | module | holds |
//! |---|---|
//! | here | [`start`], and the [`Agreement`] |
//! | `member` | what the tasks of a member share, and how they begin and end |
//! | `roster` | who the members are, as the config has it |
//! | `membership` | how a mesh begins, and how it follows the config |
//! | `propose`, `hand_over` | from a proposal to its answer; from one leader to the next |
//! | `hello`, `presence`, `standing` | who answers, what each says, where this node stands |
//! | `store`, `machine` | the log on disk; the state that is agreed on |
//! | `wire`, `client`, `network`, `server`, `routes` | requests between members |
//! | [`metrics`] | what is counted |

mod client;
mod hand_over;
mod hello;
mod machine;
mod member;
mod membership;
pub mod metrics;
mod network;
mod presence;
mod propose;
mod roster;
mod routes;
mod server;
mod standing;
mod store;
mod types;
mod wire;

use std::{net::TcpListener, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use segue_wire::PeerName;
use tokio::{runtime::Handle, sync::watch};

use super::{Agreement, Machine, NotAgreed, Standing, Word};
use crate::config::{Config, Mesh};
use member::Member;
pub use metrics::Metrics;
pub use roster::VOTERS_MAX;
pub use store::StoreError;
pub use wire::{BODY_BYTES_MAX, ENTRY_BYTES_MAX, WORD_BYTES_MAX};

/// In the folder of the state.
const FOLDER: &str = "mesh";

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

impl Settings {
    /// `None` where the config has no mesh.
    #[must_use]
    pub fn of(config: &Config, listener: TcpListener, metrics: Metrics) -> Option<Self> {
        let (node, folder) = (config.node.id.clone(), config.state.dir.join(FOLDER));
        Some(Self { node, mesh: config.mesh.clone()?, listener, folder, metrics })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    #[error("the mesh does not start: {0}")]
    Start(String),
    #[error("the mesh does not start: {0}")]
    Store(#[from] StoreError),
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
    let started = runtime.spawn(Member::start::<M>(settings)).await;
    let (member, state) = started.map_err(|error| MeshError::Start(error.to_string()))??;
    Ok(Arc::new(Raft { member, state, runtime: runtime.clone() }))
}

struct Raft<M> {
    member: Arc<Member>,
    state: watch::Receiver<Arc<M>>,
    runtime: Handle,
}

impl<M> Raft<M> {
    /// On the mesh's runtime, whoever asks: connections belong to it. It goes on when nobody waits any more.
    async fn there<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, NotAgreed>> + Send + 'static,
    ) -> Result<T, NotAgreed> {
        self.runtime.spawn(work).await.unwrap_or(Err(NotAgreed::Stopped))
    }
}

#[async_trait]
impl<M: Machine> Agreement<M> for Raft<M> {
    async fn propose(&self, entry: M::Entry) -> Result<M::Answer, NotAgreed> {
        let unreadable = |error: serde_json::Error| NotAgreed::Failed(error.to_string());
        let entry = serde_json::to_string(&entry).map_err(unreadable)?;
        let member = self.member.clone();
        let answer = self.there(async move { member.propose(entry).await }).await?;
        serde_json::from_str(&answer).map_err(unreadable)
    }

    fn state(&self) -> watch::Receiver<Arc<M>> {
        self.state.clone()
    }

    fn standing(&self) -> watch::Receiver<Arc<Standing>> {
        self.member.standing.subscribe()
    }

    async fn hand_over(&self) -> Result<(), NotAgreed> {
        let member = self.member.clone();
        self.there(async move { member.hand_over().await }).await
    }

    fn say(&self, word: Bytes) {
        self.member.presence.say(word);
    }

    fn words(&self) -> Vec<Word> {
        self.member.presence.words()
    }

    async fn stop(&self) {
        let member = self.member.clone();
        let stopped = self.there(async move {
            member.stop().await;
            Ok(())
        });
        if stopped.await.is_err() {
            tracing::error!("the mesh ended badly");
        }
    }
}
