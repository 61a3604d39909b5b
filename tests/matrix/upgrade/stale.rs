//! A sidecar that stands still for a while, and then goes on as if no time had passed.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use segue_bench::{child::wait_for, sidecar::Sidecar};
use serde_json::Value;

use super::{
    assert_nothing_lost, await_cut, is_master,
    lab::{Lab, NODES, Plan, TRANSACTION_TIME_MAX},
    write,
};

/// Stopped as by SIGSTOP until this value is dropped.
struct Stopped(Pid);

impl Stopped {
    fn new(sidecar: &Sidecar) -> Result<Self> {
        let pid = Pid::from_raw(i32::try_from(sidecar.pid())?).context("no pid")?;
        kill_process(pid, Signal::STOP)?;
        Ok(Self(pid))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // Of one that has ended nothing is wanted.
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// The status as this node knows it, once it is so.
fn await_at(lab: &Lab, at: usize, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
    let mut last = Value::Null;
    let found = wait_for(TRANSACTION_TIME_MAX, || {
        last = lab.status(at).unwrap_or_default();
        Ok(is_so(&last).then(|| last.clone()))
    })?;
    found.with_context(|| format!("not so: {what}: {last:#}"))
}

fn pending<'a>(status: &'a Value, node: &str, step: &str) -> Option<&'a Value> {
    let mut pending = status["transaction"]["pending"].as_array()?.iter();
    pending.find(|pending| pending["node"] == node && pending["step"] == step)
}

/// Each action ended once, and each step of a node was done once.
fn assert_once(lab: &Lab, steps: &[&str]) -> Result<()> {
    let status = await_at(lab, 1, "it has a journal", |status| status["journal"].is_array())?;
    let journal = status["journal"].as_array().context("no journal")?;
    let mut ended: BTreeMap<String, usize> = BTreeMap::new();
    let mut done: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in journal {
        let (Some(action), Some(node)) = (line["action"].as_str(), line["node"].as_str()) else { continue };
        let text = line["text"].as_str().unwrap_or_default();
        if let Some(step) = text.strip_suffix(" is done") {
            *done.entry((node.to_owned(), step.to_owned())).or_default() += 1;
            *ended.entry(action.to_owned()).or_default() += 1;
        } else if text.contains(" failed: ") {
            *ended.entry(action.to_owned()).or_default() += 1;
        }
    }
    let twice: Vec<_> = ended.iter().filter(|(_, times)| **times != 1).collect();
    ensure!(twice.is_empty(), "ended more than once: {twice:?}\n{journal:#?}");
    for node in NODES {
        for step in steps {
            let times = done.get(&(node.to_owned(), (*step).to_owned())).copied().unwrap_or_default();
            ensure!(times == 1, "{step} of {node} was done {times} times\n{journal:#?}");
        }
    }
    Ok(())
}

#[test]
fn a_leader_that_stood_still_does_nothing_twice() -> Result<()> {
    let lab = Lab::start(&Plan::new("redis-6.0", "redis-8.0"))?;
    let writers = write(&lab);
    lab.hold(1, "install")?;
    lab.begin(0, "redis-8.0")?;
    let is_installed = |status: &Value| {
        let leader = &status["mesh"]["leader"];
        pending(status, "n2", "install").is_some() && leader.is_string() && leader != "n2"
    };
    let status = await_at(&lab, 0, "n2 is being installed, and another leads", is_installed)?;
    let leader = status["mesh"]["leader"].as_str().context("nobody leads")?.to_owned();
    let stood = NODES.iter().position(|node| *node == leader).context("no such leader")?;
    let other = (0..NODES.len()).find(|node| *node != stood).context("no other")?;

    let stopped = Stopped::new(&lab.sidecars[stood])?;
    await_at(&lab, other, "another leads", |status| {
        status["mesh"]["leader"].as_str().is_some_and(|now| now != leader)
    })?;
    lab.told(other, &["pause"])?;
    lab.let_go(1, "install")?;
    await_at(&lab, other, "n2 has gone on", |status| pending(status, "n2", "install").is_none())?;
    drop(stopped);
    await_at(&lab, stood, "it knows of the pause", |status| {
        status["transaction"]["paused"]["cause"] == "operator"
    })?;
    lab.told(other, &["resume"])?;
    lab.await_phase("upgraded")?;
    assert_once(&lab, &["set-aside", "stop", "install", "start", "catch-up", "notify"])?;
    lab.told(stood, &["finalize"])?;
    lab.await_phase("done")?;
    assert_nothing_lost(&lab, writers).map(drop)
}

#[test]
fn a_sidecar_that_stood_still_past_its_deadlines_changes_nothing_late() -> Result<()> {
    let plan = Plan {
        gated: true,
        upgrade: "step_time_max = \"8s\"\nattempts_max = 16",
        ..Plan::new("redis-6.0", "redis-8.0")
    };
    let lab = Lab::start(&plan)?;
    let writers = write(&lab);
    lab.hold(1, "install")?;
    lab.begin(0, "redis-8.0")?;
    let claimed = |status: &Value| pending(status, "n2", "install").is_some_and(|it| it["claimed"] == true);
    let status = await_at(&lab, 0, "n2 is being installed", claimed)?;
    let first = pending(&status, "n2", "install").context("it is gone")?["id"].clone();
    let stopped = Stopped::new(&lab.sidecars[1])?;
    // The hook itself goes on to its end meanwhile.
    lab.let_go(1, "install")?;
    let second = |status: &Value| pending(status, "n2", "install").is_some_and(|it| it["id"] != first);
    await_at(&lab, 0, "it is asked for again", second)?;
    drop(stopped);

    // The old master's sidecar stands still where the new one has just got the role.
    let [old, new] = await_cut(&lab)?;
    let stopped = Stopped::new(&lab.sidecars[old])?;
    let at = (0..NODES.len()).find(|node| *node != old).context("no other")?;
    await_at(&lab, at, "its move is not waited for", |status| {
        pending(status, NODES[old], "move-master").is_none()
    })?;
    ensure!(is_master(&lab, new)? && !is_master(&lab, old)?, "not one master");
    drop(stopped);
    lab.await_phase("upgraded")?;
    ensure!(lab.await_in_sync()? == new, "another node became master");
    let status = lab.status(at)?;
    let late = status["journal"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|line| line["action"] == first && line["text"] == "install is done");
    ensure!(late.is_none(), "the first try was done late: {late:?}");
    assert_once(&lab, &["install", "start", "catch-up", "notify"])?;
    lab.told(0, &["finalize"])?;
    lab.await_phase("done")?;
    assert_nothing_lost(&lab, writers).map(drop)
}
