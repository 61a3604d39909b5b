//! Full syncs over two connections where the link is rewritten: the snapshot on one, the stream on the other.

use std::{thread, time::Duration};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use segue_bench::{
    child::wait_for,
    command,
    data::{self, Newer},
    load::{Load, Options},
    reader,
    server::{self, Server},
    stores::Store,
};

use crate::{
    cluster::{Cluster, Plan, SYNC_TIME_MAX, WAIT_MS, follow, link_is_up, sidecar_of},
    links::outbound,
    losses::{expected, its_snapshot_is_refused},
    reload::reload,
    valve::Valve,
};

/// After each key of a snapshot the master rests so long, so that much is written meanwhile.
const SAVE_DELAY_US: u32 = 2000;
const BETWEEN: Duration = Duration::from_millis(700);
pub const MASTER: &[&str] =
    &["--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0", "--repl-backlog-size", "64mb"];
/// In the replica's log.
const REDIS_SAID: &str = "initialize RDB channel";
const VALKEY_SAID: &str = "Trying a partial resynchronization using main channel";

/// Both stores would take the snapshot over a connection of its own, and may.
fn start(mut plan: Plan<'_>) -> Result<Cluster> {
    plan.second_connection = "translate";
    plan.master_arguments = MASTER;
    let cluster = plan.start()?;
    [&cluster.master, &cluster.replica].into_iter().try_for_each(set_apart)?;
    Ok(cluster)
}

/// The store would take the snapshot over a connection of its own.
pub fn set_apart(server: &Server) -> Result<()> {
    set(server, of(server).0, "yes")
}

/// A store's setting, and what its log says of a sync over two connections.
fn of(server: &Server) -> (&'static str, &'static str) {
    if server.store().name().starts_with("redis") {
        ("repl-rdb-channel", REDIS_SAID)
    } else {
        ("dual-channel-replication-enabled", VALKEY_SAID)
    }
}

fn set(server: &Server, key: &str, value: &str) -> Result<()> {
    redis::cmd("CONFIG").arg("SET").arg(key).arg(value).exec(&mut server.client()?)?;
    Ok(())
}

/// How many syncs over two connections the replica has made.
pub fn syncs_apart(replica: &Server) -> usize {
    replica.log_text().matches(of(replica).1).count()
}

fn assert_syncs_apart(replica: &Server, count: usize) -> Result<()> {
    let made = syncs_apart(replica);
    ensure!(made == count, "{made} syncs over two connections, not {count}:\n{}", replica.log_text());
    Ok(())
}

/// Two links of the replica have been rewritten; the snapshot's may have ended already.
fn await_both(cluster: &Cluster) -> Result<()> {
    let is_rewritten = |line: &&str| line.contains("link decided") && line.contains("rewrite");
    let rewritten = || cluster.sidecar.log_text().lines().filter(is_rewritten).count();
    let both = wait_for(SYNC_TIME_MAX, || Ok((rewritten() >= 2).then_some(())))?;
    both.with_context(|| format!("there never were two links\n{}", cluster.sidecar.log_text()))
}

fn has_own_offsets(cluster: &Cluster) -> Result<bool> {
    let status = cluster.sidecar.status()?;
    Ok(status["links"].as_array().into_iter().flatten().any(|link| link["own_offsets"] == true))
}

/// The rewritten links of the replica that are up.
fn links_up(cluster: &Cluster) -> Result<usize> {
    let status = cluster.sidecar.status()?;
    let links = status["links"].as_array().context("no links in the status")?;
    Ok(links.iter().filter(|link| link["dialer"]["peer"] == "n2" && link["verdict"] == "rewrite").count())
}

