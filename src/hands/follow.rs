//! While a transaction runs, the own store follows the agreed master: it is repointed after the master moved,
//! and one that comes back as a master is none any more.

use std::sync::atomic::Ordering::Relaxed;

use super::Hands;
use crate::{
    stores::driver::{Driver, DriverError, Seen},
    upgrade::{action::Do, state::State},
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
    if seen.master || seen.follows.is_none() {
        hands.second_master.store(true, Relaxed);
        tracing::warn!(
            master = &**master,
            "the own store takes writes beside the agreed master: it follows it"
        );
    } else {
        tracing::info!(master = &**master, %dial, "the own store follows the agreed master");
    }
    driver.follow(&dial).await
}
