//! Another config under a live replica.

use std::fs;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use segue_bench::{child::wait_for, data};

use crate::{
    cluster::{Cluster, Plan, SYNC_TIME_MAX},
    resync::await_syncs,
};

#[test]
fn a_link_stays_under_new_limits_and_resumes_under_a_changed_peer() -> Result<()> {
    let cluster = Plan::new("redis-8.0", "redis-6.0").start()?;
    data::fill_core(&mut cluster.master.client()?, 1)?;
    cluster.replicate()?;
    cluster.await_link_up()?;
    cluster.await_equal_offsets()?;
    let link = cluster.link_status()?["id"].clone();

    reload(&cluster, "[limits]", "[limits]\nlinks_max = 99", 1.0)?;
    cluster.assert_equal()?;
    ensure!(cluster.syncs()? == (1, 0) && cluster.link_status()?["id"] == link, "the link was cut");

    let peer = format!("store = \"{}\"", cluster.replica.address());
    reload(
        &cluster,
        &format!("{peer}\nrelease = \"auto\""),
        &format!("{peer}\nrelease = \"redis-6.0\""),
        2.0,
    )?;
    await_syncs(&cluster, |(_, partial)| partial == 1)?;
    redis::cmd("SET").arg("k").arg("v").arg("EX").arg(1000).exec(&mut cluster.master.client()?)?;
    cluster.assert_equal()?;
    ensure!(cluster.syncs()? == (1, 1), "{:?}", cluster.syncs()?);
    ensure!(cluster.link_status()?["id"] != link, "the link of before goes on");
    Ok(())
}

/// Changes the file, says SIGHUP, and waits until so many reloads are counted.
pub fn reload(cluster: &Cluster, from: &str, to: &str, reloads: f64) -> Result<()> {
    let file = cluster.sidecar.folder().join("segue.toml");
    let text = fs::read_to_string(&file)?;
    ensure!(text.contains(from), "no {from} in {text}");
    fs::write(&file, text.replacen(from, to, 1))?;
    kill_process(Pid::from_raw(cluster.sidecar.pid().cast_signed()).context("no pid")?, Signal::HUP)?;
    let sample = "segue_config_reloads_total{outcome=\"loaded\"}";
    wait_for(SYNC_TIME_MAX, || Ok((cluster.sidecar.metric(sample)? == Some(reloads)).then_some(())))?
        .with_context(|| cluster.sidecar.log_text())
}
