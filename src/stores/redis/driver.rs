//! The driver of Redis, Valkey and Redict.

use std::{fmt::Display, sync::Arc};

use async_trait::async_trait;

use super::{
    compare,
    connection::{Connection, Way},
    switch::{self, same_address},
};
use crate::{
    config::StoreAddress,
    peers::Peers,
    stores::driver::{Driver, DriverError, Seen, StillWanted, Switch},
};

/// It logs in to stores as the sidecar does otherwise, and needs leave there for `INFO`, `CLIENT`, `REPLICAOF`,
/// `FAILOVER`, `CONFIG GET` and, to compare, for reading.
pub struct RedisDriver {
    peers: Arc<Peers>,
}

impl RedisDriver {
    #[must_use]
    pub const fn new(peers: Arc<Peers>) -> Self {
        Self { peers }
    }

    async fn own(&self) -> Way {
        self.peers.way_to(&self.peers.own_store()).await
    }
}

#[async_trait]
impl Driver for RedisDriver {
    async fn see(&self) -> Result<Seen, DriverError> {
        see(&self.own().await).await
    }

    async fn see_at(&self, store: &StoreAddress) -> Result<Seen, DriverError> {
        see(&self.peers.way_to(store).await).await
    }

    async fn follow(&self, master: &StoreAddress) -> Result<(), DriverError> {
        let way = self.own().await;
        let mut own = connect(&way).await?;
        let info = own.info().await.map_err(not_yet(&way))?;
        if let Some(followed) = info.follows()
            && !info.is_master()
            && same_address(&followed, master).await
        {
            return Ok(());
        }
        let command = switch::replicaof(master);
        own.ask::<()>(&command)
            .await
            .map_err(|error| DriverError::Failed(format!("{}: {error}", way.address)))
    }

    async fn switch(
        &self,
        switch: &Switch,
        still_wanted: &(dyn StillWanted + '_),
    ) -> Result<(), DriverError> {
        let (own, to) = (self.own().await, self.peers.way_to(&switch.to).await);
        switch::switch(&own, &to, switch, still_wanted).await
    }

    async fn compare(&self, master: &StoreAddress, keys: usize) -> Result<Vec<String>, DriverError> {
        let (own, master) = (self.own().await, self.peers.way_to(master).await);
        compare::compare(&own, &master, keys).await
    }
}

async fn see(way: &Way) -> Result<Seen, DriverError> {
    let info = connect(way).await?.info().await.map_err(not_yet(way))?;
    info.seen().ok_or_else(|| DriverError::Failed(format!("{}: its INFO is not a store's", way.address)))
}

pub(super) async fn connect(way: &Way) -> Result<Connection, DriverError> {
    way.connect().await.map_err(not_yet(way))
}

/// What went wrong at a store, where nothing has been changed yet.
pub(super) fn not_yet<E: Display>(way: &Way) -> impl Fn(E) -> DriverError {
    move |error| DriverError::NotYet(format!("{}: {error}", way.address))
}
