//! Links that break: the replica comes back, and no data differs.

use std::{thread, time::Duration};

use anyhow::{Context, Result, ensure};
use segue_bench::{
    child::wait_for,
    data,
    load::{Load, Options},
};
use serde_json::json;

use crate::cluster::{Cluster, Plan, SYNC_TIME_MAX};

const BETWEEN: Duration = Duration::from_millis(700);

/// Cuts a link under load, over and over; then compares.
pub fn under_load(
    replica: &str,
    seed: u64,
    mut cut: impl FnMut(&mut Cluster) -> Result<()>,
) -> Result<Cluster> {
    let mut cluster = Plan::new("redis-8.0", replica).start()?;
    data::fill_core(&mut cluster.master.client()?, 1)?;
    redis::cmd("CONFIG")
        .arg("SET")
        .arg("repl-backlog-size")
        .arg("64mb")
        .exec(&mut cluster.master.client()?)?;
    cluster.replicate()?;
    cluster.await_link_up()?;
    let load =
        Load::start(cluster.master.port(), Options { seed, rate_per_s: Some(3000), ..Options::default() })?;
    for _ in 0..4 {
        thread::sleep(BETWEEN);
        cut(&mut cluster)?;
    }
    thread::sleep(BETWEEN);
    load.stop()?;
    cluster.await_link_up()?;
    cluster.assert_equal().with_context(|| format!("seed {seed}"))?;
    Ok(cluster)
}

/// It may not have heard yet of the link that its master counts already.
pub fn cut_by_replica(cluster: &Cluster) -> Result<()> {
    let kill = || -> Result<u64> {
        Ok(redis::cmd("CLIENT")
            .arg("KILL")
            .arg("TYPE")
            .arg("master")
            .query(&mut cluster.replica.client()?)?)
    };
    wait_for(SYNC_TIME_MAX, || Ok((kill()? > 0).then_some(())))?.context("the replica has no link to cut")
}

/// Cuts a link under load; the replica resumes each time, and the first full sync stays the only one.
fn resumes(replica: &str, seed: u64, mut cut: impl FnMut(&mut Cluster) -> Result<()>) -> Result<()> {
    let cluster = under_load(replica, seed, |cluster| {
        let (_, before) = cluster.syncs()?;
        cut(cluster)?;
        await_syncs(cluster, |(_, partial)| partial > before)
    })?;
    // Where counts part late, the link is dialled once more, for an id of its own.
    ensure!(matches!(cluster.syncs()?, (1, 4 | 5)), "{:?}", cluster.syncs()?);
    Ok(())
}

pub fn await_syncs(cluster: &Cluster, done: impl Fn((u64, u64)) -> bool) -> Result<()> {
    wait_for(SYNC_TIME_MAX, || Ok(done(cluster.syncs()?).then_some(())))?
        .context("the replica does not come back")
}

#[test]
fn a_link_cut_by_the_master_resumes_without_a_full_sync() -> Result<()> {
    resumes("redis-6.0", 1, |cluster| {
        redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("replica").exec(&mut cluster.master.client()?)?;
        Ok(())
    })
}

#[test]
fn a_link_cut_by_the_replica_resumes_without_a_full_sync() -> Result<()> {
    resumes("redis-5.0", 2, |cluster| cut_by_replica(cluster))
}

#[test]
fn a_link_cut_by_a_change_of_the_translation_resumes_without_a_full_sync() -> Result<()> {
    let mut losses = ["degrade", "refuse"].into_iter().cycle();
    resumes("redis-6.0", 7, |cluster| {
        let change = json!({ "loss": losses.next(), "who": "test" });
        let (code, answer) = cluster.sidecar.put_translation(&change)?;
        ensure!(code == 200, "{code} {answer}");
        Ok(())
    })
}

#[test]
fn a_sidecar_that_ends_in_order_costs_no_full_sync() -> Result<()> {
    resumes("redis-6.2.14", 3, |cluster| {
        cluster.sidecar.stop()?;
        cluster.sidecar.restart()?;
        Ok(())
    })
}

#[test]
fn a_sidecar_that_is_killed_costs_no_full_sync() -> Result<()> {
    resumes("redis-6.0", 4, |cluster| {
        cluster.sidecar.kill9()?;
        cluster.sidecar.restart()?;
        Ok(())
    })
}

/// Where the state is gone: a full sync, never a guessed offset.
#[test]
fn a_sidecar_without_its_state_costs_a_full_sync_and_no_data_differs() -> Result<()> {
    under_load("redis-6.0", 6, |cluster| {
        let (before, _) = cluster.syncs()?;
        cluster.sidecar.kill9()?;
        std::fs::remove_dir_all(cluster.sidecar.folder().join("segue-state"))?;
        cluster.sidecar.restart()?;
        await_syncs(cluster, |(full, _)| full > before)
    })?;
    Ok(())
}

#[test]
fn a_replica_that_restarts_comes_back_and_no_data_differs() -> Result<()> {
    under_load("redis-7.0", 5, |cluster| {
        let port = cluster.link_port.to_string();
        cluster.replica.kill9()?;
        cluster.replica.restart()?;
        redis::cmd("REPLICAOF").arg("127.0.0.1").arg(port).exec(&mut cluster.replica.client()?)?;
        cluster.await_link_up()
    })?;
    Ok(())
}
