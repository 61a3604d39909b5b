//! What all links share, and what becomes of a link that ends.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use segue_wire::{FaultKind, Hints, Mode, PeerName, Protocol, Refusal, Session, Side, Verdict};
use tokio_util::sync::CancellationToken;

use super::{
    StartError,
    bounds::{Bounds, Limit, TURN_TIME_MAX},
    link::Link,
    listening::Listening,
    metrics::Metrics,
    pairing::Pairing,
    pump::Stop,
    refusals::Refusals,
    translation::Translation,
    workers::Workers,
};
use crate::{
    config::{self, Config},
    losses::LossReport,
    net::{
        Listeners, files,
        pipes::{PIPE_FILES, Pipes},
    },
    peers::Peers,
    seldom::Seldom,
    status::{ConfigStatus, RefusalStatus},
    streams::Streams,
    tls::{self, TlsError},
};

/// A link's two sockets.
const LINK_FILES: usize = 2;
/// Listeners, the admin API's connections, probes, saved states, the runtimes' own.
const OTHER_FILES: usize = 256;

/// What all links share.
pub struct Shared {
    config: ArcSwap<Config>,
    pub(super) protocol: Arc<dyn Protocol>,
    pub(super) peers: Arc<Peers>,
    pub(super) tls: Arc<tls::Current>,
    pub(super) streams: Streams,
    pub(super) losses: LossReport,
    pub(super) refusals: Refusals,
    pub(super) pairing: Pairing,
    pub(super) translation: Translation,
    pub(super) metrics: Metrics,
    pub(super) pipes: Pipes,
    pub(super) bounds: Bounds,
    /// What may come in floods.
    pub(super) seldom: Seldom,
    /// How many files the system lets the process open.
    files_max: AtomicUsize,
    pub(super) links: Mutex<BTreeMap<u64, Arc<Link>>>,
    pub(super) next_link: AtomicU64,
    pub(super) listening: Listening,
    pub(super) workers: Workers,
    reloads: Mutex<ConfigStatus>,
    pub(super) started: Instant,
    /// Ends every link.
    pub(super) stop: CancellationToken,
}

impl Shared {
    pub fn new(
        config: Config,
        protocol: Arc<dyn Protocol>,
        sockets: Arc<Listeners>,
    ) -> Result<Self, StartError> {
        let metrics = Metrics::new()?;
        let tls = Arc::new(tls::Current::new(config.tls.clone(), metrics.tls_renewals.clone()));
        Ok(Self {
            peers: Arc::new(Peers::new(&config, protocol.clone(), tls.clone())),
            tls,
            streams: Streams::open(&config.state.dir)?,
            losses: LossReport::new(),
            refusals: Refusals::default(),
            pairing: Pairing::default(),
            translation: Translation::new(&config.translation, &config.state.dir)?,
            metrics,
            pipes: Pipes::new(config.limits.pipes_max),
            bounds: Bounds::new(&config.limits),
            seldom: Seldom::default(),
            files_max: AtomicUsize::default(),
            links: Mutex::default(),
            next_link: AtomicU64::new(1),
            listening: Listening::new(sockets),
            workers: Workers::start()?,
            reloads: Mutex::new(ConfigStatus { loaded_at_unix_s: unix_now_s(), last_error: None }),
            started: Instant::now(),
            stop: CancellationToken::new(),
            protocol,
            config: ArcSwap::from_pointee(config),
        })
    }

