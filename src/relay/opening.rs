//! What a session asks for while its link opens and runs: names, releases, saved states; and what
//! becomes of its notes.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use bytes::Bytes;
use segue_wire::{Answer, End, Grade, Note, PeerName, Question, Release, Side, StreamKey, Verdict};

use super::{Shared, bounds::Limit, link::Link, shared::unix_now_s, translation::Settings};
use crate::{
    config::{self, LinkTarget},
    peers::Known,
    status::Learned,
    streams::Journal,
};

/// How long an earlier link of the same replica may take to save its state and end.
const SUPERSEDE_TIME_MAX: Duration = Duration::from_secs(2);

/// A store's name, and its release if that can be had.
type FoundStore = (PeerName, Option<Known>);

/// One link's way to the rest of the sidecar.
pub struct Opening {
    pub shared: Arc<Shared>,
    pub configured: config::Link,
    /// The listener sees another address than the dialer's.
    hides_dialer: bool,
    /// An operator's, no newer than those that its session goes by.
    settings: Settings,
    /// The link that this one joined.
    first: OnceLock<u64>,
    /// Of the stream that was saved last.
    journal: Mutex<Option<(StreamKey, Journal)>>,
}

impl Opening {
    pub fn new(shared: Arc<Shared>, configured: config::Link, hides_dialer: bool) -> Self {
        let settings = shared.translation.settings();
        Self { shared, configured, hides_dialer, settings, first: OnceLock::new(), journal: Mutex::default() }
    }

    pub async fn answer(&self, link: &Link, question: Question) -> Answer {
        match question {
            Question::Ends { listening_port, address, joins } => {
                match joins.and_then(|key| self.shared.pairing.join(link, &key)) {
                    Some((first, offered)) => self.join(link, first, offered),
                    None => self.ends(link, listening_port, address).await,
                }
            }
            Question::Told => self.told(link).await,
            Question::Bus { listening_port, address } => self.bus(link, listening_port, address).await,
            Question::Client => self.client(link).await,
            Question::Stream(stream) => self.stream(link, &stream),
            Question::OwnOffsets => Answer::OwnOffsets(self.shared.has_own_offsets(link)),
        }
    }

    async fn ends(&self, link: &Link, listening_port: Option<u16>, address: Option<String>) -> Answer {
        let [dialer, listener] = self.stores(link, listening_port, address).await;
        self.shared.supersede(link, &dialer.0, &listener.0, SUPERSEDE_TIME_MAX).await;
        let refuse_early = self.shared.refusals.early(&dialer.0, Instant::now());
        let end = |store: &FoundStore| End { name: store.0.clone(), release: release(store) };
        let answer =
            Answer::Ends { dialer: end(&dialer), listener: end(&listener), refuse_early, joined: None };
        remember(link, [dialer, listener]);
        answer
    }

    /// Its ends are those of the link that it belongs to, which goes on.
    fn join(&self, link: &Link, first: u64, offered: Bytes) -> Answer {
        let _ = self.first.set(first);
        let stores = self.shared.links().get(&first).map(|first| {
            let facts = first.facts();
            [&facts.dialer, &facts.listener].map(|end| (end.name.clone(), end.known.clone()))
        });
        let stores = stores.unwrap_or_default().map(|(name, known)| (name.unwrap_or_default(), known));
        let refuse_early = self.shared.refusals.early(&stores[0].0, Instant::now());
        let [dialer, listener] =
            stores.each_ref().map(|store| End { name: store.0.clone(), release: release(store) });
        remember(link, stores);
        Answer::Ends { dialer, listener, refuse_early, joined: Some(offered) }
    }

    pub fn tell(&self, words: Bytes) {
        if let Some(first) = self.first.get() {
            self.shared.pairing.tell(*first, words);
        }
    }

    async fn told(&self, link: &Link) -> Answer {
        let limit = self.shared.config().limits.pairing_timeout;
        let told = tokio::select! {
            biased;
            told = self.shared.pairing.told(link.id, limit) => told,
            () = link.end.cancelled() => return Answer::Told(None),
        };
        if told.is_none() {
            self.shared.hit(Limit::PairingTime);
        }
        Answer::Told(told)
    }

