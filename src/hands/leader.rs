//! What whoever leads does: sees the fleet, and lets time pass.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Hands, PERIOD, now, picture, word::Heard};
use crate::upgrade::{
    fleet::{Fleet, Role},
    plan::Event,
    state::{Entry, State},
};

/// A node whose word is older does not answer.
const WORD_AGE_MAX: Duration = Duration::from_secs(5);
/// Offsets alone are agreed on this often.
const SEEN_PERIOD: Duration = Duration::from_secs(5);

pub async fn run(hands: Arc<Hands>) {
    let mut other = picture::Other::default();
    let mut seen_at: Option<Instant> = None;
    loop {
        tokio::time::sleep(PERIOD).await;
        let state = hands.state();
        if !hands.leads() || state.running().is_none() {
            (other, seen_at) = Default::default();
            continue;
        }
        if let Some(fleet) = hands.seen(&state, &mut other, seen_at) {
            seen_at = Some(Instant::now());
            let _not_this_time = hands.propose(Entry::Seen { at: now(), fleet }).await;
        }
        if would_tick(&hands.state()) {
            let _not_this_time = hands.propose(Entry::Tick { at: now() }).await;
        }
    }
}

impl Hands {
    pub(super) fn leads(&self) -> bool {
        self.agreement.standing().borrow().leads
    }

    pub(super) fn heard(&self) -> Vec<Heard> {
        self.agreement.words().iter().filter_map(|word| Heard::of(word, WORD_AGE_MAX)).collect()
    }

    pub(super) fn picture(&self, state: &State) -> Fleet {
        let lag_bytes_max = self.config().upgrade.as_ref().map_or(u64::MAX, |upgrade| upgrade.lag_bytes_max);
        picture::fleet(&self.heard(), state, lag_bytes_max, now())
    }

    /// The fleet, if it is to be agreed on.
    fn seen(&self, state: &State, other: &mut picture::Other, seen_at: Option<Instant>) -> Option<Fleet> {
        let running = state.running()?;
        let mut fleet = self.picture(state);
        if let Some(master) = other.adopted(&self.heard(), running, Instant::now()) {
            tracing::warn!(master = &*master, "another node was made master: it is the one to follow");
            for (name, member) in &mut fleet.members {
                member.role = if *name == master { Role::Master } else { Role::Secondary };
            }
        }
        let is_due = seen_at.is_none_or(|at| at.elapsed() >= SEEN_PERIOD);
        let differs = picture::differ(&fleet, &running.fleet);
        (differs || is_due && fleet.members != running.fleet.members).then_some(fleet)
    }
}

/// Whether time changes anything by now.
fn would_tick(state: &State) -> bool {
    let Some(running) = state.running() else { return false };
    let mut ticked = running.clone();
    ticked.handle(Event::Tick, now());
    ticked != *running
}
