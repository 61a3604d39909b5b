//! One running sidecar: links on the relay's own threads, the admin API and the metrics on another, so that
//! neither can keep the other waiting.
//!
//! | module | holds |
//! |---|---|
//! | here | from the start to the end |
//! | `running` | what can be asked of it meanwhile, and the reload of its config |
//! | `control` | the admin API's thread |
//! | `member` | its part in the mesh, and in upgrades |
//! | `takeover`, `successor` | from this process to the next, no connection refused |
//! | `signals`, `notify` | what it is told, and what it tells the service manager |

mod control;
mod member;
mod notify;
mod running;
mod signals;
mod successor;
mod takeover;

use std::{
    ffi::OsString,
    net::TcpListener,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use segue_wire::Protocol;
use tokio::{runtime, sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{Routes, UpgradeMetrics},
    cli::Failure,
    cluster::raft,
    config::Config,
    hands,
    intercept::guard,
    net::Listeners,
    relay::Relay,
};
use control::Control;
use member::{By, Member};
pub use notify::Notifier;
use running::{Part, Running};
use signals::{Signals, Told};
pub use successor::Program;
use takeover::{ControlSocket, Takeover};

/// What is left to do when all links have ended may take this long.
const END_TIME_MAX: Duration = Duration::from_secs(1);

/// Changes the log's level.
pub type SetLogLevel = Box<dyn Fn(tracing::Level) + Send + Sync>;

/// What a sidecar starts with.
pub struct Start {
    pub config: Config,
    /// Read again on a reload.
    pub config_file: PathBuf,
    pub protocol: Arc<dyn Protocol>,
    /// From the sidecar that runs on the same state folder.
    pub takeover: bool,
    /// Listening sockets that the service manager passed.
    pub passed: Vec<TcpListener>,
    pub notifier: Notifier,
    pub program: Program,
    /// Where the programs of hooks are looked for: `PATH`.
    pub search_path: Option<OsString>,
    pub set_log_level: SetLogLevel,
}

/// Runs until SIGTERM, SIGINT or ctrl-c, or until a successor has taken over; then ends every link with
/// its state saved.
///
/// # Errors
/// An address that can't be listened on, a passed socket that no address is for, a state folder that
/// can't be made, nothing to take over from.
pub fn run(start: Start) -> Result<(), Failure> {
    let main = runtime::Builder::new_current_thread().enable_all().build();
    let main = main.map_err(|error| Failure::failed(format_args!("no runtime: {error}")))?;
    let served = main.block_on(serve(start));
    // A handing-over that hangs, or a disk that does, is not waited for.
    main.shutdown_timeout(END_TIME_MAX);
    served
}

async fn serve(start: Start) -> Result<(), Failure> {
    let mut signals = Signals::new().map_err(Failure::failed)?;
    let Start { config, notifier, .. } = start;
    let (node, state_dir) = (config.node.id.clone(), config.state.dir.clone());
    // Held to the end: while it is, interception stays.
    let _intercepting =
        guard::watched(&config, &start.program.path, &start.config_file).map_err(Failure::failed)?;
    let (takeover, sockets) = sockets(start.takeover.then_some(&*state_dir), start.passed)?;
    let mut control_listeners = Vec::new();
    for (address, routes) in [(config.admin, Routes::Admin), (config.metrics, Routes::Metrics)] {
        control_listeners.push((sockets.open(address).map_err(Failure::failed)?, routes));
    }
    let by = match (config.mesh.clone(), config.etcd.clone()) {
        (Some(mesh), _) => {
            let listener = sockets.open(mesh.listen).map_err(Failure::failed)?;
            Some(By::Raft(mesh, listener))
        }
        (None, etcd) => etcd.map(By::Etcd),
    };
    let member = match by {
        Some(by) => Some(Member {
            by,
            metrics: raft::Metrics::new().map_err(Failure::failed)?,
            hands_metrics: hands::Metrics::new().map_err(Failure::failed)?,
            search_path: start.search_path,
        }),
        None => None,
    };
    let relay = Relay::bind(config, start.protocol, sockets.clone()).map_err(Failure::failed)?;
    unclaimed(&sockets, takeover.is_some())?;
    if let Some(spoken) = relay.shared().translation().spoken.filter(|spoken| spoken.orphaned) {
        tracing::error!(
            release = spoken.release,
            who = spoken.who,
            "links stay held to this release, as an upgrade left them, and without [mesh] this sidecar does not hear \
             of its end: give it back its [mesh], or let them go with `segue translate auto`, after which there is no \
             way back"
        );
    }
    let part = if member.is_some() { Part::None("it is starting".to_owned()) } else { Part::NoMesh };
    let running = Arc::new(Running {
        shared: relay.shared(),
        accepting: AtomicBool::new(true),
        config_file: start.config_file,
        set_log_level: start.set_log_level,
        reloading: Mutex::default(),
        part: ArcSwap::from_pointee(part),
        losses: OnceLock::new(),
        upgrade_metrics: UpgradeMetrics::new().map_err(Failure::failed)?,
        mesh_metrics: member.as_ref().map(|member| member.metrics.clone()),
        hands_metrics: member.as_ref().map(|member| member.hands_metrics.clone()),
    });
    let (stop, control_stop) = (CancellationToken::new(), CancellationToken::new());
    let control = Control::start(control_listeners, member, running.clone(), control_stop.clone());
    let control = control.map_err(Failure::failed)?;
    let mut relay = tokio::spawn(relay.run(stop.clone()));
    if let Some(takeover) = takeover {
        accepts(takeover).await;
    }
    let (handed_over, mut successors) = mpsc::channel(1);
    let handing_over = match ControlSocket::bind(&state_dir) {
        Ok(socket) => {
            Some(tokio::spawn(socket.serve(sockets, notifier.clone(), handed_over.clone(), stop.clone())))
        }
        Err(error) => {
            tracing::error!(%error, "no successor can take over from this process");
            None
        }
    };
    notifier.ready();
    tracing::info!(node = &*node, version = env!("CARGO_PKG_VERSION"), "sidecar runs");

    let ends = until_end(&mut signals, &mut successors, &running, &start.program).await;
    running.accepting.store(false, Relaxed);
    match ends {
        End::Told(signal) => {
            tracing::info!(signal, "draining");
            notifier.stopping();
        }
        End::Succeeded(pid) => {
            tracing::info!(successor = pid, "handed over, draining");
            // Whoever asks is to be answered by the successor.
            control_stop.cancel();
        }
    }
    stop.cancel();
    loop {
        tokio::select! {
            ended = &mut relay => {
                if let Err(error) = ended {
                    tracing::error!(%error, "the relay ended badly");
                }
                break;
            }
            Told::End(signal) = signals.next() => {
                tracing::info!(signal, "not waiting for snapshots under way");
                running.shared.end_links();
            }
        }
    }
    if let Some(handing_over) = handing_over {
        // Time to remove its socket file. A successor that is still starting finds nobody to take over from.
        let _in_time = tokio::time::timeout(END_TIME_MAX, handing_over).await;
    }
    control_stop.cancel();
    control.join();
    if let Some(losses) = running.losses.get()
        && let Err(error) = losses.leave(running.shared.data_losses())
    {
        tracing::error!(%error, "the successor does not know of the last losses of an upgrade");
    }
    tracing::info!("sidecar ends");
    Ok(())
}

/// The listening sockets there are: a predecessor's, and those of the service manager.
fn sockets(
    predecessor: Option<&Path>,
    passed: Vec<TcpListener>,
) -> Result<(Option<Takeover>, Arc<Listeners>), Failure> {
    let (takeover, mut inherited) = match predecessor {
        Some(state_dir) => {
            let (takeover, sockets) = Takeover::begin(state_dir).map_err(Failure::failed)?;
            (Some(takeover), sockets)
        }
        None => (None, Vec::new()),
    };
    inherited.extend(passed);
    Ok((takeover, Arc::new(Listeners::new(inherited).map_err(Failure::failed)?)))
}

/// Sockets that the config has no use for: of a predecessor they are what its config had besides, from the
/// service manager they are a mistake in its socket unit.
fn unclaimed(sockets: &Listeners, takeover: bool) -> Result<(), Failure> {
    let unclaimed: Vec<_> = sockets.close_unclaimed().iter().map(ToString::to_string).collect();
    if unclaimed.is_empty() {
        return Ok(());
    }
    let unclaimed = unclaimed.join(", ");
    if takeover {
        tracing::info!(listen = unclaimed, "listening no more");
        return Ok(());
    }
    Err(Failure::failed(format_args!(
        "the service manager passed sockets that no listen in the config is for: {unclaimed}"
    )))
}

async fn accepts(takeover: Takeover) {
    match tokio::task::spawn_blocking(|| takeover.ready()).await {
        Ok(Ok(())) => tracing::info!("taken over"),
        Ok(Err(error)) => tracing::warn!(%error, "taken over; the sidecar before is gone already"),
        Err(error) => tracing::error!(%error, "the takeover ended badly"),
    }
}

enum End {
    Told(&'static str),
    /// By this process.
    Succeeded(i32),
}

async fn until_end(
    signals: &mut Signals,
    successors: &mut mpsc::Receiver<i32>,
    running: &Arc<Running>,
    program: &Program,
) -> End {
    let mut starting: Option<JoinHandle<()>> = None;
    loop {
        tokio::select! {
            Some(pid) = successors.recv() => {
                if let Some(starting) = starting {
                    starting.abort();
                }
                return End::Succeeded(pid);
            }
            told = signals.next() => match told {
                Told::End(signal) => return End::Told(signal),
                Told::Reload => {
                    let running = running.clone();
                    // Its outcome is in log, status and metric.
                    tokio::task::spawn_blocking(move || running.reload().map(drop));
                }
                Told::Succeed if starting.as_ref().is_some_and(|starting| !starting.is_finished()) => {
                    tracing::warn!("a successor is starting already");
                }
                Told::Succeed => starting = Some(tokio::spawn(successor::start(program.clone()))),
            }
        }
    }
}
