//! What the admin API sees of the relay, and what it may change.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use prometheus::proto::MetricFamily;
use segue_wire::{Mode, PeerName, Verdict};

use super::{Shared, bounds::Limit, link::Link, shared::unix_now_s, translation::Settings};
use crate::{
    net::files,
    status::{
        LimitStatus, LinkStatus, LossesStatus, NodeStatus, Status, TranslationChange, TranslationChanged,
        TranslationStatus,
    },
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
            store: self.peers.own_store().map(|store| store.to_string()),
            release: self.peers.last_known(self.peers.own_name()).as_ref().map(Into::into),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: self.started.elapsed().as_secs(),
        };
        let status = |link: &Arc<Link>| LinkStatus {
            unspoken: self.unspoken(link).map(|release| release.to_string()),
            ..link.status()
        };
        let links: Vec<LinkStatus> = self.links().values().map(status).collect();
        Status {
            node,
            config: self.reloads().clone(),
            translation: self.translation(),
            second_connection: self.config().translation.second_connection.label().to_owned(),
            links,
            limits: self.limits(),
            refusals: self.refusals.recent(),
        }
    }

    /// What is set, how near it is, and how often it was hit.
    fn limits(&self) -> Vec<LimitStatus> {
        self.report_pipes();
        let limits = &self.config().limits;
        let (bounds, pipes) = (&self.bounds, self.pipes.lent());
        let of = |limit: Limit| {
            let (max, used) = match limit {
                Limit::Links => (limits.links_max, Some(bounds.open.taken())),
                Limit::UndecidedLinks => (limits.undecided_links_max, Some(bounds.undecided.taken())),
                Limit::HeldBytesTotal => (limits.held_bytes_total_max, Some(bounds.held.bytes())),
                Limit::Pipes => (limits.pipes_max, Some(pipes)),
                Limit::OpenFiles => (self.files_max(), files::open()),
                Limit::HandshakeTime => (milliseconds(limits.handshake_timeout), None),
                Limit::DialTime => (milliseconds(limits.dial_timeout), None),
                Limit::TlsHandshakeTime => (milliseconds(limits.tls_handshake_timeout), None),
                Limit::PairingTime => (milliseconds(limits.pairing_timeout), None),
            };
            LimitStatus {
                limit: limit.key().to_owned(),
                max: max as u64,
                used: used.map(|used| used as u64),
                hits: self.metrics.limit_hits.with_label_values(&[limit.key()]).get(),
            }
        };
        Limit::ALL.into_iter().map(of).collect()
    }

    /// Pipes are lent where nothing can be logged or counted by name.
    pub(super) fn report_pipes(&self) {
        let refused = self.pipes.take_refused();
        if refused == 0 {
            return;
        }
        self.metrics.limit_hits.with_label_values(&[Limit::Pipes.key()]).inc_by(refused);
        if let Some(unsaid) = self.due("pipes") {
            let pipes_max = self.config().limits.pipes_max;
            tracing::warn!(pipes_max, reads = refused, unsaid, "all pipes are in use, bytes are copied");
        }
    }

    pub fn losses(&self) -> LossesStatus {
        self.losses.snapshot()
    }

    pub fn translation(&self) -> TranslationStatus {
        let mut status = self.translation.status();
        if let Some(spoken) = &mut status.spoken {
            spoken.orphaned = self.is_alone();
        }
        status
    }

    /// In no mesh: nobody tells of an upgrade.
    fn is_alone(&self) -> bool {
        let config = self.config();
        config.mesh.is_none() && config.etcd.is_none()
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
        self.translation.set(after, changed);
        self.refusals.clear();
        for link in self.links().values() {
            self.end_if_changed(link, &before);
        }
        Ok(self.translation())
    }

    /// Ends a link that was decided under other settings of an operator, where they make a difference to it.
    pub(super) fn end_if_changed(&self, link: &Link, before: &Settings) {
        let after = self.translation.settings();
        let verdict = link.facts().verdict.clone();
        let concerned = match verdict {
            Some(Verdict::Rewrite) => after != *before,
            Some(_) => after.mode != before.mode && !self.protocol.releases().is_empty(),
            // It will be looked at when it is.
            None => false,
        };
        if concerned {
            link.end.cancel();
        }
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
        self.metrics.held_bytes.set(self.bounds.held.bytes().try_into().unwrap_or(i64::MAX));
        for LimitStatus { limit, max, used, .. } in self.limits() {
            self.metrics.limits.with_label_values(&[&limit]).set(max.try_into().unwrap_or(i64::MAX));
            if let Some(used) = used {
                self.metrics
                    .limits_used
                    .with_label_values(&[&limit])
                    .set(used.try_into().unwrap_or(i64::MAX));
            }
        }
        self.report_certificates();
        self.metrics.translation_spoken.reset();
        if let Some(spoken) = self.translation.status().spoken {
            let gauge = self.metrics.translation_spoken.with_label_values(&[&spoken.release]);
            gauge.set(spoken.in_force.into());
        }
        for link in &links {
            self.report_bytes(link);
            if let Some(peer) = link.peer(self.peers.own_name()) {
                let shift = link.shift_bytes.load(Relaxed);
                self.metrics.offset_shift_bytes.with_label_values(&[&*peer]).set(shift);
                let own = link.own_offsets.load(Relaxed);
                self.metrics.own_offsets.with_label_values(&[&*peer]).set(own.into());
            }
        }
        self.metrics.gather()
    }

    /// Those in use. Renewed files are seen at the next scrape, also where no handshake looks at them.
    fn report_certificates(&self) {
        let expiry = &self.metrics.tls_certificate_expiry;
        match self.tls.in_use() {
            Some(keys) => {
                for (file, validity) in keys.validities() {
                    expiry.with_label_values(&[file]).set(validity.end_unix_s());
                }
                let tls = self.tls.clone();
                self.listening.runtime.spawn(async move { tls.keys().await });
            }
            None => expiry.reset(),
        }
    }

    pub(super) fn report_bytes(&self, link: &Link) {
        let peer = link.peer(self.peers.own_name());
        let peer = peer.as_deref().unwrap_or("");
        for (side, bytes) in link.take_unreported_bytes() {
            self.metrics.link_bytes.with_label_values(&[peer, side.label()]).inc_by(bytes);
        }
    }
}

fn milliseconds(time: Duration) -> usize {
    usize::try_from(time.as_millis()).unwrap_or(usize::MAX)
}

fn would_break(dependants: &[String]) -> ChangeError {
    ChangeError::WouldBreak(format!(
        "{} of an older release would lose its link; upgrade it first, or force the change",
        dependants.join(", ")
    ))
}
