//! The sidecar is replaced by its successor while it intercepts.

use std::{net::SocketAddr, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use segue_bench::{
    child::wait_for,
    clients::Clients,
    netns::Host,
    sidecar::{Sidecar, Successor},
};

use crate::lab;

const END_TIME_MAX: Duration = Duration::from_secs(60);

/// The rules without what they have counted.
fn rules(host: &Host) -> Result<String> {
    host.output(Command::new("nft").args(["-s", "list", "ruleset"]))
}

fn sigusr2(sidecar: &mut Sidecar) -> Result<Successor> {
    kill_process(Pid::from_raw(sidecar.pid().cast_signed()).context("no pid")?, Signal::USR2)?;
    let ended = wait_for(END_TIME_MAX, || Ok((!sidecar.is_running()?).then_some(())))?;
    ended.with_context(|| format!("it does not hand over\n{}", lab::tail(&sidecar.log_text())))?;
    Successor::newest_of(sidecar)
}

fn is_taken_over(mode: &str, ipv6: bool) -> Result<()> {
    let Some(network) = lab::network(2)? else { return Ok(()) };
    let [n1, n2] = &network.hosts[..] else { unreachable!("two hosts were asked for") };
    let address = |host: &Host| if ipv6 { host.ipv6() } else { host.ipv4() };
    let (master, replica) = (lab::store(n1, "redis-8.0")?, lab::store(n2, "redis-6.0")?);
    lab::fill(n1, &master)?;
    let before = lab::traces(n1)?;
    let store = SocketAddr::new(address(n1).parse()?, lab::STORE_PORT);
    let peer = SocketAddr::new(address(n2).parse()?, lab::STORE_PORT).to_string();
    let mut sidecar = lab::sidecar(n1, &lab::config(mode, "open", &peer, ""))?;
    lab::follow(n2, &replica, &address(n1))?;
    lab::await_link_up(n2, &replica, || lab::tail(&sidecar.log_text()))?;
    let first = lab::replication_link(n1, &sidecar)?;
    let installed = rules(n1)?;
    let syncs = |kind: &str| n1.enter(|| master.info("stats")?.number(kind));
    let (full_before, partial_before) = (syncs("sync_full")?, syncs("sync_partial_ok")?);
    let clients = n2.enter(|| Ok(Clients::start(store)))?;

    let successor = sigusr2(&mut sidecar)?;
    let resumed =
        wait_for(lab::SYNC_TIME_MAX, || Ok((syncs("sync_partial_ok")? > partial_before).then_some(())))?;
    resumed.with_context(|| format!("{mode}: no partial resync\n{}", lab::tail(&sidecar.log_text())))?;
    lab::await_link_up(n2, &replica, || lab::tail(&sidecar.log_text()))?;
    clients.assert_none_refused().context(mode.to_owned())?;
    let link = lab::replication_link(n1, &sidecar)?;
    ensure!(link["verdict"] == "rewrite" && link["listen"] == first["listen"], "{mode}: {link:#}");
    lab::assert_equal((n1, &master), (n2, &replica))?;
    ensure!(syncs("sync_full")? == full_before, "{mode}: a second full sync");
    // Neither the first sidecar's guard nor the successor's own saw any of it.
    ensure!(rules(n1)? == installed, "{mode}: other rules than before:\n{}", rules(n1)?);

    drop(successor);
    let clean = wait_for(lab::SYNC_TIME_MAX, || Ok((lab::traces(n1)? == before).then_some(())))?;
    clean.with_context(|| format!("{mode}: traces are left:\n{}", lab::traces(n1).unwrap_or_default()))
}

#[test]
fn a_redirect_is_taken_over() -> Result<()> {
    is_taken_over("redirect", false)?;
    is_taken_over("redirect", true)
}

#[test]
fn a_tproxy_is_taken_over() -> Result<()> {
    is_taken_over("tproxy", false)?;
    is_taken_over("tproxy", true)
}
