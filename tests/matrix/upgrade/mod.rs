//! Whole clusters upgraded, rolled back and finalized by their sidecars.

mod adopted;
mod hooks;
mod lab;
mod losses;
mod masters;
mod stale;
mod takeover;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
};

use anyhow::{Context, Result, bail, ensure};
use segue_bench::{child::wait_for, client, client::Info, command, writers as paced};

use crate::switch::writers::Writers;
use lab::{Lab, NODES, Plan, SYNC_TIME_MAX, TRANSACTION_TIME_MAX};

/// From the end of a try that failed to the next one.
const RETRY_PAUSE_MS: u64 = 5000;
const WRITES_PER_S: u32 = 300;

fn await_so(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_for(SYNC_TIME_MAX, || Ok(is_so().unwrap_or(false).then_some(())))?
        .with_context(|| format!("not so: {what}"))
}

fn is_master(lab: &Lab, store: usize) -> Result<bool> {
    Ok(lab.replication(store)?.get("role") == Some("master"))
}

/// Clients that write at a fixed rate, and so tell pauses apart.
fn write(lab: &Lab) -> paced::Writers {
    paced::Writers::start(lab.ports().map(|port| ([127, 0, 0, 1], port).into()).to_vec(), WRITES_PER_S)
}

/// The master, which has all that was acknowledged.
fn assert_nothing_lost(lab: &Lab, writers: paced::Writers) -> Result<usize> {
    let history = writers.stop()?;
    let (written, pause_ms) = (history.writes.len(), history.longest_pause.as_millis());
    let master = lab.await_in_sync()?;
    let lost = history.lost(lab.stores[master].port)?;
    ensure!(lost.is_empty(), "{} of {written} writes are lost", lost.len());
    println!("{written} acknowledged writes, none lost; longest pause {pause_ms} ms");
    Ok(master)
}

/// Until a master has given its role away, and its sidecar has not heard that the new one has it: both.
fn await_cut(lab: &Lab) -> Result<[usize; 2]> {
    // One that is being upgraded does not answer.
    let from = (0..NODES.len()).find(|store| is_master(lab, *store).unwrap_or(false)).context("no master")?;
    lab.gates.iter().for_each(|gate| gate.cut_promotion(true));
    let to = wait_for(TRANSACTION_TIME_MAX, || {
        Ok((0..NODES.len()).find(|store| !lab.gates[*store].waits_for_promotion()))
    })?;
    lab.gates.iter().for_each(|gate| gate.cut_promotion(false));
    let to = to.context("the master does not move")?;
    await_so("the new one is master", || is_master(lab, to))?;
    Ok([from, to])
}

#[test]
fn up_and_back_and_up_again_and_nothing_is_lost() -> Result<()> {
    let lab = Lab::start(&Plan::new("redis-6.0", "redis-8.0"))?;
    let writers = Writers::start(lab.ports());
    let on = |version: &str| -> Result<()> {
        for (number, node) in NODES.iter().enumerate() {
            let found = lab.version(number)?;
            ensure!(found.starts_with(version), "{node} is on {found}");
        }
        Ok(())
    };
    lab.begin(2, "redis-8.0")?;
    let mut second = String::new();
    await_so("a second one is refused", || {
        second = lab.upgrade(0, &["start", "--to", "redis-8.0"])?.unwrap_err();
        Ok(second.contains("transaction 1 runs already"))
    })
    .with_context(|| second.clone())?;
    lab.await_phase("upgraded")?;
    on("8.0.")?;
    lab.told(0, &["rollback"])?;
    let status = lab.await_phase("rolled-back")?;
    on("6.0.")?;
    // The next one can begin at once.
    for node in status["nodes"].as_array().context("no nodes")? {
        ensure!(node["release"].as_str().is_some_and(|release| release.starts_with("redis-6.0")), "{node}");
    }
    went_back_with_their_data(&lab)?;
    lab.begin(1, "redis-8.0")?;
    lab.await_phase("upgraded")?;

    let before = count_by_ids_of_their_own(&lab)?;
    let secondaries = Secondaries::watch(&lab)?;
    lab.told(1, &["finalize"])?;
    lab.await_phase("done")?;
    secondaries.were_never_all_away()?;
    on("8.0.")?;
    let master = lab.await_in_sync()?;
    let full_syncs = lab.full_syncs(master)? - before;
    ensure!(full_syncs == 2, "{full_syncs} full syncs to turn the links");
    let written = writers.assert_nothing_lost(lab.ports()[master])?;
    println!("{written} acknowledged writes, none lost");
    Ok(())
}

