//! Turning translation off, on and down while links are up.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use anyhow::{Context, Result, ensure};
use segue_bench::{child::wait_for, command, data};
use serde_json::json;

use crate::cluster::{Plan, SYNC_TIME_MAX, link_is_up};

/// What was left out before must not be missed in silence after: the replica is to have all, or is refused.
fn refuse_after_losses(replica: &str) -> Result<()> {
    let plan = Plan { loss: "degrade", ..Plan::new("redis-8.0", replica) };
    let cluster = plan.link()?;
    let mut master = cluster.master.client()?;
    command!("VADD", "vectors", "VALUES", 1, 1, "e").exec(&mut master)?;
    command!("SET", "k", "v").exec(&mut master)?;
    cluster.await_equal_offsets()?;

    let link = cluster.link_status()?["id"].clone();
    let (code, answer) = cluster.sidecar.put_translation(&json!({ "loss": "refuse" }))?;
    ensure!(code == 200, "{code} {answer}");
    cluster.await_end_of(&link)?;
    // Without a look at what was left out, the replica would keep its `k` and hear of a key that it never had.
    command!("RENAME", "vectors", "k").exec(&mut master)?;
    let refused = wait_for(SYNC_TIME_MAX, || {
        let status = cluster.sidecar.status()?;
        let detail = status["refusals"][0]["detail"].as_str().map(str::to_owned);
        Ok(detail.filter(|detail| detail.contains("vector-set")))
    })?;
    refused.with_context(|| format!("nothing was refused\n{}", cluster.sidecar.log_text()))?;
    let kept: Option<String> = command!("GET", "k").query(&mut cluster.replica.client()?)?;
    ensure!(kept.as_deref() == Some("v") && !link_is_up(&cluster.replica)?, "{kept:?}");

    // Once the master has nothing more that the replica can't have, it gets all, and goes on.
    command!("DEL", "k").exec(&mut master)?;
    command!("SET", "other", 1, "EX", 1000).exec(&mut master)?;
    cluster.await_link_up()?;
    command!("RENAME", "other", "another").exec(&mut master)?;
    cluster.assert_equal()?;
    let (full, _) = cluster.syncs()?;
    command!("SET", "more", 1).exec(&mut master)?;
    let (code, answer) = cluster.sidecar.put_translation(&json!({ "loss": "degrade" }))?;
    ensure!(code == 200, "{code} {answer}");
    cluster.await_link_up()?;
    cluster.assert_equal()?;
    ensure!(cluster.syncs()?.0 == full, "a replica that has all was given it again");
    Ok(())
}

#[test]
fn refuse_after_losses_on_the_masters_own_stream() -> Result<()> {
    refuse_after_losses("redis-7.0")
}

#[test]
fn refuse_after_losses_on_a_stream_of_the_replicas_own() -> Result<()> {
    refuse_after_losses("redis-6.0")
}

#[test]
fn off_is_refused_under_an_old_replica_unless_forced_and_auto_brings_it_back() -> Result<()> {
    let cluster = Plan::new("redis-8.0", "redis-6.0").start()?;
    data::fill_core(&mut cluster.master.client()?, 1)?;
    cluster.replicate()?;
    cluster.await_link_up()?;
    cluster.await_equal_offsets()?;

    let (code, answer) = cluster.sidecar.put_translation(&json!({ "mode": "off", "who": "test" }))?;
    ensure!(code == 409 && answer.contains("n2"), "{code} {answer}");
    ensure!(cluster.sidecar.translation()?["mode"] == "auto", "it was turned off all the same");

    let link = cluster.link_status()?["id"].clone();
    let forced = json!({ "mode": "off", "who": "test", "reason": "drill", "force": true });
    let (code, answer) = cluster.sidecar.put_translation(&forced)?;
    ensure!(code == 200, "{code} {answer}");
    // The link is cut. Untranslated, a partial resync may pass, until the master sends a newer form.
    let (code, answer) = cluster.sidecar.put_translation(&json!({ "mode": "auto", "who": "test" }))?;
    ensure!(code == 200, "{code} {answer}");
    cluster.await_end_of(&link)?;
    wait_for(SYNC_TIME_MAX, || {
        let is_rewritten = cluster.link_status().is_ok_and(|link| link["verdict"] == "rewrite");
        Ok((is_rewritten && link_is_up(&cluster.replica)?).then_some(()))
    })?
    .context("it is not translated again")?;
    redis::cmd("SET").arg("k").arg("v").arg("EX").arg(1000).exec(&mut cluster.master.client()?)?;
    cluster.assert_equal()?;

    let changes = cluster.sidecar.translation()?["changes"].clone();
    ensure!(
        changes[1]["who"] == "test" && changes[1]["reason"] == "drill" && changes[1]["forced"] == true,
        "{changes:#}"
    );
    Ok(())
}

