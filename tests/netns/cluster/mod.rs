//! Clusters of mixed releases: their bus, slots that move, masters that die.

mod client;
mod keys;
mod lab;

use anyhow::{Context, Result, ensure};
use redis::Connection;
use segue_bench::child::wait_for;

use crate::lab::STORE_PORT;
use client::Load;
use keys::Keys;
use lab::{Cluster, Node, PATIENT_MS, Plan, SETTLE_TIME_MAX};

const SLOTS_MOVED: u32 = 1000;
/// What takes longer to answer is gone.
const IMPATIENT_MS: u32 = 4000;

/// Half of the six nodes are newer, have a sidecar, and are joined to an older one as master or replica.
fn serves_through_all(older: &str, newer: &str, mode: &str) -> Result<()> {
    let plan = Plan {
        masters: &[older, newer, older],
        replicas: &[newer, older, newer],
        sidecars_on: newer,
        mode,
        bus: true,
        announce: false,
        node_timeout_ms: PATIENT_MS,
    };
    let Some(mut cluster) = Cluster::start(&plan)? else { return Ok(()) };
    cluster.assert_addresses()?;
    let mut client = cluster.client();
    let keys = Keys::write(&mut client)?;
    let load = Load::start(cluster.client());

    let [old, new] = [&cluster.nodes[0], &cluster.nodes[1]];
    let there = reshard(old, new, 0..SLOTS_MOVED).with_context(|| cluster.logs())?;
    keys.assert_there(&mut client)?;
    let back = reshard(new, old, 0..SLOTS_MOVED).with_context(|| cluster.logs())?;
    keys.assert_there(&mut client)?;
    ensure!(there > 100 && back > 100, "only {there} keys were moved there, and {back} back");
    let sidecar = new.sidecar.as_ref().context("the newer node has no sidecar")?;
    let rewritten = new.host.enter(|| sidecar.metric("segue_messages_translated_total{rule=\"migrate\"}"))?;
    ensure!(rewritten > Some(50.0), "{rewritten:?} payloads were rewritten");
    cluster.await_ok()?;

    // The newer master dies; its older replica takes over, and it comes back as a replica of that one.
    cluster.set_node_timeout(IMPATIENT_MS)?;
    cluster.nodes[1].server.kill9()?;
    let heir = &cluster.nodes[4];
    wait_for(SETTLE_TIME_MAX, || Ok((heir.role()? == "master").then_some(())))?
        .with_context(|| format!("no replica takes over\n{}", heir.server.log_text()))?;
    cluster.nodes[1].restart()?;
    let back = &cluster.nodes[1];
    wait_for(SETTLE_TIME_MAX, || Ok((back.role()? == "slave").then_some(())))?
        .with_context(|| format!("the old master does not follow the new one\n{}", cluster.logs()))?;
    cluster.await_ok()?;

    let written = load.stop().with_context(|| cluster.logs())?;
    ensure!(written.confirmed.len() > 100, "hardly any load: {} writes", written.count);
    keys.assert_there(&mut client)?;
    written.assert_there(&mut client)?;
    cluster.assert_addresses()
}

#[test]
fn of_6_0_and_8_0() -> Result<()> {
    serves_through_all("redis-6.0", "redis-8.0", "redirect")
}

#[test]
fn of_7_0_and_valkey() -> Result<()> {
    serves_through_all("redis-7.0", "valkey-9.1", "tproxy")
}

/// Redis 8 tells its peers a secret, which Valkey takes for an address; Valkey tells them an address, and Redis 8
/// refuses all that comes with it.
#[test]
fn of_8_0_and_valkey() -> Result<()> {
    let plan = |bus| Plan {
        masters: &["redis-8.0", "valkey-9.1", "redis-8.0"],
        replicas: &[],
        sidecars_on: "valkey-9.1",
        mode: "redirect",
        bus,
        announce: bus,
        node_timeout_ms: IMPATIENT_MS,
    };
    let Some(alone) = Cluster::start(&plan(false))? else { return Ok(()) };
    let names_a_secret = || {
        let told = alone.addresses().err().map(|error| error.to_string());
        Ok(told.filter(|told| told.starts_with(&format!("{} names ", alone.nodes[1].address()))))
    };
    wait_for(SETTLE_TIME_MAX, names_a_secret)?.context("it works without Segue")?;
    drop(alone);

    let Some(cluster) = Cluster::start(&plan(true))? else { return Ok(()) };
    let valkey = &cluster.nodes[1];
    let sidecar = valkey.sidecar.as_ref().context("Valkey has no sidecar")?;
    let left_out = || -> Result<Option<()>> {
        let count = valkey
            .host
            .enter(|| sidecar.metric("segue_messages_translated_total{rule=\"bus-extension\"}"))?;
        Ok((count > Some(50.0)).then_some(()))
    };
    // For longer than a node that is not understood would be believed.
    wait_for(SETTLE_TIME_MAX, left_out)?.with_context(|| cluster.logs())?;
    cluster.await_ok()?;
    cluster.assert_addresses()?;
    let secret = |node: &Node| -> Result<redis::Value> {
        Ok(redis::cmd("DEBUG").arg("INTERNAL_SECRET").query(&mut node.client()?)?)
    };
    let is_shared = || Ok((secret(&cluster.nodes[0])? == secret(&cluster.nodes[2])?).then_some(()));
    wait_for(SETTLE_TIME_MAX, is_shared)?.context("Redis' own secret is not shared")?;
    Keys::write(&mut cluster.client())?.assert_there(&mut cluster.client())?;
    let links = || crate::lab::links(&valkey.host, sidecar);
    // One in each direction with each.
    let on_the_bus = || {
        let links = links()?;
        let bus: Vec<_> = links.iter().filter(|link| link["bus"] == true).collect();
        Ok((bus.len() == 4 && bus.iter().all(|link| link["verdict"] == "rewrite")).then_some(()))
    };
    wait_for(SETTLE_TIME_MAX, on_the_bus)?.with_context(|| format!("{:#?}", links()))
}

/// Moves slots as `redis-cli --cluster reshard` does; the number of keys in them.
fn reshard(from: &Node, to: &Node, slots: std::ops::Range<u32>) -> Result<usize> {
    let (mut source, mut target) = (from.client()?, to.client()?);
    let set_slot = |at: &mut Connection, slot: u32, words: [&str; 2]| {
        redis::cmd("CLUSTER").arg("SETSLOT").arg(slot).arg(&words).exec(at)
    };
    let mut moved = 0;
    for slot in slots {
        set_slot(&mut target, slot, ["IMPORTING", &from.id])?;
        set_slot(&mut source, slot, ["MIGRATING", &to.id])?;
        loop {
            let keys: Vec<String> =
                redis::cmd("CLUSTER").arg("GETKEYSINSLOT").arg(slot).arg(100).query(&mut source)?;
            if keys.is_empty() {
                break;
            }
            moved += keys.len();
            let mut migrate = redis::cmd("MIGRATE");
            migrate.arg(to.host.ipv4()).arg(STORE_PORT).arg("").arg(0).arg(20_000).arg("KEYS").arg(&keys);
            migrate.exec(&mut source).with_context(|| format!("MIGRATE of {keys:?}"))?;
        }
        set_slot(&mut target, slot, ["NODE", &to.id])?;
        set_slot(&mut source, slot, ["NODE", &to.id])?;
    }
    Ok(moved)
}
