//! What goes wrong at each state of a transaction: a sidecar or a store is killed, a node is cut off.
//!
//! One cluster goes up and back, and on the way faults happen, each at what is pending for a node. One counts
//! only if that had not ended by then, by the journal; else it is tried again. Without a seed they are
//! [`CHOSEN`], always the same. `SEGUE_FAULTS=all` tries every fault at every state, in minutes, in an order by
//! `SEGUE_FAULTS_SEED=N`. A seed alone tries as many of them as there is time for in [`TIME_MAX`].

mod blow;

use std::{
    collections::BTreeSet,
    env, fmt,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use segue_bench::child::wait_for;
use serde_json::Value;

use super::{
    lab::{Frozen, Lab, Plan, TRANSACTION_TIME_MAX},
    under_load,
};
use blow::{Blow, Fault};

/// What is pending; and what is waited for.
const STATES: [&str; 11] = [
    "preflight",
    "gate-before",
    "stop",
    "set-aside",
    "install",
    "start",
    "catch-up",
    "notify",
    "gate-after",
    "move-master",
    "soaking",
];
/// Each at another node: up at two secondaries and then the master, and so on the way back; the last is at
/// finalize.
const CHOSEN: [Case; 7] = [
    Case::new(Fault::CutMesh, "set-aside"),
    Case::new(Fault::OwnSidecar, "start"),
    Case::new(Fault::Store, "move-master"),
    Case::new(Fault::CutOff, "catch-up"),
    Case::new(Fault::Store, "catch-up"),
    Case::new(Fault::Coordinator, "move-master"),
    Case::new(Fault::OwnSidecar, FINALIZE),
];
const FINALIZE: &str = "finalize";
/// Of the order of all, where no other is given.
const SEED: u64 = 1;
/// After it no transaction begins but the last, where a seed alone is given.
const TIME_MAX: Duration = Duration::from_secs(45);
const LEAD_TIME_MAX: Duration = Duration::from_secs(60);
const RESUME_PERIOD: Duration = Duration::from_secs(1);
const RESUMES_MAX: u32 = 20;
/// Faults that came when what they were meant for had ended.
const MISSES_MAX: u32 = 100;

#[derive(Clone, Copy)]
struct Case {
    fault: Fault,
    state: &'static str,
}

impl Case {
    const fn new(fault: Fault, state: &'static str) -> Self {
        Self { fault, state }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {}", self.fault, self.state)
    }
}

/// What is tried.
struct Choice {
    /// Of two that could happen, the first does. Each at finalize takes a cluster of its own.
    cases: Vec<Case>,
    time_max: Duration,
    said: String,
}

impl Choice {
    fn of_environment() -> Result<Self> {
        let seed = env::var("SEGUE_FAULTS_SEED").ok().map(|seed| seed.parse::<u64>()).transpose()?;
        let all = env::var("SEGUE_FAULTS").is_ok_and(|faults| faults == "all");
        if !all && seed.is_none() {
            return Ok(Self { cases: CHOSEN.to_vec(), time_max: Duration::MAX, said: "chosen".to_owned() });
        }
        let seed = seed.unwrap_or(SEED);
        let every = |state: &&'static str| Fault::ALL.map(|fault| Case { fault, state });
        let mut cases: Vec<Case> = STATES.iter().chain([&FINALIZE]).flat_map(every).collect();
        Rng::with_seed(seed).shuffle(&mut cases);
        if all {
            let said = format!("SEGUE_FAULTS=all SEGUE_FAULTS_SEED={seed}");
            return Ok(Self { cases, time_max: Duration::MAX, said });
        }
        let mut at_finalize = 0;
        cases.retain(|case| {
            at_finalize += usize::from(case.state == FINALIZE);
            case.state != FINALIZE || at_finalize == 1
        });
        Ok(Self { cases, time_max: TIME_MAX, said: format!("SEGUE_FAULTS_SEED={seed}") })
    }
}

#[test]
fn whatever_is_killed_or_cut_off_the_transaction_ends_and_nothing_is_lost() -> Result<()> {
    let Choice { cases, time_max, said } = Choice::of_environment()?;
    let (at_finalize, mut cases): (Vec<_>, Vec<_>) =
        cases.into_iter().partition(|case| case.state == FINALIZE);
    for last in at_finalize {
        let mut plan = Plan::new("redis-6.0", "redis-8.0");
        plan.upgrade = "soak = \"2s\"\ngate_time_max = \"20s\"\nstep_time_max = \"60s\"";
        // A master that is killed and comes back has all that it acknowledged, as without Segue.
        plan.options = "--appendonly yes --appendfsync always --repl-timeout 10";
        let Some(lab) = Lab::start(plan)? else { return Ok(()) };
        let left = std::mem::take(&mut cases);
        let mut trouble = Trouble {
            lab: &lab,
            left,
            happened: Vec::new(),
            misses: 0,
            transaction: 0,
            begun: Instant::now(),
        };
        let run = under_load(&lab, || trouble.run(last, time_max));
        let happened = listed(&trouble.happened);
        println!("faults that happened ({said}): {happened}");
        run.with_context(|| format!("{said}; faults that happened: {happened}"))?;
    }
    Ok(())
}

/// What is asked of a node; no action where all only wait.
struct Asked {
    node: String,
    step: String,
    action: Option<String>,
}

struct Trouble<'a> {
    lab: &'a Lab,
    left: Vec<Case>,
    happened: Vec<Case>,
    misses: u32,
    /// The number of the one that was begun last.
    transaction: u64,
    begun: Instant,
}

