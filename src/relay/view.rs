//! What the admin API sees of the relay, and what it may change.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use prometheus::proto::MetricFamily;
use segue_wire::{Mode, PeerName, Verdict};

use super::{Shared, link::Link, shared::unix_now_s};
use crate::status::{
    LinkStatus, LossesStatus, NodeStatus, Status, TranslationChange, TranslationChanged, TranslationStatus,
};

/// Why a change of the translation was not made.
#[derive(Debug, PartialEq, Eq)]
pub enum ChangeError {
    Invalid(String),
    WouldBreak(String),
}

impl Shared {
    pub fn status(&self) -> Status {
        let node = NodeStatus {
            id: self.peers.own_name().to_string(),
            protocol: self.protocol.name().to_owned(),
            store: self.peers.own_store().to_string(),
            release: self.peers.last_known(self.peers.own_name()).as_ref().map(Into::into),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: self.started.elapsed().as_secs(),
        };
        let links: Vec<LinkStatus> = self.links().values().map(|link| link.status()).collect();
        Status {
            node,
            config: self.reloads().clone(),
            translation: self.translation.status(),
            links,
            refusals: self.refusals.recent(),
        }
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
            names.extend(self.peers.names().iter().filter(older).map(ToString::to_string));
        }
        names.sort();
        names.dedup();
        names
    }

    pub fn gather_metrics(&self) -> Vec<MetricFamily> {
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

    pub(super) fn report_bytes(&self, link: &Link) {
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
