//! Moving the master, on the node that gives the role away.

use std::time::Duration;

use async_trait::async_trait;
use segue_wire::PeerName;

use super::{
    Hands,
    perform::{Ground, Stopped},
};
use crate::{
    stores::driver::{StillWanted, Switch},
    upgrade::action::Action,
};

/// Handing the leadership over is a courtesy: it is not waited for longer.
const HAND_OVER_TIME_MAX: Duration = Duration::from_secs(5);

impl Hands {
    pub(super) async fn move_master(
        &self,
        ground: &Ground,
        action: &Action,
        to: &PeerName,
    ) -> Result<(), Stopped> {
        let (Some(store), Some(dial)) = (self.store_of(to), self.dial(to)) else {
            let why = format!("the config of {} names no [[peer]] {to}", self.node);
            return Err(Stopped::Failed(why));
        };
        self.step_down().await;
        let switch = Switch { to: store, dial, pause_time_max: ground.upgrade.pause_time_max };
        Ok(ground.driver.switch(&switch, &Fence { hands: self, action }).await?)
    }

    /// Whoever leads is not in the middle of an upgrade of its own.
    pub(super) async fn step_down(&self) {
        if !self.leads() {
            return;
        }
        match tokio::time::timeout(HAND_OVER_TIME_MAX, self.agreement.hand_over()).await {
            Ok(Ok(())) => tracing::info!("handed the leadership of the mesh over"),
            Ok(Err(error)) => tracing::warn!(%error, "the leadership of the mesh stays here"),
            Err(_) => tracing::warn!("the leadership of the mesh stays here: handing it over takes too long"),
        }
    }
}

struct Fence<'a> {
    hands: &'a Hands,
    action: &'a Action,
}

#[async_trait]
impl StillWanted for Fence<'_> {
    async fn still_wanted(&self) -> bool {
        self.hands.claim(self.action).await
    }
}
