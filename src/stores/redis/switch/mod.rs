//! A master gives its role to a secondary.
//!
//! Whatever holds the writes meanwhile only makes it quick. What makes it safe is the order: the master first
//! follows [`nowhere`], by one transaction that also tells how far it has come, so that it takes no write behind
//! that. If the secondary has not all of it, the master is one again. Only then does it follow the secondary,
//! and only then is that one made master. So a store says itself how far a switch came that was cut off:
//!
//! | the old master | the secondary | what is to be done |
//! |---|---|---|
//! | is master | follows | all |
//! | follows nowhere | follows | undo: it is not known that the secondary has everything |
//! | follows the secondary | follows | go on: it is known |
//! | follows the secondary | is master | nothing |

mod failover;
mod fence;
mod hold;

use std::time::Duration;

use redis::Cmd;
use tokio::time::Instant;

use super::{
    connection::{Connection, Failed, Way},
    driver::not_yet,
    identity::Identity,
    info::Info,
};
use crate::{
    config::StoreAddress,
    stores::driver::{DriverError, StillWanted, Switch},
};
pub use hold::Patience;
use hold::{Announced, Held, Point};

/// Between two looks at a store that is waited for.
const LOOK_PERIOD: Duration = Duration::from_millis(10);
/// An answer is not gone by for longer: what is wanted may be another matter by then.
const WANTED_AGE_MAX: Duration = Duration::from_millis(500);
/// A secondary that is further behind is not waited for: its master's writes would be held too long.
const BEHIND_BYTES_MAX: u64 = 1 << 20;
/// How long it is tried to make the secondary master once the old one is none.
const PROMOTION_TIME_MAX: Duration = Duration::from_secs(10);
/// Between two tries.
const PROMOTION_RETRY_PERIOD: Duration = Duration::from_millis(200);

/// The two stores, as they are reached.
struct Both<'a> {
    own_way: &'a Way,
    to_way: &'a Way,
    own: Connection,
    to: Connection,
    /// Whom the own store is to follow.
    dial: &'a StoreAddress,
    patience: &'a Patience,
}

