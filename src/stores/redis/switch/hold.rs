//! A master's writes are held until its secondary has them all.
//!
//! From 6.2 on a store holds writes alone, and lets them go when it is told. An older one holds all its clients,
//! us too, and for as long as was said; when that ends, it goes on with the oldest connection. So in the same
//! transaction it closes all the others: what they had sent dies unanswered, and our next command is the first.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    super::{
        connection::{Connection, Way},
        driver::not_yet,
        info::{Info, ReplicaLine},
    },
    Both, LOOK_PERIOD, pauses_writes_alone,
};
use crate::{config::StoreAddress, stores::driver::DriverError};

/// How long an older store holds its clients, who wait for all of it: at the first try, and at most.
const ALL_HELD_TIME: Duration = Duration::from_millis(100);
const ALL_HELD_TIME_MAX: Duration = Duration::from_millis(400);
/// The same where only what the secondary acknowledges can be compared, which it does once a second.
const ALL_HELD_TIME_TO_ACKNOWLEDGE: Duration = Duration::from_millis(1500);
/// What is left of a hold has to be enough for the next step.
const HOLD_LEFT_MIN: Duration = Duration::from_millis(50);

pub struct Held {
    until: Instant,
    /// What the master said when it had begun.
    info: Info,
    writes_alone: bool,
    same_history: bool,
}

impl Held {
    pub fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Where a hold ends by itself only, the next command may wait in the store until then.
    pub fn is_long_enough(&self) -> bool {
        self.left() >= HOLD_LEFT_MIN
    }
}

/// An older store holds its clients for longer after each try that came to nothing.
#[derive(Default)]
pub struct Patience(AtomicU32);

impl Patience {
    /// How long it is to hold them now. The try has come to nothing until it is said to have gone well.
    fn time(&self) -> Duration {
        let doubled = 2_u32.saturating_pow(self.0.fetch_add(1, Relaxed));
        ALL_HELD_TIME.saturating_mul(doubled).min(ALL_HELD_TIME_MAX)
    }

    pub fn went_well(&self) {
        self.0.store(0, Relaxed);
    }
}

/// How far a master is, and its replicas are, in its count.
pub struct Point {
    history: Option<String>,
    offset: Option<u64>,
    replicas: Vec<ReplicaLine>,
}

impl Point {
    pub fn of(master: &Info) -> Self {
        Self::between(master, master)
    }

    /// The replicas as of before, all else as of after: one that has everything then had it already.
    pub fn between(before: &Info, after: &Info) -> Self {
        let history = after.history().map(str::to_owned);
        Self { history, offset: after.offset(), replicas: before.replicas() }
    }
}

/// The names that a secondary may have among the replicas of its master.
pub struct Announced {
    ips: Vec<String>,
    port: u16,
}

impl Announced {
    pub async fn of(to: &mut Connection, store: &StoreAddress, dial: &StoreAddress) -> Self {
        let mut setting = async |name: &str| -> Option<String> {
            let get = redis::cmd("CONFIG").arg("GET").arg(name).take();
            // Where it is not ours to ask, it announces what it listens on, most likely.
            let (_, value): (String, String) = to.ask(&get).await.ok()?;
            Some(value).filter(|value| !value.is_empty() && value != "0")
        };
        let port = setting("replica-announce-port").await.and_then(|port| port.parse().ok());
        let ip = setting("replica-announce-ip").await;
        let listens_on = to.info().await.ok().and_then(|info| info.get("tcp_port")?.parse().ok());
        let ips = [Some(store.host().to_owned()), Some(dial.host().to_owned()), ip];
        let port = port.or(listens_on).unwrap_or(store.port());
        Self { ips: ips.into_iter().flatten().collect(), port }
    }

    /// The master has it acknowledged by all that it may be.
    pub fn acknowledged(&self, replicas: &[ReplicaLine], offset: u64) -> bool {
        let at_port = || replicas.iter().filter(|replica| replica.port == self.port);
        let at_ip = |replica: &&ReplicaLine| self.ips.contains(&replica.ip);
        let all = |replica: &ReplicaLine| replica.online && replica.offset >= offset;
        if at_port().any(|replica| at_ip(&replica)) {
            return at_port().filter(at_ip).all(all);
        }
        at_port().next().is_some() && at_port().all(all)
    }
}

