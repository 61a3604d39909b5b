//! Full syncs over two connections, both of them TLS, both by a user whose password the replica knows.

use anyhow::{Context, Result, ensure};
use segue_bench::{
    authority::Authority,
    child::wait_for,
    command,
    data::{self, Newer},
    load::{Load, Options},
    server::Server,
};

use crate::{
    apart::{MASTER, set_apart, syncs_apart},
    cluster::{Cluster, SYNC_TIME_MAX, WAIT_MS},
    losses::expected,
    reload::reload,
    resync::await_syncs,
    tls,
};

/// A machine that stands still for a while is no reason to begin anew.
const PATIENT: &str = "[limits]\npairing_timeout_ms = 60000\ntls_handshake_timeout_ms = 60000";

/// Both stores would take the snapshot over a connection of its own.
fn start(authority: &Authority, [master, replica]: [&str; 2]) -> Result<Cluster> {
    let user = ["--user", "follower", "on", ">s3cret", "+psync", "+sync", "+replconf", "+ping"];
    let of_master = [&user, MASTER].concat();
    let of_replica = ["--masteruser", "follower", "--masterauth", "s3cret"];
    let cluster = tls::cluster_with(authority, (master, &of_master), (replica, &of_replica), PATIENT)?;
    [&cluster.master, &cluster.replica].into_iter().try_for_each(set_apart)?;
    data::fill_core(&mut cluster.master.client()?, 1)?;
    // So that much is written while the snapshot is under way.
    set(&cluster.master, "rdb-key-save-delay", 300)?;
    Ok(cluster)
}

fn set(server: &Server, key: &str, value: u32) -> Result<()> {
    Ok(command!("CONFIG", "SET", key, value).exec(&mut server.client()?)?)
}

/// Has what no master ever had, so that it needs all.
fn forget_master(replica: &Server) -> Result<()> {
    let mut client = replica.client()?;
    command!("REPLICAOF", "NO", "ONE").exec(&mut client)?;
    Ok(command!("SET", "own", 1).exec(&mut client)?)
}

fn stripped_then_translated(stores: [&str; 2], newer: Newer, seed: u64) -> Result<()> {
    let authority = Authority::new("the lab")?;
    let cluster = start(&authority, stores)?;
    cluster.replicate()?;
    cluster.await_link_up()?;
    cluster.assert_equal()?;
    ensure!(syncs_apart(&cluster.replica) == 0, "by default:\n{}", cluster.replica.log_text());
    ensure!(cluster.link_status()?["verdict"] == "rewrite", "{:#}", cluster.link_status()?);

    forget_master(&cluster.replica)?;
    let translate = "[translation]\nsecond_connection = \"translate\"\n";
    reload(&cluster, PATIENT, &format!("{translate}{PATIENT}"), 1.0)?;
    is_translated(&cluster, seed)?;
    forget_master(&cluster.replica)?;
    is_refused(&cluster, newer)
}

/// A full sync under load, WAIT, a cut and a partial resync.
fn is_translated(cluster: &Cluster, seed: u64) -> Result<()> {
    let mut master = cluster.master.client()?;
    let options = Options { seed, rate_per_s: Some(1000), ..Options::default() };
    let load = Load::start(cluster.master.port(), options)?;
    cluster.replicate()?;
    cluster.await_link_up()?;
    let logs = || format!("{}\n{}", cluster.replica.log_text(), cluster.sidecar.log_text());
    ensure!(syncs_apart(&cluster.replica) > 0, "over one connection:\n{}", logs());
    command!("SET", "newest", seed, "EX", 1000).exec(&mut master)?;
    let has: u32 = command!("WAIT", 1, WAIT_MS).query(&mut master)?;
    let got: Option<u64> = command!("GET", "newest").query(&mut cluster.replica.client()?)?;
    ensure!(has == 1 && got == Some(seed), "WAIT says {has}, the replica has {got:?}\n{}", logs());
    let link = cluster.link_status()?;
    let is_tls = |end: &str| link[end]["tls"].is_string();
    ensure!(link["verdict"] == "rewrite" && is_tls("dialer") && is_tls("listener"), "{link:#}");

    let (full, partial) = cluster.syncs()?;
    command!("CLIENT", "KILL", "TYPE", "replica").exec(&mut master)?;
    await_syncs(cluster, |(_, now)| now > partial)?;
    load.stop()?;
    cluster.await_link_up()?;
    cluster.assert_equal().with_context(|| format!("seed {seed}"))?;
    ensure!(cluster.syncs()?.0 == full, "the cut cost a full sync: {:?}, before {full}", cluster.syncs()?);
    Ok(())
}

/// A snapshot that ends in its middle is taken for none.
fn is_refused(cluster: &Cluster, newer: Newer) -> Result<()> {
    data::fill_newer(&mut cluster.master.client()?, newer)?;
    cluster.replicate()?;
    let (kind, _) = expected(newer);
    let refused = wait_for(SYNC_TIME_MAX, || {
        let status = cluster.sidecar.status()?;
        let mut refusals = status["refusals"].as_array().into_iter().flatten();
        let of_loss = |refusal: &serde_json::Value| refusal["detail"].as_str()?.find(kind);
        Ok(refusals.any(|refusal| of_loss(refusal).is_some()).then_some(()))
    })?;
    refused.with_context(|| format!("nothing was refused\n{}", cluster.sidecar.log_text()))?;
    let own: Option<u32> = command!("GET", "own").query(&mut cluster.replica.client()?)?;
    ensure!(own == Some(1), "the replica's data was touched: {own:?}");
    Ok(())
}

/// Of the newer ones that can be fetched none was built with TLS.
#[test]
fn redis_8_0_6_to_8_0_2() -> Result<()> {
    stripped_then_translated(["redis-8.0.6", "redis-8.0.2"], Newer::VectorSets, 61)
}

#[test]
fn valkey_9_1_to_8_0() -> Result<()> {
    stripped_then_translated(["valkey-9.1", "valkey-8.0"], Newer::FieldTtls, 62)
}

#[test]
fn where_bytes_pass_unchanged_they_come_over_both() -> Result<()> {
    let authority = Authority::new("the lab")?;
    for stores in [["redis-8.0.2", "redis-8.0.6"], ["valkey-8.0", "valkey-9.1"]] {
        let cluster = start(&authority, stores)?;
        cluster.replicate()?;
        cluster.await_link_up()?;
        cluster.assert_equal()?;
        let (link, syncs) = (cluster.link_status()?, syncs_apart(&cluster.replica));
        ensure!(link["verdict"] == "same" && link["dialer"]["tls"].is_string(), "{link:#}");
        ensure!(syncs > 0, "over one connection:\n{}", cluster.replica.log_text());
    }
    Ok(())
}
