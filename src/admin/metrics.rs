//! Metrics of the upgrade, in names and labels that do not change: read off the agreed state at each scrape.

use std::sync::{Mutex, PoisonError};

use prometheus::{HistogramOpts, HistogramVec, IntGauge, IntGaugeVec, Opts, Registry, proto::MetricFamily};
use segue_wire::PeerName;

use crate::upgrade::{action::Generation, state::State, transaction::Phase};

/// In seconds: a gate passes at once, a large data set takes a while to catch up.
const STEP_SECONDS: [f64; 11] = [0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0];

pub struct UpgradeMetrics {
    registry: Registry,
    transaction: IntGaugeVec,
    paused: IntGauge,
    generation: IntGaugeVec,
    step_seconds: HistogramVec,
    /// The newest step that was counted; `None` before the first scrape.
    counted: Mutex<Option<u64>>,
}

impl UpgradeMetrics {
    /// # Errors
    /// A name is taken twice: a defect of this file.
    pub fn new() -> Result<Self, prometheus::Error> {
        let gauges = |name, help, label| IntGaugeVec::new(Opts::new(name, help), &[label]);
        let steps = HistogramOpts::new(
            "segue_upgrade_step_seconds",
            "How long the own node's steps took, from when they were asked for",
        );
        let metrics = Self {
            registry: Registry::new(),
            transaction: gauges(
                "segue_upgrade_transaction",
                "1 for the phase that the newest transaction is in",
                "phase",
            )?,
            paused: IntGauge::new("segue_upgrade_paused", "1 while the transaction is paused")?,
            generation: gauges(
                "segue_upgrade_node_generation",
                "1 where all were told that the node is upgraded, 0 where it is on the release before",
                "node",
            )?,
            step_seconds: HistogramVec::new(steps.buckets(STEP_SECONDS.into()), &["step"])?,
            counted: Mutex::default(),
        };
        metrics.registry.register(Box::new(metrics.transaction.clone()))?;
        metrics.registry.register(Box::new(metrics.paused.clone()))?;
        metrics.registry.register(Box::new(metrics.generation.clone()))?;
        metrics.registry.register(Box::new(metrics.step_seconds.clone()))?;
        Ok(metrics)
    }

    /// As `node` knows the state.
    #[must_use]
    pub fn gather(&self, node: &PeerName, state: &State) -> Vec<MetricFamily> {
        let phase = state.transaction.as_ref().map(|transaction| transaction.phase.label());
        for label in Phase::LABELS {
            self.transaction.with_label_values(&[label]).set((phase == Some(label)).into());
        }
        self.paused.set(state.running().is_some_and(|transaction| transaction.paused.is_some()).into());
        self.generation.reset();
        for (name, node) in state.transaction.iter().flat_map(|transaction| &transaction.nodes) {
            self.generation.with_label_values(&[name]).set((node.generation == Generation::New).into());
        }
        self.count(node, state);
        self.registry.gather()
    }

    /// The own steps since the last scrape. What was done before this process began is not its to count.
    fn count(&self, node: &PeerName, state: &State) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = state.steps.back().map_or(0, |step| step.number);
        let from = counted.replace(newest).unwrap_or(newest);
        for step in state.steps.iter().filter(|step| step.number > from && step.node == *node) {
            let took_s = f64::from(u32::try_from(step.took_ms).unwrap_or(u32::MAX)) / 1000.0;
            self.step_seconds.with_label_values(&[&step.label]).observe(took_s);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::upgrade_tests::Desk, *};
    use crate::upgrade::desk::UpgradeDesk;

    fn scraped(metrics: &UpgradeMetrics, desk: &Desk) -> String {
        prometheus::TextEncoder::new().encode_to_string(&metrics.gather(&desk.node(), &desk.state())).unwrap()
    }

    #[test]
    fn a_scrape_has_phase_pause_generations_and_the_own_steps() {
        let metrics = UpgradeMetrics::new().unwrap();
        let desk = Desk::new();
        assert!(scraped(&metrics, &desk).contains("segue_upgrade_transaction{phase=\"rolling\"} 0"));
        desk.start("redis-8.0");
        desk.done(11);
        desk.time_out();
        let text = scraped(&metrics, &desk);
        for sample in [
            "segue_upgrade_transaction{phase=\"rolling\"} 1",
            "segue_upgrade_paused 1",
            "segue_upgrade_node_generation{node=\"n1\"} 0",
            "segue_upgrade_node_generation{node=\"n2\"} 1",
            "segue_upgrade_step_seconds_count{step=\"preflight\"} 1",
        ] {
            assert!(text.contains(sample), "{sample} is not in\n{text}");
        }
        assert!(!text.contains("step=\"stop\""), "another node's step is counted\n{text}");
        assert_eq!(scraped(&metrics, &desk), text, "a step is counted twice");
        assert!(
            !scraped(&UpgradeMetrics::new().unwrap(), &desk).contains("_count"),
            "counted before its time"
        );
    }
}