/// A full sync under load, WAIT, a cut and a partial resync.
fn syncs_under_load(plan: Plan<'_>, own_offsets: bool, seed: u64) -> Result<()> {
    let cluster = start(plan)?;
    let mut master = cluster.master.client()?;
    data::fill_core(&mut master, 1)?;
    set(&cluster.master, "rdb-key-save-delay", &SAVE_DELAY_US.to_string())?;
    let options = Options { seed, rate_per_s: Some(2000), ..Options::default() };
    let load = Load::start(cluster.master.port(), options)?;
    cluster.replicate()?;
    await_both(&cluster)?;
    cluster.await_link_up()?;
    thread::sleep(BETWEEN);
    assert_syncs_apart(&cluster.replica, 1)?;
    let as_wanted =
        wait_for(SYNC_TIME_MAX, || Ok((has_own_offsets(&cluster)? == own_offsets).then_some(())))?;
    as_wanted.with_context(|| format!("{:#}", cluster.link_status().unwrap_or_default()))?;

    for n in 0..5 {
        redis::cmd("SET").arg("newest").arg(n).arg("EX").arg(1000).exec(&mut master)?;
        let has: u32 = redis::cmd("WAIT").arg(1).arg(WAIT_MS).query(&mut master)?;
        let got: Option<u32> = redis::cmd("GET").arg("newest").query(&mut cluster.replica.client()?)?;
        ensure!(has == 1 && got == Some(n), "WAIT {n} says {has}, the replica has {got:?}");
    }

    let (full, partial) = cluster.syncs()?;
    redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("replica").exec(&mut master)?;
    let resumed = wait_for(SYNC_TIME_MAX, || Ok((cluster.syncs()?.1 > partial).then_some(())))?;
    resumed.context("the replica does not come back")?;
    thread::sleep(BETWEEN);
    load.stop()?;
    cluster.await_link_up()?;
    cluster.assert_equal().with_context(|| format!("seed {seed}"))?;
    ensure!(cluster.syncs()?.0 == full, "the cut cost a full sync: {:?}, before {full}", cluster.syncs()?);
    ensure!(cluster.link_status()?["verdict"] == "rewrite", "{:#}", cluster.link_status()?);
    let one = wait_for(SYNC_TIME_MAX, || Ok((links_up(&cluster)? == 1).then_some(())))?;
    one.with_context(|| format!("{:#}", cluster.sidecar.status().unwrap_or_default()))?;
    Ok(())
}

#[test]
fn redis_8_10_to_8_0() -> Result<()> {
    syncs_under_load(Plan::new("redis-8.10", "redis-8.0.2"), false, 51)
}

#[test]
fn valkey_9_1_to_8_0() -> Result<()> {
    syncs_under_load(Plan::new("valkey-9.1", "valkey-8.0"), false, 52)
}

/// A replica whose count differs from the start, which has an id of its own.
#[test]
fn redis_by_an_id_of_its_own() -> Result<()> {
    syncs_under_load(Plan { mode: "redis-6.0", ..Plan::new("redis-8.2", "redis-8.2") }, true, 53)
}

#[test]
fn valkey_by_an_id_of_its_own() -> Result<()> {
    syncs_under_load(Plan { mode: "redis-6.0", ..Plan::new("valkey-8.1", "valkey-9.1") }, true, 54)
}

/// Several replicas at once, whose connections are not mixed up.
fn many_sync_at_once(master: &str, replicas: &[&str]) -> Result<()> {
    let master = Server::start(&Store::want(master)?, server::Options::new().arguments(MASTER))?;
    let replicas = replicas
        .iter()
        .map(|name| Server::start(&Store::want(name)?, server::Options::new()))
        .collect::<Result<Vec<_>>>()?;
    replicas.iter().chain([&master]).try_for_each(set_apart)?;
    data::fill_core(&mut master.client()?, 1)?;
    set(&master, "rdb-key-save-delay", &SAVE_DELAY_US.to_string())?;
    let (sidecar, port) = sidecar_of(&master, &replicas, "translate")?;
    replicas.iter().try_for_each(|replica| follow(replica, port))?;
    for n in 0_u32..100 {
        redis::cmd("SET").arg("n").arg(n).arg("EX").arg(1000).exec(&mut master.client()?)?;
    }
    for replica in &replicas {
        let up = wait_for(SYNC_TIME_MAX, || Ok(link_is_up(replica)?.then_some(())))?;
        up.with_context(|| format!("down\n{}\n{}", replica.log_text(), sidecar.log_text()))?;
        assert_syncs_apart(replica, 1)?;
    }
    let all: usize = redis::cmd("WAIT").arg(replicas.len()).arg(WAIT_MS).query(&mut master.client()?)?;
    ensure!(all == replicas.len(), "WAIT says {all}\n{}", sidecar.log_text());
    for replica in &replicas {
        let compared = reader::compare(master.port(), replica.port())?;
        ensure!(compared.is_equal(), "{}: {:#?}", replica.store().name(), compared.differences);
    }
    Ok(())
}

#[test]
fn every_older_redis_at_once() -> Result<()> {
    many_sync_at_once("redis-8.10", &["redis-8.0.2", "redis-8.0.6", "redis-8.2", "redis-8.6"])
}

#[test]
fn every_older_valkey_at_once() -> Result<()> {
    many_sync_at_once("valkey-9.1", &["valkey-8.0", "valkey-8.1", "valkey-9.0"])
}

/// What can't be represented is found while the stream already flows.
#[test]
fn redis_losses_in_the_snapshot() -> Result<()> {
    its_snapshot_is_refused(&start(Plan::new("redis-8.10", "redis-8.6"))?, Newer::Arrays)
}

#[test]
fn valkey_losses_in_the_snapshot() -> Result<()> {
    its_snapshot_is_refused(&start(Plan::new("valkey-9.1", "valkey-8.1"))?, Newer::FieldTtls)
}

