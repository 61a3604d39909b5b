//! Unmodified stores that know each other's real addresses and nothing of Segue.

use std::{net::TcpStream, time::Duration};

use anyhow::{Context, Result, ensure};
use segue_bench::{child::wait_for, netns::Host, sidecar::Sidecar};

use crate::lab;

const CONNECT_TIME_MAX: Duration = Duration::from_secs(20);

/// The upgraded master has a sidecar, its legacy replica has none.
fn master_is_intercepted(mode: &str, ipv6: bool) -> Result<()> {
    let Some(network) = lab::network(2)? else { return Ok(()) };
    let [n1, n2] = &network.hosts[..] else { unreachable!("two hosts were asked for") };
    let address = |host: &Host| if ipv6 { host.ipv6() } else { host.ipv4() };
    let peer = if ipv6 { format!("[{}]:6379", n2.ipv6()) } else { format!("{}:6379", n2.ipv4()) };
    let (master, replica) = (lab::store(n1, "redis-8.0")?, lab::store(n2, "redis-6.0")?);
    lab::fill(n1, &master)?;
    let before = lab::traces(n1)?;
    let sidecar = lab::sidecar(n1, &lab::config(mode, "open", &peer, ""))?;

    lab::follow(n2, &replica, &address(n1))?;
    lab::await_link_up(n2, &replica, || lab::tail(&sidecar.log_text()))?;
    lab::assert_equal((n1, &master), (n2, &replica))?;

    let link = lab::replication_link(n1, &sidecar)?;
    let listen = if ipv6 { "[::]:15001" } else { "0.0.0.0:15001" };
    ensure!(link["listen"] == listen && link["verdict"] == "rewrite", "{link:#}");
    ensure!(link["dialer"]["peer"] == "n2", "{link:#}");
    let target = if ipv6 { format!("[{}]:6379", n1.ipv6()) } else { format!("{}:6379", n1.ipv4()) };
    ensure!(link["listener"]["address"] == target.as_str(), "{link:#}");

    let info = n1.enter(|| master.info("replication"))?;
    let seen = info.get("slave0").context("the master has no replica")?;
    let own = format!("ip={},", address(n2));
    // A tproxy keeps the replica's address; a redirect dials from the host's own.
    ensure!(seen.contains(&own) == (mode == "tproxy"), "the master sees {seen}");

    drop(sidecar);
    // Its guard cleans up by itself.
    let clean = wait_for(lab::SYNC_TIME_MAX, || Ok((lab::traces(n1)? == before).then_some(())))?;
    clean.with_context(|| {
        format!("traces are left:\n{}\nbefore:\n{before}", lab::traces(n1).unwrap_or_default())
    })
}

#[test]
fn redirect_over_ipv4() -> Result<()> {
    master_is_intercepted("redirect", false)
}

#[test]
fn redirect_over_ipv6() -> Result<()> {
    master_is_intercepted("redirect", true)
}

#[test]
fn tproxy_over_ipv4() -> Result<()> {
    master_is_intercepted("tproxy", false)
}

#[test]
fn tproxy_over_ipv6() -> Result<()> {
    master_is_intercepted("tproxy", true)
}

/// The sidecar is at the replica, which dials; the master has none.
fn replica_is_intercepted(mode: &str, ipv6: bool, [master, replica]: [&str; 2], verdict: &str) -> Result<()> {
    let Some(network) = lab::network(2)? else { return Ok(()) };
    let [n1, n2] = &network.hosts[..] else { unreachable!("two hosts were asked for") };
    let (replica, master) = (lab::store(n1, replica)?, lab::store(n2, master)?);
    lab::fill(n2, &master)?;
    let address = if ipv6 { n2.ipv6() } else { n2.ipv4() };
    let peer = if ipv6 { format!("[{address}]:6379") } else { format!("{address}:6379") };
    let sidecar = lab::sidecar(n1, &lab::config(mode, "open", &peer, ""))?;

    lab::follow(n1, &replica, &address)?;
    lab::await_link_up(n1, &replica, || lab::tail(&sidecar.log_text()))?;
    lab::assert_equal((n2, &master), (n1, &replica))?;
    let link = lab::replication_link(n1, &sidecar)?;
    let listen = if ipv6 { "[::1]:15002" } else { "127.0.0.1:15002" };
    ensure!(link["listen"] == listen && link["verdict"] == verdict, "{link:#}");
    ensure!(link["listener"]["peer"] == "n2" && link["listener"]["address"] == peer.as_str(), "{link:#}");
    Ok(())
}

