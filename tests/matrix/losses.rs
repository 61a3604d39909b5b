//! Content that the older release can't represent: refused before the replica's data is touched, or left
//! out and counted.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use segue_bench::{
    child::wait_for,
    data::{self, LIBRARY, Newer},
    reader::{self, What},
};

use crate::cluster::{Cluster, Plan, SYNC_TIME_MAX, link_is_up};

/// What the refusal and the loss must name.
pub const fn expected(newer: Newer) -> (&'static str, &'static str) {
    match newer {
        Newer::Functions => ("function-library", LIBRARY),
        Newer::FieldTtls => ("hash-field-ttl", "newer:hash:"),
        Newer::VectorSets => ("vector-set", "newer:vectors"),
        Newer::Producers => ("stream-idempotence", "newer:producers"),
        Newer::Nacked => ("stream-nacked", "newer:nacked"),
        Newer::Arrays => ("array", "newer:array"),
        Newer::Imported => ("value-type", "newer:imported:"),
    }
}

/// The newest refusal of a loss in the status: a store that is slow to answer is refused for that, and tries again.
fn refusal(cluster: &Cluster) -> Result<String> {
    let detail = wait_for(SYNC_TIME_MAX, || {
        let status = cluster.sidecar.status()?;
        let mut refusals = status["refusals"].as_array().into_iter().flatten();
        let refused = refusals.find(|refusal| refusal["reason"] == "loss");
        Ok(refused.and_then(|refused| refused["detail"].as_str().map(str::to_owned)))
    })?;
    detail.with_context(|| format!("nothing was refused\n{}", cluster.sidecar.log_text()))
}

/// So many snapshots there may be in this time: after each the replica is told at once that it would be refused,
/// for twice as long as before.
fn snapshots_max(since: Instant) -> u64 {
    let refused_at = |nth: u32| Duration::from_secs(2 * (2_u64.pow(nth) - 1));
    let tries = 1 + (1..16).take_while(|nth| refused_at(*nth) <= since.elapsed()).count();
    tries.max(3) as u64
}

fn snapshot_is_refused(newer: Newer, master: &str, replica: &str) -> Result<()> {
    its_snapshot_is_refused(&Plan::new(master, replica).start()?, newer)
}

/// The replica is not linked yet.
pub fn its_snapshot_is_refused(cluster: &Cluster, newer: Newer) -> Result<()> {
    let mut master = cluster.master.client()?;
    data::fill_core(&mut master, 1)?;
    data::fill_newer(&mut master, newer)?;
    // What the replica has before, it must have afterwards.
    let mut client = cluster.replica.client()?;
    redis::cmd("SET").arg("mine").arg("kept").exec(&mut client)?;
    let since = Instant::now();
    cluster.replicate()?;

    let detail = refusal(cluster)?;
    let (kind, name) = expected(newer);
    ensure!(detail.contains(kind) && detail.contains(name), "the refusal names neither: {detail}");
    thread::sleep(Duration::from_secs(3));
    ensure!(!link_is_up(&cluster.replica)?, "the link came up all the same");
    let mine: Option<String> = redis::cmd("GET").arg("mine").query(&mut client)?;
    let keys: u64 = redis::cmd("DBSIZE").query(&mut client)?;
    ensure!(
        (mine.as_deref(), keys) == (Some("kept"), 1),
        "the replica's data was touched: {keys} keys, {mine:?}"
    );
    ensure!(cluster.sidecar.metric("segue_refusals_total{reason=\"loss\"}")? > Some(0.0), "not counted");
    // The replica tries every second; each try that gets through costs the master a snapshot.
    let (full, _) = cluster.syncs()?;
    let max = snapshots_max(since);
    ensure!(full <= max, "{full} snapshots were made for nothing, and not {max}");
    let is_told = || cluster.replica.log_text().contains("Segue refuses this link");
    wait_for(SYNC_TIME_MAX, || Ok(is_told().then_some(())))?.context("the replica was not told why")?;

    // Degrade: the link comes up, and what is missing is counted.
    let (code, answer) = cluster.sidecar.put_translation(&serde_json::json!({ "loss": "degrade" }))?;
    ensure!(code == 200, "{code} {answer}");
    cluster.await_link_up()?;
    only_declared_differences(cluster, newer)
}

