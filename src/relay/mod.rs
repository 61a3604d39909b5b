//! Accepts links, gives each to a session, moves its bytes. Sees only [`segue_wire::Protocol`].
//!
//! | module | holds |
//! |---|---|
//! | here | [`Relay`]: the listeners and the links that are open |
//! | `pump` | the bytes of one link |
//! | `opening` | what a session asks for, and what becomes of its notes |
//! | `link` | one live link, as others see it |
//! | `refusals` | what was refused lately |
//! | `translation` | mode and loss policy, and who changed them |
//! | `metrics` | the relay's metrics |

mod link;
mod metrics;
mod opening;
mod pump;
mod refusals;
mod translation;

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use segue_wire::{FaultKind, Hints, Mode, PeerName, Protocol, Refusal, Verdict};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{self, Config, LinkTarget},
    losses::LossReport,
    net,
    peers::Peers,
    status::{
        LinkStatus, LossesStatus, NodeStatus, RefusalStatus, Status, TranslationChange, TranslationChanged,
        TranslationStatus,
    },
    streams::Streams,
};
use link::Link;
use metrics::Metrics;
use opening::Opening;
use pump::{Pump, Stop};
use refusals::Refusals;
use translation::Translation;

/// After a failed accept (no file descriptors left, mostly) the listener rests this long.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// How often the own store's release is asked, for the status; each link asks for itself.
const OWN_RELEASE_PERIOD: Duration = Duration::from_secs(10);

/// What all links share.
pub struct Shared {
    config: Config,
    protocol: Arc<dyn Protocol>,
    peers: Peers,
    streams: Streams,
    losses: LossReport,
    refusals: Refusals,
    translation: Translation,
    metrics: Metrics,
    links: Mutex<BTreeMap<u64, Arc<Link>>>,
    next_link: AtomicU64,
    started: Instant,
    /// Ends every link.
    stop: CancellationToken,
}

/// The listeners, bound and not yet accepting.
pub struct Relay {
    shared: Arc<Shared>,
    listeners: Vec<(TcpListener, config::Link)>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl Relay {
    /// Binds every configured link.
    ///
    /// # Errors
    /// An address that can't be listened on, a state folder that can't be made.
    pub async fn bind(config: Config, protocol: Arc<dyn Protocol>) -> Result<Self, StartError> {
        let mut listeners = Vec::new();
        for link in &config.links {
            listeners.push((net::listen(link.listen).await?, link.clone()));
        }
        let shared = Shared {
            peers: Peers::new(&config, protocol.clone()),
            streams: Streams::open(&config.state.dir)?,
            losses: LossReport::new(),
            refusals: Refusals::default(),
            translation: Translation::new(&config.translation, &config.state.dir),
            metrics: Metrics::new()?,
            links: Mutex::default(),
            next_link: AtomicU64::new(1),
            started: Instant::now(),
            stop: CancellationToken::new(),
            protocol,
            config,
        };
        Ok(Self { shared: Arc::new(shared), listeners })
    }

    pub fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Accepts until `stop`, then ends every link, each with its state saved.
    pub async fn run(self, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        for (listener, configured) in self.listeners {
            tasks.spawn(accept(self.shared.clone(), listener, configured, stop.clone()));
        }
        tasks.spawn(watch_own_release(self.shared.clone(), stop.clone()));
        stop.cancelled().await;
        self.shared.stop.cancel();
        while tasks.join_next().await.is_some() {}
    }
}

async fn watch_own_release(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = shared.peers.own_release() => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(OWN_RELEASE_PERIOD) => {}
        }
    }
}

