//! One member of the mesh: what its tasks share, and how they begin and end.

use std::{
    net::TcpListener,
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use openraft::{Config, SnapshotPolicy};
use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    super::{Machine, Standing},
    MeshError, Metrics, Settings,
    client::Client,
    hello,
    machine::Applied,
    membership,
    network::Network,
    presence::Presence,
    roster::{Roster, Timing},
    server, standing,
    store::Store,
    types::{Id, LogId, Raft, RaftMetrics},
    wire::CHUNK_BYTES_MAX,
};
use crate::{seldom::Seldom, tls::Current};

/// Entries of the log after which a snapshot is made.
const SNAPSHOT_ENTRIES: u64 = 200;
/// Entries before a snapshot that are kept for members that are behind a little.
const KEPT_ENTRIES: u64 = 100;
/// Most entries that are sent at once.
const SENT_ENTRIES_MAX: u64 = 64;
/// How long a chunk of a snapshot may take to be taken in.
const CHUNK_TIME_MAX: Duration = Duration::from_secs(10);
/// Most proposals of this node, and of others here, that are under way; more wait for their turn.
const PROPOSALS_MAX: usize = 64;
/// What is left to do at the end may take this long.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);

pub struct Member {
    pub roster: Roster,
    pub timing: Timing,
    pub raft: Raft,
    pub client: Arc<Client>,
    pub presence: Presence,
    pub standing: watch::Sender<Arc<Standing>>,
    /// The last entry that the state has.
    pub position: watch::Receiver<Option<LogId>>,
    pub metrics: Metrics,
    pub verify_name: bool,
    pub tls: Option<Arc<Current>>,
    pub proposals: Semaphore,
    pub handing_over: AtomicBool,
    pub seldom: Seldom,
    pub stop: CancellationToken,
    /// Why it takes no part any more, though it was not told to end.
    pub failed: OnceLock<String>,
    tasks: TaskTracker,
    store: Store,
}

impl Member {
    /// With the machine's state. On the runtime that all its tasks run on.
    pub async fn start<M: Machine>(
        settings: Settings,
    ) -> Result<(Arc<Self>, watch::Receiver<Arc<M>>), MeshError> {
        let Settings { node, mesh, listener, folder, metrics } = settings;
        let node = Id::new(&node).map_err(|error| MeshError::Start(error.to_string()))?;
        let listener = listening(listener)?;
        let roster = Roster::new(node, &mesh).map_err(|error| MeshError::Start(error.to_string()))?;
        let timing = Timing::new(&mesh);
        let tls = mesh.keys.map(|keys| Arc::new(Current::new(Some(keys), metrics.tls_renewals.clone())));
        let addresses = mesh.members.into_iter().filter_map(|member| {
            let id = Id::new(&member.id).ok().filter(|id| *id != node)?;
            Some((id, member.address))
        });
        let client = Client::new(node, addresses, tls.clone(), mesh.verify_name, metrics.clone());
        let client = Arc::new(client);
        let (store, applied) = loaded::<M>(&folder, node).await?;
        let (state, position) = (applied.state(), applied.position());
        let network = Network { client: client.clone(), backoff: timing.heartbeat };
        let raft = Raft::new(node, Arc::new(config(&timing)?), network, store.clone(), applied).await;
        let raft = raft.map_err(|error| MeshError::Start(error.to_string()))?;
        let member = Arc::new(Self {
            presence: Presence::new(node, timing.reachable),
            standing: watch::Sender::default(),
            proposals: Semaphore::new(PROPOSALS_MAX),
            handing_over: AtomicBool::new(false),
            seldom: Seldom::default(),
            stop: CancellationToken::new(),
            failed: OnceLock::new(),
            tasks: TaskTracker::new(),
            verify_name: mesh.verify_name,
            roster,
            timing,
            raft,
            client,
            position,
            metrics,
            tls,
            store,
        });
        standing::look(&member);
        member.spawn(standing::keep(member.clone()));
        member.spawn(membership::keep(member.clone()));
        for other in member.roster.others() {
            member.spawn(hello::keep(member.clone(), other));
        }
        let stop = member.stop.clone();
        member.tasks.spawn(server::serve(listener, member.clone(), stop));
        Ok((member, state))
    }

    pub async fn stop(&self) {
        self.stop.cancel();
        if self.raft.shutdown().await.is_err() {
            tracing::error!("the mesh's raft ended badly");
        }
        self.tasks.close();
        if timeout(STOP_TIME_MAX, self.tasks.wait()).await.is_err() {
            tracing::warn!("a task of the mesh did not end within {STOP_TIME_MAX:?}");
        }
        self.client.stop().await;
        self.store.close().await;
        standing::look(self);
    }

    /// As the raft has it now.
    pub fn raft_metrics(&self) -> RaftMetrics {
        self.raft.metrics().borrow().clone()
    }

    /// This node leads, and a majority confirmed it lately.
    pub fn leads(&self, raft: &RaftMetrics) -> bool {
        let is_alone = || raft.membership_config.voter_ids().all(|id| id == self.roster.node);
        let is_fresh = |ms| Duration::from_millis(ms) < self.timing.lease;
        !self.stop.is_cancelled()
            && !self.handing_over.load(Relaxed)
            && raft.running_state.is_ok()
            && raft.state.is_leader()
            && (raft.millis_since_quorum_ack.is_some_and(is_fresh) || is_alone())
    }

    /// What became of the raft by itself; it does not come back.
    pub fn note_failure(&self, raft: &RaftMetrics) {
        if let Err(error) = &raft.running_state
            && !self.stop.is_cancelled()
        {
            self.failed.get_or_init(|| self.store.failed().unwrap_or_else(|| error.to_string()));
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = task => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

async fn loaded<M: Machine>(folder: &Path, node: Id) -> Result<(Store, Applied<M>), MeshError> {
    let store = Store::open(folder, node).await?;
    let applied = Applied::load(store.clone()).await?;
    Ok((store, applied))
}

fn listening(listener: TcpListener) -> Result<tokio::net::TcpListener, MeshError> {
    let start = |error: std::io::Error| MeshError::Start(error.to_string());
    listener.set_nonblocking(true).map_err(start)?;
    tokio::net::TcpListener::from_std(listener).map_err(start)
}

fn config(timing: &Timing) -> Result<Config, MeshError> {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let config = Config {
        cluster_name: "segue".to_owned(),
        election_timeout_min: ms(timing.election),
        election_timeout_max: ms(timing.lease),
        heartbeat_interval: ms(timing.heartbeat),
        install_snapshot_timeout: ms(CHUNK_TIME_MAX),
        snapshot_max_chunk_size: CHUNK_BYTES_MAX,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_ENTRIES),
        replication_lag_threshold: SNAPSHOT_ENTRIES.saturating_add(KEPT_ENTRIES),
        max_in_snapshot_log_to_keep: KEPT_ENTRIES,
        max_payload_entries: SENT_ENTRIES_MAX,
        ..Config::default()
    };
    config.validate().map_err(|error| MeshError::Start(error.to_string()))
}
