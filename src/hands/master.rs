//! Moving the master, on the node that gives the role away.

use std::time::Duration;

use async_trait::async_trait;
use segue_wire::PeerName;

use super::{
    Hands,
    perform::{Ground, Stopped},
};
use crate::{
    stores::driver::{Seen, StillWanted, Switch},
    upgrade::{action::Action, transaction::Transaction},
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
        let own = ground.driver.see().await?;
        if self.leave_role(&*ground.driver, &ground.transaction, &own).await? {
            return Err(Stopped::NotYet(
                "the store came back as a master after it gave its role away".to_owned(),
            ));
        }
        // An earlier try, to another one.
        if let Some(other) = self.given.to(&ground.transaction, &self.node).filter(|other| other != to)
            && let Some(store) = self.store_of(&other)
            && ground.driver.see_at(&store).await.is_ok_and(|seen| seen.master)
        {
            return Err(Stopped::NotYet(format!(
                "{other} has the role already, and is not agreed to be master yet"
            )));
        }
        let switch = Switch { to: store, dial, pause_time_max: ground.upgrade.pause_time_max };
        let fence = Fence { hands: self, action, to, own, transaction: &ground.transaction };
        Ok(ground.driver.switch(&switch, &fence).await?)
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
    to: &'a PeerName,
    own: Seen,
    transaction: &'a Transaction,
}

#[async_trait]
impl StillWanted for Fence<'_> {
    /// And from here on it may have been given away.
    async fn still_wanted(&self) -> bool {
        let Self { hands, action, to, own, transaction } = self;
        if !hands.claim(action).await {
            return false;
        }
        let noted = hands.given.note(transaction, to, own);
        if let Err(error) = &noted {
            tracing::error!(%error, "the role stays here: that it is given away can't be noted");
        }
        noted.is_ok()
    }
}