impl Trouble<'_> {
    fn run(&mut self, last: Case, time_max: Duration) -> Result<()> {
        while !self.left.is_empty() && self.begun.elapsed() < time_max {
            if self.goes_up()? {
                self.lab.told(&["rollback"])?;
                self.gets_to("rolled-back")?;
            }
        }
        let not_tried = std::mem::take(&mut self.left);
        if !not_tried.is_empty() {
            println!("faults that are not tried: {}", listed(&not_tried));
        }
        let up = wait_for(TRANSACTION_TIME_MAX, || Ok(self.goes_up()?.then_some(())))?;
        up.context("an upgrade without faults fails")?;
        self.finalizes(last)?;
        self.gets_to("done")?;
        // A store may just have been started again.
        let run = wait_for(TRANSACTION_TIME_MAX, || Ok(self.lab.all_run("8.0.").ok()))?;
        run.with_context(|| self.stuck("all on the new release"))
    }

    fn goes_up(&mut self) -> Result<bool> {
        self.lab.told(&["start", "--to", self.lab.plan.to])?;
        self.transaction += 1;
        self.gets_to("upgraded")
    }

    /// With faults on the way; false where it ended before any node was touched.
    fn gets_to(&mut self, phase: &str) -> Result<bool> {
        let started = Instant::now();
        let mut struck = BTreeSet::new();
        let mut resumes = 0;
        loop {
            ensure!(started.elapsed() < TRANSACTION_TIME_MAX, "{}", self.stuck(phase));
            let Ok(status) = self.lab.status() else { continue };
            let transaction = &status["transaction"];
            if transaction["id"] != self.transaction {
                // Who has just begun to lead still reads what was agreed on.
                continue;
            }
            if transaction["phase"] == phase {
                self.say(phase);
                ensure!(!has_hung(&status), "a hook did not end: {}", status["journal"]);
                return Ok(true);
            }
            if transaction["over"] == true {
                ensure!(transaction["phase"] == "failed" && phase == "upgraded", "{}", self.stuck(phase));
                self.say(&format!("failed: {}", transaction["reason"]));
                self.lab.level()?;
                return Ok(false);
            }
            if let Some((at, asked)) = self.due(&status, &struck) {
                if self.happens(at, &asked, &status)? {
                    struck.insert(asked.node);
                }
            } else if transaction["paused"].is_object() {
                resumes += 1;
                ensure!(resumes <= RESUMES_MAX, "{}", self.stuck(phase));
                self.say(&format!("paused: {}", transaction["paused"]["why"]));
                sleep(RESUME_PERIOD);
                // It may have gone on meanwhile.
                drop(self.lab.told(&["resume"]));
            }
        }
    }

    /// A fault for what is asked of a node that had none on this way.
    fn due(&self, status: &Value, struck: &BTreeSet<String>) -> Option<(usize, Asked)> {
        let mut asked = asked(status).into_iter().filter(|asked| !struck.contains(&asked.node));
        asked.find_map(|asked| Some((self.left.iter().position(|case| case.state == asked.step)?, asked)))
    }

    /// Did it come before that had ended?
    fn happens(&mut self, at: usize, asked: &Asked, status: &Value) -> Result<bool> {
        let case = *self.left.get(at).context("no such fault")?;
        self.say(&format!("{case} of {}", asked.node));
        let blow = Blow::new(case.fault, self.lab, &asked.node, status["mesh"]["leader"].as_str())?;
        let struck_at_ms = blow.strike()?;
        blow.end(case.state).with_context(|| case.to_string())?;
        let status = wait_for(LEAD_TIME_MAX, || Ok(self.lab.status().ok()))?;
        let status = status.with_context(|| format!("nobody leads\n{}", self.lab.logs()))?;
        if had_ended(asked, struck_at_ms, &status) {
            self.misses += 1;
            self.say("… which had ended by then");
            blow.came_too_late().with_context(|| case.to_string())?;
            ensure!(self.misses <= MISSES_MAX, "these always come too late: {}", listed(&self.left));
            return Ok(false);
        }
        self.happened.push(self.left.remove(at));
        Ok(true)
    }

    /// One sidecar stands still, so that what is asked of it is pending when the fault comes.
    fn finalizes(&mut self, case: Case) -> Result<()> {
        let leader = &self.lab.leader()?.id;
        let still = self.lab.nodes.iter().rfind(|node| node.id != *leader);
        let still = still.context("all lead")?;
        let frozen = Frozen::new(still)?;
        self.lab.told(&["finalize"])?;
        let is_asked = wait_for(TRANSACTION_TIME_MAX, || {
            let status = self.lab.status().unwrap_or_default();
            Ok(asked(&status).iter().any(|asked| asked.node == still.id).then_some(()))
        })?;
        is_asked.with_context(|| self.stuck(FINALIZE))?;
        self.say(&format!("{case} of {}", still.id));
        let blow = Blow::new(case.fault, self.lab, &still.id, Some(leader))?;
        blow.strike()?;
        drop(frozen);
        blow.end(case.state).with_context(|| case.to_string())?;
        self.happened.push(case);
        Ok(())
    }

    fn say(&self, what: &str) {
        println!("{:6.1} s: {what}", self.begun.elapsed().as_secs_f64());
    }

    fn stuck(&self, phase: &str) -> String {
        format!(
            "not {phase}: {:#}\n{}",
            self.lab.status().unwrap_or_default()["transaction"],
            self.lab.logs()
        )
    }
}

