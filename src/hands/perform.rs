//! How each action is done on this node. A try says how far it got; the same action is tried until it is done.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use segue_wire::{Protocol, Release, Verdict};

use super::{Hands, executor::left, hooks, is_release, own::behind_bytes};
use crate::{
    config::{
        StoreAddress, Upgrade,
        hook::{Hook, Placeholder},
    },
    stores::driver::{Driver, DriverError, Seen},
    upgrade::{
        action::{Action, Do, Generation, Outcome},
        transaction::Transaction,
    },
};

/// A hook ends by itself before its action is given up, so that what it said is told.
const REPORT_TIME: Duration = Duration::from_secs(3);
/// A store that does not come up, or went down again, is started once more after this long.
const START_AGAIN_AFTER: u32 = 15;

/// An action under way, over its tries.
pub struct Performance<'a> {
    pub action: &'a Action,
    /// What its commands said, until it is told.
    pub output: Vec<String>,
    /// Its hook ran to a good end.
    ran: bool,
    /// So many tries found no store.
    silent: u32,
}

/// Why a try ended before it was through.
pub enum Stopped {
    NotYet(String),
    Failed(String),
}

impl<'a> Performance<'a> {
    pub const fn of(action: &'a Action) -> Self {
        Self { action, output: Vec::new(), ran: false, silent: 0 }
    }
}

impl From<DriverError> for Stopped {
    fn from(error: DriverError) -> Self {
        match error {
            DriverError::NotYet(why) => Self::NotYet(why),
            DriverError::Failed(why) => Self::Failed(why),
        }
    }
}

/// What every action on a node with a store stands on.
pub struct Ground {
    pub driver: Arc<dyn Driver>,
    pub upgrade: Upgrade,
    pub transaction: Transaction,
}

impl Hands {
    pub(super) async fn perform(&self, performance: &mut Performance<'_>) -> Outcome {
        let tried = match self.ground() {
            Ok(ground) => self.try_once(&ground, performance).await,
            Err(stopped) => Err(stopped),
        };
        match tried {
            Ok(()) => Outcome::Done,
            Err(Stopped::NotYet(why)) => Outcome::NotYet(why),
            Err(Stopped::Failed(why)) => Outcome::Failed(why),
        }
    }

    fn ground(&self) -> Result<Ground, Stopped> {
        let config = self.config();
        let Some(driver) = self.driver.clone() else {
            return Err(Stopped::Failed(format!("{} is a witness, and has no store", self.node)));
        };
        let Some(upgrade) = config.upgrade.clone() else {
            let why = format!("the config of {} has no [upgrade]: give it one, and reload it", self.node);
            return Err(Stopped::Failed(why));
        };
        let Some(transaction) = self.state().running().cloned() else {
            return Err(Stopped::NotYet("the transaction is over".to_owned()));
        };
        Ok(Ground { driver, upgrade, transaction })
    }

    async fn try_once(&self, ground: &Ground, performance: &mut Performance<'_>) -> Result<(), Stopped> {
        let hooks = &ground.upgrade.hooks;
        match &performance.action.what {
            Do::Preflight => self.preflight(ground).await,
            Do::PassGate(gate) => self.pass_gate(ground, *gate).await,
            Do::MoveMaster { to } => self.move_master(ground, performance.action, to).await,
            Do::Stop => self.stop_store(ground, performance).await,
            Do::SetAside(_) => self.set_aside(ground, performance).await,
            Do::Install(_) => self.run_once(&hooks.install, ground, performance).await,
            Do::Start => self.start_store(ground, performance).await,
            Do::CatchUp => self.catch_up(ground, performance).await,
            Do::Notify(generation) => self.confirm(ground, *generation, performance).await,
            Do::Finalize => self.finalize(ground).await,
        }
    }

    async fn stop_store(&self, ground: &Ground, performance: &mut Performance<'_>) -> Result<(), Stopped> {
        self.step_down().await;
        match ground.driver.see().await {
            Ok(seen) if seen.master => {
                let why =
                    format!("the store of {} is master: writes would be lost; it is not stopped", self.node);
                return Err(Stopped::Failed(why));
            }
            Ok(seen) if seen.unwritten && is_early(performance.action, ground) => {
                let why = "the store has to write its data out before it would end";
                return Err(Stopped::NotYet(why.to_owned()));
            }
            // It may well be down already.
            Ok(_) | Err(_) => {}
        }
        self.run_once(&ground.upgrade.hooks.stop, ground, performance).await?;
        match ground.driver.see().await {
            Ok(_) => Err(Stopped::NotYet("the stop hook is through, and the store still answers".to_owned())),
            Err(_) => Ok(()),
        }
    }

    async fn set_aside(&self, ground: &Ground, performance: &mut Performance<'_>) -> Result<(), Stopped> {
        if !performance.ran && ground.driver.see().await.is_ok() {
            let why = format!("the store of {} runs again: something beside the hooks starts it", self.node);
            return Err(Stopped::Failed(why));
        }
        self.run_once(&ground.upgrade.hooks.set_aside, ground, performance).await
    }