async fn accept(
    shared: Arc<Shared>,
    listener: TcpListener,
    configured: config::Link,
    stop: CancellationToken,
) {
    let mut links = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = links.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((dialer, _)) => {
                links.spawn(serve(shared.clone(), configured.clone(), dialer));
            }
            Err(error) => {
                tracing::error!(listen = %configured.listen, %error, "accept failed");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
    drop(listener);
    while links.join_next().await.is_some() {}
}

/// One link, from its connection to its end.
async fn serve(shared: Arc<Shared>, configured: config::Link, dialer: TcpStream) {
    let Ok(dialer_address) = dialer.peer_addr() else { return };
    let (target, target_name) = match &configured.to {
        LinkTarget::Store => (shared.peers.own_store().clone(), shared.peers.own_name().clone()),
        LinkTarget::Peer(peer) => match shared.peers.store_of(peer) {
            Some(store) => (store.clone(), peer.clone()),
            None => return,
        },
    };
    if shared.links().len() >= shared.config.limits.links_max {
        shared.refused(
            &configured,
            None,
            "links-max",
            format!("limits.links_max = {} links are open", shared.config.limits.links_max),
        );
        return;
    }
    let opened = async {
        net::prepare(&dialer)?;
        net::dial(&target.to_string(), shared.config.limits.dial_timeout).await
    };
    let listener = match opened.await {
        Ok(listener) => listener,
        Err(error) => {
            shared.metrics.dial_failures.with_label_values(&[&*target_name]).inc();
            tracing::warn!(listen = %configured.listen, to = %target, %error, "the far end can't be reached");
            return;
        }
    };
    let id = shared.next_link.fetch_add(1, Relaxed);
    let link = Arc::new(Link::new(id, configured.listen, dialer_address, target.to_string(), &shared.stop));
    if let Some(peer) = &configured.peer {
        link.facts().dialer.name = Some(peer.clone());
    }
    shared.links().insert(id, link.clone());
    tracing::debug!(link = id, from = %dialer_address, to = %target, "link opened");

    let session = shared.open_session();
    let opening = Opening { shared: shared.clone(), configured };
    let stop = Pump::new(&link, &opening, session, dialer, listener).run().await;
    shared.links().remove(&id);
    link.ended.cancel();
    shared.stopped(&link, &opening.configured, stop);
}

impl Shared {
    fn open_session(&self) -> Box<dyn segue_wire::Session> {
        let settings = self.translation.settings();
        let mut nonce = [0; 20];
        if let Err(error) = getrandom::fill(&mut nonce) {
            tracing::error!(%error, "the system gives no random bytes");
        }
        let hints = Hints { mode: settings.mode, on_loss: settings.loss, nonce };
        self.protocol.open(hints, self.config.limits.session)
    }

    fn stopped(&self, link: &Link, configured: &config::Link, stop: Stop) {
        self.report_bytes(link);
        let peer = link.peer(self.peers.own_name());
        let peer_text = peer.as_deref().unwrap_or("-");
        match stop {
            Stop::Closed | Stop::Ended => {
                tracing::debug!(link = link.id, peer = peer_text, ?stop, "link ended")
            }
            Stop::Io(side, error) => {
                tracing::debug!(link = link.id, peer = peer_text, %side, %error, "link broke");
            }
            Stop::Fault(fault) => match fault.kind {
                FaultKind::Refused(refusal) => {
                    if matches!(refusal, Refusal::Loss { .. })
                        && let Some(dialer) = &link.facts().dialer.name
                        && self.refusals.early(dialer, Instant::now()).is_none()
                    {
                        self.refusals.hold_off(dialer, &refusal, Instant::now());
                    }
                    self.refused(configured, peer, refusal.label(), refusal.to_string());
                }
                kind => {
                    self.metrics.faults.with_label_values(&[kind.label()]).inc();
                    tracing::warn!(link = link.id, peer = peer_text, side = %fault.side,
                        position_bytes = fault.position, error = %kind, "link ended by a fault");
                }
            },
        }
    }

    fn refused(&self, configured: &config::Link, peer: Option<PeerName>, reason: &str, detail: String) {
        self.metrics.refusals.with_label_values(&[reason]).inc();
        tracing::warn!(listen = %configured.listen, peer = peer.as_deref().unwrap_or("-"), reason, detail,
            "link refused");
        self.refusals.record(RefusalStatus {
            at_unix_s: unix_now_s(),
            listen: configured.listen.to_string(),
            peer: peer.map(|peer| peer.to_string()),
            reason: reason.to_owned(),
            detail,
        });
    }

    /// Ends an earlier rewritten link between the same two stores, and waits until its state is saved:
    /// a replica that dials again has given up on it.
    async fn supersede(&self, link: &Link, dialer: &PeerName, listener: &PeerName, limit: Duration) {
        let earlier: Vec<_> = self
            .links()
            .values()
            .filter(|other| other.id != link.id)
            .filter(|other| {
                let facts = other.facts();
                facts.verdict == Some(Verdict::Rewrite)
                    && facts.dialer.name.as_ref() == Some(dialer)
                    && facts.listener.name.as_ref() == Some(listener)
            })
            .cloned()
            .collect();
        for other in earlier {
            other.end.cancel();
            if tokio::time::timeout(limit, other.ended.cancelled()).await.is_err() {
                tracing::warn!(link = other.id, "an earlier link of the same replica does not end");
            }
        }
    }

    fn links(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Link>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === what the admin API sees ===

/// Why a change of the translation was not made.
#[derive(Debug, PartialEq, Eq)]
pub enum ChangeError {
    Invalid(String),
    WouldBreak(String),
}

impl Shared {
    pub fn status(&self) -> Status {
        let node = NodeStatus {
            id: self.config.node.id.to_string(),
            protocol: self.protocol.name().to_owned(),
            store: self.config.node.store.to_string(),
            release: self.peers.last_known(self.peers.own_name()).as_ref().map(Into::into),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: self.started.elapsed().as_secs(),
        };
        let links: Vec<LinkStatus> = self.links().values().map(|link| link.status()).collect();
        Status { node, translation: self.translation.status(), links, refusals: self.refusals.recent() }
    }

    pub fn losses(&self) -> LossesStatus {
        self.losses.snapshot()
    }

    pub fn translation(&self) -> TranslationStatus {
        self.translation.status()
    }

    /// # Errors
    /// A value that means nothing, or a change that a live old peer would not survive.
    pub fn set_translation(&self, change: TranslationChange) -> Result<TranslationStatus, ChangeError> {
        let before = self.translation.settings();
        let made = before.with(&change, &*self.protocol).map_err(ChangeError::Invalid).and_then(|after| {
            let dependants = if after.mode == Mode::Off { self.dependants() } else { Vec::new() };
            if dependants.is_empty() || change.force { Ok(after) } else { Err(would_break(&dependants)) }
        });
        let outcome = if made.is_ok() { "changed" } else { "refused" };
        self.metrics.translation_changes.with_label_values(&[outcome]).inc();
        let after = made?;
        let changed = TranslationChanged {
            at_unix_s: unix_now_s(),
            who: change.who.unwrap_or_else(|| "unknown".to_owned()),
            reason: change.reason,
            forced: change.force,
            mode: after.mode.to_string(),
            loss: after.loss.label().to_owned(),
        };
        self.translation.set(after.clone(), changed);
        self.refusals.clear();
        for link in self.links().values() {
            let verdict = link.facts().verdict.clone();
            let concerned = match verdict {
                // It was decided under the old settings.
                Some(Verdict::Rewrite) => after != before,
                Some(_) => after.mode != before.mode,
                None => false,
            };
            if concerned {
                link.end.cancel();
            }
        }
        Ok(self.translation.status())
    }

    /// Peers that can't follow (or be followed) without translation, linked now or not.
    fn dependants(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .links()
            .values()
            .filter(|link| link.facts().verdict == Some(Verdict::Rewrite))
            .filter_map(|link| link.peer(self.peers.own_name()))
            .map(|peer| peer.to_string())
            .collect();
        if let Some(own) = self.peers.last_known(self.peers.own_name()) {
            let older = |peer: &&PeerName| {
                self.peers.last_known(peer).is_some_and(|known| {
                    self.protocol.verdict(&own.release, &known.release) == Verdict::Rewrite
                })
            };
            names.extend(self.peers.names().filter(older).map(ToString::to_string));
        }
        names.sort();
        names.dedup();
        names
    }

    pub fn gather_metrics(&self) -> Vec<prometheus::proto::MetricFamily> {
        let links: Vec<Arc<Link>> = self.links().values().cloned().collect();
        self.metrics.count_links(links.iter().map(|link| link.verdict_label()));
        let held: u64 = links.iter().map(|link| link.held_bytes.load(Relaxed)).sum();
        self.metrics.held_bytes.set(held.cast_signed());
        for link in &links {
            self.report_bytes(link);
            if let Some(peer) = link.peer(self.peers.own_name()) {
                let shift = link.shift_bytes.load(Relaxed);
                self.metrics.offset_shift_bytes.with_label_values(&[&*peer]).set(shift);
            }
        }
        self.metrics.gather()
    }

    fn report_bytes(&self, link: &Link) {
        let peer = link.peer(self.peers.own_name());
        let peer = peer.as_deref().unwrap_or("");
        for (side, bytes) in link.take_unreported_bytes() {
            self.metrics.link_bytes.with_label_values(&[peer, side.label()]).inc_by(bytes);
        }
    }
}

fn would_break(dependants: &[String]) -> ChangeError {
    ChangeError::WouldBreak(format!(
        "{} of an older release would lose its link; upgrade it first, or force the change",
        dependants.join(", ")
    ))
}

fn unix_now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
