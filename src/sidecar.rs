//! One running sidecar: the relay on the data runtime, the admin API and the metrics on a runtime of
//! their own, so that neither can keep the other waiting.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
};

use prometheus::proto::MetricFamily;
use segue_wire::Protocol;
use tokio::{net::TcpListener, runtime, signal::unix};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{self, ChangeRefused, ChangeRefusedKind, Routes},
    cli::Failure,
    config::Config,
    net,
    relay::{ChangeError, Relay, Shared},
    status::{LossesStatus, Status, TranslationChange, TranslationStatus},
};

/// Runs until SIGTERM, SIGINT or ctrl-c; then ends every link with its state saved.
///
/// # Errors
/// An address that can't be listened on, a state folder that can't be made.
pub fn run(config: Config, protocol: Arc<dyn Protocol>) -> Result<(), Failure> {
    let data = runtime::Builder::new_multi_thread().thread_name("data").enable_all().build();
    let data = data.map_err(|error| Failure::failed(format_args!("no runtime: {error}")))?;
    data.block_on(serve(config, protocol))
}

async fn serve(config: Config, protocol: Arc<dyn Protocol>) -> Result<(), Failure> {
    let mut signals = Signals::new().map_err(Failure::failed)?;
    let listening = [(config.admin, Routes::Admin), (config.metrics, Routes::Metrics)];
    let node = config.node.id.clone();
    let relay = Relay::bind(config, protocol).await.map_err(Failure::failed)?;
    let running = Arc::new(Running { shared: relay.shared(), accepting: AtomicBool::new(true) });
    let stop = CancellationToken::new();
    let control = Control::start(listening, running.clone(), stop.clone()).await.map_err(Failure::failed)?;
    tracing::info!(node = &*node, version = env!("CARGO_PKG_VERSION"), "sidecar runs");

    let signalled = {
        let stop = stop.clone();
        tokio::spawn(async move {
            let signal = signals.next().await;
            tracing::info!(signal, "draining");
            running.accepting.store(false, Relaxed);
            stop.cancel();
        })
    };
    relay.run(stop).await;
    signalled.abort();
    control.join();
    tracing::info!("sidecar ends");
    Ok(())
}

struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: unix::signal(unix::SignalKind::terminate())?,
            interrupt: unix::signal(unix::SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The thread of the control runtime.
struct Control {
    thread: JoinHandle<()>,
}

impl Control {
    async fn start(
        listening: [(SocketAddr, Routes); 2],
        running: Arc<Running>,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let mut listeners = Vec::new();
        for (address, routes) in listening {
            // Bound here, so that a taken address is an error of the start; served there.
            listeners.push((net::listen(address).await?.into_std()?, routes));
        }
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name("control".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let served = listeners.into_iter().map(|(listener, routes)| {
                    let (running, stop) = (running.clone(), stop.clone());
                    tokio::spawn(async move {
                        match TcpListener::from_std(listener) {
                            Ok(listener) => admin::serve(listener, routes, running, stop).await,
                            Err(error) => tracing::error!(%error, "a control listener is lost"),
                        }
                    })
                });
                for served in served.collect::<Vec<_>>() {
                    if let Err(error) = served.await {
                        tracing::error!(%error, "a control task ended badly");
                    }
                }
            });
        })?;
        Ok(Self { thread })
    }

    fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("the control thread ended badly");
        }
    }
}

/// The relay, as the admin API sees it.
struct Running {
    shared: Arc<Shared>,
    accepting: AtomicBool,
}

impl admin::Sidecar for Running {
    fn status(&self) -> Status {
        self.shared.status()
    }

    fn losses(&self) -> LossesStatus {
        self.shared.losses()
    }

    fn translation(&self) -> TranslationStatus {
        self.shared.translation()
    }

    fn set_translation(&self, change: TranslationChange) -> Result<TranslationStatus, ChangeRefused> {
        self.shared.set_translation(change).map_err(|error| match error {
            ChangeError::Invalid(message) => ChangeRefused { kind: ChangeRefusedKind::Invalid, message },
            ChangeError::WouldBreak(message) => {
                ChangeRefused { kind: ChangeRefusedKind::WouldBreak, message }
            }
        })
    }

    fn ready(&self) -> Result<(), String> {
        if self.accepting.load(Relaxed) { Ok(()) } else { Err("draining".to_owned()) }
    }

    fn gather_metrics(&self) -> Vec<MetricFamily> {
        self.shared.gather_metrics()
    }
}