    async fn start_store(&self, ground: &Ground, performance: &mut Performance<'_>) -> Result<(), Stopped> {
        if !performance.ran {
            self.second_master.store(false, Relaxed);
        }
        self.run_once(&ground.upgrade.hooks.start, ground, performance).await?;
        let seen = self.see_started(ground, performance).await?;
        self.follow_master(ground, &seen).await?;
        let generation = goes_to(ground, self);
        self.is_generation(ground, &seen, generation)?;
        let Some(master) = ground.transaction.fleet.master().filter(|master| **master != self.node) else {
            return Ok(());
        };
        // Whoever looks at the own store each second may have been faster.
        if !(seen.master || self.second_master.load(Relaxed)) {
            return Ok(());
        }
        let why = format!(
            "the start hook started the store as a master beside {master}: it follows it now, and what clients \
             wrote to it meanwhile is lost; see that the hook starts it as a secondary"
        );
        match generation {
            Generation::New => Err(Stopped::Failed(why)),
            // It is to come back, whatever the hook is like.
            Generation::Old => {
                performance.output.push(why);
                Ok(())
            }
        }
    }

    async fn catch_up(&self, ground: &Ground, performance: &mut Performance<'_>) -> Result<(), Stopped> {
        let seen = self.see_started(ground, performance).await?;
        if let Some(master) = ground.transaction.fleet.master()
            && *master == self.node
        {
            return Ok(());
        }
        self.follow_master(ground, &seen).await?;
        let seen = ground.driver.see().await?;
        let not_yet = |why: &str| Err(Stopped::NotYet(why.to_owned()));
        if seen.loading {
            return not_yet("the store reads its data");
        }
        if seen.master || !seen.linked {
            return not_yet("the store is not linked with its master yet");
        }
        self.is_near(ground, &seen).await
    }

    /// No further behind its master than may be.
    pub(super) async fn is_near(&self, ground: &Ground, seen: &Seen) -> Result<(), Stopped> {
        let Some(store) = ground.transaction.fleet.master().and_then(|master| self.store_of(master)) else {
            return Ok(());
        };
        let master = ground.driver.see_at(&store).await?;
        let seen = if master.history == seen.history { ground.driver.see().await? } else { return Ok(()) };
        let behind = behind_bytes(&seen, &master).unwrap_or(0);
        if behind > ground.upgrade.lag_bytes_max {
            let max = ground.upgrade.lag_bytes_max;
            return Err(Stopped::NotYet(format!("it is {behind} bytes behind (lag_bytes_max = {max})")));
        }
        Ok(())
    }

    async fn confirm(
        &self,
        ground: &Ground,
        generation: Generation,
        performance: &mut Performance<'_>,
    ) -> Result<(), Stopped> {
        // It may have gone down since it had all.
        self.catch_up(ground, performance).await?;
        // What the relay goes by is asked anew, too.
        self.shared.ask_own_release().await;
        let seen = ground.driver.see().await?;
        self.is_generation(ground, &seen, generation)?;
        // The next transaction begins with what the registry says.
        let state = self.state();
        let registered = state.nodes.get(&self.node).and_then(|node| node.release.as_deref()?.parse().ok());
        let meant = release(&ground.transaction, generation);
        match registered {
            Some(registered) if is_release(&registered, meant) => Ok(()),
            _ => Err(Stopped::NotYet(format!("the registry does not say yet that the store is {meant}"))),
        }
    }

    fn is_generation(&self, ground: &Ground, seen: &Seen, generation: Generation) -> Result<(), Stopped> {
        let meant = release(&ground.transaction, generation);
        match self.release_of(seen) {
            Some(found) if is_release(&found, meant) => Ok(()),
            found => {
                let found =
                    found.map_or_else(|| format!("{} {}", seen.store, seen.version), |r| r.to_string());
                Err(Stopped::Failed(format!(
                    "the store is {found} and not {meant}: see the install and start hooks"
                )))
            }
        }
    }

    /// The store that the start hook began; where there is none any more it is begun again.
    async fn see_started(&self, ground: &Ground, performance: &mut Performance<'_>) -> Result<Seen, Stopped> {
        match ground.driver.see().await {
            Ok(seen) => {
                performance.silent = 0;
                Ok(seen)
            }
            Err(error) => {
                performance.silent += 1;
                if performance.silent.is_multiple_of(START_AGAIN_AFTER)
                    && self.claim(performance.action).await
                {
                    performance.output.push("the store does not answer: it is started again".to_owned());
                    self.run_hook(&ground.upgrade.hooks.start, ground, performance).await?;
                }
                Err(Stopped::NotYet(format!("the store does not answer: {error}")))
            }
        }
    }

    async fn follow_master(&self, ground: &Ground, seen: &Seen) -> Result<(), Stopped> {
        let Some(master) = ground.transaction.fleet.master() else {
            return Err(Stopped::NotYet("no node is agreed to be the master".to_owned()));
        };
        let Some(dial) = self.dial(master).filter(|_| *master != self.node) else { return Ok(()) };
        if seen.master || seen.follows.as_ref() != Some(&dial) {
            self.follow(&*ground.driver, master, &dial).await?;
        }
        Ok(())
    }

