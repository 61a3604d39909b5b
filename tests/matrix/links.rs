//! Kinds of links: unchanged, outbound, with a password, of a client.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use segue_bench::{
    child::wait_for,
    client, data, port, reader,
    server::{Options, Server},
    sidecar::Sidecar,
    stores::Store,
};

use crate::cluster::{Plan, SYNC_TIME_MAX, WAIT_MS, follow, link_is_up};

#[test]
fn equal_releases_pass_unchanged() -> Result<()> {
    let cluster = Plan::new("redis-8.0", "redis-8.0").start()?;
    let mut master = cluster.master.client()?;
    data::fill_core(&mut master, 1)?;
    // What older releases can't represent passes here.
    let known = data::Newer::known_to(&mut master)?;
    known.into_iter().try_for_each(|newer| data::fill_newer(&mut master, newer))?;
    cluster.replicate()?;
    cluster.await_link_up()?;
    cluster.await_equal_offsets()?;
    let digest = |server: &Server| -> Result<String> {
        Ok(redis::cmd("DEBUG").arg("DIGEST").query(&mut server.client()?)?)
    };
    ensure!(digest(&cluster.master)? == digest(&cluster.replica)?, "the data differs");
    let offsets = |server: &Server| server.info("replication")?.number("master_repl_offset");
    ensure!(offsets(&cluster.master)? == offsets(&cluster.replica)?, "the offsets differ");
    ensure!(cluster.link_status()?["verdict"] == "same");
    ensure!(cluster.link_status()?["messages_rewritten"] == 0);
    Ok(())
}

/// A sidecar of the old node: its own store dials out through it to `n1` at `to`.
pub fn outbound(replica: &Server, to: &str, more: &str) -> Result<(Sidecar, u16)> {
    let [link, admin, metrics] = port::free_ports()?;
    let config = format!(
        r#"
[node]
id = "n2"
protocol = "redis"
store = "{}"
[[peer]]
id = "n1"
store = "{to}"
[[link]]
listen = "127.0.0.1:{link}"
to = "n1"
{more}
[admin]
listen = "127.0.0.1:{admin}"
[metrics]
listen = "127.0.0.1:{metrics}"
"#,
        replica.address(),
    );
    Ok((Sidecar::start(Path::new(env!("CARGO_BIN_EXE_segue")), &config)?, link))
}

#[test]
fn an_outbound_link_is_translated_by_the_older_end() -> Result<()> {
    let master = Server::start(&Store::want("redis-8.0")?, Options::new())?;
    let replica = Server::start(&Store::want("redis-6.0")?, Options::new())?;
    data::fill_core(&mut master.client()?, 1)?;
    let (sidecar, link) = outbound(&replica, &master.address(), "")?;
    follow(&replica, link)?;
    wait_for(SYNC_TIME_MAX, || Ok(link_is_up(&replica)?.then_some(())))?.context("the link stays down")?;
    let mut client = master.client()?;
    redis::cmd("SET").arg("k").arg("v").arg("EX").arg(1000).exec(&mut client)?;
    let acknowledged: u64 = redis::cmd("WAIT").arg(1).arg(WAIT_MS).query(&mut client)?;
    ensure!(acknowledged == 1);
    let comparison = reader::compare(master.port(), replica.port())?;
    ensure!(comparison.is_equal(), "{comparison:#?}");
    let link = sidecar.status()?["links"][0].clone();
    ensure!(link["dialer"]["peer"] == "n2" && link["listener"]["peer"] == "n1", "{link:#}");
    ensure!(link["verdict"] == "rewrite", "{link:#}");
    Ok(())
}

#[test]
fn of_two_sidecars_on_a_link_exactly_one_translates() -> Result<()> {
    let cluster = Plan::new("redis-8.0", "redis-6.0").start()?;
    data::fill_core(&mut cluster.master.client()?, 1)?;
    let (older_end, link) = outbound(&cluster.replica, &format!("127.0.0.1:{}", cluster.link_port), "")?;
    follow(&cluster.replica, link)?;
    cluster.await_link_up()?;
    redis::cmd("SET").arg("k").arg("v").arg("EX").arg(1000).exec(&mut cluster.master.client()?)?;
    cluster.assert_equal()?;
    let newer = cluster.link_status()?;
    ensure!(newer["verdict"] == "rewrite" && newer["messages_rewritten"].as_u64() > Some(0), "{newer:#}");
    let older = older_end.status()?["links"][0].clone();
    ensure!(older["verdict"] == "same" && older["messages_rewritten"] == 0, "{older:#}");
    Ok(())
}

