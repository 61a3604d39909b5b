//! What is agreed on becomes so in the relay: the release that is spoken, and the translation's settings.

use std::sync::Arc;

use segue_wire::Release;

use super::{Hands, PERIOD};
use crate::{
    relay::Shared,
    status::{TranslationChange, TranslationChanged},
    upgrade::{action::Do, state::State},
};

pub async fn run(hands: Arc<Hands>) {
    let mut states = hands.agreement.state();
    let mut applied: Option<TranslationChanged> = None;
    loop {
        let state = states.borrow_and_update().clone();
        speak(&hands, &state).await;
        if let Some(front) = state.translations.front()
            && applied.as_ref() != Some(front)
        {
            translate(&hands, front);
            applied = Some(front.clone());
        }
        // At times nothing has changed but what this sidecar knows of it.
        if let Ok(Err(_)) = tokio::time::timeout(PERIOD, states.changed()).await {
            return;
        }
    }
}

async fn speak(hands: &Arc<Hands>, state: &State) {
    let finalizes = state.running().is_some_and(|running| {
        running.unfinished().any(|action| action.node == hands.node && action.what == Do::Finalize)
    });
    match state.spoken(&hands.node) {
        // Then that is what turns the links.
        Some(_) if finalizes => {}
        Some(release) => {
            let transaction = state.running().map_or(0, |running| running.id);
            hands.speak(Some(release.clone()), format!("upgrade transaction {transaction}")).await;
        }
        // Not on the word of a state from before this start: another transaction may have begun meanwhile.
        None if hands.is_current() => hands.speak(None, "upgrade".to_owned()).await,
        None => {}
    }
}

impl Hands {
    /// It may wait for the disk.
    async fn speak(&self, release: Option<Release>, who: String) {
        self.tell_relay(move |shared| shared.speak(release, &who)).await;
    }

    /// It may wait for the disk.
    pub(super) async fn let_go(&self, who: String) {
        self.tell_relay(move |shared| shared.let_go(&who)).await;
    }

    async fn tell_relay(&self, tell: impl FnOnce(&Arc<Shared>) + Send + 'static) {
        let shared = self.shared.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || tell(&shared)).await {
            tracing::error!(%error, "what is spoken could not be changed");
        }
    }
}

fn translate(hands: &Hands, agreed: &TranslationChanged) {
    let here = hands.shared.translation();
    if here.mode == agreed.mode && here.loss == agreed.loss {
        return;
    }
    let change = TranslationChange {
        mode: Some(agreed.mode.clone()),
        loss: Some(agreed.loss.clone()),
        who: Some(format!("{} (for all nodes)", agreed.who)),
        reason: agreed.reason.clone(),
        force: agreed.forced,
    };
    match hands.shared.set_translation(change) {
        Ok(_) => {
            tracing::info!(mode = agreed.mode, loss = agreed.loss, "translating as agreed for all nodes")
        }
        Err(error) => {
            tracing::error!(?error, mode = agreed.mode, "this node can't translate as agreed for all nodes");
        }
    }
}