    /// Once an action.
    async fn run_once(
        &self,
        hook: &Hook,
        ground: &Ground,
        performance: &mut Performance<'_>,
    ) -> Result<(), Stopped> {
        if !performance.ran {
            self.run_hook(hook, ground, performance).await?;
            performance.ran = true;
        }
        Ok(())
    }

    async fn run_hook(
        &self,
        hook: &Hook,
        ground: &Ground,
        performance: &mut Performance<'_>,
    ) -> Result<(), Stopped> {
        let value = |placeholder| self.value(placeholder, ground);
        if hook.names(Placeholder::Master) || hook.names(Placeholder::MasterHost) {
            let is_known = ground.transaction.fleet.master().is_some_and(|master| *master != self.node);
            if !is_known {
                return Err(Stopped::NotYet("no other node is agreed to be the master".to_owned()));
            }
        }
        let program = hook.program().filled(value);
        let arguments: Vec<String> = hook.arguments().map(|word| word.filled(value)).collect();
        let left = left(performance.action).unwrap_or_default();
        let time_max = ground.upgrade.hooks.time_max.min(left.saturating_sub(REPORT_TIME).max(left / 2));
        let ran = hooks::run(&program, &arguments, time_max).await;
        let last = ran.output.last().map(|line| format!(": {line}")).unwrap_or_default();
        performance.output.extend(ran.output);
        ran.ended.map_err(|why| Stopped::Failed(format!("{why}{last}")))
    }

    fn value(&self, placeholder: Placeholder, ground: &Ground) -> String {
        let transaction = &ground.transaction;
        let store = self.config().node.store.clone();
        let store = |of: fn(&StoreAddress) -> String| store.as_ref().map_or_else(String::new, of);
        let dial = transaction.fleet.master().and_then(|master| self.dial(master));
        let master = |of: fn(&StoreAddress) -> String| dial.as_ref().map_or_else(String::new, of);
        match placeholder {
            Placeholder::Node => self.node.to_string(),
            Placeholder::Release => release(transaction, goes_to(ground, self)).to_string(),
            Placeholder::From => transaction.from.to_string(),
            Placeholder::To => transaction.to.to_string(),
            Placeholder::Data => data(self.shared.protocol(), transaction, goes_to(ground, self)).to_owned(),
            Placeholder::Store => store(ToString::to_string),
            Placeholder::StoreHost => store(|store| store.host().to_owned()),
            Placeholder::StorePort => store(|store| store.port().to_string()),
            Placeholder::Master => master(ToString::to_string),
            Placeholder::MasterHost => master(|master| master.host().to_owned()),
            Placeholder::MasterPort => master(|master| master.port().to_string()),
        }
    }
}

/// What is to become of the data on disk, which the other generation wrote: a store that takes all that the other
/// one sends reads all that it writes.
fn data(protocol: &dyn Protocol, transaction: &Transaction, goes_to: Generation) -> &'static str {
    let reads = release(transaction, goes_to);
    let wrote = if goes_to == Generation::New { &transaction.from } else { &transaction.to };
    match protocol.verdict(wrote, reads) {
        Verdict::Same => Placeholder::KEEP,
        Verdict::Downshift | Verdict::Rewrite | Verdict::Refuse(_) => Placeholder::MOVE,
    }
}

/// There is as much time left at least as has gone by.
fn is_early(action: &Action, ground: &Ground) -> bool {
    left(action).is_some_and(|left| left >= ground.transaction.rules.step_time_max / 2)
}

pub(super) const fn release(transaction: &Transaction, generation: Generation) -> &Release {
    match generation {
        Generation::Old => &transaction.from,
        Generation::New => &transaction.to,
    }
}

/// The generation that the node is on its way to, or on.
fn goes_to(ground: &Ground, hands: &Hands) -> Generation {
    let node = ground.transaction.nodes.get(&hands.node);
    node.map_or(Generation::Old, |node| node.course.map_or(node.generation, |course| course.to))
}

#[cfg(test)]
mod tests {
    use segue_redis::Redis;

    use super::*;
    use crate::upgrade::{action::Moment, fleet::Fleet, rules::Rules};

    #[test]
    fn data_that_the_other_release_reads_stay_where_they_are() {
        for (from, to, up, back) in [
            ("redis-6.0", "redis-8.0", "keep", "move"),
            ("redis-7.0", "valkey-8.1", "keep", "move"),
            ("redis-8.0", "valkey-9.1", "move", "move"),
            ("valkey-9.1", "redis-8.0", "move", "move"),
            ("redis-8.0", "redis-99.0", "move", "move"),
        ] {
            let releases = (from.parse().unwrap(), to.parse().unwrap());
            let begun =
                Transaction::begin(1, releases, Rules::default(), Fleet::of_nodes(2), Moment(0)).unwrap().0;
            let told = [Generation::New, Generation::Old].map(|to| data(&Redis, &begun, to));
            assert_eq!(told, [up, back], "{from} to {to}");
        }
    }
}
