//! `FAILOVER`, by which the two stores settle it themselves, where both know it.

use std::time::Duration;

use tokio::time::Instant;

use super::{super::info::Info, Both, LOOK_PERIOD, pauses_writes_alone};
use crate::{config::StoreAddress, stores::driver::DriverError};

/// Beyond the time that the secondary has to get everything: two stores shake hands.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);

/// The old master has to know the secondary under the very address by which it then follows it. Of a count of
/// its own Segue knows that a handover would be refused.
pub fn fits(own: &Info, to: &Info, dial: &StoreAddress) -> bool {
    let is_dial = |ip: &str, port| ip == dial.host() && port == dial.port();
    pauses_writes_alone(own)
        && pauses_writes_alone(to)
        && own.history() == to.history()
        && own.replicas().iter().any(|replica| replica.online && is_dial(&replica.ip, replica.port))
}

impl Both<'_> {
    /// Did it come to that? Where not, nothing has changed.
    pub(super) async fn fails_over(&mut self, until: Instant) -> Result<bool, DriverError> {
        let time_ms = until.saturating_duration_since(Instant::now()).as_millis().max(1);
        let mut failover = redis::cmd("FAILOVER");
        failover.arg("TO").arg(self.dial.host()).arg(self.dial.port());
        failover.arg("TIMEOUT").arg(u64::try_from(time_ms).unwrap_or(u64::MAX));
        if let Err(error) = self.own.ask::<()>(&failover).await {
            tracing::info!(store = %self.own_way.address, %error, "no FAILOVER: the switch is made by hand");
            return Ok(false);
        }
        let end = until + HANDSHAKE_TIME_MAX;
        loop {
            let (own, to) = self.look().await?;
            match (own.hands_over(), own.is_master(), to.is_master()) {
                (false, false, true) => return Ok(true),
                (false, true, false) => return Ok(false),
                _ if Instant::now() >= end => {
                    let why = "its FAILOVER does not end";
                    return Err(DriverError::NotYet(format!("{}: {why}", self.own_way.address)));
                }
                _ => {}
            }
            tokio::time::sleep(LOOK_PERIOD).await;
        }
    }
}
