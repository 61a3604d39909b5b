//! Sidecars are replaced by their successors while they agree on an upgrade, and lead it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use segue_bench::{child::wait_for, client, client::Info, sidecar::Successor};
use serde_json::Value;

use super::lab::{Lab, NODES, Plan};
use crate::switch::writers::Writers;

const END_TIME_MAX: Duration = Duration::from_secs(120);

/// Those that run, where they are not the lab's own any more.
type Successors = [Option<Successor>; 3];

/// SIGUSR2, until the process before has ended.
fn take_over(lab: &Lab, successors: &mut Successors, number: usize) -> Result<()> {
    let sidecar = &lab.sidecars[number];
    let ends = || sidecar.log_text().matches("sidecar ends").count();
    let before = ends();
    let running = successors[number].as_ref().map_or(sidecar.pid().cast_signed(), |running| running.pid);
    kill_process(Pid::from_raw(running).context("no pid")?, Signal::USR2)?;
    wait_for(END_TIME_MAX, || Ok((ends() > before).then_some(())))?
        .with_context(|| format!("{} is not taken over:\n{}", NODES[number], sidecar.log_text()))?;
    successors[number] = Some(Successor::newest_of(sidecar)?);
    Ok(())
}

/// Until each of them, asked itself, knows who leads and that all are there.
fn await_mesh(lab: &Lab) -> Result<()> {
    let mut last = Value::Null;
    let is_whole = |mesh: &Value| {
        let members = mesh["members"].as_array().map(Vec::as_slice).unwrap_or_default();
        mesh["leader"].is_string() && members.iter().all(|member| member["reachable"] == true)
    };
    wait_for(END_TIME_MAX, || {
        for number in 0..NODES.len() {
            let Ok(status) = lab.status(number) else { return Ok(None) };
            last = status["mesh"].clone();
            if !is_whole(&last) {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })?
    .with_context(|| format!("the mesh is not whole: {last:#}"))
}

fn syncs(lab: &Lab) -> Result<(u64, u64)> {
    let (mut full, mut partial) = (0, 0);
    for port in lab.ports() {
        let info = Info::ask(&mut client::connect(port)?, "stats")?;
        full += info.number("sync_full")?;
        partial += info.number("sync_partial_ok")?;
    }
    Ok((full, partial))
}

#[test]
fn the_leader_and_all_others_are_taken_over_while_a_transaction_runs() -> Result<()> {
    let lab = Lab::start(&Plan::new("redis-6.0", "redis-8.0"))?;
    let mut successors = Successors::default();
    let writers = Writers::start(lab.ports());
    lab.hold(1, "install")?;
    lab.begin(0, "redis-8.0")?;
    lab.await_held("n2", "install")?;
    wait_for(END_TIME_MAX, || Ok((lab.held(1) == 1).then_some(())))?.context("the hook does not run")?;
    // In the middle of the hook: it is ended, and run again.
    take_over(&lab, &mut successors, 1)?;
    wait_for(END_TIME_MAX, || Ok((lab.held(1) == 2).then_some(())))?.context("the hook is not run again")?;
    let leader = wait_for(END_TIME_MAX, || {
        let leader = lab.status(1).unwrap_or_default()["mesh"]["leader"].clone();
        Ok(NODES.iter().position(|node| leader == *node))
    })?;
    let leader = leader.context("nobody leads")?;
    take_over(&lab, &mut successors, leader)?;
    lab.let_go(1, "install")?;
    lab.await_phase("upgraded")?;

    await_mesh(&lab)?;
    let (full, partial) = syncs(&lab)?;
    for number in 0..NODES.len() {
        take_over(&lab, &mut successors, number)?;
        await_mesh(&lab)?;
    }
    lab.await_in_sync()?;
    let after = syncs(&lab)?;
    ensure!(after.0 == full && after.1 >= partial + 2, "({full}, {partial}) became {after:?}");
    for sidecar in &lab.sidecars {
        let log = sidecar.log_text();
        ensure!(!log.contains("takes no part in the mesh") && !log.contains("ended badly"), "{log}");
    }
    lab.told(1, &["finalize"])?;
    lab.await_phase("done")?;
    let master = lab.await_in_sync()?;
    let written = writers.assert_nothing_lost(lab.ports()[master])?;
    println!("{written} acknowledged writes, none lost");
    Ok(())
}