/// As `config/set-aside.sh` has converted them.
fn went_back_with_their_data(lab: &Lab) -> Result<()> {
    let mut partly = 0;
    for (number, node) in NODES.iter().enumerate() {
        let log = lab.log(number)?;
        let (_, since) = log.rsplit_once("Redis version=6.0.").context("it never was on 6.0")?;
        ensure!(since.contains("Loading RDB produced by version 8.0."), "{node} began without data: {since}");
        partly += u32::from(since.contains("Successful partial resynchronization with master"));
    }
    ensure!(partly > 0, "all needed a full sync");
    println!("{partly} of {} went back by a partial resync", NODES.len());
    Ok(())
}

/// As each does after a full sync from an upgraded master that speaks 6.0. So many full syncs its master has given.
fn count_by_ids_of_their_own(lab: &Lab) -> Result<u64> {
    let master = lab.await_in_sync()?;
    command!("CONFIG", "SET", "repl-backlog-size", 16384).exec(&mut client::connect(lab.ports()[master])?)?;
    for number in (0..NODES.len()).filter(|number| *number != master) {
        let before = lab.full_syncs(master)?;
        let whole = wait_for(TRANSACTION_TIME_MAX, || {
            // Its sidecar sends it back; more has been written by then than its master has kept.
            command!("REPLICAOF", "127.0.0.1", 1).exec(&mut client::connect(lab.ports()[number])?)?;
            lab.await_in_sync()?;
            Ok((lab.full_syncs(master)? > before).then_some(()))
        })?;
        whole.with_context(|| format!("{} gets no full sync", NODES[number]))?;
    }
    lab.full_syncs(master)
}

/// Whether they have their master, asked all the time.
struct Secondaries {
    over: Arc<AtomicBool>,
    looks: JoinHandle<Result<u32>>,
}

impl Secondaries {
    fn watch(lab: &Lab) -> Result<Self> {
        let master = lab.ports()[lab.await_in_sync()?];
        let mut clients = Vec::new();
        for port in lab.ports().into_iter().filter(|port| *port != master) {
            clients.push(client::connect(port)?);
        }
        let over = Arc::new(AtomicBool::new(false));
        let looks = std::thread::spawn({
            let over = over.clone();
            move || {
                let mut looks = 0;
                while !over.load(Relaxed) {
                    let mut is_away = |at: usize| -> Result<bool> {
                        let info = Info::ask(&mut clients[at], "replication")?;
                        Ok(info.get("master_link_status") != Some("up"))
                    };
                    // The first one may have come back while the other was asked.
                    ensure!(!(is_away(0)? && is_away(1)? && is_away(0)?), "both are away");
                    looks += 1;
                }
                Ok(looks)
            }
        });
        Ok(Self { over, looks })
    }

    fn were_never_all_away(self) -> Result<()> {
        self.over.store(true, Relaxed);
        let looks = self.looks.join().map_err(|_| anyhow::anyhow!("the watch ended badly"))??;
        ensure!(looks > 0, "nobody looked");
        Ok(())
    }
}

#[test]
fn a_hook_that_is_not_there_is_named_before_anything_is_touched() -> Result<()> {
    let hook = Some(("n2", "install", "[\"/nowhere/install-redis\", \"{release}\"]"));
    let lab = Lab::start(&Plan { hook, ..Plan::new("redis-6.0", "redis-8.0") })?;
    lab.begin(0, "redis-8.0")?;
    let status = lab.await_phase("failed")?;
    let reason = status["transaction"]["reason"].as_str().unwrap_or_default();
    let expected = "preflight of n2 failed: the install hook can't run: /nowhere/install-redis: No such file";
    ensure!(reason.starts_with(expected), "{reason}");
    Ok(())
}

