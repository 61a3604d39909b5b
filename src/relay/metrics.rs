//! The relay's metrics, in names and labels that do not change.

use prometheus::{
    IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, core::Collector, proto::MetricFamily,
};

use super::bounds::Limit;

/// What `segue_links{verdict}` counts by.
const VERDICTS: [&str; 5] = ["handshake", "same", "downshift", "rewrite", "client"];

#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    pub links: IntGaugeVec,
    pub link_bytes: IntCounterVec,
    pub messages_translated: IntCounterVec,
    pub losses: IntCounterVec,
    pub refusals: IntCounterVec,
    pub limit_hits: IntCounterVec,
    pub limits: IntGaugeVec,
    pub limits_used: IntGaugeVec,
    pub accept_failures: IntCounterVec,
    pub faults: IntCounterVec,
    pub dial_failures: IntCounterVec,
    pub held_bytes: IntGauge,
    pub offset_shift_bytes: IntGaugeVec,
    pub own_offsets: IntGaugeVec,
    pub state_failures: IntCounterVec,
    pub translation_changes: IntCounterVec,
    pub translation_spoken: IntGaugeVec,
    pub config_reloads: IntCounterVec,
    pub tls_renewals: IntCounterVec,
    pub tls_certificate_expiry: IntGaugeVec,
}

impl Metrics {
    /// # Errors
    /// A name is taken twice: a defect of this file.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let build = gauges("segue_build_info", "1, with the version of this sidecar", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let held_bytes = IntGauge::new("segue_held_bytes", "Bytes read from links and not yet sent on")?;
        let metrics = Self {
            links: gauges("segue_links", "Open links, by verdict", &["verdict"])?,
            link_bytes: counters(
                "segue_link_bytes_total",
                "Bytes read from links, by peer and by the end that sent them",
                &["peer", "from"],
            )?,
            messages_translated: counters(
                "segue_messages_translated_total",
                "Messages rewritten, by rule",
                &["rule"],
            )?,
            losses: counters(
                "segue_losses_total",
                "Content left out because the receiving release can't represent it, by kind and grade \
                 (data: a user would miss it; bookkeeping: no command can show it)",
                &["kind", "grade"],
            )?,
            refusals: counters("segue_refusals_total", "Links refused, by reason", &["reason"])?,
            limit_hits: counters(
                "segue_limit_hits_total",
                "How often a limit stopped something, by its key in [limits]",
                &["limit"],
            )?,
            limits: gauges("segue_limit", "What a limit is set to, by its key in [limits]", &["limit"])?,
            limits_used: gauges("segue_limit_used", "How much of a limit is used now", &["limit"])?,
            accept_failures: counters(
                "segue_accept_failures_total",
                "Connections that the system could not give to a listener yet, by address",
                &["listen"],
            )?,
            faults: counters("segue_faults_total", "Links ended by bytes that can't be, by kind", &["kind"])?,
            dial_failures: counters(
                "segue_dial_failures_total",
                "Links that ended because the other end could not be reached, by peer",
                &["peer"],
            )?,
            held_bytes: held_bytes.clone(),
            offset_shift_bytes: gauges(
                "segue_offset_shift_bytes",
                "How far a replica's count of its stream is ahead of its master's, by peer",
                &["peer"],
            )?,
            own_offsets: gauges(
                "segue_replica_own_offsets",
                "1 where a replica follows by an id of its own, because its count may differ, by peer",
                &["peer"],
            )?,
            state_failures: counters(
                "segue_state_failures_total",
                "Stream states that could not be saved or removed, by step",
                &["step"],
            )?,
            translation_changes: counters(
                "segue_translation_changes_total",
                "Changes of mode or loss policy, by outcome",
                &["outcome"],
            )?,
            translation_spoken: gauges(
                "segue_translation_spoken",
                "The release that an upgrade holds the links to: 1, or 0 where another mode outranks it",
                &["release"],
            )?,
            config_reloads: counters(
                "segue_config_reloads_total",
                "Reloads of the config, by outcome",
                &["outcome"],
            )?,
            tls_renewals: counters(
                "segue_tls_renewals_total",
                "Changed certificate files, by outcome: loaded, or refused because they can't be used",
                &["outcome"],
            )?,
            tls_certificate_expiry: gauges(
                "segue_tls_certificate_expiry_timestamp_seconds",
                "When what is in a file of [tls] expires, in Unix time, by the file's key: the first of the chain in \
                 certificate_file, the last CA in ca_file",
                &["file"],
            )?,
            registry,
        };
        let all: [Box<dyn Collector>; 21] = [
            Box::new(build),
            Box::new(metrics.links.clone()),
            Box::new(metrics.link_bytes.clone()),
            Box::new(metrics.messages_translated.clone()),
            Box::new(metrics.losses.clone()),
            Box::new(metrics.refusals.clone()),
            Box::new(metrics.limit_hits.clone()),
            Box::new(metrics.limits.clone()),
            Box::new(metrics.limits_used.clone()),
            Box::new(metrics.accept_failures.clone()),
            Box::new(metrics.faults.clone()),
            Box::new(metrics.dial_failures.clone()),
            Box::new(held_bytes),
            Box::new(metrics.offset_shift_bytes.clone()),
            Box::new(metrics.own_offsets.clone()),
            Box::new(metrics.state_failures.clone()),
            Box::new(metrics.translation_changes.clone()),
            Box::new(metrics.translation_spoken.clone()),
            Box::new(metrics.config_reloads.clone()),
            Box::new(metrics.tls_renewals.clone()),
            Box::new(metrics.tls_certificate_expiry.clone()),
        ];
        all.into_iter().try_for_each(|collector| metrics.registry.register(collector))?;
        for limit in Limit::ALL {
            metrics.limit_hits.with_label_values(&[limit.key()]);
        }
        for outcome in ["changed", "refused"] {
            metrics.translation_changes.with_label_values(&[outcome]);
        }
        for outcome in ["loaded", "refused"] {
            metrics.config_reloads.with_label_values(&[outcome]);
            metrics.tls_renewals.with_label_values(&[outcome]);
        }
        for step in ["save", "append", "forget", "spoken"] {
            metrics.state_failures.with_label_values(&[step]);
        }
        metrics.count_links([].into_iter());
        Ok(metrics)
    }

    /// Sets the gauge from the verdicts of the links that are open now.
    pub fn count_links<'a>(&self, verdicts: impl Iterator<Item = &'a str>) {
        for verdict in VERDICTS {
            self.links.with_label_values(&[verdict]).set(0);
        }
        for verdict in verdicts {
            self.links.with_label_values(&[verdict]).inc();
        }
    }

    pub fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }
}

fn counters(name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(Opts::new(name, help), labels)
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
    IntGaugeVec::new(Opts::new(name, help), labels)
}
