//! A snapshot much larger than the sidecar's memory.

use anyhow::{Result, ensure};

use crate::cluster::Plan;

const SNAPSHOT_BYTES_MIN: u64 = 2 << 30;
const RESIDENT_BYTES_MAX: u64 = 64 << 20;

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
        master_arguments: &["--rdbcompression", "no"],
        replica_arguments: &["--repl-timeout", "600"],
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
    cluster.await_link_up()?;
    cluster.await_equal_offsets()?;
    let memory = cluster.sidecar.rss_bytes()?;
    let link = cluster.link_status()?;
    let passed = link["bytes_from_listener"].as_u64().unwrap_or(0);
    ensure!(passed > SNAPSHOT_BYTES_MIN, "only {passed} bytes passed");
    ensure!(
        memory.resident_peak_bytes < RESIDENT_BYTES_MAX,
        "{} bytes resident at the peak",
        memory.resident_peak_bytes
    );

    let size = |client: &mut redis::Connection| redis::cmd("DBSIZE").query::<u64>(client);
    ensure!(size(&mut master)? == size(&mut cluster.replica.client()?)?);
    let huge: u64 = redis::cmd("STRLEN").arg("huge").query(&mut cluster.replica.client()?)?;
    ensure!(huge == 100 << 20);
    Ok(())
}
