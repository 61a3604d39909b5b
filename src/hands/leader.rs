//! What whoever leads does: sees the fleet, and lets time pass.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use segue_wire::PeerName;

use super::{Hands, PERIOD, now, own::REST_PERIOD, picture, word::Heard};
use crate::upgrade::{
    fleet::{Fleet, Role},
    plan::Event,
    state::{Entry, State},
};

/// A node whose word is older does not answer.
const WORD_AGE_MAX: Duration = Duration::from_secs(5);
/// The same while no transaction runs, of one whose sidecar can be reached: it is there, and has no news.
const REST_WORD_AGE_MAX: Duration = REST_PERIOD.saturating_add(WORD_AGE_MAX);
/// Offsets alone are agreed on this often.
const SEEN_PERIOD: Duration = Duration::from_secs(5);

pub async fn run(hands: Arc<Hands>) {
    let mut other = picture::Other::default();
    let (mut begun_at, mut seen_at): (Option<Instant>, Option<Instant>) = (None, None);
    loop {
        tokio::time::sleep(PERIOD).await;
        let state = hands.state();
        if !hands.leads() || state.running().is_none() {
            (other, begun_at, seen_at) = Default::default();
            continue;
        }
        // It takes a moment until all know that it runs, and say more.
        let is_begun = begun_at.get_or_insert_with(Instant::now).elapsed() > WORD_AGE_MAX;
        let heard = if is_begun { hands.heard() } else { hands.heard_at_rest() };
        if let Some(fleet) = hands.seen(&heard, &state, &mut other, seen_at) {
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

    fn heard(&self) -> Vec<Heard> {
        self.heard_within(|_| WORD_AGE_MAX)
    }

    fn heard_at_rest(&self) -> Vec<Heard> {
        let standing = self.agreement.standing().borrow().clone();
        let is_there =
            |node: &PeerName| standing.members.iter().any(|member| member.name == *node && member.reachable);
        self.heard_within(|node| if is_there(node) { REST_WORD_AGE_MAX } else { WORD_AGE_MAX })
    }

    fn heard_within(&self, age_max: impl Fn(&PeerName) -> Duration) -> Vec<Heard> {
        let words = self.agreement.words();
        words.iter().filter_map(|word| Heard::of(word, age_max(&word.node))).collect()
    }

    /// What it looks like while no transaction runs.
    pub(super) fn picture(&self, state: &State) -> Fleet {
        picture::fleet(&self.heard_at_rest(), state, self.lag_bytes_max(), now())
    }

    /// The fleet, if it is to be agreed on.
    fn seen(
        &self,
        heard: &[Heard],
        state: &State,
        other: &mut picture::Other,
        seen_at: Option<Instant>,
    ) -> Option<Fleet> {
        let running = state.running()?;
        let mut fleet = picture::fleet(heard, state, self.lag_bytes_max(), now());
        if let Some(master) = other.adopted(heard, running, Instant::now()) {
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
