//! The driver of Redis, Valkey and Redict.

use std::{fmt::Display, sync::Arc};

use async_trait::async_trait;
use redis::{FromRedisValue, Value};

use super::{
    compare,
    connection::{Connection, Failed, Way},
    info::Info,
    switch::{self, Patience, same_address},
};
use crate::{
    config::StoreAddress,
    peers::Peers,
    stores::driver::{Demoted, Driver, DriverError, Seen, StillWanted, Switch},
};

/// It logs in to stores as the sidecar does otherwise, and needs leave there for `INFO`, `CLIENT`, `REPLICAOF`,
/// `FAILOVER`, `CONFIG GET` and, to compare, for reading.
pub struct RedisDriver {
    peers: Arc<Peers>,
    patience: Patience,
}

impl RedisDriver {
    #[must_use]
    pub fn new(peers: Arc<Peers>) -> Self {
        Self { peers, patience: Patience::default() }
    }

    async fn own(&self) -> Result<Way, DriverError> {
        let store = self.peers.own_store();
        let store = store.ok_or_else(|| DriverError::Failed("this node has no store".to_owned()))?;
        Ok(self.peers.way_to(&store).await)
    }
}

#[async_trait]
impl Driver for RedisDriver {
    async fn see(&self) -> Result<Seen, DriverError> {
        see(&self.own().await?).await
    }

    async fn suits(&self) -> Result<(), DriverError> {
        let way = self.own().await?;
        if connect(&way).await?.info().await.map_err(not_yet(&way))?.is_of_cluster() {
            return Err(DriverError::Failed(format!(
                "{} is a node of a Redis Cluster, where REPLICAOF moves no role: use driver = \"exec\" with commands \
                 that do it by CLUSTER REPLICATE and CLUSTER FAILOVER",
                way.address
            )));
        }
        Ok(())
    }

    async fn see_at(&self, store: &StoreAddress) -> Result<Seen, DriverError> {
        see(&self.peers.way_to(store).await).await
    }

    async fn follow(&self, master: &StoreAddress) -> Result<Option<Demoted>, DriverError> {
        let way = self.own().await?;
        let mut own = connect(&way).await?;
        let info = own.info().await.map_err(not_yet(&way))?;
        if let Some(followed) = info.follows()
            && !info.is_master()
            && same_address(&followed, master).await
        {
            return Ok(None);
        }
        if info.is_set("loading") {
            return Err(DriverError::NotYet(format!("{}: it reads its data", way.address)));
        }
        let mut follow = redis::pipe();
        follow.add_command(switch::replicaof(master)).ignore().cmd("INFO").arg("commandstats");
        let (counts,): (String,) = own
            .ask_all(&follow)
            .await
            .map_err(|error| DriverError::Failed(format!("{}: {error}", way.address)))?;
        if !info.is_master() {
            return Ok(None);
        }
        let writes = writes(&mut own, &counts.into()).await;
        let said = |error: &Failed| tracing::warn!(%error, "the store's writes can't be counted");
        Ok(Some(Demoted { writes: writes.inspect_err(said).ok() }))
    }

    async fn switch(
        &self,
        switch: &Switch,
        still_wanted: &(dyn StillWanted + '_),
    ) -> Result<(), DriverError> {
        let (own, to) = (self.own().await?, self.peers.way_to(&switch.to).await);
        switch::switch(&own, &to, switch, still_wanted, &self.patience).await
    }

    async fn gone(&self) {
        let Ok(way) = self.own().await else { return std::future::pending().await };
        if let Ok(connection) = way.connect().await {
            connection.closed().await;
        }
    }

    async fn compare(&self, master: &StoreAddress, keys: usize) -> Result<Vec<String>, DriverError> {
        let (own, master) = (self.own().await?, self.peers.way_to(master).await);
        compare::compare(&own, &master, keys).await
    }
}

async fn see(way: &Way) -> Result<Seen, DriverError> {
    let info = connect(way).await?.info().await.map_err(not_yet(way))?;
    info.seen().ok_or_else(|| DriverError::Failed(format!("{}: its INFO is not a store's", way.address)))
}

/// Of the commands that a store has counted, those that write.
async fn writes(store: &mut Connection, counts: &Info) -> Result<u64, Failed> {
    let calls = counts.calls();
    let mut ask = redis::cmd("COMMAND");
    ask.arg("INFO");
    for (name, _) in &calls {
        ask.arg(name);
    }
    let known: Vec<Value> = store.ask(&ask).await?;
    Ok(known.iter().zip(calls).filter(|(command, _)| is_write(command)).map(|(_, (_, calls))| calls).sum())
}

/// Name, arity, flags and more; one that is unknown is nothing.
fn is_write(command: &Value) -> bool {
    let Value::Array(parts) = command else { return false };
    let flags = parts.get(2).and_then(|flags| Vec::<String>::from_redis_value_ref(flags).ok());
    flags.is_some_and(|flags| flags.iter().any(|flag| flag == "write"))
}

pub(super) async fn connect(way: &Way) -> Result<Connection, DriverError> {
    way.connect().await.map_err(not_yet(way))
}

/// What went wrong at a store, where nothing has been changed yet.
pub(super) fn not_yet<E: Display>(way: &Way) -> impl Fn(E) -> DriverError {
    move |error| DriverError::NotYet(format!("{}: {error}", way.address))
}
