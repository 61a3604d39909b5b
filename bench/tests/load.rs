//! The load runs without errors, and a plain replica of the same release gets the same data from it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::thread;
use std::time::{Duration, Instant};

use segue_bench::child::wait_for;
use segue_bench::load::{self, Load};
use segue_bench::server::{Options, Server};
use segue_bench::stores::Store;
use segue_bench::{data, reader};

/// No step takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

fn await_acknowledged(load: &Load, count: u64) {
    let reached = wait_for(PATIENCE, || Ok((load.counts().acknowledged >= count).then_some(())));
    assert!(reached.unwrap().is_some(), "{:?}", load.counts());
}

#[test]
fn a_plain_replica_gets_all_that_the_load_wrote() {
    let store = Store::want("redis-8.0").unwrap();
    let master = Server::start(&store, Options::new()).unwrap();
    let replica = Server::start(&store, Options::new()).unwrap();
    data::fill_core(&mut master.client().unwrap(), 1).unwrap();
    replica.replicate_from(master.port()).unwrap();
    let load = Load::start(master.port(), load::Options { seed: 42, ..Default::default() }).unwrap();
    // Some of what it writes expires in that time.
    thread::sleep(Duration::from_secs(3));
    await_acknowledged(&load, 2000);
    let counts = load.stop().unwrap();
    assert_eq!((counts.errors, counts.disconnects), (0, 0), "{counts:?}");
    let in_sync = wait_for(PATIENCE, || {
        let of_master = master.info("replication")?.number("master_repl_offset")?;
        let of_replica = replica.info("replication")?.number("slave_repl_offset")?;
        Ok((of_master == of_replica).then_some(()))
    });
    assert!(in_sync.unwrap().is_some(), "{}", replica.log_text());
    let comparison = reader::compare(master.port(), replica.port()).unwrap();
    assert!(comparison.is_equal() && comparison.keys > 1500, "seed 42: {comparison}");
}

#[test]
fn a_rate_is_held_and_counts_can_be_read_on_the_way() {
    let master = Server::start(&Store::want("redis-8.0").unwrap(), Options::new()).unwrap();
    let options = load::Options { rate_per_s: Some(500), ..Default::default() };
    let since = Instant::now();
    let load = Load::start(master.port(), options).unwrap();
    await_acknowledged(&load, 1000);
    let on_the_way = load.counts().acknowledged;
    let total = load.stop().unwrap().acknowledged;
    assert!(on_the_way <= total);
    // The first commands and the last are not waited for, and the blocking client adds its own few.
    let most = since.elapsed().as_secs_f64() * (500.0 + 200.0) + 200.0;
    assert!((total as f64) < most, "{total} commands in {:?} at 500 a second", since.elapsed());
}

#[test]
fn a_store_that_goes_and_comes_back_is_written_to_again() {
    let mut master = Server::start(&Store::want("redis-8.0").unwrap(), Options::new()).unwrap();
    let load = Load::start(master.port(), load::Options::default()).unwrap();
    await_acknowledged(&load, 100);
    master.kill9().unwrap();
    master.restart().unwrap();
    await_acknowledged(&load, load.counts().acknowledged + 100);
    assert!(load.stop().unwrap().disconnects > 0);
}

#[test]
fn a_dropped_store_leaves_neither_process_nor_folder() {
    let store = Store::want("redis-8.0").unwrap();
    for _ in 0..10 {
        let master = Server::start(&store, Options::new()).unwrap();
        let load = Load::start(master.port(), load::Options::default()).unwrap();
        let (folder, process) = (master.folder().to_owned(), format!("/proc/{}", master.pid()));
        thread::sleep(Duration::from_millis(30));
        drop(master);
        assert!(!folder.exists() && !std::path::Path::new(&process).exists());
        drop(load);
    }
}