fn only_declared_differences(cluster: &Cluster, newer: Newer) -> Result<()> {
    cluster.await_equal_offsets()?;
    cluster.assert_nothing_rejected()?;
    let (kind, name) = expected(newer);
    let losses = cluster.data_losses()?;
    ensure!(!losses.is_empty() && losses.iter().all(|loss| loss["kind"] == kind), "{losses:#?}");
    let named = losses.iter().all(|loss| {
        loss["key"].as_str().is_some_and(|key| key.starts_with(name))
            || loss["what"].as_str().is_some_and(|what| what.contains(name))
    });
    ensure!(named, "{losses:#?}");
    let metric = format!("segue_losses_total{{grade=\"data\",kind=\"{kind}\"}}");
    let report = cluster.sidecar.losses()?;
    let counted = report["counts"].as_array().into_iter().flatten().find(|count| count["kind"] == kind);
    let counted = counted.and_then(|count| count["count"].as_f64());
    ensure!(counted.is_some() && cluster.sidecar.metric(&metric)? == counted, "{metric} is not {counted:?}");

    let comparison = reader::compare(cluster.master.port(), cluster.replica.port())?;
    for difference in &comparison.differences {
        let declared = newer.keys().iter().any(|key| key.as_bytes() == difference.key);
        // What no consumer has is given to one; all else is there as a whole or not at all.
        let left_out = difference.what == What::OnlyInFirst || newer == Newer::Nacked;
        ensure!(declared && left_out, "undeclared: {difference:?}");
    }
    Ok(())
}

#[test]
fn function_libraries_in_the_snapshot() -> Result<()> {
    snapshot_is_refused(Newer::Functions, "redis-8.0", "redis-6.2.14")
}

#[test]
fn field_ttls_in_the_snapshot() -> Result<()> {
    snapshot_is_refused(Newer::FieldTtls, "redis-8.0", "redis-6.0")
}

#[test]
fn vector_sets_in_the_snapshot() -> Result<()> {
    snapshot_is_refused(Newer::VectorSets, "redis-8.0", "redis-7.0")
}

#[test]
fn arrays_in_the_snapshot() -> Result<()> {
    snapshot_is_refused(Newer::Arrays, "redis-8.10", "redis-8.6")
}

#[test]
fn entries_without_a_consumer_in_the_snapshot() -> Result<()> {
    snapshot_is_refused(Newer::Nacked, "redis-8.10", "redis-7.0")
}

#[test]
fn field_ttls_of_valkey_in_the_snapshot() -> Result<()> {
    snapshot_is_refused(Newer::FieldTtls, "valkey-9.1", "valkey-8.1")
}

#[test]
fn function_libraries_pass_where_they_are_known() -> Result<()> {
    let cluster = Plan::new("redis-8.0", "redis-7.0").start()?;
    data::fill_newer(&mut cluster.master.client()?, Newer::Functions)?;
    cluster.replicate()?;
    cluster.await_link_up()?;
    cluster.await_equal_offsets()?;
    let list: String = format!(
        "{:?}",
        redis::cmd("FUNCTION").arg("LIST").query::<redis::Value>(&mut cluster.replica.client()?)?
    );
    ensure!(list.contains(LIBRARY), "{list}");
    Ok(())
}

/// In the stream, a loss ends the link before it, and the replica keeps what it has; once losses are
/// allowed it goes on from there, without a full sync.
fn stream_is_refused(newer: Newer) -> Result<()> {
    let cluster = Plan::new("redis-8.0", "redis-6.0").start()?;
    let mut master = cluster.master.client()?;
    redis::cmd("SET").arg("before").arg(1).exec(&mut master)?;
    cluster.replicate()?;
    cluster.await_link_up()?;
    cluster.await_equal_offsets()?;
    data::fill_newer(&mut master, newer)?;
    redis::cmd("SET").arg("after").arg(1).exec(&mut master)?;

    let detail = refusal(&cluster)?;
    let (kind, name) = expected(newer);
    ensure!(detail.contains(kind) && detail.contains(name), "the refusal names neither: {detail}");
    let mut replica = cluster.replica.client()?;
    let (before, after): (bool, bool) = (
        redis::cmd("EXISTS").arg("before").query(&mut replica)?,
        redis::cmd("EXISTS").arg("after").query(&mut replica)?,
    );
    ensure!((before, after) == (true, false), "before {before}, after {after}");

    let (code, answer) = cluster.sidecar.put_translation(&serde_json::json!({ "loss": "degrade" }))?;
    ensure!(code == 200, "{code} {answer}");
    cluster.await_link_up()?;
    only_declared_differences(&cluster, newer)?;
    ensure!(cluster.syncs()?.0 == 1, "a full sync was made: {:?}", cluster.syncs()?);
    Ok(())
}

#[test]
fn function_libraries_in_the_stream() -> Result<()> {
    stream_is_refused(Newer::Functions)
}

#[test]
fn field_ttls_in_the_stream() -> Result<()> {
    stream_is_refused(Newer::FieldTtls)
}

#[test]
fn vector_sets_in_the_stream() -> Result<()> {
    stream_is_refused(Newer::VectorSets)
}
