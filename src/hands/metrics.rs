//! What this sidecar's hands count, in names that do not change.

use prometheus::{IntCounter, Registry, proto::MetricFamily};

#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    pub(super) second_masters: IntCounter,
    pub(super) second_master_writes: IntCounter,
}

impl Metrics {
    /// # Errors
    /// A name is taken twice: a defect of this file.
    pub fn new() -> Result<Self, prometheus::Error> {
        let metrics = Self {
            registry: Registry::new(),
            second_masters: IntCounter::new(
                "segue_upgrade_second_masters_total",
                "How often the own store was a master beside the one of the upgrade, and was made to follow it",
            )?,
            second_master_writes: IntCounter::new(
                "segue_upgrade_second_master_writes_total",
                "Commands that write which the own store then had carried out since its start: they are lost",
            )?,
        };
        metrics.registry.register(Box::new(metrics.second_masters.clone()))?;
        metrics.registry.register(Box::new(metrics.second_master_writes.clone()))?;
        Ok(metrics)
    }

    #[must_use]
    pub fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }
}
