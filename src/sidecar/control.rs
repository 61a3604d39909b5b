//! The admin API, the metrics and the mesh, on a thread and runtime of their own.

use std::{
    io,
    net::TcpListener,
    sync::Arc,
    thread::{self, JoinHandle},
};

use tokio::runtime;
use tokio_util::sync::CancellationToken;

use super::{member::Member, running::Running};
use crate::admin::{self, Routes};

pub struct Control {
    thread: JoinHandle<()>,
}

impl Control {
    /// Serves these listeners until `stop`, and is a member of the mesh.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        listeners: Vec<(TcpListener, Routes)>,
        member: Option<Member>,
        running: Arc<Running>,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name("control".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let served = listeners.into_iter().map(|(listener, routes)| {
                    let (running, stop) = (running.clone(), stop.clone());
                    tokio::spawn(async move {
                        match tokio::net::TcpListener::from_std(listener) {
                            Ok(listener) => admin::serve(listener, routes, running, stop).await,
                            Err(error) => tracing::error!(%error, "a control listener is lost"),
                        }
                    })
                });
                let mut tasks: Vec<_> = served.collect();
                tasks.extend(member.map(|member| tokio::spawn(member.run(running.clone(), stop.clone()))));
                for served in tasks {
                    if let Err(error) = served.await {
                        tracing::error!(%error, "a control task ended badly");
                    }
                }
            });
        })?;
        Ok(Self { thread })
    }

    pub fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("the control thread ended badly");
        }
    }
}