fn asked(status: &Value) -> Vec<Asked> {
    let transaction = &status["transaction"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    if transaction["phase"] == "soaking" {
        let nodes = status["nodes"].as_array().into_iter().flatten();
        let waits =
            |node: &Value| Some(Asked { node: text(&node["id"])?, step: "soaking".to_owned(), action: None });
        return nodes.filter_map(waits).collect();
    }
    let pending = transaction["pending"].as_array().into_iter().flatten();
    let is_asked = |pending: &Value| {
        let (node, step) = (text(&pending["node"])?, text(&pending["step"])?);
        Some(Asked { node, step, action: text(&pending["id"]) })
    };
    pending.filter_map(is_asked).collect()
}

/// By the journal; in milliseconds since the epoch.
fn had_ended(asked: &Asked, at_ms: u64, status: &Value) -> bool {
    let ends = match &asked.action {
        Some(_) => [format!("{} is done", asked.step), format!("{} failed", asked.step)],
        None => ["the transaction is upgraded".to_owned(), "the transaction is rolling-back".to_owned()],
    };
    let mut journal = status["journal"].as_array().into_iter().flatten();
    journal.any(|line| {
        let text = line["text"].as_str().unwrap_or_default();
        line["transaction"] == status["transaction"]["id"]
            && line["action"].as_str() == asked.action.as_deref()
            && ends.iter().any(|end| text.starts_with(end))
            && line["at_ms"].as_u64().is_some_and(|ended_at_ms| ended_at_ms <= at_ms)
    })
}

/// A store is stopped when it would end: a signal that comes too early does nothing.
fn has_hung(status: &Value) -> bool {
    let mut journal = status["journal"].as_array().into_iter().flatten();
    journal.any(|line| line["text"].as_str().is_some_and(|text| text.contains("did not end within")))
}

fn listed(cases: &[Case]) -> String {
    cases.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