/// What was turned while a replica had dialled, and not said yet that it wants the stream.
#[test]
fn a_link_that_is_being_opened_does_not_go_by_settings_of_before() -> Result<()> {
    let plan = Plan { loss: "degrade", ..Plan::new("redis-8.0", "redis-6.0") };
    let cluster = plan.start()?;
    data::fill_newer(&mut cluster.master.client()?, data::Newer::VectorSets)?;
    let mut dialer = TcpStream::connect(("127.0.0.1", cluster.link_port))?;
    dialer.set_read_timeout(Some(SYNC_TIME_MAX))?;
    dialer.write_all(&command!("PING").get_packed_command())?;
    let mut pong = [0; 7];
    dialer.read_exact(&mut pong)?;
    ensure!(pong == *b"+PONG\r\n", "{}", pong.escape_ascii());

    let (code, answer) = cluster.sidecar.put_translation(&json!({ "loss": "refuse" }))?;
    ensure!(code == 200, "{code} {answer}");
    dialer.write_all(&command!("REPLCONF", "listening-port", cluster.replica.port()).get_packed_command())?;
    dialer.write_all(&command!("REPLCONF", "capa", "eof", "capa", "psync2").get_packed_command())?;
    dialer.write_all(&command!("PSYNC", "?", -1).get_packed_command())?;
    let (mut said, mut piece) = (Vec::new(), [0; 4096]);
    while let count @ 1.. = dialer.read(&mut piece)? {
        said.extend_from_slice(&piece[..count]);
        ensure!(!said.windows(5).any(|part| part == b"REDIS"), "a snapshot came: {}", said.escape_ascii());
    }
    ensure!(cluster.sidecar.losses()?["total"] == 0, "{:#}", cluster.sidecar.losses()?);
    Ok(())
}

#[test]
fn off_under_equal_releases_needs_no_force() -> Result<()> {
    let cluster = Plan::new("redis-8.0", "redis-8.0").link()?;
    let (code, answer) = cluster.sidecar.put_translation(&json!({ "mode": "off" }))?;
    ensure!(code == 200, "{code} {answer}");
    wait_for(SYNC_TIME_MAX, || Ok(link_is_up(&cluster.replica)?.then_some(())))?
        .context("the link stays down")?;
    cluster.assert_equal()?;
    Ok(())
}

#[test]
fn a_pin_speaks_the_old_release_to_a_new_peer() -> Result<()> {
    let cluster = Plan::new("redis-8.0", "redis-8.0").start()?;
    data::fill_core(&mut cluster.master.client()?, 1)?;
    let (code, answer) = cluster.sidecar.put_translation(&json!({ "mode": "redis-6.0" }))?;
    ensure!(code == 200, "{code} {answer}");
    cluster.replicate()?;
    cluster.await_link_up()?;
    redis::cmd("SET").arg("k").arg("v").arg("EX").arg(1000).exec(&mut cluster.master.client()?)?;
    cluster.assert_equal()?;
    let link = cluster.link_status()?;
    ensure!(link["verdict"] == "rewrite" && link["target"] == "redis-6.0", "{link:#}");
    Ok(())
}
