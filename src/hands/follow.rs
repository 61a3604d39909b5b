//! While a transaction runs, the own store follows the agreed master: it is repointed after the master moved,
//! and one that comes back as a master is none any more.

use std::sync::atomic::Ordering::Relaxed;

use segue_wire::PeerName;

use super::Hands;
use crate::{
    config::StoreAddress,
    stores::driver::{Demoted, Driver, DriverError, Seen},
    upgrade::{action::Do, state::State, transaction::Transaction},
};

/// One look; `seen` is the own store.
pub async fn follow_agreed(hands: &Hands, seen: &Seen) {
    let state = hands.state();
    let (Some(driver), true) = (&hands.driver, hands.is_current()) else { return };
    if let Err(error) = follow(hands, &**driver, &state, seen).await
        && let Some(unsaid) = hands.due("follow")
    {
        tracing::warn!(%error, unsaid, "the own store does not follow the agreed master yet");
    }
}

async fn follow(hands: &Hands, driver: &dyn Driver, state: &State, seen: &Seen) -> Result<(), DriverError> {
    let Some(running) = state.running() else { return Ok(()) };
    if hands.leave_role(driver, running, seen).await? {
        return Ok(());
    }
    let moves = running.unfinished().any(|action| matches!(action.what, Do::MoveMaster { .. }));
    let Some(master) = running.fleet.master().filter(|master| **master != hands.node && !moves) else {
        return Ok(());
    };
    let (Some(store), Some(dial)) = (hands.store_of(master), hands.dial(master)) else { return Ok(()) };
    if !seen.master && seen.follows.as_ref() == Some(&dial) {
        return Ok(());
    }
    // Whoever is no master, or does not answer, is not the one that all are to follow.
    if !driver.see_at(&store).await?.master {
        return Ok(());
    }
    // A move that has begun since has its own say.
    if hands.state().transaction.as_ref().is_some_and(|now| now.pending != running.pending) {
        return Ok(());
    }
    if !seen.master {
        tracing::info!(master = &**master, %dial, "the own store follows the agreed master");
    }
    hands.follow(driver, master, &dial).await
}

impl Hands {
    /// A store that came back as a master after it gave its role away follows whoever has it: did it?
    pub(super) async fn leave_role(
        &self,
        driver: &dyn Driver,
        running: &Transaction,
        seen: &Seen,
    ) -> Result<bool, DriverError> {
        let Some(to) = self.given.to_before_return(running, &self.node, seen) else { return Ok(false) };
        let (Some(store), Some(dial)) = (self.store_of(&to), self.dial(&to)) else { return Ok(false) };
        // It did not come to that: all is as it was before.
        if !driver.see_at(&store).await?.master {
            return Ok(false);
        }
        self.follow(driver, &to, &dial).await?;
        Ok(true)
    }

    /// What the own store took as a second master is lost, and that is said.
    pub(super) async fn follow(
        &self,
        driver: &dyn Driver,
        master: &PeerName,
        dial: &StoreAddress,
    ) -> Result<(), DriverError> {
        // One at a time, so that what is lost is counted once.
        let _alone = self.following.lock().await;
        if let Some(Demoted { writes }) = driver.follow(dial).await? {
            self.second_master.store(true, Relaxed);
            self.metrics.second_masters.inc();
            self.metrics.second_master_writes.inc_by(writes.unwrap_or_default());
            let writes = writes.map_or_else(|| "unknown".to_owned(), |writes| writes.to_string());
            tracing::error!(
                master = &**master,
                writes,
                "the own store was a second master: it follows now, and what was written to it as one is lost"
            );
        }
        Ok(())
    }
}
