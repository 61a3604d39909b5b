//! The load runs without errors, and a plain replica of the same release gets the same data from it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::thread;
use std::time::Duration;

use segue_bench::child::wait_for;
use segue_bench::load::{self, Load};
use segue_bench::server::{Options, Server};
use segue_bench::stores::Store;
use segue_bench::{data, reader};

#[test]
fn a_plain_replica_gets_all_that_the_load_wrote() {
    let store = Store::want("redis-8.0").unwrap();
    let master = Server::start(&store, Options::new()).unwrap();
    let replica = Server::start(&store, Options::new()).unwrap();
    data::fill_core(&mut master.client().unwrap(), 1).unwrap();
    replica.replicate_from(master.port()).unwrap();
    let load = Load::start(master.port(), load::Options { seed: 42, ..Default::default() }).unwrap();
    thread::sleep(Duration::from_secs(3));
    let counts = load.stop().unwrap();
    assert_eq!((counts.errors, counts.disconnects), (0, 0), "{counts:?}");
    assert!(counts.acknowledged > 2000, "{counts:?}");
    let in_sync = wait_for(Duration::from_secs(10), || {
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
    let load = Load::start(master.port(), options).unwrap();
    thread::sleep(Duration::from_secs(2));
    let on_the_way = load.counts().acknowledged;
    let total = load.stop().unwrap().acknowledged;
    assert!(on_the_way > 0 && on_the_way <= total);
    // The blocking client adds its own few.
    assert!((600..2200).contains(&total), "{total} commands in 2 s at 500 a second");
}

#[test]
fn a_store_that_goes_and_comes_back_is_written_to_again() {
    let mut master = Server::start(&Store::want("redis-8.0").unwrap(), Options::new()).unwrap();
    let load = Load::start(master.port(), load::Options::default()).unwrap();
    thread::sleep(Duration::from_millis(300));
    master.kill9().unwrap();
    master.restart().unwrap();
    let before = load.counts();
    let more = wait_for(Duration::from_secs(5), || {
        Ok((load.counts().acknowledged > before.acknowledged + 100).then_some(()))
    });
    assert!(more.unwrap().is_some(), "{:?}", load.counts());
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
