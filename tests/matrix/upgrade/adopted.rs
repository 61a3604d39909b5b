//! Somebody else moves the master while an upgrade runs: by hand, or a sentinel.

use anyhow::{Result, ensure};
use redis::Connection;
use segue_bench::{client, command};

use super::{
    assert_nothing_lost, await_so, is_master,
    lab::{Lab, NODES, Plan},
    write,
};

/// For a `FAILOVER`, in milliseconds.
const FAILOVER_MS: u32 = 60_000;

/// By the commands that each release has: the old master takes no writes until the others have all of them.
fn move_by_hand(lab: &Lab, from: usize, to: usize) -> Result<()> {
    let mut old = client::connect(lab.stores[from].port)?;
    let mut deny =
        |replicas: usize| command!("CONFIG", "SET", "min-replicas-to-write", replicas).exec(&mut old);
    deny(NODES.len())?;
    await_so("all have what the old master has", || {
        let info = lab.replication(from)?;
        let offset = info.get("master_repl_offset").unwrap_or_default();
        let has = |replica: usize| {
            let line = info.get(&format!("slave{replica}")).unwrap_or_default();
            line.contains(",state=online,") && line.contains(&format!(",offset={offset},"))
        };
        Ok((0..NODES.len() - 1).all(has))
    })?;
    follow(&mut client::connect(lab.stores[from].port)?, "127.0.0.1", &lab.stores[to].link.to_string())?;
    follow(&mut client::connect(lab.stores[to].port)?, "NO", "ONE")?;
    deny(0)?;
    Ok(())
}

fn follow(store: &mut Connection, host: &str, port: &str) -> Result<()> {
    Ok(command!("REPLICAOF", host, port).exec(store)?)
}

/// The transaction takes `to` for the master, and all stores follow it.
fn await_adopted(lab: &Lab, to: usize) -> Result<()> {
    let link = lab.stores[to].link.to_string();
    await_so("all follow the new master", || {
        for store in (0..NODES.len()).filter(|store| *store != to) {
            let info = lab.replication(store)?;
            let follows = info.get("master_port") == Some(&*link);
            if !follows || info.get("master_link_status") != Some("up") {
                return Ok(false);
            }
        }
        is_master(lab, to)
    })
}

#[test]
fn a_master_that_others_made_is_taken_for_it_and_nothing_is_lost() -> Result<()> {
    let lab =
        Lab::start(&Plan { upgrade: "hold_before_master = true", ..Plan::new("redis-7.0", "redis-8.0") })?;
    let writers = write(&lab);
    lab.begin(1, "redis-8.0")?;
    lab.await_status("at the barrier", |status| status["transaction"]["paused"]["cause"] == "barrier")?;
    move_by_hand(&lab, 0, 1)?;
    await_adopted(&lab, 1)?;
    lab.told(2, &["resume"])?;
    lab.await_phase("upgraded")?;
    ensure!(lab.await_in_sync()? == 1, "another node became master");

    // Between equal ones, as a client library or an operator does it.
    let to = ["127.0.0.1".to_owned(), lab.stores[2].port.to_string()];
    await_so("the FAILOVER begins", || {
        // Its target is online to it only once it has heard of that.
        command!("FAILOVER", "TO", &to, "TIMEOUT", FAILOVER_MS)
            .exec(&mut client::connect(lab.stores[1].port)?)?;
        Ok(true)
    })?;
    await_so("the FAILOVER is made", || is_master(&lab, 2))?;
    await_adopted(&lab, 2)?;
    lab.told(0, &["finalize"])?;
    lab.await_phase("done")?;
    ensure!(assert_nothing_lost(&lab, writers)? == 2, "another node became master");
    Ok(())
}
