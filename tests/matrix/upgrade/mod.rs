//! Whole clusters upgraded, rolled back and finalized by their sidecars.

mod hooks;
mod lab;
mod losses;
mod takeover;

use anyhow::{Result, ensure};
use segue_bench::client;

use crate::switch::writers::Writers;
use lab::{Lab, NODES, Plan};

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
    let second = lab.upgrade(0, &["start", "--to", "redis-8.0"])?.unwrap_err();
    ensure!(second.contains("transaction 1 runs already"), "{second}");
    lab.await_phase("upgraded")?;
    on("8.0.")?;
    lab.told(0, &["rollback"])?;
    lab.await_phase("rolled-back")?;
    on("6.0.")?;
    lab.await_registered("redis-6.0")?;
    lab.begin(1, "redis-8.0")?;
    lab.await_phase("upgraded")?;
    lab.told(1, &["finalize"])?;
    lab.await_phase("done")?;
    on("8.0.")?;
    let master = lab.await_in_sync()?;
    let written = writers.assert_nothing_lost(lab.ports()[master])?;
    println!("{written} acknowledged writes, none lost");
    Ok(())
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
        upgrade: "attempts_max = 1",
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
