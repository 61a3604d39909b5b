//! One sidecar after another, under load: no connection is refused, no replica needs a full sync.

use std::{
    fs::File,
    net::SocketAddr,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use segue_bench::{
    child::{ChildProcess, wait_for},
    clients::Clients,
    data,
    sidecar::{Sidecar, Successor},
};

use crate::{
    cluster::{Cluster, Plan, SYNC_TIME_MAX, follow, link_is_up},
    resync::{await_syncs, under_load},
    valve::Valve,
};

/// A process ends when its links have, and their state is on disk.
const END_TIME_MAX: Duration = Duration::from_secs(120);

#[test]
fn a_takeover_costs_no_full_sync_and_no_connection() -> Result<()> {
    let mut clients = None;
    let mut running: Option<ChildProcess> = None;
    let cluster = under_load("redis-6.0", 11, |cluster| {
        clients.get_or_insert_with(|| Clients::start(SocketAddr::from(([127, 0, 0, 1], cluster.link_port))));
        let (_, before) = cluster.syncs()?;
        let successor = take_over(&cluster.sidecar)?;
        match running.replace(successor) {
            Some(mut earlier) => await_end(cluster, || Ok(earlier.exited()?.is_some()))?,
            None => {
                let sidecar = &mut cluster.sidecar;
                let ended = wait_for(END_TIME_MAX, || Ok((!sidecar.is_running()?).then_some(())))?;
                ended.context("the first sidecar does not end")?;
            }
        }
        await_syncs(cluster, |(_, partial)| partial > before)
    })?;
    ensure!(cluster.syncs()? == (1, 4), "{:?}\n{}", cluster.syncs()?, cluster.sidecar.log_text());
    clients.context("no clients")?.assert_none_refused()?;
    let ended = running.context("no successor")?.terminate()?;
    ensure!(ended.success(), "{ended}");
    Ok(())
}

#[test]
fn sigusr2_starts_a_successor_at_the_cost_of_nothing() -> Result<()> {
    let mut clients = None;
    let mut running: Option<Successor> = None;
    let cluster = under_load("redis-7.0", 12, |cluster| {
        clients.get_or_insert_with(|| Clients::start(SocketAddr::from(([127, 0, 0, 1], cluster.link_port))));
        let (_, before) = cluster.syncs()?;
        let signalled =
            running.as_ref().map_or(cluster.sidecar.pid().cast_signed(), |successor| successor.pid);
        let ends_before = ends(&cluster.sidecar);
        kill_process(Pid::from_raw(signalled).context("no pid")?, Signal::USR2)?;
        await_end(cluster, || Ok(ends(&cluster.sidecar) > ends_before))?;
        running = Some(Successor::newest_of(&cluster.sidecar)?);
        await_syncs(cluster, |(_, partial)| partial > before)
    })?;
    // Where counts part late, the link is dialled once more, for an id of its own.
    let resumed = matches!(cluster.syncs()?, (1, 4 | 5));
    ensure!(resumed, "{:?}\n{}", cluster.syncs()?, cluster.sidecar.log_text());
    clients.context("no clients")?.assert_none_refused()
}

/// The snapshot takes its time, and the sidecar that moves it is told to end meanwhile.
#[test]
fn a_snapshot_under_way_arrives_before_its_sidecar_ends() -> Result<()> {
    let mut plan = Plan::new("redis-8.0", "redis-6.0");
    plan.master_arguments = &["--repl-diskless-sync", "yes"];
    plan.limits = "drain_ms = 120000";
    let mut cluster = plan.start()?;
    data::fill_core(&mut cluster.master.client()?, 2)?;
    Valve::fill(&mut cluster.master.client()?)?;
    let valve = Valve::start(cluster.link_port)?;
    follow(&cluster.replica, valve.port)?;
    valve.await_held()?;
    ensure!(!link_is_up(&cluster.replica)?, "it is too late");

    let mut successor = take_over(&cluster.sidecar)?;
    let drains = || Ok(cluster.sidecar.log_text().contains("draining").then_some(()));
    wait_for(SYNC_TIME_MAX, drains)?.context("it does not drain")?;
    ensure!(cluster.sidecar.is_running()?, "it did not wait for the snapshot");
    valve.open();
    let sidecar = &mut cluster.sidecar;
    wait_for(END_TIME_MAX, || Ok((!sidecar.is_running()?).then_some(())))?.context("it does not end")?;
    cluster.await_link_up()?;
    await_syncs(&cluster, |(_, partial)| partial == 1)?;
    redis::cmd("SET").arg("k").arg("v").arg("EX").arg(1000).exec(&mut cluster.master.client()?)?;
    cluster.assert_equal()?;
    ensure!(cluster.syncs()? == (1, 1), "{:?}\n{}", cluster.syncs()?, cluster.sidecar.log_text());
    successor.terminate()?;
    Ok(())
}

#[test]
fn a_snapshot_that_takes_too_long_is_cut() -> Result<()> {
    let mut plan = Plan::new("redis-8.0", "redis-6.0");
    plan.master_arguments = &["--rdb-key-save-delay", "20000", "--repl-diskless-sync", "yes"];
    plan.limits = "drain_ms = 300";
    let mut cluster = plan.start()?;
    data::fill_core(&mut cluster.master.client()?, 6)?;
    cluster.replicate()?;
    let decided = || Ok(cluster.sidecar.log_text().contains("link decided").then_some(()));
    wait_for(SYNC_TIME_MAX, decided)?.context("the replica does not dial")?;
    let start = Instant::now();
    cluster.sidecar.stop()?;
    let took = start.elapsed();
    ensure!(took > Duration::from_millis(300), "it took {took:?}");
    ensure!(ends(&cluster.sidecar) == 1, "{}", cluster.sidecar.log_text());
    ensure!(!link_is_up(&cluster.replica)?, "the snapshot was waited for");
    Ok(())
}

#[test]
fn a_second_signal_ends_a_drain_at_once() -> Result<()> {
    let mut plan = Plan::new("redis-8.0", "redis-6.0");
    plan.master_arguments = &["--rdb-key-save-delay", "20000", "--repl-diskless-sync", "yes"];
    plan.limits = "drain_ms = 120000";
    let mut cluster = plan.start()?;
    data::fill_core(&mut cluster.master.client()?, 6)?;
    cluster.replicate()?;
    let logged = |text: &str| {
        wait_for(SYNC_TIME_MAX, || Ok(cluster.sidecar.log_text().contains(text).then_some(())))?
            .with_context(|| format!("no {text} in the log"))
    };
    let terminate = || -> Result<()> {
        let pid = Pid::from_raw(cluster.sidecar.pid().cast_signed()).context("no pid")?;
        Ok(kill_process(pid, Signal::TERM)?)
    };
    logged("link decided")?;
    terminate()?;
    logged("draining")?;
    thread::sleep(Duration::from_millis(300));
    ensure!(ends(&cluster.sidecar) == 0, "the snapshot under way was cut");
    terminate()?;
    logged("sidecar ends")?;
    let sidecar = &mut cluster.sidecar;
    wait_for(END_TIME_MAX, || Ok((!sidecar.is_running()?).then_some(())))?.context("it does not end")
}

/// Starts `segue run --takeover` on the same config, with the same log.
fn take_over(sidecar: &Sidecar) -> Result<ChildProcess> {
    let log = File::options().append(true).open(sidecar.folder().join("log"))?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_segue"));
    command.args(["run", "--takeover", "--config"]).arg(sidecar.folder().join("segue.toml"));
    command.current_dir(sidecar.folder()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    ChildProcess::spawn(&mut command)
}

fn await_end(cluster: &Cluster, mut ended: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_for(END_TIME_MAX, || Ok(ended()?.then_some(())))?
        .with_context(|| format!("the sidecar before does not end:\n{}", cluster.sidecar.log_text()))
}

/// How many sidecars have ended in order.
fn ends(sidecar: &Sidecar) -> usize {
    sidecar.log_text().matches("sidecar ends").count()
}