#[test]
fn a_missing_program_takes_the_node_back_and_is_named() -> Result<()> {
    let plan = Plan {
        upgrade: "attempts_max = 2",
        without_program: Some("n3"),
        ..Plan::new("redis-6.0", "redis-8.0")
    };
    let lab = Lab::start(&plan)?;
    lab.begin(0, "redis-8.0")?;
    let status = lab.await_status("n3 taken back", |status| {
        status["transaction"]["paused"]["node"] == "n3"
            && status["transaction"]["pending"] == serde_json::json!([])
    })?;
    let why = status["transaction"]["paused"]["why"].as_str().unwrap_or_default();
    ensure!(
        why.contains("install of n3 failed") && why.contains("there is no program bin/redis-8.0"),
        "{why}"
    );
    ensure!(lab.version(1)?.starts_with("8.0.") && lab.version(2)?.starts_with("6.0."), "{status:#}");
    let journal = status["journal"].as_array().context("no journal")?;
    let installs = journal.iter().filter(|line| line["node"] == "n3" && line["text"] == "install begins");
    let tried: Vec<u64> = installs.filter_map(|line| line["at_ms"].as_u64()).collect();
    let [_the_way_back, second, first] = *tried else {
        bail!("install of n3 began at {tried:?}\n{journal:#?}")
    };
    ensure!(second >= first + RETRY_PAUSE_MS, "tried again after {} ms", second.saturating_sub(first));
    lab.told(1, &["rollback"])?;
    lab.await_phase("rolled-back")?;
    ensure!(lab.version(1)?.starts_with("6.0."));
    Ok(())
}

#[test]
fn a_hook_that_hangs_is_ended_and_the_node_taken_back() -> Result<()> {
    let hangs =
        r#"["sh", "-c", "case $1 in redis-8*) echo fetching; sleep 600 ;; esac", "install", "{release}"]"#;
    let plan = Plan {
        upgrade: "attempts_max = 1\nstep_time_max = \"15s\"",
        hook: Some(("n2", "install", hangs)),
        ..Plan::new("redis-6.0", "redis-8.0")
    };
    let lab = Lab::start(&plan)?;
    lab.begin(0, "redis-8.0")?;
    let status = lab.await_status("n2 taken back", |status| {
        status["transaction"]["paused"]["node"] == "n2"
            && status["transaction"]["pending"] == serde_json::json!([])
    })?;
    let paused = &status["transaction"]["paused"];
    let why = paused["why"].as_str().unwrap_or_default();
    ensure!(
        paused["cause"] == "taken-back" && why.starts_with("install of n2 failed: sh did not end within"),
        "{status:#}"
    );
    ensure!(why.ends_with("and was ended: fetching"), "{why}");
    ensure!(lab.version(1)?.starts_with("6.0.") && lab.await_in_sync()? == 0);
    lab.told(2, &["rollback"])?;
    lab.await_phase("rolled-back")?;
    Ok(())
}

/// The master lets nobody begin to follow it; who does already, goes on.
#[test]
fn a_node_that_does_not_catch_up_shuts_its_gate_until_it_does() -> Result<()> {
    let plan = Plan { upgrade: "gate_time_max = \"15s\"", ..Plan::new("redis-6.0", "redis-8.0") };
    let lab = Lab::start(&plan)?;
    let mut master = client::connect(lab.ports()[0])?;
    let mut followers =
        |may: [&str; 2]| redis::cmd("ACL").arg("SETUSER").arg("default").arg(&may).exec(&mut master);
    followers(["-psync", "-sync"])?;
    lab.begin(0, "redis-8.0")?;
    let status = lab.await_pause("catch-up", "n2")?;
    let paused = &status["transaction"]["paused"];
    let why = paused["why"].as_str().unwrap_or_default();
    ensure!(paused["node"] == "n2" && paused["cause"] == "gate", "{status:#}");
    // What it was seen at last may be a sync that it tries in vain.
    ensure!(why.starts_with("catch-up of n2 took too long: the store "), "{why}");
    ensure!(lab.version(1)?.starts_with("8.0.") && lab.version(2)?.starts_with("6.0."), "{status:#}");
    followers(["+psync", "+sync"])?;
    lab.told(1, &["resume"])?;
    lab.await_upgraded("n2")
}

#[test]
fn a_full_disk_is_told_before_anything_is_touched() -> Result<()> {
    let plan = Plan { upgrade: "data_dir = \"/proc\"", ..Plan::new("redis-6.0", "redis-8.0") };
    let lab = Lab::start(&plan)?;
    lab.begin(0, "redis-8.0")?;
    let status = lab.await_phase("failed")?;
    let reason = status["transaction"]["reason"].as_str().unwrap_or_default();
    ensure!(
        reason.contains("0 bytes are free at /proc (disk_free_bytes_min = 1000000): make room"),
        "{reason}"
    );
    Ok(())
}
