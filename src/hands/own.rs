//! The own node: looked at each second, said to the leader (with news alone where no transaction runs), and
//! registered when it changed.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use bytes::Bytes;
use segue_wire::PeerName;
use tokio::time::timeout;

use super::{
    Hands, PERIOD, follow,
    losses::Count,
    word::{StoreWord, Word},
};
use crate::{
    config::{Config, StoreAddress},
    stores::driver::{Driver, Seen},
    upgrade::state::{Answer, Entry, Registered, State},
};

/// At most so often the registry is told that a node is in sync, or is not.
const REGISTER_PERIOD: Duration = Duration::from_secs(5);
/// While an upgrade runs, a store that went is looked for so often, so that it is no second master for longer.
const RETURN_PERIOD: Duration = Duration::from_millis(20);
/// A word must not wait for a store that is silent: it would be too old to go by.
const SEE_TIME_MAX: Duration = Duration::from_secs(1);
/// While no transaction runs, a word without news is said this seldom: an etcd keeps every one of them.
pub const REST_PERIOD: Duration = Duration::from_secs(10);

pub async fn run(hands: Arc<Hands>) {
    let mut last = StoreWord::default();
    let mut said: Option<(Arc<Word>, Instant)> = None;
    loop {
        let (word, seen) = hands.look(&last).await;
        if let Some(store) = &word.store {
            last = store.clone();
        }
        let word = Arc::new(word);
        let is_said = |(before, at): &(Arc<Word>, Instant)| {
            at.elapsed() < REST_PERIOD && !word.is_news_after(before, hands.lag_bytes_max())
        };
        if hands.state().running().is_some() || !said.as_ref().is_some_and(is_said) {
            match serde_json::to_vec(&*word) {
                Ok(word) => hands.agreement.say(Bytes::from(word)),
                Err(error) => tracing::error!(%error, "the own word can't be said"),
            }
            said = Some((word.clone(), Instant::now()));
        }
        hands.own.send_replace(Some(word));
        if let Some(seen) = &seen {
            follow::follow_agreed(&hands, seen).await;
        }
        let _at_once = timeout(PERIOD, hands.look.notified()).await;
    }
}

/// A store that has come back is looked at as soon as it answers.
pub async fn watch(hands: Arc<Hands>) {
    let Some(driver) = &hands.driver else { return };
    loop {
        while !matches!(timeout(SEE_TIME_MAX, driver.see()).await, Ok(Ok(Seen { loading: false, .. }))) {
            let runs = hands.state().running().is_some();
            tokio::time::sleep(if runs { RETURN_PERIOD } else { PERIOD }).await;
        }
        hands.look.notify_one();
        driver.gone().await;
        tokio::time::sleep(RETURN_PERIOD).await;
    }
}

/// Tells the registry what has changed.
pub async fn register(hands: Arc<Hands>) {
    let mut own = hands.own.subscribe();
    let mut registered: Option<(Registered, Instant)> = None;
    while own.changed().await.is_ok() {
        let Some(word) = own.borrow_and_update().clone() else { continue };
        let now = hands.registered(&word);
        let is_told = |(said, at): &(Registered, Instant)| {
            let but_in_sync = Registered { in_sync: now.in_sync, ..said.clone() };
            *said == now || but_in_sync == now && at.elapsed() < REGISTER_PERIOD
        };
        if !registered.as_ref().is_some_and(is_told)
            && hands.propose(Entry::Register(now.clone())).await == Ok(Answer::Done)
        {
            if !hands.is_current.swap(true, Relaxed) {
                hands.look.notify_one();
            }
            registered = Some((now, Instant::now()));
        }
    }
}

impl Hands {
    async fn look(&self, last: &StoreWord) -> (Word, Option<Seen>) {
        let state = self.state();
        let Count { transaction, count: losses } = self.count_losses(&state);
        let (store, seen) = match &self.driver {
            Some(driver) => {
                let (store, seen) = self.look_at_store(&**driver, &state, last).await;
                (Some(store), seen)
            }
            None => (None, None),
        };
        (Word { sidecar: env!("CARGO_PKG_VERSION").to_owned(), store, transaction, losses }, seen)
    }

    /// Waits for the disk where there are new ones.
    pub(super) fn count_losses(&self, state: &State) -> Count {
        let agreed = state.transaction.as_ref().map(|transaction| Count {
            transaction: transaction.id,
            count: transaction.fleet.losses.get(&self.node).copied().unwrap_or_default(),
        });
        let agreed = self.is_current().then(|| agreed.unwrap_or_default());
        let count = self.losses.since(agreed, self.shared.data_losses());
        if let Err(error) = self.losses.keep()
            && let Some(unsaid) = self.due("losses")
        {
            tracing::error!(%error, unsaid, "the losses of the upgrade are not kept over a restart");
        }
        count
    }

    async fn look_at_store(
        &self,
        driver: &dyn Driver,
        state: &State,
        last: &StoreWord,
    ) -> (StoreWord, Option<Seen>) {
        let config = self.config();
        let word = StoreWord {
            address: config.node.store.as_ref().map_or_else(String::new, ToString::to_string),
            number: config.node.number,
            ..last.clone()
        };
        // The master first: what the own store has by then is no less than what it is compared with.
        let master = match self.master_of(state, &config) {
            Some(master) => timeout(SEE_TIME_MAX, driver.see_at(&master)).await.ok().and_then(Result::ok),
            None => None,
        };
        match timeout(SEE_TIME_MAX, driver.see()).await {
            Err(_) => {
                let silent = format!("no answer within {SEE_TIME_MAX:?}");
                (StoreWord { silent: Some(silent), ..word }, None)
            }
            Ok(Err(error)) => (StoreWord { silent: Some(error.to_string()), ..word }, None),
            Ok(Ok(seen)) => {
                let word = StoreWord {
                    silent: None,
                    release: self.release_of(&seen).map(|release| release.to_string()),
                    master: seen.master,
                    linked: seen.linked,
                    loading: seen.loading,
                    offset: seen.offset,
                    history: seen.history.clone(),
                    behind_bytes: master.and_then(|master| behind_bytes(&seen, &master)),
                    ..word
                };
                (word, Some(seen))
            }
        }
    }

    /// The store that the own one is to follow: the transaction's, or that of the registry.
    fn master_of(&self, state: &State, config: &Config) -> Option<StoreAddress> {
        let registered = || {
            let mut masters = state.nodes.values().filter(|node| node.master == Some(true));
            masters.next().map(|node| &node.node)
        };
        let master: &PeerName = match state.running() {
            Some(running) => running.fleet.master()?,
            None => registered()?,
        };
        Some(config.peer(master)?.store.clone())
    }

    fn registered(&self, word: &Word) -> Registered {
        let store = word.store.as_ref();
        Registered {
            node: self.node.clone(),
            store: store.map(|store| store.address.clone()),
            release: store.and_then(|store| store.release.clone()),
            master: store.filter(|store| store.silent.is_none()).map(|store| store.master),
            in_sync: store.is_some_and(|store| store.is_in_sync(self.lag_bytes_max())),
            number: store.and_then(|store| store.number),
            sidecar: word.sidecar.clone(),
        }
    }
}

/// How far the own store is behind, where it counts as its master does.
pub fn behind_bytes(own: &Seen, master: &Seen) -> Option<u64> {
    (own.history == master.history).then(|| master.offset.saturating_sub(own.offset))
}