#[test]
fn an_upgraded_replica_dials_a_legacy_master() -> Result<()> {
    replica_is_intercepted("redirect", false, ["redis-6.0", "redis-8.0"], "same")?;
    replica_is_intercepted("tproxy", true, ["redis-6.0", "redis-8.0"], "same")
}

#[test]
fn a_legacy_replica_with_the_only_sidecar_dials_an_upgraded_master() -> Result<()> {
    replica_is_intercepted("redirect", true, ["redis-8.0", "redis-6.0"], "rewrite")?;
    replica_is_intercepted("tproxy", false, ["redis-8.0", "redis-6.0"], "rewrite")
}

/// A peer that the config does not name is passed on to where it was dialled, and asked for its release.
#[test]
fn a_master_that_no_one_named_is_reached() -> Result<()> {
    let Some(network) = lab::network(3)? else { return Ok(()) };
    let [n1, n2, n3] = &network.hosts[..] else { unreachable!("three hosts were asked for") };
    let (replica, master) = (lab::store(n1, "redis-6.0")?, lab::store(n3, "redis-8.0")?);
    lab::fill(n3, &master)?;
    let sidecar = lab::sidecar(n1, &lab::config("redirect", "open", &format!("{}:6379", n2.ipv4()), ""))?;
    lab::follow(n1, &replica, &n3.ipv4())?;
    lab::await_link_up(n1, &replica, || lab::tail(&sidecar.log_text()))?;
    lab::assert_equal((n3, &master), (n1, &replica))?;
    let link = lab::replication_link(n1, &sidecar)?;
    ensure!(link["listener"]["peer"] == format!("{}:6379", n3.ipv4()).as_str(), "{link:#}");
    Ok(())
}

/// Sidecars at both ends: the one beside the newer store translates, the other passes what it gets.
fn two_sidecars(mode: &str) -> Result<()> {
    let Some(network) = lab::network(2)? else { return Ok(()) };
    let [n1, n2] = &network.hosts[..] else { unreachable!("two hosts were asked for") };
    let (master, replica) = (lab::store(n1, "redis-8.0")?, lab::store(n2, "redis-6.0")?);
    lab::fill(n1, &master)?;
    let config = |peer: &Host| lab::config(mode, "open", &format!("{}:6379", peer.ipv4()), "");
    let newer = lab::sidecar(n1, &config(n2))?;
    let other_way = config(n1).replace("\"n1\"", "\"n\"").replace("\"n2\"", "\"n1\"");
    let older = lab::sidecar(n2, &other_way.replace("\"n\"", "\"n2\""))?;
    let logs =
        || format!("newer:\n{}\nolder:\n{}", lab::tail(&newer.log_text()), lab::tail(&older.log_text()));
    lab::follow(n2, &replica, &n1.ipv4())?;
    lab::await_link_up(n2, &replica, logs)?;

    let mut client = n1.enter(|| master.client())?;
    translated_once(&mut client, [(n1, &newer), (n2, &older)])?;
    lab::assert_equal((n1, &master), (n2, &replica))?;

    // Without a snapshot there is no header to tell one release from another.
    let before = lab::replication_link(n2, &older)?["id"].clone();
    let full_syncs = || n1.enter(|| master.info("stats")?.number("sync_full"));
    let full_syncs_before = full_syncs()?;
    redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("replica").exec(&mut client)?;
    let again = wait_for(lab::SYNC_TIME_MAX, || {
        let links = lab::links(n2, &older)?;
        Ok(links.iter().any(|link| link["id"] != before && link["verdict"] == "same").then_some(()))
    })?;
    again.with_context(|| format!("the replica does not come back\n{}", logs()))?;
    lab::await_link_up(n2, &replica, logs)?;
    translated_once(&mut client, [(n1, &newer), (n2, &older)])?;
    lab::assert_equal((n1, &master), (n2, &replica))?;
    ensure!(full_syncs()? == full_syncs_before, "a second full sync");
    ensure!(n2.enter(|| older.losses())?["recent"] == serde_json::json!([]), "losses at the older end");
    Ok(())
}

