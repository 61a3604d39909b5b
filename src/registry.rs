//! The one place that names the translators.

use std::sync::Arc;

use segue_passthrough::Passthrough;
use segue_redis::Redis;
use segue_wire::Protocol;

/// Every protocol that a config may name.
pub fn protocols() -> Vec<Arc<dyn Protocol>> {
    vec![Arc::new(Redis), Arc::new(Passthrough)]
}

pub fn protocol(name: &str) -> Option<Arc<dyn Protocol>> {
    protocols().into_iter().find(|protocol| protocol.name() == name)
}
