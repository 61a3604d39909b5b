//! The sidecars agree by an etcd that runs already.
//!
//! The state is one JSON value at `<prefix><cluster>/state`. An entry is applied to it here, and what comes of it
//! replaces the value if that is still the same; else the entry is applied to the new one. Who leads holds the
//! key `leader` on a lease; every sidecar's word is at `nodes/<id>`, on its lease too.
//!
//! It speaks to etcd's JSON gateway, and not by gRPC: the crate `etcd-client` needs a `protoc` to be built.
//!
//! | module | holds |
//! |---|---|
//! | here | the start, and what others see |
//! | `gateway` | the way to etcd: its endpoints, TLS, login, one request or a watch |
//! | `messages` | what is asked and answered there |
//! | `keys` | the keys of a cluster |
//! | `view` | what is known of them here |
//! | `follower` | how that is learned |
//! | `presence` | the own lease, word and leading |
//! | `proposer` | how entries become part of the state |

mod follower;
mod gateway;
mod keys;
mod messages;
mod presence;
mod proposer;
mod view;

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use segue_wire::PeerName;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{Agreement, Machine, NotAgreed, Standing, Word, outcome, raft::Metrics};
use crate::{config::Etcd, seldom::Seldom, tls::KeysError};
use follower::Follower;
use gateway::Gateway;
use presence::Presence;
use proposer::{Deadline, Proposer, Request};
pub use proposer::{PROPOSAL_TRIES_MAX, STATE_BYTES_MAX};
use view::View;

/// A longer one is not said: all of them are written again and again.
pub const WORD_BYTES_MAX: usize = 64 << 10;
/// Proposals that wait for their turn; more wait outside.
const PROPOSALS_QUEUED_MAX: usize = 64;
/// Between two tries to reach an etcd again.
const RETRY_INTERVAL: Duration = Duration::from_millis(300);

/// What a member starts with.
pub struct Settings {
    pub node: PeerName,
    pub etcd: Etcd,
    pub metrics: Metrics,
}

#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    #[error("cannot use the certificates for etcd: {0}")]
    Keys(#[from] KeysError),
}

/// Joins the others; its tasks run on this runtime. Whether etcd can be reached shows later.
///
/// # Errors
/// Certificates that can't be used.
pub fn start<M: Machine>(settings: Settings, runtime: &Handle) -> Result<Arc<dyn Agreement<M>>, EtcdError> {
    let Settings { node, etcd, metrics } = settings;
    let gateway = Gateway::new(etcd, metrics.clone())?;
    let etcd = gateway.settings();
    let (propose_timeout, lease_time) = (etcd.propose_timeout, etcd.lease);
    let view = Arc::new(View::new(node.clone(), etcd, metrics.clone()));
    let stop = CancellationToken::new();
    let (requests, queue) = mpsc::channel(PROPOSALS_QUEUED_MAX);
    let (word, words) = watch::channel(Bytes::new());

    let follower = Follower { view: view.clone(), gateway: gateway.clone(), seldom: Seldom::default() };
    let presence = Presence::new(node, view.clone(), gateway.clone(), lease_time, words);
    let proposer = Proposer { view: view.clone(), channel: gateway.channel() };
    let lapsing = view.clone();
    let tasks = vec![
        spawn(runtime, &stop, async move { lapsing.lapse().await }),
        spawn(runtime, &stop, async move { follower.run().await }),
        spawn(runtime, &stop, proposer.run(queue)),
        runtime.spawn(presence.run(stop.clone())),
    ];
    Ok(Arc::new(Member { view, requests, word, propose_timeout, stop, tasks: Mutex::new(tasks), metrics }))
}

fn spawn<T: Send + 'static>(
    runtime: &Handle,
    stop: &CancellationToken,
    task: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<()> {
    let stop = stop.clone();
    runtime.spawn(async move {
        stop.run_until_cancelled(task).await;
    })
}

/// One sidecar among those that agree.
struct Member<M: Machine> {
    view: Arc<View<M>>,
    requests: mpsc::Sender<Request<M>>,
    word: watch::Sender<Bytes>,
    propose_timeout: Duration,
    stop: CancellationToken,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    metrics: Metrics,
}

impl<M: Machine> Member<M> {
    async fn ask<T>(
        &self,
        request: impl FnOnce(Deadline, oneshot::Sender<Result<T, NotAgreed>>) -> Request<M> + Send,
    ) -> Result<T, NotAgreed> {
        let deadline = Deadline::after(self.propose_timeout);
        let (answer, answered) = oneshot::channel();
        let sent = self.requests.send(request(deadline, answer));
        deadline.limit(async { sent.await.map_err(|_| NotAgreed::Stopped) }).await?;
        // The proposer keeps the deadline.
        answered.await.unwrap_or(Err(NotAgreed::Stopped))
    }
}

#[async_trait]
impl<M: Machine> Agreement<M> for Member<M> {
    async fn propose(&self, entry: M::Entry) -> Result<M::Answer, NotAgreed> {
        let agreed = self.ask(|deadline, answer| Request::Propose(entry, deadline, answer)).await;
        self.metrics.proposals.with_label_values(&[outcome(&agreed)]).inc();
        agreed
    }

    fn state(&self) -> watch::Receiver<Arc<M>> {
        self.view.state()
    }

    fn standing(&self) -> watch::Receiver<Arc<Standing>> {
        self.view.standing()
    }

    async fn hand_over(&self) -> Result<(), NotAgreed> {
        self.ask(Request::HandOver).await
    }

    fn say(&self, word: Bytes) {
        if word.len() > WORD_BYTES_MAX {
            tracing::error!(bytes = word.len(), "the own word is larger than {WORD_BYTES_MAX}: not said");
            return;
        }
        self.view.say(&word);
        self.word.send_replace(word);
    }

    fn words(&self) -> Vec<Word> {
        self.view.words()
    }

    async fn stop(&self) {
        self.stop.cancel();
        let tasks = mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            // One that panicked has ended too.
            drop(task.await);
        }
    }
}

/// Where nobody stops it, its tasks end with it.
impl<M: Machine> Drop for Member<M> {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
