//! What an upgrade asks of a node's store, whatever store that is.

use std::time::Duration;

use async_trait::async_trait;

use crate::config::StoreAddress;

/// A store's own word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `redis`, `valkey`, …, with [`Seen::version`] as the store writes it.
    pub store: String,
    pub version: String,
    pub master: bool,
    /// Of a secondary: it follows its master, and has had a whole snapshot of it.
    pub linked: bool,
    /// Of a secondary: whom it follows, as it was told.
    pub follows: Option<StoreAddress>,
    /// How far its data is, in its own count.
    pub offset: u64,
    /// Whose count that is: comparable only between stores that say the same.
    pub history: String,
    /// It still reads its data from disk, or from its master.
    pub loading: bool,
    /// It has to write its data out before it would end.
    pub unwritten: bool,
    /// Names this run of the store, where it tells: another one after a restart.
    pub run: Option<String>,
}

/// A store that was a master until it was told to follow another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demoted {
    /// So many commands that write it had carried out since its start, where it tells.
    pub writes: Option<u64>,
}

/// A master that gives its role away, and a secondary that takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// Where the sidecar reaches the secondary's store.
    pub to: StoreAddress,
    /// Where the own store reaches it, to follow it.
    pub dial: StoreAddress,
    /// How long writes may be held in all.
    pub pause_time_max: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// It may be otherwise later; nothing has changed.
    #[error("{0}")]
    NotYet(String),
    #[error("{0}")]
    Failed(String),
}

/// Every call can be made again after it was cut off at any point.
#[async_trait]
pub trait Driver: Send + Sync + 'static {
    /// The own store.
    async fn see(&self) -> Result<Seen, DriverError>;

    /// Can this driver do all of the following with the own store? Asked before an upgrade touches anything.
    async fn suits(&self) -> Result<(), DriverError> {
        Ok(())
    }

    /// Another node's store, at the address that the sidecar knows it by.
    async fn see_at(&self, store: &StoreAddress) -> Result<Seen, DriverError>;

    /// The own store follows `master`; nothing happens where it does already. Was it a master until then?
    async fn follow(&self, master: &StoreAddress) -> Result<Option<Demoted>, DriverError>;

    /// The own store, a master, holds its writes until the secondary has them all, and follows it; then the
    /// secondary becomes master. At no point do both take writes. `still_wanted` is asked shortly before the
    /// first step that can't be undone.
    async fn switch(&self, switch: &Switch, still_wanted: &(dyn StillWanted + '_))
    -> Result<(), DriverError>;

    /// Until the own store, that answers now, has gone. Never, where that can't be told at once.
    async fn gone(&self) {
        std::future::pending().await
    }

    /// Compares up to `keys` keys of the own store with those of `master`; the names of those that differ.
    async fn compare(&self, master: &StoreAddress, keys: usize) -> Result<Vec<String>, DriverError>;
}

#[async_trait]
pub trait StillWanted: Send + Sync {
    async fn still_wanted(&self) -> bool;
}