#[test]
fn two_sidecars_translate_once() -> Result<()> {
    two_sidecars("redirect")?;
    two_sidecars("tproxy")
}

/// Writes of a form that 6.0 does not know: rewritten at the newer end, and not at the older one.
fn translated_once(client: &mut redis::Connection, ends: [(&Host, &Sidecar); 2]) -> Result<()> {
    const WRITES: u64 = 100;
    for n in 0..WRITES {
        let set =
            redis::cmd("SET").arg(format!("newer:{n}")).arg(n).arg("PXAT").arg(4_000_000_000_000_u64).take();
        set.exec(client)?;
    }
    let [newer, older] = ends;
    let rewritten = wait_for(lab::SYNC_TIME_MAX, || {
        let link = lab::replication_link(newer.0, newer.1)?;
        Ok((link["messages_rewritten"].as_u64() >= Some(WRITES)).then_some(link))
    })?;
    let at_newer = rewritten.context("the newer end does not rewrite")?;
    let at_older = lab::replication_link(older.0, older.1)?;
    ensure!(at_newer["verdict"] == "rewrite", "{at_newer:#}");
    ensure!(at_older["verdict"] == "same" && at_older["messages_rewritten"] == 0, "{at_older:#}");
    Ok(())
}

/// What is left out flows by; what is not, clients among it, is spliced; the listener itself is no way in.
#[test]
fn exclusions_clients_and_loops() -> Result<()> {
    for mode in ["redirect", "tproxy"] {
        let Some(network) = lab::network(3)? else { return Ok(()) };
        let [n1, n2, n3] = &network.hosts[..] else { unreachable!("three hosts were asked for") };
        let master = lab::store(n1, "redis-8.0")?;
        let exclude = format!("exclude = [\"{}\"]", n3.ipv4());
        let config = lab::config(mode, "open", &format!("{}:6379", n2.ipv4()), &exclude);
        let sidecar = lab::sidecar(n1, &config)?;
        let ping = |host: &Host| {
            host.enter(|| {
                let client = redis::Client::open(format!("redis://{}:6379/", n1.ipv4()))?;
                let mut connection = client.get_connection_with_timeout(CONNECT_TIME_MAX)?;
                let answer: String = redis::cmd("PING").query(&mut connection)?;
                ensure!(answer == "PONG", "{answer}");
                Ok(connection)
            })
        };
        let excluded = ping(n3)?;
        ensure!(lab::links(n1, &sidecar)?.is_empty(), "{mode}: an excluded host was intercepted");
        let mut caught = ping(n2)?;
        let is_clients = wait_for(lab::SYNC_TIME_MAX, || {
            let links = lab::links(n1, &sidecar)?;
            Ok((links.len() == 1 && links[0]["verdict"] == "client").then_some(()))
        })?;
        is_clients.with_context(|| format!("{mode}: {:#?}", lab::links(n1, &sidecar)))?;
        let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut caught)?;
        let own = format!("addr={}:", n2.ipv4());
        ensure!(list.contains(&own) == (mode == "tproxy"), "{mode}: the store sees {list}");
        drop((excluded, caught, master));

        // The listener itself, by its own address.
        let _dialled = n2.enter(|| Ok(TcpStream::connect((n1.ipv4(), 15001))?))?;
        let refused = wait_for(lab::SYNC_TIME_MAX, || {
            let refused = n1.enter(|| sidecar.metric("segue_refusals_total{reason=\"self-loop\"}"))?;
            Ok(refused.filter(|count| *count == 1.0))
        })?;
        refused.with_context(|| format!("{mode}: no self-loop\n{}", lab::tail(&sidecar.log_text())))?;
    }
    Ok(())
}
