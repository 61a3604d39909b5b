//! This sidecar among the others: it agrees with them, and does what was agreed on.

use std::{
    ffi::OsString,
    fs::File,
    io,
    net::TcpListener,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, flock};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::running::Running;
use crate::{
    cluster::{Agreement, etcd, raft},
    config::{Etcd, Mesh, upgrade::DriverKind},
    hands::{self, Hands, Settings, losses::Losses},
    seldom::Seldom,
    stores::{driver::Driver, exec::ExecDriver, redis::RedisDriver},
    upgrade::state::State,
};

/// Where the log of the mesh is, in the state folder.
const FOLDER: &str = "mesh";
/// In the state folder: whoever has it locked is the member.
const LOCK: &str = "member.lock";
const LOCK_PERIOD: Duration = Duration::from_millis(100);
/// What could not be started, or has failed, is tried again so often; links don't wait for it.
const START_PERIOD: Duration = Duration::from_secs(5);

/// By what the sidecars agree.
pub enum By {
    Raft(Mesh, TcpListener),
    Etcd(Etcd),
}

pub struct Member {
    pub by: By,
    pub metrics: raft::Metrics,
    pub hands_metrics: hands::Metrics,
    pub search_path: Option<OsString>,
}

impl Member {
    /// Until `stop`; from anew where it fails by itself, as with a disk that is full.
    pub async fn run(self, running: Arc<Running>, stop: CancellationToken) {
        let state_dir = running.shared.config().state.dir.clone();
        let Some(_alone) = stop.run_until_cancelled(alone(&state_dir)).await else { return };
        let losses = running.losses.get_or_init(|| Arc::new(Losses::open(&state_dir)));
        while let Some(agreement) = stop.run_until_cancelled(self.agreed(&running)).await {
            let hands = Hands::new(Settings {
                shared: running.shared.clone(),
                agreement: agreement.clone(),
                driver: driver(&running),
                search_path: self.search_path.clone(),
                losses: losses.clone(),
                metrics: self.hands_metrics.clone(),
            });
            // What it last knew can be asked for until there is another.
            running.take_part(hands.clone());
            let ends = stop.child_token();
            tokio::join!(hands.run(ends.clone()), ends_with(&*agreement, &ends));
            agreement.stop().await;
            stop.run_until_cancelled(tokio::time::sleep(START_PERIOD)).await;
        }
    }

    async fn agreed(&self, running: &Running) -> Arc<dyn Agreement<State>> {
        loop {
            match self.start(running).await {
                Ok(agreement) => return agreement,
                Err(why) => {
                    tracing::error!(why, "this sidecar takes no part in the mesh; trying again");
                    running.takes_no_part(why);
                }
            }
            tokio::time::sleep(START_PERIOD).await;
        }
    }

    async fn start(&self, running: &Running) -> Result<Arc<dyn Agreement<State>>, String> {
        let config = running.shared.config();
        let (node, metrics) = (config.node.id.clone(), self.metrics.clone());
        let runtime = Handle::current();
        match &self.by {
            By::Raft(mesh, listener) => {
                let listener = listener.try_clone().map_err(|error: io::Error| error.to_string())?;
                let folder = config.state.dir.join(FOLDER);
                let settings = raft::Settings { node, mesh: mesh.clone(), listener, folder, metrics };
                raft::start(settings, &runtime).await.map_err(|error| error.to_string())
            }
            By::Etcd(etcd) => {
                let settings = etcd::Settings { node, etcd: etcd.clone(), metrics };
                etcd::start(settings, &runtime).map_err(|error| error.to_string())
            }
        }
    }
}

/// A predecessor has let go of the node: what is agreed on is not done twice at one time.
async fn alone(state_dir: &Path) -> File {
    let seldom = Seldom::default();
    loop {
        let file = state_dir.join(LOCK);
        let locked = File::options().create(true).append(true).open(&file).and_then(|lock| {
            flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
            Ok(lock)
        });
        match locked {
            Ok(lock) => return lock,
            Err(error) if seldom.is_due("alone", Instant::now()).is_some() => {
                let file = file.display();
                tracing::info!(%error, %file, "waits to have this file to itself, and is in no mesh before");
            }
            Err(_) => {}
        }
        tokio::time::sleep(LOCK_PERIOD).await;
    }
}

/// Ends what stands on the agreement once that has failed.
async fn ends_with(agreement: &dyn Agreement<State>, ends: &CancellationToken) {
    let mut standing = agreement.standing();
    let failed = standing.wait_for(|standing| standing.failed.is_some());
    if let Some(Ok(_)) = ends.run_until_cancelled(failed).await {
        ends.cancel();
    }
}

fn driver(running: &Running) -> Option<Arc<dyn Driver>> {
    let config = running.shared.config();
    config.node.store.as_ref()?;
    let peers = running.shared.peers();
    match config.upgrade.as_ref().map(|upgrade| &upgrade.driver) {
        None | Some(DriverKind::Redis) => Some(Arc::new(RedisDriver::new(peers))),
        Some(DriverKind::Exec(commands)) => Some(Arc::new(ExecDriver::new(peers, commands.clone()))),
    }
}
