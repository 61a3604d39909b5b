//! What a sidecar says of itself, in JSON, to whoever leads.

use segue_wire::PeerName;
use serde::{Deserialize, Serialize};

use crate::cluster;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// Version of the sidecar.
    pub sidecar: String,
    /// `None` of a witness.
    pub store: Option<StoreWord>,
    /// The transaction that `losses` counts from the beginning of.
    pub transaction: u64,
    pub losses: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreWord {
    /// Where clients reach it.
    pub address: String,
    pub number: Option<u32>,
    /// Why it did not answer, if it did not: then the rest is as it was before.
    pub silent: Option<String>,
    pub release: Option<String>,
    pub master: bool,
    pub linked: bool,
    pub loading: bool,
    pub offset: u64,
    pub history: String,
    /// How far it is behind its master, where their counts can be compared.
    pub behind_bytes: Option<u64>,
}

impl StoreWord {
    /// It has all that its master has, to so many bytes.
    pub fn is_in_sync(&self, lag_bytes_max: u64) -> bool {
        let follows = self.linked && self.behind_bytes.is_none_or(|behind| behind <= lag_bytes_max);
        self.silent.is_none() && !self.loading && (self.master || follows)
    }
}

impl Word {
    /// Whether it says more than that offsets went on.
    pub fn is_news_after(&self, before: &Self, lag_bytes_max: u64) -> bool {
        let is_in_sync = |word: &Self| word.store.as_ref().map(|store| store.is_in_sync(lag_bytes_max));
        let without_offsets = |word: &Self| {
            let store =
                word.store.as_ref().map(|store| StoreWord { offset: 0, behind_bytes: None, ..store.clone() });
            Self { store, ..word.clone() }
        };
        is_in_sync(self) != is_in_sync(before) || without_offsets(self) != without_offsets(before)
    }
}

/// A node's word, and whether it is new enough to go by.
pub struct Heard {
    pub node: PeerName,
    pub word: Word,
    pub is_fresh: bool,
}

impl Heard {
    /// `None` of a word that means nothing: another version's.
    pub fn of(word: &cluster::Word, age_max: std::time::Duration) -> Option<Self> {
        let parsed = serde_json::from_slice(&word.said).ok()?;
        Some(Self { node: word.node.clone(), word: parsed, is_fresh: word.age <= age_max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_that_go_on_are_no_news() {
        let store = StoreWord { linked: true, offset: 1, behind_bytes: Some(0), ..StoreWord::default() };
        let before = Word { store: Some(store.clone()), ..Word::default() };
        let is_news = |store| Word { store: Some(store), ..Word::default() }.is_news_after(&before, 100);
        assert!(!is_news(StoreWord { offset: 9, behind_bytes: Some(100), ..store.clone() }));
        assert!(is_news(StoreWord { behind_bytes: Some(101), ..store.clone() }));
        assert!(is_news(StoreWord { linked: false, ..store.clone() }));
        assert!(is_news(StoreWord { silent: Some("refused".to_owned()), ..store }));
        assert!(Word { losses: 1, ..before.clone() }.is_news_after(&before, 100));
    }
}
