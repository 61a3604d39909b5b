//! Slots that move as a whole: `CLUSTER MIGRATESLOTS` of Valkey 9, `CLUSTER MIGRATION` of Redis 8.4.

use anyhow::{Context, Result, ensure};
use segue_bench::{child::wait_for, command};

use crate::nodes::{self, Node};

/// Of slot 3300.
const TAG: &str = "{b}";
const KEYS: usize = 50;

fn masters(releases: [&str; 2]) -> Result<[Node; 2]> {
    let nodes = nodes::start(releases, None)?;
    for (epoch, (node, slots)) in nodes.iter().zip([0..=8000, 8001..=16_383]).enumerate() {
        node.add_slots(slots)?;
        node.cluster::<()>(&["SET-CONFIG-EPOCH", &(epoch + 1).to_string()])?;
    }
    nodes[0].meet(&nodes[1])?;
    for node in &nodes {
        node.await_so("the cluster is well", || {
            Ok(node.cluster::<String>(&["INFO"])?.contains("cluster_state:ok"))
        })?;
    }
    Ok(nodes)
}

/// What came of moving some of the first one's slots: whether they moved, and whether the keys are all there.
fn moved(releases: [&str; 2]) -> Result<bool> {
    let nodes = masters(releases)?;
    let [from, to] = &nodes;
    let mut client = from.server.client()?;
    for n in 0..KEYS {
        // All in one of the slots, and of a form that is newer than some.
        command!("SET", format!("{TAG}{n}"), n, "EX", 10_000).exec(&mut client)?;
    }
    command!("XADD", format!("{TAG}stream"), "1-1", "f", "v").exec(&mut client)?;
    let id: String = to.cluster(&["MYID"])?;
    let (asked, state) = if releases[0].starts_with("valkey") {
        let slots = ["MIGRATESLOTS", "SLOTSRANGE", "0", "4000", "NODE", &id];
        from.cluster::<redis::Value>(&slots)?;
        (from, "GETSLOTMIGRATIONS")
    } else {
        to.cluster::<redis::Value>(&["MIGRATION", "IMPORT", "0", "4000"])?;
        (to, "MIGRATION")
    };
    let ended = || {
        let words = if state == "MIGRATION" { &[state, "STATUS", "ALL"][..] } else { &[state] };
        let told = format!("{:?}", asked.cluster::<redis::Value>(words)?);
        let is = |word: &str| told.contains(&format!("\"{word}\""));
        Ok((is("success") || is("completed") || is("failed")).then(|| is("success") || is("completed")))
    };
    let moved = wait_for(nodes::SETTLE_TIME_MAX, ended)?
        .with_context(|| format!("it neither ends nor fails\n{}", asked.server.log_text()))?;
    let holder = if moved { to } else { from };
    holder.await_so("it has all keys", || {
        let keys: Vec<String> = command!("KEYS", "*").query(&mut holder.server.client()?)?;
        Ok(keys.len() == KEYS + 1)
    })?;
    let mut refused = 0.0;
    for node in &nodes {
        let count = node.sidecar.metric("segue_refusals_total{reason=\"slot-migration\"}")?;
        refused += count.unwrap_or_default();
    }
    ensure!(moved == (refused == 0.0), "moved: {moved}, refused: {refused}");
    let is_told = || nodes.iter().any(|node| node.server.log_text().contains("Segue refuses this"));
    ensure!(!(moved && is_told()), "a store tells of a refusal:\n{}", asked.server.log_text());
    asked.await_so("a store tells why they stay", || Ok(moved || is_told()))?;
    Ok(moved)
}

fn passes(releases: [&str; 2]) -> Result<()> {
    ensure!(moved(releases)?, "the slots did not move");
    Ok(())
}

fn stays(releases: [&str; 2]) -> Result<()> {
    ensure!(!moved(releases)?, "the slots moved");
    Ok(())
}

#[test]
fn slots_of_valkey_move_between_equal_releases() -> Result<()> {
    passes(["valkey-9.1", "valkey-9.1"])
}

#[test]
fn slots_of_valkey_move_to_a_newer_one() -> Result<()> {
    passes(["valkey-9.0", "valkey-9.1"])
}

#[test]
fn slots_of_valkey_stay_rather_than_move_to_an_older_one() -> Result<()> {
    stays(["valkey-9.1", "valkey-9.0"])
}

#[test]
fn slots_of_redis_move_between_equal_releases() -> Result<()> {
    passes(["redis-8.6", "redis-8.6"])
}

#[test]
fn slots_of_redis_move_to_a_newer_one() -> Result<()> {
    passes(["redis-8.6", "redis-8.10"])
}

/// Without Segue they move, and what 8.6 does not understand is lost with them.
#[test]
fn slots_of_redis_stay_rather_than_move_to_an_older_one() -> Result<()> {
    stays(["redis-8.10", "redis-8.6"])
}
