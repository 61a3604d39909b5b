//! Replicas of a translated replica, and who follows whom once one of them is promoted.

use anyhow::{Context, Result, ensure};
use redis::Connection;
use segue_bench::{
    child::wait_for,
    command,
    load::{self, Generator},
    reader,
    server::{Options, Server},
    stores::Store,
};

use crate::cluster::{
    NO_PINGS, Plan, SYNC_TIME_MAX, WAIT_MS, await_acknowledged_by, beside, follow, link_is_up, syncs,
};

const KEYS_PER_TYPE: u32 = 20;

fn start(store: &str) -> Result<Server> {
    Server::start(&Store::want(store)?, Options::new())
}

fn follow_until_up(replica: &Server, port: u16) -> Result<()> {
    follow(replica, port)?;
    await_up(replica)
}

fn await_up(replica: &Server) -> Result<()> {
    wait_for(SYNC_TIME_MAX, || Ok(link_is_up(replica)?.then_some(())))?
        .with_context(|| format!("the link stays down:\n{}", replica.log_text()))
}

/// Writes of all kinds, with times to live: they shift what is said to 6.0.
fn write(master: &mut Connection, generator: &mut Generator) -> Result<()> {
    for n in 0..100 {
        for command in generator.step() {
            // Some steps are refused by the store itself: the type of a key is another by now.
            let _: Result<redis::Value, _> = command.query(master);
        }
        command!("SET", format!("timed:{n}"), n, "EX", 10_000).exec(master)?;
    }
    Ok(())
}

/// The id that a server follows or has, and how far it has come.
fn place(server: &Server) -> Result<(String, u64)> {
    let info = server.info("replication")?;
    Ok((info.get("master_replid").context("no id")?.to_owned(), info.number("master_repl_offset")?))
}

/// Both stand at the same place of the same stream.
fn await_place(server: &Server, like: &Server) -> Result<()> {
    wait_for(SYNC_TIME_MAX, || Ok((place(server)? == place(like)?).then_some(())))?
        .with_context(|| format!("{:?} instead of {:?}", place(server), place(like)))
}

fn assert_equal(first: &Server, second: &Server) -> Result<()> {
    let comparison = reader::compare(first.port(), second.port())?;
    ensure!(comparison.is_equal() && comparison.keys > 100, "{comparison:#?}");
    Ok(())
}

#[test]
fn sub_replicas_count_as_their_replica_does_and_take_no_offset_elsewhere() -> Result<()> {
    let cluster = Plan::new("redis-8.0", "redis-6.0").link()?;
    let (master, replica) = (&cluster.master, &cluster.replica);
    let (_sidecar, through) = beside(replica, "")?;
    let direct = ["redis-6.0", "redis-7.0", "redis-8.0"].map(start);
    let [as_old, newer, newest] = direct;
    let (as_old, newer, newest, older) = (as_old?, newer?, newest?, start("redis-5.0")?);
    for sub_replica in [&as_old, &newer, &newest] {
        follow_until_up(sub_replica, replica.port())?;
    }
    follow_until_up(&older, through)?;
    let mut client = master.client()?;
    load::prepare(&mut client, KEYS_PER_TYPE)?;
    let mut generator = Generator::new(41, KEYS_PER_TYPE);
    write(&mut client, &mut generator)?;
    cluster.await_equal_offsets()?;

    wait_for(SYNC_TIME_MAX, || {
        let shift = cluster.link_status()?["offset_shift_bytes"].as_u64().context("no shift")?;
        Ok((shift > 0 && place(replica)?.1 == place(master)?.1 + shift).then_some(()))
    })?
    .context("the replica's count is not its master's and the shift")?;
    ensure!(place(replica)?.0 != place(master)?.0, "the replica follows by the master's id");
    for sub_replica in [&as_old, &newer, &newest] {
        await_place(sub_replica, replica)?;
        assert_equal(master, sub_replica)?;
    }
    // The fourth's count is its own; its sidecar says what it stands for.
    await_acknowledged_by(4, replica)?;
    assert_equal(master, &older)?;

    // One moves up to the sidecar: what was said to its replica proves where it stands.
    let (full, partial) = syncs(master)?;
    follow_until_up(&as_old, cluster.link_port)?;
    ensure!(syncs(master)? == (full, partial + 1), "{:?}", syncs(master)?);
    ensure!(place(&as_old)?.0 != place(replica)?.0, "two replicas follow by one id of their own");
    // One moves up past all sidecars: the master knows no such stream.
    follow_until_up(&newest, master.port())?;
    ensure!(syncs(master)? == (full + 1, partial + 1), "{:?}", syncs(master)?);

    write(&mut client, &mut generator)?;
    let replicas: u64 = command!("WAIT", 3, WAIT_MS).query(&mut client)?;
    ensure!(replicas == 3, "{replicas} of 3 replicas have all");
    for moved in [&as_old, &newest] {
        assert_equal(master, moved)?;
    }
    await_place(&newer, replica)?;
    assert_equal(master, &newer)
}

/// Two replicas of one master; one is promoted, the other follows it with no sidecar between them. The syncs
/// that the promoted one gave.
fn promoted(store: &str) -> Result<(u64, u64)> {
    let mut cluster = Plan { master_arguments: NO_PINGS, ..Plan::new("redis-8.0", store) }.link()?;
    let mut client = cluster.master.client()?;
    load::prepare(&mut client, KEYS_PER_TYPE)?;
    let mut generator = Generator::new(42, KEYS_PER_TYPE);
    write(&mut client, &mut generator)?;
    // It comes later: what was said until now does not count for it.
    let sibling = start(store)?;
    follow_until_up(&sibling, cluster.link_port)?;
    write(&mut client, &mut generator)?;
    await_acknowledged_by(2, &cluster.master)?;

    cluster.master.kill9()?;
    command!("REPLICAOF", "NO", "ONE").exec(&mut cluster.replica.client()?)?;
    follow_until_up(&sibling, cluster.replica.port())?;
    // Nothing that expires: a master before 7.0 sends its replicas the time that is left, not when it ends.
    let mut client = cluster.replica.client()?;
    for n in 0..1000 {
        command!("SET", format!("promoted:{n}"), n).exec(&mut client)?;
    }
    await_place(&sibling, &cluster.replica)?;
    assert_equal(&cluster.replica, &sibling)?;
    syncs(&cluster.replica)
}

#[test]
fn behind_a_promoted_replica_that_was_shifted_there_is_a_full_sync() -> Result<()> {
    let syncs = promoted("redis-6.0")?;
    ensure!(syncs == (1, 0), "full and partial syncs: {syncs:?}");
    Ok(())
}

#[test]
fn behind_a_promoted_replica_that_never_was_replicas_go_on() -> Result<()> {
    let syncs = promoted("redis-7.0")?;
    ensure!(syncs == (0, 1), "full and partial syncs: {syncs:?}");
    Ok(())
}
