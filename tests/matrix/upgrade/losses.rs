//! What the old release can't hold is written to the upgraded master before the upgrade is over.

use std::fs;

use anyhow::{Context, Result, ensure};
use segue_bench::{
    client,
    data::{self, LIBRARY, Newer},
};
use serde_json::Value;

use super::lab::{Lab, NODES, Plan};

/// What a sidecar counted that a user would miss.
fn counted(lab: &Lab, number: usize) -> Result<u64> {
    let losses = lab.sidecars[number].losses()?;
    let counts = losses["counts"].as_array().into_iter().flatten();
    Ok(counts.filter(|count| count["grade"] == "data").filter_map(|count| count["count"].as_u64()).sum())
}

fn total(status: &Value) -> u64 {
    status["transaction"]["losses"].as_u64().unwrap_or_default()
}

#[test]
fn losses_shut_the_gate_and_are_the_price_of_going_back() -> Result<()> {
    let plan = Plan { tables: "[translation]\nloss = \"degrade\"\n", ..Plan::new("redis-6.0", "redis-8.0") };
    let mut lab = Lab::start(&plan)?;
    lab.hold(0, "install")?;
    lab.begin(0, "redis-8.0")?;
    lab.await_held("n1", "install")?;
    let master = lab.master_of(&[1, 2])?;
    // Not what a snapshot leaves out: that counts otherwise.
    lab.await_follows(3 - master, master)?;
    let mut client = client::connect(lab.ports()[master])?;
    data::fill_newer(&mut client, Newer::VectorSets)?;
    data::fill_newer(&mut client, Newer::Functions)?;
    redis::cmd("SET").arg("newest").arg("kept").exec(&mut client)?;

    // Twenty vectors and an attribute, and a library, for the one secondary that is up.
    let status = lab.await_status("losses", |status| total(status) >= 22)?;
    let mut by_node = Vec::new();
    for number in 0..NODES.len() {
        by_node.push(counted(&lab, number)?);
    }
    ensure!((by_node.iter().sum(), total(&status)) == (22, 22), "{by_node:?}: {status:#}");
    let number = (0..NODES.len()).max_by_key(|number| by_node[*number]).context("no nodes")?;
    let named = lab.losses(number)?;
    ensure!(named.contains(LIBRARY) && named.contains("newer:vectors"), "{named}");

    // Whoever counted them is killed: what it does not remember, the others do.
    lab.sidecars[number].kill9()?;
    lab.sidecars[number].restart()?;
    let before = total(&status);
    lab.await_status("all answer again", |status| {
        let mut nodes = status["nodes"].as_array().into_iter().flatten();
        nodes.all(|node| node["reachable"] == true || node["id"] == "n1")
    })?;
    let kept = fs::read_to_string(lab.sidecars[number].folder().join("segue-state/upgrade-losses.json"))?;
    let kept: Value = serde_json::from_str(&kept)?;
    ensure!(kept["transaction"] == 1 && kept["count"] == by_node[number], "{kept} and not {by_node:?}");
    client::connect(lab.ports()[master])
        .and_then(|mut client| data::fill_newer(&mut client, Newer::VectorSets))?;
    lab.await_status("more losses", |status| total(status) > before)?;

    lab.let_go(0, "install")?;
    let shut = lab.await_status("a shut gate", |status| {
        let mut pending = status["transaction"]["pending"].as_array().into_iter().flatten();
        let waits = |action: &Value| {
            action["waits_for"].as_str().is_some_and(|why| why.contains("losses were let through"))
        };
        pending.any(|action| action["step"] == "gate-after" && waits(action))
    })?;
    let losses = total(&shut);
    let refused = lab.upgrade(1, &["rollback"])?.err().context("it goes back for nothing")?;
    ensure!(refused.contains("losses were let through since the start"), "{refused}");
    ensure!(refused.contains("add --accept-losses"), "{refused}");
    ensure!(losses > before, "{losses} and {before}");
    lab.told(1, &["rollback", "--accept-losses"])?;
    lab.await_phase("rolled-back")?;
    let master = lab.await_in_sync()?;
    for number in 0..NODES.len() {
        ensure!(lab.version(number)?.starts_with("6.0."));
    }
    let newest: Option<String> =
        redis::cmd("GET").arg("newest").query(&mut client::connect(lab.ports()[master])?)?;
    ensure!(newest.as_deref() == Some("kept"), "{newest:?}");
    Ok(())
}