impl Both<'_> {
    pub(super) async fn hold(&mut self, own: &Info, until: Instant) -> Result<Held, DriverError> {
        let same_history = own.history() == self.to.info().await.map_err(not_yet(self.to_way))?.history();
        let time_max = until.saturating_duration_since(Instant::now());
        let writes_alone = pauses_writes_alone(own);
        let mut hold = redis::pipe();
        let time = if writes_alone {
            hold.cmd("CLIENT").arg("PAUSE").arg(millis(time_max)).arg("WRITE").ignore();
            time_max
        } else {
            let time = if same_history { self.patience.time() } else { ALL_HELD_TIME_TO_ACKNOWLEDGE };
            let time = time.min(time_max);
            hold.atomic().cmd("CLIENT").arg("PAUSE").arg(millis(time)).ignore();
            for kind in ["normal", "pubsub"] {
                hold.cmd("CLIENT").arg("KILL").arg("TYPE").arg(kind).arg("SKIPME").arg("yes").ignore();
            }
            time
        };
        hold.cmd("INFO");
        let until = Instant::now() + time;
        let (info,): (String,) = self.own.ask_all(&hold).await.map_err(not_yet(self.own_way))?;
        Ok(Held { until, info: info.into(), writes_alone, same_history })
    }

    pub(super) async fn wait_until_has(
        &mut self,
        held: &Held,
        announced: &Announced,
    ) -> Result<(), DriverError> {
        if !held.same_history && !held.writes_alone {
            // The master can't be asked meanwhile; what it says at the end of the hold decides.
            tokio::time::sleep(held.left().saturating_sub(HOLD_LEFT_MIN * 2)).await;
            return Ok(());
        }
        loop {
            let has_all = if held.same_history {
                self.has_all(&Point::of(&held.info), announced).await?
            } else {
                let own = self.own.info().await.map_err(not_yet(self.own_way))?;
                self.has_all(&Point::of(&own), announced).await?
            };
            if has_all {
                return Ok(());
            }
            if !held.is_long_enough() {
                let why = "the secondary did not get everything while writes were held";
                return Err(DriverError::NotYet(format!("{}: {why}", self.to_way.address)));
            }
            tokio::time::sleep(LOOK_PERIOD).await;
        }
    }

    pub(super) async fn has_all(
        &mut self,
        master: &Point,
        announced: &Announced,
    ) -> Result<bool, DriverError> {
        let to = self.to.info().await.map_err(not_yet(self.to_way))?;
        let Some(offset) = master.offset else { return Ok(false) };
        if to.history() == master.history.as_deref() {
            return Ok(to.offset() >= Some(offset));
        }
        // Its stream has a count of its own: only the master knows how far it is.
        Ok(announced.acknowledged(&master.replicas, offset))
    }

    pub(super) async fn let_go(&mut self, held: &Held) {
        // One that is not told ends by itself.
        if let Err(error) = self.release(&held.info).await {
            tracing::warn!(%error, "the store holds writes for longer than it has to");
        }
    }

    pub(super) async fn release(&mut self, own: &Info) -> Result<(), DriverError> {
        release(&mut self.own, self.own_way, own).await
    }
}

/// Lets held writes go, where they don't by themselves.
pub async fn release(own: &mut Connection, way: &Way, info: &Info) -> Result<(), DriverError> {
    if !pauses_writes_alone(info) {
        return Ok(());
    }
    own.ask::<()>(redis::cmd("CLIENT").arg("UNPAUSE")).await.map_err(not_yet(way))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_try_holds_for_longer_until_one_goes_well() {
        let patience = Patience::default();
        let times = || [0; 4].map(|_| patience.time().as_millis());
        assert_eq!(times(), [100, 200, 400, 400]);
        patience.went_well();
        assert_eq!(times(), [100, 200, 400, 400]);
    }

    #[test]
    fn of_several_that_it_may_be_all_must_have_everything() {
        let announced = Announced { ips: vec!["10.0.0.2".to_owned()], port: 6379 };
        let replica =
            |ip: &str, port, online, offset| ReplicaLine { ip: ip.to_owned(), port, online, offset };
        let acknowledged = |replicas: &[ReplicaLine]| announced.acknowledged(replicas, 50);
        assert!(!acknowledged(&[]) && !acknowledged(&[replica("10.0.0.2", 6380, true, 50)]));
        assert!(acknowledged(&[replica("10.0.0.9", 6379, true, 50)]));
        assert!(!acknowledged(&[replica("10.0.0.9", 6379, false, 50)]));
        assert!(!acknowledged(&[replica("10.0.0.9", 6379, true, 50), replica("10.0.0.8", 6379, true, 49)]));
        assert!(acknowledged(&[replica("10.0.0.2", 6379, true, 50), replica("10.0.0.8", 6379, true, 49)]));
        assert!(!acknowledged(&[replica("10.0.0.2", 6379, true, 49), replica("10.0.0.8", 6379, true, 50)]));
    }
}