    /// A store that does not answer just now is what it was: without their bus its peers would give it up.
    async fn bus(&self, link: &Link, listening_port: Option<u16>, address: Option<String>) -> Answer {
        let stores = self.stores(link, listening_port, address).await;
        let stores = stores.map(|(name, known)| {
            let known = known.or_else(|| self.shared.peers.last_known(&name));
            (name, known)
        });
        let hidden = self.hides_dialer.then(|| link.dialer_address().ip().to_canonical().to_string());
        let [dialer, listener] = &stores;
        let answer = Answer::Stores { dialer: release(dialer), listener: release(listener), hidden };
        remember(link, stores);
        answer
    }

    /// A store that migrates keys answers nobody until it has done so: it is not asked for its release.
    async fn client(&self, link: &Link) -> Answer {
        link.facts().client = true;
        let peers = &self.shared.peers;
        let own = peers.own_name().clone();
        let from = link.dialer_address().ip();
        let (dialer, listener) = match &self.configured.to {
            LinkTarget::Peer(peer) => (Some(own), (peer.clone(), peers.release(peer).await)),
            LinkTarget::Store => {
                if self.configured.peer.is_none() && !self.shared.has_peer_at(from).await {
                    return Answer::NoStore;
                }
                let named = self.configured.peer.clone().or_else(|| peers.by_address(from, None));
                (named, (own, peers.own_release().await))
            }
        };
        let name = dialer.unwrap_or_else(|| from.to_canonical().to_string().into());
        let known = peers.last_known(&name);
        let stores = [(name, known), listener];
        let [dialer, listener] = &stores;
        let answer = Answer::Stores { dialer: release(dialer), listener: release(listener), hidden: None };
        remember(link, stores);
        answer
    }

    /// The dialer and the listener.
    async fn stores(
        &self,
        link: &Link,
        listening_port: Option<u16>,
        address: Option<String>,
    ) -> [FoundStore; 2] {
        let peers = &self.shared.peers;
        let own = peers.own_name().clone();
        match &self.configured.to {
            LinkTarget::Store => {
                let far = self.far_dialer(link, listening_port, address);
                let (far, own_known) = tokio::join!(far, peers.own_release());
                [far, (own, own_known)]
            }
            LinkTarget::Peer(peer) => {
                let (own_known, known) = tokio::join!(peers.own_release(), peers.release(peer));
                [(own, own_known), (peer.clone(), known)]
            }
        }
    }

    /// The replica that dialled: by configuration, by what it announces, by where it comes from.
    async fn far_dialer(
        &self,
        link: &Link,
        listening_port: Option<u16>,
        address: Option<String>,
    ) -> FoundStore {
        let peers = &self.shared.peers;
        let from = link.dialer_address().ip().to_canonical();
        let ip = address.and_then(|address| address.parse().ok()).unwrap_or(from);
        let named = self.configured.peer.clone().or_else(|| peers.by_address(ip, listening_port));
        match (named, listening_port) {
            (Some(name), _) => {
                let known = peers.release(&name).await;
                (name, known)
            }
            (None, Some(port)) => {
                let announced = SocketAddr::new(ip, port);
                (announced.to_string().into(), peers.release_at(announced).await)
            }
            (None, None) => (ip.to_string().into(), None),
        }
    }

    fn stream(&self, link: &Link, stream: &str) -> Answer {
        let (dialer, listener) = {
            let facts = link.facts();
            (facts.dialer.name.clone(), facts.listener.name.clone())
        };
        let recall = |follower: Option<PeerName>| {
            let key = |follower| StreamKey { stream: stream.to_owned(), follower };
            let streams = &self.shared.streams;
            streams.recall(&key(follower?.to_string())).or_else(|| streams.recall(&key(String::new())))
        };
        Answer::Stream { dialer: recall(dialer), listener: recall(listener) }
    }

    /// Durable before the next effect.
    pub async fn save(&self, key: StreamKey, state: Bytes) {
        let shared = self.shared.clone();
        let saved = tokio::task::spawn_blocking(move || {
            let saved = shared.streams.save(&key, &state);
            saved.map(|journal| (key, journal))
        });
        match saved.await {
            Ok(Ok(journal)) => *self.journal() = Some(journal),
            Ok(Err(error)) => {
                *self.journal() = None;
                self.state_failed("save", &error);
            }
            Err(error) => tracing::error!(%error, "the task that saves a stream's state ended badly"),
        }
    }

