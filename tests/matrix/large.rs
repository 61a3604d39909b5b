//! A snapshot much larger than the sidecar's memory.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use segue_bench::child::wait_for;

use crate::cluster::{Cluster, Plan, link_is_up};

const RESIDENT_BYTES_MAX: u64 = 64 << 20;
/// At 10 MB/s, which a machine under load can be slow enough for.
const LARGE_TIME_MAX: Duration = Duration::from_secs(1200);

/// Lists, hashes and sets in forms that 6.0 does not know, some of them large.
const FILL: &str = "
    local text = string.rep('abcdefghijklmnop', 16)
    for i = 1, 2000 do
        local k = ARGV[1] .. ':' .. i
        for j = 1, 8 do redis.call('RPUSH', 'list:' .. k, text .. j, text, j, text, text) end
        redis.call('HSET', 'hash:' .. k, 'a', 'b', 'n', i, 'c', 'short')
        redis.call('SADD', 'set:' .. k, 'x', 'y', i)
        redis.call('ZADD', 'zset:' .. k, 1.5, 'x', i, 'y')
    end
    redis.call('RPUSH', 'one-long-list', unpack({text, text, text, text, text, text, text, text}))";

#[test]
fn a_2_gib_snapshot_passes_in_bounded_memory() -> Result<()> {
    let plan = Plan {
        master_arguments: &["--rdbcompression", "no", "--repl-timeout", "1200"],
        replica_arguments: &["--repl-timeout", "1200"],
        ..Plan::new("redis-8.0", "redis-6.0")
    };
    let cluster = plan.start()?;
    let mut master = cluster.master.client()?;
    redis::cmd("DEBUG").arg("POPULATE").arg(30_000).arg("large").arg(60_000).exec(&mut master)?;
    for batch in 0..30 {
        redis::cmd("EVAL").arg(FILL).arg(0).arg(batch).exec(&mut master)?;
    }
    redis::cmd("SET").arg("huge").arg(vec![b'h'; 100 << 20]).exec(&mut master)?;
    redis::cmd("RPUSH").arg("huge-element").arg(vec![b'e'; 50 << 20]).exec(&mut master)?;

    cluster.replicate()?;
    await_large(&cluster)?;
    cluster.await_equal_offsets()?;
    passed_in_bounded_memory(&cluster, 2 << 30)?;
    let huge: u64 = redis::cmd("STRLEN").arg("huge").query(&mut cluster.replica.client()?)?;
    ensure!(huge == 100 << 20);
    Ok(())
}

/// A list of about 100 MB.
const FILL_LIST: &str = "
    local text = string.rep('abcdefghijklmnop', 32)
    for i = 1, 200000 do redis.call('RPUSH', KEYS[1], text .. i) end";

/// The master has all of it in memory; the replica keeps its lists packed, or two such would not fit.
#[test]
#[ignore = "needs 13 GB of memory: cargo test --release --test matrix a_10_gib -- --ignored --nocapture"]
fn a_10_gib_snapshot_passes_in_bounded_memory() -> Result<()> {
    let plan = Plan {
        master_arguments: &["--rdbcompression", "no", "--repl-diskless-sync", "yes", "--save", ""],
        replica_arguments: &[
            "--repl-timeout",
            "3600",
            "--repl-diskless-load",
            "swapdb",
            "--list-compress-depth",
            "1",
            "--save",
            "",
        ],
        ..Plan::new("redis-8.0", "redis-6.0")
    };
    let cluster = plan.start()?;
    let mut master = cluster.master.client()?;
    redis::cmd("EVAL").arg(FILL_LIST).arg(1).arg("list:0").exec(&mut master)?;
    for n in 1..106 {
        redis::cmd("COPY").arg("list:0").arg(format!("list:{n}")).exec(&mut master)?;
    }
    let start = Instant::now();
    cluster.replicate()?;
    await_large(&cluster)?;
    cluster.await_equal_offsets()?;
    let peak = passed_in_bounded_memory(&cluster, 10 << 30)?;
    println!("{} s, {} MiB resident in the sidecar at the peak", start.elapsed().as_secs(), peak >> 20);
    let last = redis::cmd("LINDEX").arg("list:77").arg(-1).take();
    let (ours, theirs): (String, String) =
        (last.query(&mut master)?, last.query(&mut cluster.replica.client()?)?);
    ensure!(ours == theirs && ours.ends_with("200000"), "{theirs}");
    Ok(())
}

fn await_large(cluster: &Cluster) -> Result<()> {
    let up = wait_for(LARGE_TIME_MAX, || Ok(link_is_up(&cluster.replica)?.then_some(())))?;
    up.context("the link does not come up")
}

/// The sidecar's peak in bytes.
fn passed_in_bounded_memory(cluster: &Cluster, snapshot_bytes_min: u64) -> Result<u64> {
    let memory = cluster.sidecar.rss_bytes()?;
    let link = cluster.link_status()?;
    let passed = link["bytes_from_listener"].as_u64().unwrap_or(0);
    ensure!(passed > snapshot_bytes_min, "only {passed} bytes passed");
    let peak = memory.resident_peak_bytes;
    ensure!(peak < RESIDENT_BYTES_MAX, "{peak} bytes resident at the peak");
    let size = |client: &mut redis::Connection| redis::cmd("DBSIZE").query::<u64>(client);
    ensure!(
        size(&mut cluster.master.client()?)? == size(&mut cluster.replica.client()?)?,
        "keys are missing"
    );
    Ok(peak)
}
