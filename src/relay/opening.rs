//! What a session asks for while its link opens and runs: names, releases, saved states; and what
//! becomes of its notes.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use bytes::Bytes;
use segue_wire::{Answer, End, Grade, Note, PeerName, Question, Side, StreamKey, Verdict};

use super::{Shared, link::Link, shared::unix_now_s};
use crate::{
    config::{self, LinkTarget},
    peers::Known,
    status::Learned,
};

/// How long an earlier link of the same replica may take to save its state and end.
const SUPERSEDE_TIME_MAX: Duration = Duration::from_secs(2);

/// One link's way to the rest of the sidecar.
pub struct Opening {
    pub shared: Arc<Shared>,
    pub configured: config::Link,
}

impl Opening {
    pub async fn answer(&self, link: &Link, question: Question) -> Answer {
        match question {
            Question::Ends { listening_port, address } => self.ends(link, listening_port, address).await,
            Question::Stream(stream) => self.stream(link, stream).await,
        }
    }

    async fn ends(&self, link: &Link, listening_port: Option<u16>, address: Option<String>) -> Answer {
        let peers = &self.shared.peers;
        let own = peers.own_name().clone();
        let (dialer, listener) = match &self.configured.to {
            LinkTarget::Store => {
                let far = self.far_dialer(link, listening_port, address);
                let (far, own_known) = tokio::join!(far, peers.own_release());
                (far, (own, own_known))
            }
            LinkTarget::Peer(peer) => {
                let (own_known, known) = tokio::join!(peers.own_release(), peers.release(peer));
                ((own, own_known), (peer.clone(), known))
            }
        };
        self.shared.supersede(link, &dialer.0, &listener.0, SUPERSEDE_TIME_MAX).await;
        let refuse_early = self.shared.refusals.early(&dialer.0, Instant::now());
        let end = |(name, known): &(PeerName, Option<Known>)| End {
            name: name.clone(),
            release: known.as_ref().map(|known| known.release.clone()),
        };
        let answer = Answer::Ends { dialer: end(&dialer), listener: end(&listener), refuse_early };
        let mut facts = link.facts();
        (facts.dialer.name, facts.dialer.known) = (Some(dialer.0), dialer.1);
        (facts.listener.name, facts.listener.known) = (Some(listener.0), listener.1);
        answer
    }

    /// The replica that dialled: by configuration, by what it announces, by where it comes from.
    async fn far_dialer(
        &self,
        link: &Link,
        listening_port: Option<u16>,
        address: Option<String>,
    ) -> (PeerName, Option<Known>) {
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

    async fn stream(&self, link: &Link, stream: String) -> Answer {
        let (dialer, listener) = {
            let facts = link.facts();
            (facts.dialer.name.clone(), facts.listener.name.clone())
        };
        let recall = |follower: Option<PeerName>| {
            let key = StreamKey { stream: stream.clone(), follower: follower?.to_string() };
            self.shared.streams.recall(&key)
        };
        Answer::Stream { dialer: recall(dialer), listener: recall(listener) }
    }

    /// Durable before the next effect.
    pub async fn save(&self, key: StreamKey, state: Bytes) {
        let shared = self.shared.clone();
        let saved = tokio::task::spawn_blocking(move || shared.streams.save(&key, &state)).await;
        if let Ok(Err(error)) = saved {
            self.shared.metrics.state_failures.with_label_values(&["save"]).inc();
            tracing::error!(%error, "a stream's state could not be saved: the next link needs a full sync");
        }
    }

    pub async fn forget(&self, key: StreamKey) {
        if let Err(error) = self.shared.streams.forget(&key) {
            self.shared.metrics.state_failures.with_label_values(&["forget"]).inc();
            tracing::error!(%error, "a stream's old state could not be removed");
        }
    }

    pub fn spliced(&self, link: &Link) {
        let mut facts = link.facts();
        facts.client = facts.verdict.is_none();
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
                tracing::info!(
                    link = link.id,
                    verdict = verdict.label(),
                    target = target.as_ref().map(tracing::field::display),
                    "link decided"
                );
                let mut facts = link.facts();
                if !matches!(verdict, Verdict::Refuse(_)) {
                    facts.verdict = Some(verdict);
                }
                facts.target = target;
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
            Note::Shift(bytes) => link.shift_bytes.store(bytes, Relaxed),
        }
    }
}
