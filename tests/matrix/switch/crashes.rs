//! A driver that ends at any of its requests, whatever becomes of that: the next call finishes what it began.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use segue::stores::driver::{Driver, DriverError};

use segue_bench::{child::wait_for, server::Server};

use super::{
    RETRY_PERIOD, Site, TRIES_MAX, Wanted, await_written, drivers,
    proxy::{self, Fate, Gate},
    writers::{Second, Writers},
};
use crate::cluster::SYNC_TIME_MAX;

/// Later than the next call has begun.
const LATE: Duration = Duration::from_millis(60);
/// A switch makes fewer requests, unless it waits for long.
const REQUESTS_MAX: usize = 40;
/// On disk when it is acknowledged: else a slow disk keeps what a killed store had not written yet.
const KEPT: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

impl Site {
    /// Drivers reach the stores through it.
    fn gated(mut self) -> Result<(Self, Arc<Gate>)> {
        let gate = Arc::new(Gate::default());
        let [first, second] = self.ports();
        self.seen_at = self.runtime.block_on(async {
            anyhow::Ok([proxy::start(first, gate.clone()).await?, proxy::start(second, gate.clone()).await?])
        })?;
        self.drivers = drivers(self.seen_at)?;
        Ok((self, gate))
    }

    /// Was the driver cut off at this request?
    fn is_cut(&self, gate: &Gate, request: usize, fate: Fate, to: usize) -> bool {
        gate.set(request, fate);
        let switch = self.to(to);
        let was_cut = self.runtime.block_on(async {
            tokio::select! {
                _ = self.drivers[1 - to].switch(&switch, &Wanted(true)) => false,
                () = gate.cut.notified() => true,
            }
        });
        gate.set(0, fate);
        was_cut
    }

    /// As a sidecar does that knows that the first of these was started again since it began to give its role away:
    /// had it done so?
    fn leaves_role(&self, from: usize, to: usize) -> Result<bool> {
        for _ in 0..TRIES_MAX {
            let left = self.runtime.block_on(async {
                let switch = self.to(to);
                let has_role = self.drivers[from].see_at(&switch.to).await?.master;
                if has_role {
                    self.drivers[from].follow(&switch.dial).await?;
                }
                Ok::<_, DriverError>(has_role)
            });
            match left {
                Ok(left) => return Ok(left),
                Err(DriverError::NotYet(_)) => std::thread::sleep(RETRY_PERIOD),
                Err(error) => return Err(error.into()),
            }
        }
        anyhow::bail!("the new master can't be asked\n{}", self.logs())
    }
}

fn crashes_at_every_request(stores: [&str; 2], fates: &[Fate]) -> Result<()> {
    let (site, gate) = Site::start(stores, false)?.gated()?;
    let mut writers = Writers::start(site.ports());
    let (mut master, mut cuts) = (0, 0);
    for fate in fates {
        for request in 1..REQUESTS_MAX {
            let to = 1 - master;
            await_written(&writers, master)?;
            let was_cut = site.is_cut(&gate, request, *fate, to);
            let context = || format!("{stores:?}: cut off at request {request}, {fate:?}");
            site.switch_to(to).with_context(context)?;
            await_written(&writers, to)?;
            writers.assert_never_two_masters(master, to).with_context(context)?;
            site.await_follows(master).with_context(context)?;
            master = to;
            if !was_cut {
                break;
            }
            cuts += 1;
        }
    }
    let written = writers.assert_nothing_lost(site.stores[master].port())?;
    println!("{stores:?}: {cuts} crashes, {written} writes were acknowledged, and all are there");
    Ok(())
}

/// One that has just synced writes its file anew, and till then has none of what it got.
fn await_on_disk(store: &Server) -> Result<()> {
    let written = wait_for(SYNC_TIME_MAX, || Ok((!store.rewrites_aof()?).then_some(())))?;
    written.context("it is never all on disk")
}

/// The old master's store dies with the driver, and its service manager starts it again: as a master.
fn comes_back_at(stores: [&str; 2], announced: bool, requests: impl Iterator<Item = usize>) -> Result<()> {
    let (mut site, gate) = Site::start_with(stores, announced, KEPT)?.gated()?;
    let mut writers = Writers::start(site.ports());
    let (mut master, mut cuts, mut seconds) = (0, 0, Vec::new());
    for request in requests {
        let to = 1 - master;
        await_written(&writers, master)?;
        await_on_disk(&site.stores[master])?;
        let context = || format!("{stores:?}: cut off at request {request}, and the old master came back");
        let was_cut = site.is_cut(&gate, request, Fate::Delivered, to);
        if was_cut {
            cuts += 1;
            site.stores[master].kill9()?;
            let from = Instant::now();
            site.stores[master].restart()?;
            if site.leaves_role(master, to).with_context(context)? {
                seconds.push(Second { store: master, from, to: Instant::now() });
            }
        }
        site.switch_to(to).with_context(context)?;
        writers.look();
        await_written(&writers, to)?;
        site.await_follows(master).with_context(context)?;
        master = to;
        if !was_cut {
            break;
        }
    }
    let (written, lost) = writers.assert_lost_by(&seconds, site.stores[master].port())?;
    println!(
        "{stores:?}: {cuts} crashes, {written} writes were acknowledged; {lost} of them are lost, that {} second \
         masters took",
        seconds.len()
    );
    Ok(())
}

#[test]
fn a_master_of_8_0_that_comes_back_leaves_its_role_to_whom_it_gave_it() -> Result<()> {
    comes_back_at(["redis-8.0.6", "redis-8.0.6"], false, 1..REQUESTS_MAX)
}

#[test]
fn a_master_of_6_0_that_comes_back_leaves_its_role_to_whom_it_gave_it() -> Result<()> {
    comes_back_at(["redis-6.0.16", "redis-6.0.16"], false, 1..REQUESTS_MAX)
}

/// Most requests only look how far it is.
#[test]
fn a_master_that_comes_back_from_a_failover_leaves_its_role_to_whom_it_gave_it() -> Result<()> {
    comes_back_at(["redis-8.0.6", "redis-8.0.6"], true, (1..REQUESTS_MAX).step_by(3))
}

#[test]
fn a_switch_of_8_0_that_is_cut_off_is_finished() -> Result<()> {
    crashes_at_every_request(["redis-8.0.6", "redis-8.0.6"], &[Fate::Lost, Fate::Delivered, Fate::Late(LATE)])
}

/// Each takes half a second.
#[test]
fn a_switch_of_6_0_that_is_cut_off_is_finished() -> Result<()> {
    crashes_at_every_request(["redis-6.0.16", "redis-6.0.16"], &[Fate::Delivered, Fate::Late(LATE)])
}
