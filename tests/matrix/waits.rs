//! WAIT answers truly: it counts the replica only when the replica has the write.

use anyhow::{Context, Result, ensure};
use redis::{Cmd, ConnectionLike, Value};
use segue_bench::{
    command,
    load::{self, Generator},
};

use crate::cluster::{Plan, WAIT_MS};

const WRITES: usize = 100_000;
/// Between two WAITs.
const BATCH: usize = 250;
const KEYS_PER_TYPE: u32 = 100;
const KEY: &str = "the newest write";

fn wait_is_true_during_mixed_writes(replica: &str, seed: u64) -> Result<()> {
    let cluster = Plan::new("redis-8.0", replica).link()?;
    let (mut master, mut replica) = (cluster.master.client()?, cluster.replica.client()?);
    load::prepare(&mut master, KEYS_PER_TYPE)?;
    let mut generator = Generator::new(seed, KEYS_PER_TYPE);
    let mut written = 0;
    let mut waits = 0_u64;
    while written < WRITES {
        let mut commands = Vec::new();
        while commands.len() < BATCH {
            commands.extend(generator.step());
        }
        commands.extend(newest(waits));
        written += commands.len();
        commands.push(command!("WAIT", 1, WAIT_MS));
        let mut packed = Vec::new();
        commands.iter().for_each(|command| command.write_packed_command(&mut packed));
        let answers = master.req_packed_commands(&packed, 0, commands.len())?;
        let has: Option<u64> = redis::cmd("GET").arg(KEY).query(&mut replica)?;
        let context = || format!("WAIT {waits}, after {written} writes of seed {seed}");
        ensure!(answers.last() == Some(&Value::Int(1)), "{}: {:?}", context(), answers.last());
        ensure!(has == Some(waits), "{}: the replica has {has:?}", context());
        waits += 1;
    }
    let compared = cluster.assert_equal().with_context(|| format!("seed {seed}"))?;
    ensure!(compared.keys > 500, "only {} keys", compared.keys);
    ensure!(cluster.syncs()?.0 == 1, "more than one full sync: {:?}", cluster.syncs()?);
    Ok(())
}

/// The last write before a WAIT, in one of the ways that are translated differently.
fn newest(n: u64) -> Vec<Cmd> {
    let set = command!("SET", KEY, n);
    match n % 5 {
        0 => vec![command!("SET", KEY, n, "EX", 1000)],
        1 => vec![set],
        2 => vec![
            command!("DEL", KEY),
            command!("MULTI"),
            command!("SET", KEY, n, "KEEPTTL"),
            command!("EXEC"),
        ],
        3 => vec![command!("SET", "copied", n), command!("COPY", "copied", KEY, "REPLACE")],
        _ => vec![set, command!("HSETEX", "hash", "KEEPTTL", "FIELDS", 1, "f", n)],
    }
}

#[test]
fn wait_is_true_during_100_000_mixed_writes_to_6_0() -> Result<()> {
    wait_is_true_during_mixed_writes("redis-6.0", 31)
}

#[test]
fn wait_is_true_during_100_000_mixed_writes_to_7_0() -> Result<()> {
    wait_is_true_during_mixed_writes("redis-7.0", 32)
}
