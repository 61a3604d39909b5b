//! The mesh's metrics, in names and labels that do not change.

use prometheus::{
    IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, core::Collector, proto::MetricFamily,
};

/// What `segue_mesh_proposals_total{outcome}` counts by.
pub const OUTCOMES: [&str; 5] = ["agreed", "no-majority", "timed-out", "failed", "stopped"];
/// What `segue_mesh_refusals_total{reason}` counts by.
pub const REFUSALS: [&str; 6] =
    ["tls", "unknown-node", "wrong-name", "other-mesh", "too-large", "bad-request"];

#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    pub member: IntGauge,
    pub leader: IntGauge,
    pub term: IntGauge,
    pub applied: IntGauge,
    pub log_entries: IntGauge,
    pub members: IntGaugeVec,
    pub proposals: IntCounterVec,
    pub leader_changes: IntCounter,
    pub refusals: IntCounterVec,
    pub call_failures: IntCounterVec,
    pub tls_renewals: IntCounterVec,
}

impl Metrics {
    /// # Errors
    /// A name is taken twice: a defect of this file.
    pub fn new() -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, label| IntCounterVec::new(Opts::new(name, help), &[label]);
        let metrics = Self {
            registry: Registry::new(),
            member: IntGauge::new(
                "segue_mesh_member",
                "1 while this sidecar agrees with the others; 0 where it can't, as with a full disk",
            )?,
            leader: IntGauge::new("segue_mesh_leader", "1 where this sidecar leads the mesh")?,
            term: IntGauge::new("segue_mesh_term", "The term of the mesh's leader, as known here")?,
            applied: IntGauge::new("segue_mesh_applied_index", "How many entries of the log this state has")?,
            log_entries: IntGauge::new("segue_mesh_log_entries", "Entries of the log that are kept on disk")?,
            members: IntGaugeVec::new(
                Opts::new("segue_mesh_members", "Sidecars of the mesh, by whether they answered lately"),
                &["reachable"],
            )?,
            proposals: counters(
                "segue_mesh_proposals_total",
                "What was proposed on this sidecar, by outcome",
                "outcome",
            )?,
            leader_changes: IntCounter::new(
                "segue_mesh_leader_changes_total",
                "How often the mesh's leader changed since this sidecar started",
            )?,
            refusals: counters(
                "segue_mesh_refusals_total",
                "Requests and connections to the mesh that were refused, by reason",
                "reason",
            )?,
            call_failures: counters(
                "segue_mesh_call_failures_total",
                "Requests to other sidecars that failed, by sidecar",
                "node",
            )?,
            tls_renewals: counters(
                "segue_mesh_tls_renewals_total",
                "Changed certificate files of [mesh], by outcome",
                "outcome",
            )?,
        };
        let all: [Box<dyn Collector>; 11] = [
            Box::new(metrics.member.clone()),
            Box::new(metrics.leader.clone()),
            Box::new(metrics.term.clone()),
            Box::new(metrics.applied.clone()),
            Box::new(metrics.log_entries.clone()),
            Box::new(metrics.members.clone()),
            Box::new(metrics.proposals.clone()),
            Box::new(metrics.leader_changes.clone()),
            Box::new(metrics.refusals.clone()),
            Box::new(metrics.call_failures.clone()),
            Box::new(metrics.tls_renewals.clone()),
        ];
        all.into_iter().try_for_each(|collector| metrics.registry.register(collector))?;
        for outcome in OUTCOMES {
            metrics.proposals.with_label_values(&[outcome]);
        }
        for reason in REFUSALS {
            metrics.refusals.with_label_values(&[reason]);
        }
        for outcome in ["loaded", "refused"] {
            metrics.tls_renewals.with_label_values(&[outcome]);
        }
        Ok(metrics)
    }

    pub fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }
}
