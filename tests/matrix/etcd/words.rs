//! What a sidecar at rest writes to etcd.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use redis::cmd;
use segue_bench::{
    child::wait_for,
    port,
    server::{Options, Server as StoreServer},
    sidecar::Sidecar,
    stores::Store,
};
use serde_json::Value;

use super::{contract::PATIENCE, lab::Server};

/// Offsets go on for so long.
const LOAD_TIME: Duration = Duration::from_secs(9);
const TRIES: usize = 6;
/// As src/hands/own.rs has it.
const REST_PERIOD: Duration = Duration::from_secs(10);

const KEY: &str = "/segue/rest/nodes/n1";

/// Etcd keeps every word until it is compacted.
#[test]
fn while_nothing_runs_a_sidecar_says_news_at_once_and_little_else() -> Result<()> {
    let etcd = Server::start(1, None)?;
    let store = Store::want("redis-8.0")?;
    let (master, replica) =
        (StoreServer::start(&store, Options::new())?, StoreServer::start(&store, Options::new())?);
    replica.replicate_from(master.port())?;
    let [link, admin] = port::free_ports()?;
    let config = format!(
        "[node]\nid = \"n1\"\nprotocol = \"redis\"\nstore = \"127.0.0.1:{}\"\n\
         [[link]]\nlisten = \"127.0.0.1:{link}\"\nto = \"store\"\n\
         [mesh]\netcd = [\"{}\"]\netcd_cluster = \"rest\"\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n",
        master.port(),
        etcd.endpoints().next().context("no endpoint")?,
    );
    let _sidecar = Sidecar::start(Path::new(env!("CARGO_BIN_EXE_segue")), &config)?;
    word(&etcd, "the release", |store| store["release"].is_string())?;

    // On a slow machine a store may be silent for a second, or a lease may end: that is news.
    let mut said = Vec::new();
    while said.last().is_none_or(|(words, most)| words > most) {
        assert!(said.len() < TRIES, "words, and how many at most: {said:?}");
        said.push(words_under_load(&etcd, &master)?);
    }

    drop(master);
    word(&etcd, "that the store is gone", |store| store["silent"].is_string())
}

/// How many words there were meanwhile, and how many there may be.
fn words_under_load(etcd: &Server, master: &StoreServer) -> Result<(u64, u64)> {
    let (before, begun) = (times_written(etcd)?, Instant::now());
    let mut client = master.client()?;
    while begun.elapsed() < LOAD_TIME {
        cmd("INCR").arg("key").exec(&mut client)?;
        std::thread::sleep(Duration::from_millis(50));
    }
    let (after, took) = (times_written(etcd)?, begun.elapsed());
    // Of a key that is new, they count anew.
    Ok((after.checked_sub(before).unwrap_or(after), took.as_secs() / REST_PERIOD.as_secs() + 1))
}

fn times_written(etcd: &Server) -> Result<u64> {
    let said: Value = serde_json::from_str(&etcd.ctl(&["get", KEY, "--write-out", "json"])?)?;
    said["kvs"][0]["version"].as_u64().context("no word")
}

fn word(etcd: &Server, what: &str, is_it: impl Fn(&Value) -> bool) -> Result<()> {
    let mut last = String::new();
    let said = wait_for(PATIENCE, || {
        last = etcd.ctl(&["get", KEY, "--print-value-only"])?;
        let word: Value = serde_json::from_str(&last).unwrap_or_default();
        Ok(is_it(&word["store"]).then_some(()))
    })?;
    said.with_context(|| format!("{KEY} does not say {what}: {last}"))
}