/// What a snapshot left out is known when the replica must have all; and that one left out nothing, too.
fn what_was_left_out_is_known(plan: Plan<'_>, newer: Newer) -> Result<()> {
    let cluster = start(Plan { loss: "degrade", ..plan })?;
    let mut master = cluster.master.client()?;
    data::fill_newer(&mut master, newer)?;
    cluster.replicate()?;
    let has_acknowledged = || -> Result<()> {
        cluster.await_link_up()?;
        command!("INCR", "n").exec(&mut cluster.master.client()?)?;
        let has: u32 = command!("WAIT", 1, WAIT_MS).query(&mut cluster.master.client()?)?;
        ensure!(has == 1, "no acknowledgement\n{}", cluster.sidecar.log_text());
        Ok(())
    };
    let turn = |loss: &str| -> Result<()> {
        let (code, answer) = cluster.sidecar.put_translation(&serde_json::json!({ "loss": loss }))?;
        ensure!(code == 200, "{code} {answer}");
        Ok(())
    };
    has_acknowledged()?;
    assert_syncs_apart(&cluster.replica, 1)?;

    turn("refuse")?;
    let refused = wait_for(SYNC_TIME_MAX, || {
        let status = cluster.sidecar.status()?;
        let mut details = status["refusals"].as_array().into_iter().flatten().map(|each| &each["detail"]);
        let named = |detail: &serde_json::Value| detail.as_str()?.find(expected(newer).0);
        Ok(details.any(|detail| named(detail).is_some()).then_some(()))
    })?;
    refused.with_context(|| format!("nothing was refused\n{}", cluster.sidecar.log_text()))?;

    // Once there is nothing more that it can't have it gets all, and nobody asks for that again.
    command!("FLUSHALL").exec(&mut master)?;
    has_acknowledged()?;
    cluster.assert_equal()?;
    let (full, _) = cluster.syncs()?;
    turn("degrade")?;
    has_acknowledged()?;
    ensure!(cluster.syncs()?.0 == full, "a replica that has all was given it again");

    // A snapshot that could have lost something, and did not.
    command!("REPLICAOF", "NO", "ONE").exec(&mut cluster.replica.client()?)?;
    command!("SET", "own", 1).exec(&mut cluster.replica.client()?)?;
    cluster.replicate()?;
    has_acknowledged()?;
    let (again, partial) = cluster.syncs()?;
    ensure!(again > full, "no full sync");
    turn("refuse")?;
    let resumed = wait_for(SYNC_TIME_MAX, || Ok((cluster.syncs()?.1 > partial).then_some(())))?;
    resumed.with_context(|| format!("no partial resync\n{}", cluster.sidecar.log_text()))?;
    has_acknowledged()?;
    cluster.assert_equal()?;
    ensure!(cluster.syncs()?.0 == again, "a replica that has all was given it again");
    Ok(())
}

#[test]
fn what_was_left_out_of_redis_is_known() -> Result<()> {
    what_was_left_out_is_known(Plan::new("redis-8.10", "redis-8.6"), Newer::Arrays)
}

#[test]
fn what_was_left_out_of_redis_by_an_id_of_its_own_is_known() -> Result<()> {
    let plan = Plan { mode: "redis-6.0", ..Plan::new("redis-8.2", "redis-8.2") };
    what_was_left_out_is_known(plan, Newer::VectorSets)
}

#[test]
fn what_was_left_out_of_valkey_is_known() -> Result<()> {
    what_was_left_out_is_known(Plan::new("valkey-9.1", "valkey-8.1"), Newer::FieldTtls)
}

/// The first command that needs an id of the replica's own comes while its snapshot is under way: cut then, it
/// would need another one, and so on without end.
fn counts_part_behind_the_snapshot(master: &str, replica: &str) -> Result<()> {
    let cluster = start(Plan::new(master, replica))?;
    let mut master = cluster.master.client()?;
    data::fill_core(&mut master, 1)?;
    Valve::fill(&mut master)?;
    let valve = Valve::start(cluster.link_port)?;
    follow(&cluster.replica, valve.port)?;
    valve.await_held()?;
    redis::cmd("SET").arg("before").arg(1).exec(&mut master)?;
    redis::cmd("MSETEX").arg(2).arg(&["k", "1", "l", "2", "EX", "1000"]).exec(&mut master)?;
    redis::cmd("SET").arg("after").arg(1).exec(&mut master)?;
    ensure!(!link_is_up(&cluster.replica)?, "the snapshot is not under way any more");
    valve.open();
    let own = wait_for(SYNC_TIME_MAX, || Ok(has_own_offsets(&cluster)?.then_some(())))?;
    own.with_context(|| format!("no id of its own\n{}", cluster.sidecar.log_text()))?;
    cluster.await_link_up()?;
    cluster.assert_equal()?;
    assert_syncs_apart(&cluster.replica, 1)?;
    Ok(())
}