pub async fn switch(
    own_way: &Way,
    to_way: &Way,
    switch: &Switch,
    wanted: &(dyn StillWanted + '_),
    patience: &Patience,
) -> Result<(), DriverError> {
    let mut own = fence::connect(own_way).await?;
    let info = own.info().await.map_err(not_yet(own_way))?;
    if info.follows() == Some(nowhere()) {
        return Err(undo_from_nowhere(own_way, "a switch was cut off").await);
    }
    let to = fence::connect(to_way).await?;
    let mut both = Both { own_way, to_way, own, to, dial: &switch.dial, patience };
    let (own, to) = both.look().await?;
    if own.hands_over() {
        return Err(DriverError::NotYet(format!("{}: a FAILOVER is under way", own_way.address)));
    }
    if own.is_master() {
        if to.is_master() {
            return Err(both.failed("both are masters"));
        }
        return both.give(&own, &to, switch, wanted).await;
    }
    match own.follows() {
        Some(followed) if same_address(&followed, &switch.dial).await => {
            if to.is_master() {
                // Writers that are still held are told that it is no master any more.
                return both.release(&own).await;
            }
            both.go_on(switch, wanted).await
        }
        Some(followed) => Err(both.failed(&format!("it is no master, it follows {followed}"))),
        None => Err(both.failed("it is no master, and its INFO does not tell whom it follows")),
    }
}

impl Both<'_> {
    async fn give(
        &mut self,
        own: &Info,
        to: &Info,
        switch: &Switch,
        wanted: &(dyn StillWanted + '_),
    ) -> Result<(), DriverError> {
        self.is_ready(own, to)?;
        let announced = Announced::of(&mut self.to, &switch.to, &switch.dial).await;
        // All are asked, and a file is written. That may take a while: nobody is to be held meanwhile.
        ask(wanted, self.own_way).await?;
        let asked_at = Instant::now();
        let until = asked_at + switch.pause_time_max;
        let (own, to) = self.look().await?;
        self.is_ready(&own, &to)?;
        if failover::fits(&own, &to, &switch.dial) {
            ask_if_old(asked_at, wanted, self.own_way).await?;
            if self.fails_over(until).await? {
                return Ok(());
            }
        }
        let held = self.hold(&own, until).await?;
        let ready = async {
            self.wait_until_has(&held, &announced).await?;
            ask_if_old(asked_at, wanted, self.own_way).await?;
            held.is_long_enough().then_some(()).ok_or_else(|| {
                DriverError::NotYet(format!("{}: its writes were held for too long", self.own_way.address))
            })
        };
        if let Err(error) = ready.await {
            self.let_go(&held).await;
            return Err(error);
        }
        let demoted = match self.demote(&held).await {
            Ok(demoted) => demoted,
            Err(error) => {
                let why = format!("it can't be demoted: {error}");
                return Err(undo_from_nowhere(self.own_way, &why).await);
            }
        };
        let missed = match self.has_all(&demoted, &announced).await {
            Ok(true) => None,
            Ok(false) => Some("it was written to after the secondary had everything".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(missed) = missed {
            return Err(undo_from_nowhere(self.own_way, &missed).await);
        }
        if let Err(error) = self.own.ask::<()>(&replicaof(self.dial)).await {
            return Err(self.undo(&format!("it can't follow {}: {error}", self.dial)).await);
        }
        self.promote().await?;
        self.let_go(&held).await;
        self.patience.went_well();
        Ok(())
    }

    /// Both follow: the secondary had everything when the old master was told to follow it.
    async fn go_on(&mut self, switch: &Switch, wanted: &(dyn StillWanted + '_)) -> Result<(), DriverError> {
        ask(wanted, self.own_way).await?;
        let announced = Announced::of(&mut self.to, &switch.to, &switch.dial).await;
        let (own, to) = self.look().await?;
        if to.seen().is_some_and(|to| to.linked) && !announced.acknowledged(&own.replicas(), 0) {
            return Err(self.failed("the secondary follows another master"));
        }
        if own.history() == to.history() && to.offset() < own.offset() {
            return Err(self.undo("the secondary does not have everything").await);
        }
        self.promote().await?;
        self.release(&own).await
    }

    fn is_ready(&self, own: &Info, to: &Info) -> Result<(), DriverError> {
        let seen = to.seen().ok_or_else(|| self.failed("the secondary's INFO is not a store's"))?;
        let not_yet = |why: &str| Err(DriverError::NotYet(format!("{}: {why}", self.to_way.address)));
        if seen.loading {
            return not_yet("it is loading");
        }
        if !seen.linked {
            return not_yet("its link to its master is down");
        }
        let behind = own.offset().unwrap_or_default().saturating_sub(seen.offset);
        if own.history() == Some(&seen.history) && behind > BEHIND_BYTES_MAX {
            return not_yet(&format!("it is {behind} bytes behind"));
        }
        Ok(())
    }

    /// What the old master said right before it, and all that it has now that it takes no writes. (No
    /// transaction: older stores feed their replicas a `MULTI` for it, which nobody would have.)
    async fn demote(&mut self, held: &Held) -> Result<Point, Failed> {
        let mut demote = redis::pipe();
        demote.cmd("INFO").add_command(replicaof(&nowhere())).ignore().cmd("INFO");
        let (before, after): (String, String) = self.own.ask_all_within(&demote, held.left()).await?;
        Ok(Point::between(&before.into(), &after.into()))
    }

    /// It is tried as long as it may help: until then no store is master.
    async fn promote(&mut self) -> Result<(), DriverError> {
        let until = Instant::now() + PROMOTION_TIME_MAX;
        loop {
            if self.came_back().await {
                let why = "it was started again meanwhile, and is a master";
                return Err(DriverError::NotYet(format!("{}: {why}", self.own_way.address)));
            }
            let error = match self.to.ask::<()>(&promotion()).await {
                Ok(()) => return Ok(()),
                // It was refused: it is surely not done.
                Err(Failed::Redis(error)) if error.code().is_some() => {
                    return Err(self.undo(&format!("the secondary can't be made master: {error}")).await);
                }
                Err(error) => error,
            };
            if Instant::now() >= until {
                let why = format!("{error}; it may be master or not, and the old master follows it");
                return Err(DriverError::Failed(format!("{}: {why}", self.to_way.address)));
            }
            tokio::time::sleep(PROMOTION_RETRY_PERIOD).await;
            if let Ok(to) = fence::connect(self.to_way).await {
                self.to = to;
            }
        }
    }

    /// The old master is one again, though nobody made it so. One that is down is none.
    async fn came_back(&mut self) -> bool {
        if let Ok(own) = self.own.info().await {
            return own.is_master();
        }
        let Ok(own) = fence::connect(self.own_way).await else { return false };
        self.own = own;
        self.own.info().await.is_ok_and(|own| own.is_master())
    }

    /// The old master is master again, if the secondary is surely none. What is left to be said of it.
    async fn undo(&mut self, why: &str) -> DriverError {
        match self.try_undo().await {
            Ok(()) => DriverError::NotYet(format!("{}: {why}", self.own_way.address)),
            Err(error) => self.failed(&format!("{why}; and it can't be made master again: {error}")),
        }
    }

    async fn try_undo(&mut self) -> Result<(), DriverError> {
        self.to = fence::connect(self.to_way).await?;
        let to = self.to.info().await.map_err(not_yet(self.to_way))?;
        if to.is_master() {
            return Err(DriverError::Failed(format!("{} is master", self.to_way.address)));
        }
        be_master_again(self.own_way).await
    }

    async fn look(&mut self) -> Result<(Info, Info), DriverError> {
        let own = self.own.info().await.map_err(not_yet(self.own_way))?;
        let to = self.to.info().await.map_err(not_yet(self.to_way))?;
        Ok((own, to))
    }

    fn failed(&self, why: &str) -> DriverError {
        let Self { own_way, to_way, .. } = self;
        DriverError::Failed(format!("{} can't give its role to {}: {why}", own_way.address, to_way.address))
    }
}

/// The secondary can't be master: it is made so only after the old one was told to follow it.
async fn undo_from_nowhere(own: &Way, why: &str) -> DriverError {
    match be_master_again(own).await {
        Ok(()) => DriverError::NotYet(format!("{}: {why}", own.address)),
        Err(error) => DriverError::Failed(format!("{why}; and it can't be made master again: {error}")),
    }
}

async fn be_master_again(way: &Way) -> Result<(), DriverError> {
    let mut own = fence::connect(way).await?;
    let info = own.info().await.map_err(not_yet(way))?;
    if info.is_set("loading") || info.is_set("master_sync_in_progress") {
        return Err(DriverError::Failed(format!("{} is loading", way.address)));
    }
    if !info.is_master() {
        own.ask::<()>(&promotion()).await.map_err(not_yet(way))?;
    }
    hold::release(&mut own, way, &info).await
}

fn promotion() -> Cmd {
    redis::cmd("REPLICAOF").arg("NO").arg("ONE").take()
}

async fn ask(wanted: &(dyn StillWanted + '_), own: &Way) -> Result<(), DriverError> {
    if wanted.still_wanted().await {
        return Ok(());
    }
    Err(DriverError::NotYet(format!("{}: its role is not to be given away any more", own.address)))
}

async fn ask_if_old(
    asked_at: Instant,
    wanted: &(dyn StillWanted + '_),
    own: &Way,
) -> Result<(), DriverError> {
    if asked_at.elapsed() > WANTED_AGE_MAX { ask(wanted, own).await } else { Ok(()) }
}

/// Nothing listens there, and nothing that does is a store.
fn nowhere() -> StoreAddress {
    std::net::SocketAddr::from(([127, 0, 0, 1], 1)).into()
}

pub(super) fn replicaof(master: &StoreAddress) -> Cmd {
    redis::cmd("REPLICAOF").arg(master.host()).arg(master.port()).take()
}

/// A store tells whom it follows as it was told: by address or by name.
pub(super) async fn same_address(one: &StoreAddress, other: &StoreAddress) -> bool {
    if one == other {
        return true;
    }
    if one.port() != other.port() {
        return false;
    }
    let addresses = async |address: &StoreAddress| -> Vec<std::net::IpAddr> {
        let found = tokio::net::lookup_host(address.to_string()).await;
        found.map(|found| found.map(|at| at.ip().to_canonical()).collect()).unwrap_or_default()
    };
    let (one, other) = (addresses(one).await, addresses(other).await);
    one.iter().any(|ip| other.contains(ip))
}

/// Can it hold writes alone, or only everybody?
fn pauses_writes_alone(info: &Info) -> bool {
    Identity::of(info).is_some_and(|identity| identity.pauses_writes_alone())
}