#[test]
fn a_master_with_a_password_is_asked_with_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("password");
    std::fs::write(&file, "s3cret-of-the-test\n")?;
    let node = format!("password_file = \"{}\"", file.display());
    let plan = Plan {
        master_arguments: &["--requirepass", "s3cret-of-the-test"],
        replica_arguments: &["--masterauth", "s3cret-of-the-test"],
        node: &node,
        ..Plan::new("redis-8.0", "redis-6.0")
    };
    let cluster = plan.link()?;
    let link = cluster.link_status()?;
    ensure!(link["listener"]["release"]["release"] == cluster.master.store().name(), "{link:#}");
    ensure!(!cluster.sidecar.log_text().contains("s3cret"), "the password was logged");
    ensure!(!cluster.sidecar.status()?.to_string().contains("s3cret"), "the status tells the password");
    Ok(())
}

/// A replica whose release can't be had is refused, and never guessed.
#[test]
fn a_replica_that_tells_nothing_is_refused() -> Result<()> {
    let plan = Plan {
        replica_arguments: &["--requirepass", "unknown-to-the-sidecar"],
        ..Plan::new("redis-8.0", "redis-6.0")
    };
    let cluster = plan.start()?;
    let mut replica =
        redis::Client::open(format!("redis://:unknown-to-the-sidecar@127.0.0.1:{}", cluster.replica.port()))?
            .get_connection()?;
    redis::cmd("REPLICAOF").arg("127.0.0.1").arg(cluster.link_port).exec(&mut replica)?;
    let refused = wait_for(SYNC_TIME_MAX, || {
        let status = cluster.sidecar.status()?;
        Ok(status["refusals"][0]["reason"].as_str().map(str::to_owned))
    })?;
    ensure!(refused.as_deref() == Some("unknown-release"), "{refused:?}");
    Ok(())
}

#[test]
fn a_client_on_the_link_is_served_as_if_there_were_none() -> Result<()> {
    let cluster = Plan::new("redis-8.0", "redis-6.0").start()?;
    let mut through = client::connect(cluster.link_port)?;
    let value = vec![b'x'; 5 << 20];
    redis::cmd("SET").arg("big").arg(&value).exec(&mut through)?;
    let back: Vec<u8> = redis::cmd("GET").arg("big").query(&mut through)?;
    ensure!(back == value);
    let links = cluster.sidecar.metric("segue_links{verdict=\"client\"}")?;
    ensure!(links >= Some(1.0), "{links:?}");
    Ok(())
}

/// Both stores would take the snapshot over a connection of its own. The replica's log, and the link's verdict.
fn over_two_connections(master: &str, replica: &str, setting: &str) -> Result<(String, String)> {
    let mut plan = Plan::new(master, replica);
    plan.master_arguments = &["--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"];
    let cluster = plan.start()?;
    for server in [&cluster.master, &cluster.replica] {
        redis::cmd("CONFIG").arg("SET").arg(setting).arg("yes").exec(&mut server.client()?)?;
    }
    data::fill_core(&mut cluster.master.client()?, 1)?;
    cluster.replicate()?;
    cluster.await_link_up()?;
    redis::cmd("SET").arg("k").arg("v").arg("EX").arg(1000).exec(&mut cluster.master.client()?)?;
    cluster.assert_equal()?;
    let verdict = cluster.link_status()?["verdict"].as_str().context("no verdict")?.to_owned();
    Ok((cluster.replica.log_text(), verdict))
}

/// A link that is not rewritten lets them; on one that is, the replica does not offer it.
#[test]
fn redis_takes_its_snapshot_over_a_connection_of_its_own_where_it_passes() -> Result<()> {
    let (setting, said) = ("repl-rdb-channel", "RDB channel");
    let (log, verdict) = over_two_connections("redis-8.0.6", "redis-8.0.6", setting)?;
    ensure!(verdict == "same" && log.contains(said), "{verdict}\n{log}");
    let (log, verdict) = over_two_connections("redis-8.0.6", "redis-8.0.2", setting)?;
    ensure!(verdict == "rewrite" && !log.contains(said), "{verdict}\n{log}");
    Ok(())
}

#[test]
fn valkey_takes_its_snapshot_over_a_connection_of_its_own_where_it_passes() -> Result<()> {
    let setting = "dual-channel-replication-enabled";
    let (log, verdict) = over_two_connections("valkey-8.1", "valkey-8.1", setting)?;
    ensure!(verdict == "same" && log.contains("using main channel"), "{verdict}\n{log}");
    Ok(())
}
