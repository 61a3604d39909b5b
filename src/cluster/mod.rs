//! The sidecars of a cluster agree on one state.
//!
//! What they agree on is a [`Machine`]; how they do is an [`Agreement`]: a raft of their own, or an etcd that
//! runs already. The data plane reads the state as it was last known here, and never waits for it.

pub mod etcd;
pub mod raft;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use segue_wire::PeerName;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;

/// A state that changes by entries alone. The same entries in the same order make the same state everywhere.
pub trait Machine:
    Clone + Default + Serialize + DeserializeOwned + fmt::Debug + Send + Sync + 'static
{
    type Entry: Clone + Serialize + DeserializeOwned + fmt::Debug + Send + Sync + 'static;
    type Answer: Clone + Serialize + DeserializeOwned + fmt::Debug + Send + Sync + 'static;

    fn apply(&mut self, entry: Self::Entry) -> Self::Answer;
}

/// How the sidecars agree.
#[async_trait]
pub trait Agreement<M: Machine>: Send + Sync + 'static {
    /// Makes the entry part of the state, on any node: its answer is what the state said of it once it was
    /// durable on a majority. After an error it may still come to be; entries have to bear that.
    async fn propose(&self, entry: M::Entry) -> Result<M::Answer, NotAgreed>;

    /// As last known here.
    fn state(&self) -> watch::Receiver<Arc<M>>;

    fn standing(&self) -> watch::Receiver<Arc<Standing>>;

    /// The leader gives its role to another; done at once where another leads.
    async fn hand_over(&self) -> Result<(), NotAgreed>;

    /// The own node's word, which the leader gets to know without agreement. The newest counts.
    fn say(&self, word: Bytes);

    /// What the nodes last said, the own one too, as far as it is known here: at the leader, all that can be
    /// reached.
    fn words(&self) -> Vec<Word>;

    /// Ends its tasks and closes what it has open.
    async fn stop(&self);
}

/// What a node last said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub node: PeerName,
    pub said: Bytes,
    pub age: Duration,
}

/// Where this node stands among the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// `raft` or `etcd`.
    pub backend: &'static str,
    /// The own node leads, and a majority confirmed it lately.
    pub leads: bool,
    /// Who leads, as far as is known here.
    pub leader: Option<PeerName>,
    pub members: Vec<MemberStanding>,
    /// Why this node takes no part any more, as with a disk that is full. It has to be started again.
    pub failed: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemberStanding {
    pub name: PeerName,
    pub votes: bool,
    /// It answered lately.
    pub reachable: bool,
}

/// An entry of which it is not known that it became part of the state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAgreed {
    #[error("no majority of the mesh answers: {0}")]
    NoMajority(String),
    #[error("the mesh did not agree within {0:?}")]
    TimedOut(Duration),
    /// Its own disk, a broken answer.
    #[error("{0}")]
    Failed(String),
    #[error("the sidecar ends")]
    Stopped,
}

/// As in `segue_mesh_proposals_total{outcome}`.
const fn outcome<T>(agreed: &Result<T, NotAgreed>) -> &'static str {
    match agreed {
        Ok(_) => "agreed",
        Err(NotAgreed::NoMajority(_)) => "no-majority",
        Err(NotAgreed::TimedOut(_)) => "timed-out",
        Err(NotAgreed::Failed(_)) => "failed",
        Err(NotAgreed::Stopped) => "stopped",
    }
}
