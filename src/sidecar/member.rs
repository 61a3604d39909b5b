//! This sidecar among the others: it agrees with them, and does what was agreed on.

use std::{ffi::OsString, io, net::TcpListener, sync::Arc, time::Duration};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::running::Running;
use crate::{
    cluster::{Agreement, etcd, raft},
    config::{Etcd, Mesh, upgrade::DriverKind},
    hands::{Hands, Settings},
    stores::{driver::Driver, exec::ExecDriver, redis::RedisDriver},
    upgrade::state::State,
};

/// Where the log of the mesh is, in the state folder.
const FOLDER: &str = "mesh";
/// What could not be started is tried again so often; links don't wait for it.
const START_PERIOD: Duration = Duration::from_secs(10);

/// By what the sidecars agree.
pub enum By {
    Raft(Mesh, TcpListener),
    Etcd(Etcd),
}

pub struct Member {
    pub by: By,
    pub metrics: raft::Metrics,
    pub search_path: Option<OsString>,
}

impl Member {
    /// Until `stop`.
    pub async fn run(self, running: Arc<Running>, stop: CancellationToken) {
        let Some(Some(agreement)) = stop.run_until_cancelled(self.agreed(&running)).await else { return };
        let hands = Hands::new(Settings {
            shared: running.shared.clone(),
            agreement: agreement.clone(),
            driver: driver(&running),
            search_path: self.search_path,
        });
        // The only place that sets it.
        let _first = running.upgrade.set(hands.clone());
        hands.run(stop).await;
        agreement.stop().await;
    }

    async fn agreed(&self, running: &Running) -> Option<Arc<dyn Agreement<State>>> {
        loop {
            match self.start(running).await {
                Ok(agreement) => return Some(agreement),
                Err(error) => tracing::error!(error, "this sidecar is in no mesh; trying again"),
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

fn driver(running: &Running) -> Option<Arc<dyn Driver>> {
    let config = running.shared.config();
    config.node.store.as_ref()?;
    let peers = running.shared.peers();
    match config.upgrade.as_ref().map(|upgrade| &upgrade.driver) {
        None | Some(DriverKind::Redis) => Some(Arc::new(RedisDriver::new(peers))),
        Some(DriverKind::Exec(commands)) => Some(Arc::new(ExecDriver::new(peers, commands.clone()))),
    }
}
