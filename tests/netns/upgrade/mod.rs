//! Whole clusters on hosts of their own, upgraded by their sidecars while clients write.

mod crashes;
mod disk;
mod faults;
mod lab;
mod masters;
mod site;

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use segue_bench::child::wait_for;

use lab::{Lab, Plan, TRANSACTION_TIME_MAX, Way};
use masters::Watch;

/// Clients write while `transactions` run; then no write is lost and never were there two masters.
fn under_load(lab: &Lab, transactions: impl FnOnce() -> Result<()>) -> Result<()> {
    let (writers, watch) = (lab.write()?, Watch::start(lab.sites()));
    transactions()?;
    let history = writers.stop()?;
    watch.assert_never_two()?;
    ensure!(!history.writes.is_empty(), "nothing was written");
    lab.assert_nothing_lost(&history)?;
    println!(
        "{} acknowledged writes, none lost; longest pause {} ms",
        history.writes.len(),
        history.longest_pause.as_millis()
    );
    Ok(())
}

fn upgrade(lab: &Lab) -> Result<()> {
    lab.told(&["start", "--to", lab.plan.to])?;
    lab.await_phase("upgraded").map(drop)
}

fn finalize(lab: &Lab) -> Result<()> {
    lab.told(&["finalize"])?;
    lab.await_phase("done").map(drop)
}

#[test]
fn three_intercepted_nodes_go_to_the_new_release() -> Result<()> {
    let plan = Plan { way: Way::Redirect, ..Plan::new("redis-6.0", "redis-8.0") };
    let Some(lab) = Lab::start(plan)? else { return Ok(()) };
    under_load(&lab, || {
        upgrade(&lab)?;
        lab.all_run("8.0.")?;
        finalize(&lab)
    })
}

/// With a third to vote, two nodes agree also while one of them is cut off.
#[test]
fn two_nodes_and_a_witness() -> Result<()> {
    let plan = Plan { nodes: 2, witness: true, ..Plan::new("redis-6.0", "redis-8.0") };
    let Some(lab) = Lab::start(plan)? else { return Ok(()) };
    under_load(&lab, || {
        upgrade(&lab)?;
        // Clients would miss the master.
        let (cut, other) = (lab.node(0)?, lab.node(1)?);
        ensure!(Arc::ptr_eq(lab.master()?, other.site()?), "{} is not master", other.id);
        lab.network.cut_off(&cut.host)?;
        let led = wait_for(TRANSACTION_TIME_MAX, || {
            let leader =
                other.status().ok().and_then(|status| Some(status["mesh"]["leader"].as_str()?.to_owned()));
            Ok(leader.filter(|leader| *leader != cut.id))
        })?;
        led.with_context(|| format!("nobody leads without {}\n{}", cut.id, lab.logs()))?;
        lab.told(&["pause"])?;
        lab.network.rejoin(&cut.host)?;
        lab.told(&["resume"])?;
        finalize(&lab)?;
        lab.all_run("8.0.")
    })
}

fn up_and_back_and_up([from, to]: [&'static str; 2], [before, after]: [&str; 2]) -> Result<()> {
    let Some(lab) = Lab::start(Plan::new(from, to))? else { return Ok(()) };
    under_load(&lab, || {
        upgrade(&lab)?;
        lab.all_run(after)?;
        lab.told(&["rollback"])?;
        lab.await_phase("rolled-back")?;
        lab.all_run(before)?;
        upgrade(&lab)?;
        finalize(&lab)?;
        lab.all_run(after)
    })
}

#[test]
fn redis_7_0_becomes_valkey_8_1() -> Result<()> {
    up_and_back_and_up(["redis-7.0", "valkey-8.1"], ["7.0.", "8.1."])
}

#[test]
fn redis_8_0_becomes_valkey_9_1() -> Result<()> {
    up_and_back_and_up(["redis-8.0", "valkey-9.1"], ["8.0.", "9.1."])
}