#[test]
fn counts_part_behind_the_snapshot_of_redis() -> Result<()> {
    counts_part_behind_the_snapshot("redis-8.10", "redis-8.0.2")
}

#[test]
fn counts_part_behind_the_snapshot_of_valkey() -> Result<()> {
    counts_part_behind_the_snapshot("valkey-9.1", "valkey-8.0")
}

#[test]
fn a_snapshot_under_way_arrives_before_its_sidecar_ends() -> Result<()> {
    let plan = Plan { limits: "drain_ms = 120000", ..Plan::new("redis-8.6", "redis-8.2") };
    let mut cluster = start(plan)?;
    let mut master = cluster.master.client()?;
    data::fill_core(&mut master, 1)?;
    Valve::fill(&mut master)?;
    let valve = Valve::start(cluster.link_port)?;
    follow(&cluster.replica, valve.port)?;
    valve.await_held()?;
    redis::cmd("SET").arg("k").arg("v").exec(&mut master)?;
    ensure!(!link_is_up(&cluster.replica)?, "the snapshot is not under way any more");
    let pid = Pid::from_raw(cluster.sidecar.pid().cast_signed()).context("no pid")?;
    kill_process(pid, Signal::TERM)?;
    let drains = || Ok(cluster.sidecar.log_text().contains("draining").then_some(()));
    wait_for(SYNC_TIME_MAX, drains)?.context("it does not drain")?;
    ensure!(cluster.sidecar.is_running()?, "it did not wait for the snapshot");
    valve.open();
    let sidecar = &mut cluster.sidecar;
    wait_for(SYNC_TIME_MAX, || Ok((!sidecar.is_running()?).then_some(())))?.context("it does not end")?;
    sidecar.restart()?;
    cluster.await_link_up()?;
    cluster.assert_equal()?;
    assert_syncs_apart(&cluster.replica, 1)?;
    ensure!(cluster.syncs()?.1 > 0, "{:?}", cluster.syncs()?);
    Ok(())
}

#[test]
fn a_reload_lets_stores_take_the_second_connection() -> Result<()> {
    let cluster = start(Plan::new("redis-8.6", "redis-8.2"))?;
    reload(&cluster, "second_connection = \"translate\"", "second_connection = \"strip\"", 1.0)?;
    cluster.replicate()?;
    cluster.await_link_up()?;
    assert_syncs_apart(&cluster.replica, 0)?;
    reload(&cluster, "second_connection = \"strip\"", "second_connection = \"translate\"", 2.0)?;
    redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut cluster.replica.client()?)?;
    redis::cmd("SET").arg("own").arg(1).exec(&mut cluster.replica.client()?)?;
    cluster.replicate()?;
    cluster.await_link_up()?;
    cluster.assert_equal()?;
    assert_syncs_apart(&cluster.replica, 1)?;
    Ok(())
}

/// The sidecar at the replica's end alone; and of two, the one at the master's end.
#[test]
fn the_older_end_sees_to_both_connections_or_leaves_both() -> Result<()> {
    let cluster = start(Plan::new("redis-8.6", "redis-8.2"))?;
    data::fill_core(&mut cluster.master.client()?, 1)?;
    let more = "[translation]\nsecond_connection = \"translate\"";
    let through = format!("127.0.0.1:{}", cluster.link_port);
    for (n, (to, verdict)) in [(cluster.master.address(), "rewrite"), (through, "same")].iter().enumerate() {
        let (older_end, link) = outbound(&cluster.replica, to, more)?;
        redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut cluster.replica.client()?)?;
        redis::cmd("SET").arg("own").arg(n).exec(&mut cluster.replica.client()?)?;
        follow(&cluster.replica, link)?;
        cluster.await_link_up()?;
        cluster.assert_equal()?;
        assert_syncs_apart(&cluster.replica, n + 1)?;
        let status = older_end.status()?;
        ensure!(status["links"][0]["verdict"] == *verdict, "{status:#}");
    }
    Ok(())
}

/// Neither knows how the other does it.
#[test]
fn across_families_the_snapshot_comes_over_the_one_connection() -> Result<()> {
    let cluster = start(Plan::new("valkey-9.1", "redis-8.2"))?;
    data::fill_core(&mut cluster.master.client()?, 1)?;
    cluster.replicate()?;
    cluster.await_link_up()?;
    cluster.assert_equal()?;
    assert_syncs_apart(&cluster.replica, 0)?;
    Ok(())
}
