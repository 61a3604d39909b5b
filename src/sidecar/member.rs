//! This sidecar among the others: it agrees with them, and does what was agreed on.

use std::{ffi::OsString, io, net::TcpListener, sync::Arc, time::Duration};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::running::Running;
use crate::{
    cluster::{Agreement, raft},
    config::{Mesh, upgrade::DriverKind},
    hands::{Hands, Settings},
    stores::{driver::Driver, redis::RedisDriver},
    upgrade::state::State,
};

/// Where the log of the mesh is, in the state folder.
const FOLDER: &str = "mesh";
/// What could not be started is tried again so often; links don't wait for it.
const START_PERIOD: Duration = Duration::from_secs(10);

pub struct Member {
    pub mesh: Mesh,
    pub listener: TcpListener,
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
        let listener = self.listener.try_clone().map_err(|error: io::Error| error.to_string())?;
        let settings = raft::Settings {
            node: config.node.id.clone(),
            mesh: self.mesh.clone(),
            listener,
            folder: config.state.dir.join(FOLDER),
            metrics: self.metrics.clone(),
        };
        raft::start(settings, &Handle::current()).await.map_err(|error| error.to_string())
    }
}

fn driver(running: &Running) -> Option<Arc<dyn Driver>> {
    let config = running.shared.config();
    config.node.store.as_ref()?;
    match config.upgrade.as_ref().map_or(DriverKind::Redis, |upgrade| upgrade.driver) {
        DriverKind::Redis | DriverKind::Exec => Some(Arc::new(RedisDriver::new(running.shared.peers()))),
    }
}