    /// With the system, if not on disk, before the next effect. A journal that failed is not written to
    /// any more: a gap in it would be worse than its end.
    pub fn append(&self, key: &StreamKey, step: &[u8]) {
        let mut journal = self.journal();
        let Some((_, open)) = journal.as_mut().filter(|(of, _)| of == key) else { return };
        if let Err(error) = open.append(step) {
            *journal = None;
            self.state_failed("append", &error);
        }
    }

    fn state_failed(&self, step: &str, error: &std::io::Error) {
        self.shared.metrics.state_failures.with_label_values(&[step]).inc();
        tracing::error!(%error, step, "a stream's state is not kept: its next link may need a full sync");
    }

    fn journal(&self) -> MutexGuard<'_, Option<(StreamKey, Journal)>> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub async fn forget(&self, key: StreamKey) {
        if let Err(error) = self.shared.streams.forget(&key) {
            self.state_failed("forget", &error);
        }
    }

    pub fn spliced(&self, link: &Link) {
        // A link that joined another one carries a snapshot and nothing else: it is under way until both ends close.
        if self.first.get().is_none() {
            link.snapshot_under_way.store(false, Relaxed);
        }
        let mut facts = link.facts();
        facts.client |= facts.verdict.is_none();
    }

    pub fn note(&self, link: &Link, note: Note) {
        let shared = &self.shared;
        match note {
            Note::Learned(side, release) => {
                let known = Known { release, learned: Learned::Wire };
                let mut facts = link.facts();
                let end = if side == Side::Dialer { &mut facts.dialer } else { &mut facts.listener };
                if let Some(name) = &end.name {
                    shared.peers.learned(name, known.clone());
                }
                end.known = Some(known);
            }
            Note::Decided { verdict, target } => {
                // Where releases make no difference, nothing was decided.
                if !shared.protocol.releases().is_empty() {
                    tracing::info!(
                        link = link.id,
                        verdict = verdict.label(),
                        target = target.as_ref().map(tracing::field::display),
                        "link decided"
                    );
                }
                let awaits_snapshot = verdict == Verdict::Rewrite && !self.configured.bus;
                {
                    let mut facts = link.facts();
                    link.snapshot_under_way.store(awaits_snapshot && !facts.client, Relaxed);
                    if !matches!(verdict, Verdict::Refuse(_)) {
                        facts.verdict = Some(verdict);
                    }
                    facts.target = target;
                }
                shared.decided(link);
                shared.end_if_changed(link, &self.settings);
            }
            Note::Translated(rule) => {
                link.rewritten.fetch_add(1, Relaxed);
                shared.metrics.messages_translated.with_label_values(&[rule]).inc();
                if rule == "snapshot"
                    && let Some(name) = &link.facts().dialer.name
                {
                    shared.refusals.linked(name);
                }
            }
            Note::Lost(loss) => {
                if loss.grade == Grade::Data {
                    link.losses.fetch_add(1, Relaxed);
                }
                shared.metrics.losses.with_label_values(&[loss.kind, loss.grade.label()]).inc();
                let peer = link.peer(shared.peers.own_name());
                shared.losses.record(&loss, peer.as_ref(), unix_now_s());
            }
            Note::Shift(bytes) => {
                // Said first when the stream begins: behind the snapshot, if there was one on this link.
                if !shared.pairing.has_offer(link.id) {
                    link.snapshot_under_way.store(false, Relaxed);
                }
                link.shift_bytes.store(bytes, Relaxed);
            }
            Note::Synced => {
                shared.pairing.withdraw(link.id);
                link.snapshot_under_way.store(false, Relaxed);
            }
            Note::OwnOffsets => link.own_offsets.store(true, Relaxed),
            Note::Refused(refusal) => {
                let peer = link.peer(shared.peers.own_name());
                shared.refused(&self.configured, peer, refusal.label(), refusal.to_string());
            }
        }
    }
}

fn release((_, known): &FoundStore) -> Option<Release> {
    known.as_ref().map(|known| known.release.clone())
}

fn remember(link: &Link, [dialer, listener]: [FoundStore; 2]) {
    let mut facts = link.facts();
    (facts.dialer.name, facts.dialer.known) = (Some(dialer.0), dialer.1);
    (facts.listener.name, facts.listener.known) = (Some(listener.0), listener.1);
}
