//! The store of the master is killed and comes back, in the middle of an upgrade and without any Segue: what that
//! costs is to be the same.
//!
//! With an append-only file that is written before each answer nothing is lost. With snapshots only, all is lost
//! that was written since the last one, and the replicas that have it follow the master in this: so it shows
//! whether Segue makes more of it.

use std::{fmt, sync::Arc, thread::sleep, time::Duration};

use anyhow::{Context, Result, ensure};
use segue_bench::{child::wait_for, netns::Host, writers::Writers};

use super::{
    lab::{Lab, Plan},
    masters::Watch,
    site::{Site, level, master, write},
};
use crate::lab::{STORE_PORT, network};

const NODES: u8 = 3;
/// Before the last snapshot, between that and the crash, and after it.
const WRITES: u64 = 150;
const DOWN_TIME: Duration = Duration::from_secs(1);
const RECOVERY_TIME_MAX: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    EachWrite,
    Snapshots,
}

/// What a crash cost.
struct Cost {
    acknowledged: usize,
    /// Acknowledged, and in no file when the store was killed.
    at_risk: u64,
    lost: usize,
    pause: Duration,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, at_risk, lost, pause } = self;
        let pause = pause.as_millis();
        write!(
            f,
            "{lost} lost of {acknowledged} acknowledged writes ({at_risk} in no file), pause {pause} ms"
        )
    }
}

fn plan(kept: Kept) -> Plan {
    Plan {
        options: match kept {
            Kept::EachWrite => "--appendonly yes --appendfsync always",
            Kept::Snapshots => "--appendonly no",
        },
        ..Plan::new("redis-6.0", "redis-8.0")
    }
}

fn without_segue(kept: Kept) -> Result<Option<Cost>> {
    let Some(network) = network(NODES + 1)? else { return Ok(None) };
    let (clients, hosts) = network.hosts.split_last().context("no hosts")?;
    let plan = plan(kept);
    let sites = hosts.iter().map(|host| Site::furnish(&plan, host).map(Arc::new));
    let sites = sites.collect::<Result<Vec<_>>>()?;
    let master = sites.first().context("no stores")?.address();
    for (at, site) in sites.iter().enumerate() {
        site.run("install", plan.from, None)?;
        site.run("start", plan.from, (at > 0).then_some(master))?;
    }
    level(sites.iter())?;
    let cost = crash(kept, &sites, clients, || Ok(()), || Ok(()))?;
    println!("without Segue: {cost}");
    Ok(Some(cost))
}

fn in_an_upgrade(kept: Kept) -> Result<Option<Cost>> {
    let Some(lab) = Lab::start(plan(kept))? else { return Ok(None) };
    let sites: Vec<_> = lab.sites().cloned().collect();
    let upgraded = lab.node(1)?;
    upgraded.site()?.hold_start()?;
    let until_one_is_down = || {
        lab.told(&["start", "--to", lab.plan.to])?;
        let begun = lab.await_status("a store is started", |status| {
            let pending = &status["transaction"]["pending"][0];
            pending["node"] == *upgraded.id && pending["step"] == "start"
        });
        begun.map(drop)
    };
    let until_all_are_upgraded = || {
        upgraded.site()?.let_start()?;
        lab.await_phase("upgraded")?;
        lab.all_run("8.0.")
    };
    let cost = crash(kept, &sites, &lab.clients, until_one_is_down, until_all_are_upgraded)?;
    println!("in an upgrade: {cost}");
    Ok(Some(cost))
}

fn crash(
    kept: Kept,
    sites: &[Arc<Site>],
    clients: &Host,
    before: impl FnOnce() -> Result<()>,
    after: impl FnOnce() -> Result<()>,
) -> Result<Cost> {
    let (writers, watch) = (write(sites.iter(), clients)?, Watch::start(sites.iter()));
    await_more(&writers)?;
    let crashed = master(sites.iter())?;
    before()?;
    let kept_before = writers.acknowledged();
    if kept == Kept::Snapshots {
        // It may be writing another one, for a replica.
        let saved =
            wait_for(RECOVERY_TIME_MAX, || Ok(redis::cmd("SAVE").exec(&mut crashed.connect()?).ok()))?;
        saved.context("the master does not save")?;
    }
    await_more(&writers)?;
    crashed.kill();
    let killed_at = writers.elapsed();
    sleep(DOWN_TIME);
    // As whatever looks after services does, which knows of no roles.
    crashed.run("start", "", None)?;
    await_more(&writers)?;
    let pause = writers.longest_pause();
    after()?;
    let history = writers.stop()?;
    watch.assert_never_two()?;
    let master = level(sites.iter())?;
    let lost = master.host.enter(|| history.lost(STORE_PORT))?.len();
    let begun_before = history.writes.iter().filter(|write| write.at < killed_at).count();
    let at_risk = match kept {
        Kept::EachWrite => 0,
        Kept::Snapshots => u64::try_from(begun_before)?.saturating_sub(kept_before),
    };
    Ok(Cost { acknowledged: history.writes.len(), at_risk, lost, pause })
}

fn await_more(writers: &Writers) -> Result<()> {
    let until = writers.acknowledged() + WRITES;
    let written = wait_for(RECOVERY_TIME_MAX, || Ok((writers.acknowledged() >= until).then_some(())))?;
    written.context("nobody can write")
}

fn compare(kept: Kept) -> Result<()> {
    let (Some(without), Some(with)) = (without_segue(kept)?, in_an_upgrade(kept)?) else { return Ok(()) };
    for cost in [&without, &with] {
        ensure!(u64::try_from(cost.lost)? <= cost.at_risk, "{cost}");
    }
    ensure!(kept == Kept::EachWrite || without.lost > 0, "nothing was at risk: {without}");
    Ok(())
}

#[test]
fn a_master_with_a_file_of_each_write_loses_nothing_in_a_crash() -> Result<()> {
    compare(Kept::EachWrite)
}

#[test]
fn a_master_with_snapshots_loses_no_more_in_a_crash_than_without_segue() -> Result<()> {
    compare(Kept::Snapshots)
}
