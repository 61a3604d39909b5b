//! Who answered lately, and what each said of itself.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::watch, time::Instant};

use super::{
    super::Word,
    types::Id,
    wire::{Hello, WORD_BYTES_MAX},
};

/// Of members of the config alone: so many are there at most.
pub struct Presence {
    node: Id,
    reachable: Duration,
    heard: Mutex<BTreeMap<Id, Heard>>,
    words: Mutex<BTreeMap<Id, Said>>,
    own: watch::Sender<Option<Said>>,
}

struct Heard {
    at: Instant,
    hello: Hello,
}

#[derive(Clone, Debug)]
pub struct Said {
    pub word: Bytes,
    pub at: Instant,
}

impl Presence {
    pub fn new(node: Id, reachable: Duration) -> Self {
        Self {
            node,
            reachable,
            heard: Mutex::default(),
            words: Mutex::default(),
            own: watch::Sender::new(None),
        }
    }

    pub fn answered(&self, member: Id, hello: Hello) {
        self.heard().insert(member, Heard { at: Instant::now(), hello });
    }

    pub fn is_reachable(&self, member: Id) -> bool {
        self.hello(member).is_some()
    }

    /// As it answered lately.
    pub fn hello(&self, member: Id) -> Option<Hello> {
        let heard = self.heard();
        let heard = heard.get(&member).filter(|heard| heard.at.elapsed() < self.reachable)?;
        Some(heard.hello.clone())
    }

    /// Too long a word is not taken, and the one before it gets older, which is seen.
    pub fn say(&self, word: Bytes) {
        if word.len() > WORD_BYTES_MAX {
            tracing::error!(bytes = word.len(), "the own word is not said: more than {WORD_BYTES_MAX} bytes");
            return;
        }
        self.own.send_replace(Some(Said { word, at: Instant::now() }));
    }

    pub fn own(&self) -> watch::Receiver<Option<Said>> {
        self.own.subscribe()
    }

    /// The other one's word, which is so old already.
    pub fn said(&self, member: Id, word: Bytes, age: Duration) {
        let now = Instant::now();
        let said = Said { word, at: now.checked_sub(age).unwrap_or(now) };
        self.words.lock().unwrap_or_else(PoisonError::into_inner).insert(member, said);
    }

    pub fn words(&self) -> Vec<Word> {
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        let own = self.own.borrow().clone();
        let own = own.map(|said| (self.node, said));
        let all = words.iter().map(|(id, said)| (*id, said.clone())).chain(own);
        all.map(|(id, said)| Word { node: id.name(), said: said.word, age: said.at.elapsed() }).collect()
    }

    fn heard(&self) -> MutexGuard<'_, BTreeMap<Id, Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