    /// The config as it is now; a reload brings another.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    pub fn protocol(&self) -> &dyn Protocol {
        &*self.protocol
    }

    /// The own node and its peers, to reach their stores.
    pub fn peers(&self) -> Arc<Peers> {
        self.peers.clone()
    }

    /// For what goes by the release that the own store was last known to be.
    pub async fn ask_own_release(&self) {
        self.peers.own_release().await;
    }

    pub(super) fn reloads(&self) -> MutexGuard<'_, ConfigStatus> {
        self.reloads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_config(&self, config: Config) {
        self.tls.replace(config.tls.clone());
        self.peers.replace(&config);
        self.pipes.set_pipes_max(config.limits.pipes_max);
        self.bounds.held.set_bytes_max(config.limits.held_bytes_total_max);
        self.config.store(Arc::new(config));
        self.say_warnings();
        self.raise_files_limit();
    }

    pub(super) fn open_session(&self, near: Side, bus: bool) -> Box<dyn Session> {
        let settings = self.translation.in_force();
        let mut nonce = [0; 20];
        if let Err(error) = getrandom::fill(&mut nonce) {
            tracing::error!(%error, "the system gives no random bytes");
        }
        let config = self.config();
        let second_connection = config.translation.second_connection;
        let hints = Hints { near, mode: settings.mode, on_loss: settings.loss, second_connection, nonce };
        let limits = config.limits.session;
        let on_bus = if bus { self.protocol.open_bus(hints.clone(), limits) } else { None };
        on_bus.unwrap_or_else(|| self.protocol.open(hints, limits))
    }

    pub(super) fn stopped(&self, link: &Link, configured: &config::Link, stop: Stop) {
        self.report_bytes(link);
        let peer = link.peer(self.peers.own_name());
        let peer_text = peer.as_deref().unwrap_or("-");
        match stop {
            Stop::Closed | Stop::Ended => {
                tracing::debug!(link = link.id, peer = peer_text, ?stop, "link ended")
            }
            Stop::Io(side, error) => match TlsError::in_error(&error) {
                Some(error) => self.no_tls(configured, peer, (side, &link.address(side)), &error),
                None => tracing::debug!(link = link.id, peer = peer_text, %side, %error, "link broke"),
            },
            Stop::Tls(side, error) => self.no_tls(configured, peer, (side, &link.address(side)), &error),
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
                    if let FaultKind::TooLarge { limit, .. } = kind {
                        self.metrics.limit_hits.with_label_values(&[limit]).inc();
                    }
                    if let Some(unsaid) = self.due(&format!("fault {} {peer_text}", kind.label())) {
                        tracing::warn!(link = link.id, peer = peer_text, side = %fault.side,
                            position_bytes = fault.position, error = %kind, unsaid, "link ended by a fault");
                    }
                }
            },
            Stop::Slow(side) => {
                let detail = format!(
                    "the {side} ({}) did not end what it had begun to say within handshake_timeout_ms = {}",
                    link.address(side),
                    self.config().limits.handshake_timeout.as_millis()
                );
                self.refused_at(configured, peer, Limit::HandshakeTime, detail);
            }
            Stop::HeldTotal => {
                let detail = format!(
                    "held_bytes_total_max = {} bytes are held of all links, and this one held more for {} s",
                    self.bounds.held.bytes_max(),
                    TURN_TIME_MAX.as_secs()
                );
                self.refused_at(configured, peer, Limit::HeldBytesTotal, detail);
            }
        }
    }

    /// Refused because of a limit.
    pub(super) fn refused_at(
        &self,
        configured: &config::Link,
        peer: Option<PeerName>,
        limit: Limit,
        detail: String,
    ) {
        self.hit(limit);
        self.refused(configured, peer, limit.reason(), detail);
    }

    pub(super) fn hit(&self, limit: Limit) {
        self.metrics.limit_hits.with_label_values(&[limit.key()]).inc();
    }

    /// Is it time to say this kind of thing again? Then how often it was left unsaid.
    pub(super) fn due(&self, kind: &str) -> Option<u64> {
        self.seldom.is_due(kind, Instant::now())
    }

    /// What the config has that won't do for long.
    pub(super) fn say_warnings(&self) {
        for config::Problem { line, place, message } in &self.config().warnings {
            tracing::warn!(line, place, message, "the config needs a look");
        }
    }

    /// To what the links may need; said where the system does not grant it.
    pub(super) fn raise_files_limit(&self) {
        let config = self.config();
        let limits = &config.limits;
        let wanted = limits
            .links_max
            .saturating_mul(LINK_FILES)
            .saturating_add(limits.pipes_max.saturating_mul(PIPE_FILES))
            .saturating_add(OTHER_FILES);
        let files_max = files::raise_limit(wanted);
        self.files_max.store(files_max, Relaxed);
        if files_max < wanted {
            let links = files_max.saturating_sub(OTHER_FILES) / LINK_FILES;
            tracing::warn!(
                files_max,
                wanted,
                links_max = limits.links_max,
                "the system lets this process open too few files for limits.links_max: about {links} links are \
                 possible; raise its hard limit (LimitNOFILE)"
            );
        }
    }

    pub(super) fn files_max(&self) -> usize {
        self.files_max.load(Relaxed)
    }

    /// TLS is not agreed upon with that end.
    pub(super) fn no_tls(
        &self,
        configured: &config::Link,
        peer: Option<PeerName>,
        (side, address): (Side, &str),
        error: &TlsError,
    ) {
        if matches!(error, TlsError::TimedOut(_)) {
            self.hit(Limit::TlsHandshakeTime);
        }
        match error.label() {
            Some(reason) => {
                self.refused(configured, peer, reason, format!("{side} {address}: {error}"));
            }
            None => tracing::debug!(listen = %configured.listen, %side, address, %error, "ended before TLS"),
        }
    }

    /// Nothing is translated, and so nothing need be understood.
    pub(super) fn passes_anything(&self) -> bool {
        self.translation.settings().mode == Mode::Off
    }

    pub(super) fn refused(
        &self,
        configured: &config::Link,
        peer: Option<PeerName>,
        reason: &str,
        detail: String,
    ) {
        self.metrics.refusals.with_label_values(&[reason]).inc();
        let peer_text = peer.as_deref().unwrap_or("-");
        if let Some(unsaid) = self.due(&format!("refused {reason} {peer_text}")) {
            tracing::warn!(listen = %configured.listen, peer = peer_text, reason, detail, unsaid, "link refused");
        }
        let refusal = RefusalStatus {
            at_unix_s: unix_now_s(),
            listen: configured.listen.to_string(),
            peer: peer.as_ref().map(ToString::to_string),
            reason: reason.to_owned(),
            detail,
        };
        self.refusals.record(peer, refusal, Instant::now());
    }

    /// Ends an earlier rewritten link between the same two stores, and waits until its state is saved:
    /// a replica that dials again has given up on it.
    pub(super) async fn supersede(
        &self,
        link: &Link,
        dialer: &PeerName,
        listener: &PeerName,
        limit: Duration,
    ) {
        for other in self.rewritten(link, Some(dialer), Some(listener)) {
            other.end.cancel();
            if tokio::time::timeout(limit, other.ended.cancelled()).await.is_err() {
                tracing::warn!(link = other.id, "an earlier link of the same replica does not end");
            }
        }
    }

    /// Whether the dialer's store follows the listener's by an id of its own.
    pub(super) fn has_own_offsets(&self, link: &Link) -> bool {
        let (dialer, listener) = {
            let facts = link.facts();
            (facts.dialer.name.clone(), facts.listener.name.clone())
        };
        let links = self.rewritten(link, dialer.as_ref(), listener.as_ref());
        links.iter().any(|other| other.own_offsets.load(Relaxed))
    }

    /// The other rewritten links between the same two stores.
    fn rewritten(
        &self,
        link: &Link,
        dialer: Option<&PeerName>,
        listener: Option<&PeerName>,
    ) -> Vec<Arc<Link>> {
        let is_between = |other: &&Arc<Link>| {
            let facts = other.facts();
            other.id != link.id
                && facts.verdict == Some(Verdict::Rewrite)
                && !(facts.bus || facts.client)
                && facts.dialer.name.as_ref() == dialer
                && facts.listener.name.as_ref() == listener
        };
        self.links().values().filter(is_between).cloned().collect()
    }

    pub(super) fn links(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Link>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn unix_now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
