//! Redis-like stores: asked what they are, and driven through an upgrade.

mod compare;
mod connection;
mod driver;
mod identity;
mod info;
mod switch;

use std::time::Duration;

pub use connection::{Failed, Way};
pub use driver::RedisDriver;
pub use identity::Identity;
use info::Info;

#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("{0} did not answer INFO within {1:?}")]
    TimedOut(String, Duration),
    #[error("{0} did not answer INFO: {1}")]
    Failed(String, Failed),
    #[error("the INFO of {0} names no version")]
    NoVersion(String),
}

/// Asks `INFO server`, all within the way's limit.
///
/// # Errors
/// As [`Way::connect`].
pub async fn probe(way: &Way) -> Result<Identity, ProbeError> {
    let name = way.address.to_string();
    let info = async { way.connect().await?.ask::<String>(redis::cmd("INFO").arg("server")).await };
    let asked = tokio::time::timeout(way.limit, info).await;
    let info = asked
        .map_err(|_| ProbeError::TimedOut(name.clone(), way.limit))?
        .map_err(|error| ProbeError::Failed(name.clone(), error))?;
    Identity::of(&Info::from(info)).ok_or(ProbeError::NoVersion(name))
}
