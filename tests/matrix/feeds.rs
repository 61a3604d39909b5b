//! An unmodified 8.0 master feeds unmodified older replicas: all data, then a stream of writes.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use segue_bench::{
    data,
    load::{Load, Options},
};

use crate::cluster::Plan;

const LOAD_TIME: Duration = Duration::from_secs(5);
/// What is written until a replica that is cut off dials again fits in, however long that takes.
const BACKLOG: &[&str] = &["--repl-backlog-size", "256mb"];

fn feeds(master: &str, replica: &str) -> Result<()> {
    let cluster = Plan { master_arguments: BACKLOG, ..Plan::new(master, replica) }.start()?;
    let mut client = cluster.master.client()?;
    data::fill_core(&mut client, 1)?;
    cluster.replicate()?;
    cluster.await_link_up()?;

    let options = Options { seed: 20_261_123, ..Options::default() };
    let load = Load::start(cluster.master.port(), options)?;
    thread::sleep(LOAD_TIME);
    let counts = load.stop()?;
    ensure!(counts.acknowledged > 1000, "hardly any load: {counts:?}");
    ensure!(counts.disconnects == 0, "the load was cut off: {counts:?}");

    let compared = cluster.assert_equal()?;
    ensure!(compared.keys > 500, "only {} keys", compared.keys);
    let link = cluster.link_status()?;
    ensure!(link["verdict"] == "rewrite", "{link:#}");
    // A Valkey says its version on the wire.
    let learned = &link["dialer"]["release"]["learned"];
    ensure!(learned == if replica.starts_with("valkey") { "wire" } else { "probe" }, "{link:#}");
    // Where counts part late, the link is dialled once more, for an id of its own.
    ensure!(matches!(cluster.syncs()?, (1, 0 | 1)), "more than one full sync: {:?}", cluster.syncs()?);
    let losses = cluster.data_losses()?;
    ensure!(losses.is_empty(), "{losses:#?}");
    Ok(())
}

#[test]
fn redis_8_0_feeds_7_0() -> Result<()> {
    feeds("redis-8.0", "redis-7.0")
}

#[test]
fn redis_8_0_feeds_6_2() -> Result<()> {
    feeds("redis-8.0", "redis-6.2.14")
}

#[test]
fn redis_8_0_feeds_6_0() -> Result<()> {
    feeds("redis-8.0", "redis-6.0")
}

#[test]
fn redis_8_0_feeds_5_0() -> Result<()> {
    feeds("redis-8.0", "redis-5.0")
}

#[test]
fn redis_8_0_2_feeds_6_0() -> Result<()> {
    feeds("redis-8.0.2", "redis-6.0")
}

#[test]
fn redis_7_0_feeds_6_2() -> Result<()> {
    feeds_7_0("redis-6.2.14")
}

/// The load is at the level of 8.0: an older master gets the data set alone, and a few of its own forms.
fn feeds_7_0(replica: &str) -> Result<()> {
    let cluster = Plan::new("redis-7.0", replica).start()?;
    let mut client = cluster.master.client()?;
    data::fill_core(&mut client, 1)?;
    cluster.replicate()?;
    cluster.await_link_up()?;
    for text in ["SET a b EX 1000", "PEXPIRE a 5000000 GT", "LPUSH list 1 2 3 4", "LMPOP 1 list LEFT COUNT 2"]
    {
        let mut words = text.split(' ');
        redis::cmd(words.next().unwrap_or_default()).arg(words.collect::<Vec<_>>()).exec(&mut client)?;
    }
    cluster.assert_equal()?;
    Ok(())
}

/// Found by the load: a move inside a list of one element must not cost the list its expiry.
#[test]
fn a_list_that_moves_its_only_element_keeps_its_expiry() -> Result<()> {
    let cluster = Plan::new("redis-8.0", "redis-6.0").link()?;
    let mut master = cluster.master.client()?;
    for (from, to) in [("LEFT", "RIGHT"), ("RIGHT", "LEFT"), ("LEFT", "LEFT"), ("RIGHT", "RIGHT")] {
        let key = format!("list:{from}:{to}");
        redis::cmd("RPUSH").arg(&key).arg("only").exec(&mut master)?;
        redis::cmd("PEXPIREAT").arg(&key).arg(4_102_444_800_000_u64).exec(&mut master)?;
        redis::cmd("LMOVE").arg(&key).arg(&key).arg(from).arg(to).exec(&mut master)?;
    }
    ensure!(cluster.assert_equal()?.keys == 4);
    Ok(())
}
