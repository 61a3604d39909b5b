//! What is pending for this node: claimed, performed, reported, one at a time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Hands, PERIOD, now, perform::Performance};
use crate::upgrade::{
    action::{Action, Outcome},
    state::{Answer, Entry, State},
    transaction::Transaction,
};

/// What was in the way of a step that failed may be gone after this long, not at once.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// At most so often the others are told what an action waits for.
const WAITS_PERIOD: Duration = Duration::from_secs(5);

pub async fn run(hands: Arc<Hands>) {
    let mut states = hands.agreement.state();
    loop {
        let state = states.borrow_and_update().clone();
        if let Some(action) = hands.pending(&state) {
            hands.carry_out(action).await;
            // What came of it may take a moment to be known here.
            tokio::time::sleep(Duration::from_millis(50)).await;
        } else if let Ok(Err(_)) = tokio::time::timeout(PERIOD, states.changed()).await {
            return;
        }
    }
}

impl Hands {
    fn pending(&self, state: &State) -> Option<Action> {
        let mut pending = state.running()?.unfinished();
        pending.find(|action| action.node == self.node && action.deadline > now()).cloned()
    }

    /// It is still to be done, as far as is known here.
    fn is_pending(&self, action: &Action) -> bool {
        let is_it = |running: &Transaction| running.unfinished().any(|pending| pending.id == action.id);
        action.deadline > now() && self.state().running().is_some_and(is_it)
    }

    /// The fence: whatever was thought here, all agree that it is to be done.
    pub(super) async fn claim(&self, action: &Action) -> bool {
        self.propose(Entry::Claim { at: now(), id: action.id }).await == Ok(Answer::Done)
    }

    /// Until it is done, has failed, or is not wanted any more.
    async fn carry_out(&self, action: Action) {
        if action.id.attempt > 1 {
            tokio::time::sleep(RETRY_PAUSE.min(left(&action).unwrap_or_default() / 4)).await;
        }
        if !self.claim(&action).await {
            tokio::time::sleep(PERIOD).await;
            return;
        }
        let label = action.what.label();
        tracing::info!(action = %action.id, what = label, "begins");
        let mut performance = Performance::of(&action);
        let mut told: Option<(String, Instant)> = None;
        loop {
            // A hook that is under way is not cut off for less than its deadline.
            let Some(left) = left(&action) else { return };
            let tried = tokio::time::timeout(left, self.perform(&mut performance)).await;
            let Ok(outcome) = tried else {
                tracing::warn!(action = %action.id, what = label, "took too long, and is ended");
                return;
            };
            let output = std::mem::take(&mut performance.output);
            match outcome {
                Outcome::NotYet(why) => {
                    let is_told =
                        |(before, at): &(String, Instant)| *before == why || at.elapsed() < WAITS_PERIOD;
                    if !output.is_empty() || !told.as_ref().is_some_and(is_told) {
                        tracing::info!(action = %action.id, what = label, why, "waits");
                        told = Some((why.clone(), Instant::now()));
                        self.report(&action, Outcome::NotYet(why), output).await;
                    }
                    tokio::time::sleep(PERIOD).await;
                    if !self.is_pending(&action) {
                        tracing::info!(action = %action.id, what = label, "is not wanted any more");
                        return;
                    }
                }
                outcome => {
                    match &outcome {
                        Outcome::Failed(why) => {
                            tracing::error!(action = %action.id, what = label, why, "failed")
                        }
                        _ => tracing::info!(action = %action.id, what = label, "is done"),
                    }
                    self.report(&action, outcome, output).await;
                    return;
                }
            }
        }
    }

    /// Until it is agreed on, or of no interest any more.
    async fn report(&self, action: &Action, outcome: Outcome, output: Vec<String>) {
        while self.is_pending(action) {
            let entry =
                Entry::Ended { at: now(), id: action.id, outcome: outcome.clone(), output: output.clone() };
            if self.propose(entry).await.is_ok() {
                return;
            }
            tokio::time::sleep(PERIOD).await;
        }
    }
}

/// What is left of its time.
pub(super) fn left(action: &Action) -> Option<Duration> {
    let left_ms = action.deadline.0.checked_sub(now().0)?;
    (left_ms > 0).then(|| Duration::from_millis(left_ms))
}
