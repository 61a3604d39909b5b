//! What goes wrong at each state of a transaction: a sidecar or a store is killed, a node is cut off.
//!
//! One cluster goes up and back, and at each state one of the faults that are left happens. Which ones come first
//! is by a seed; those for which there is no time are named. `SEGUE_FAULTS_SEED=N` replays a choice (up to
//! timing), `SEGUE_FAULTS=all` takes the time for all.

use std::{
    collections::BTreeSet,
    env, fmt,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{
    lab::{Lab, Node, Plan, TRANSACTION_TIME_MAX},
    under_load,
};

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
const FAULTS: [Fault; 4] = [Fault::Coordinator, Fault::OwnSidecar, Fault::Store, Fault::CutOff];
/// After it no transaction begins but the last.
const TIME_MAX: Duration = Duration::from_secs(45);
const DOWN_TIME: Duration = Duration::from_secs(1);
/// Longer than a word of a node is good.
const CUT_OFF_TIME: Duration = Duration::from_secs(7);
const RESUMES_MAX: u32 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The sidecar that leads is killed, and started again.
    Coordinator,
    /// That of the node of which something is asked.
    OwnSidecar,
    /// The store of that node.
    Store,
    /// That node can't reach any other, nor clients it.
    CutOff,
}

struct Case {
    state: &'static str,
    fault: Fault,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {}", self.fault, self.state)
    }
}

#[test]
fn whatever_is_killed_or_cut_off_the_transaction_ends_and_nothing_is_lost() -> Result<()> {
    let seed = match env::var("SEGUE_FAULTS_SEED") {
        Ok(seed) => seed.parse()?,
        Err(_) => Rng::new().u64(..),
    };
    let all = env::var("SEGUE_FAULTS").is_ok_and(|faults| faults == "all");
    let mut plan = Plan::new("redis-6.0", "redis-8.0");
    plan.upgrade = "soak = \"2s\"\ngate_time_max = \"20s\"\nstep_time_max = \"60s\"";
    // A master that is killed and comes back has all that it acknowledged, as without Segue.
    plan.options = "--appendonly yes --repl-timeout 10";
    let Some(lab) = Lab::start(plan)? else { return Ok(()) };
    let mut rng = Rng::with_seed(seed);
    let mut left: Vec<Case> =
        STATES.iter().flat_map(|state| FAULTS.map(|fault| Case { state, fault })).collect();
    rng.shuffle(&mut left);
    let at_finalize = Case { state: "finalize", fault: FAULTS[rng.usize(..FAULTS.len())] };
    let mut trouble = Trouble { lab: &lab, left, happened: Vec::new() };
    let run = under_load(&lab, || {
        let started = Instant::now();
        while !trouble.left.is_empty() && (all || started.elapsed() < TIME_MAX) {
            if trouble.goes("upgraded", &["start", "--to", lab.plan.to])? {
                trouble.goes("rolled-back", &["rollback"])?;
            }
        }
        let not_tried = std::mem::take(&mut trouble.left);
        if !not_tried.is_empty() {
            println!("faults that are not tried: {}", listed(&not_tried));
        }
        let up = trouble.goes("upgraded", &["start", "--to", lab.plan.to])?;
        ensure!(up, "an upgrade without faults fails");
        trouble.left.push(at_finalize);
        trouble.goes("done", &["finalize"])?;
        lab.all_run("8.0.")
    });
    let happened = listed(&trouble.happened);
    println!("faults that happened (seed {seed}): {happened}");
    run.with_context(|| format!("replay with SEGUE_FAULTS_SEED={seed}; faults that happened: {happened}"))
}

struct Trouble<'a> {
    lab: &'a Lab,
    left: Vec<Case>,
    happened: Vec<Case>,
}

impl Trouble<'_> {
    /// To this phase, with faults on the way; false where it ended before any node was touched.
    fn goes(&mut self, until: &str, words: &[&str]) -> Result<bool> {
        self.lab.told(words)?;
        let started = Instant::now();
        let mut struck = BTreeSet::new();
        let mut resumes = 0;
        loop {
            ensure!(started.elapsed() < TRANSACTION_TIME_MAX, "{}", self.stuck(until));
            let Ok(status) = self.lab.status() else { continue };
            let transaction = &status["transaction"];
            if transaction["phase"] == until {
                return Ok(true);
            }
            if transaction["over"] == true {
                ensure!(transaction["phase"] == "failed" && until == "upgraded", "{}", self.stuck(until));
                self.lab.level()?;
                return Ok(false);
            }
            if let Some((at, node)) = self.due(&status, &struck) {
                let case = self.left.swap_remove(at);
                println!("{case} of {node}");
                self.strike(&case, &node, &status).with_context(|| case.to_string())?;
                self.happened.push(case);
                struck.insert(node);
            } else if transaction["paused"].is_object() {
                resumes += 1;
                ensure!(resumes <= RESUMES_MAX, "{}", self.stuck(until));
                println!("paused: {}", transaction["paused"]["why"]);
                sleep(DOWN_TIME);
                // It may have gone on meanwhile.
                drop(self.lab.told(&["resume"]));
            }
        }
    }

    /// A fault for what is asked of a node that had none on this way.
    fn due(&self, status: &Value, struck: &BTreeSet<String>) -> Option<(usize, String)> {
        let pending = status["transaction"]["pending"].as_array()?;
        let mut asked: Vec<(&str, &str)> = pending
            .iter()
            .filter_map(|pending| Some((pending["step"].as_str()?, pending["node"].as_str()?)))
            .collect();
        if status["transaction"]["phase"] == "soaking" {
            asked.extend(self.lab.nodes.iter().map(|node| ("soaking", &*node.id)));
        }
        asked.into_iter().filter(|(_, node)| !struck.contains(*node)).find_map(|(step, node)| {
            let at = self.left.iter().position(|case| case.state == step)?;
            Some((at, node.to_owned()))
        })
    }

    fn strike(&self, case: &Case, node: &str, status: &Value) -> Result<()> {
        let node = self.lab.named(node)?;
        match case.fault {
            Fault::Coordinator => {
                restart(self.lab.named(status["mesh"]["leader"].as_str().context("nobody leads")?)?)
            }
            Fault::OwnSidecar => restart(node),
            Fault::Store => self.kill_store(case.state, node),
            Fault::CutOff => {
                self.lab.network.cut_off(&node.host)?;
                sleep(CUT_OFF_TIME);
                self.lab.network.rejoin(&node.host)
            }
        }
    }

    fn kill_store(&self, state: &str, node: &Node) -> Result<()> {
        let site = node.site.as_ref().context("a witness")?;
        if let Some(pid) = site.pid().ok().and_then(Pid::from_raw) {
            // It may be down already.
            let _ = kill_process(pid, Signal::KILL);
        }
        sleep(DOWN_TIME);
        // Then it is for the sidecar to start it; else for whatever looks after services there.
        if ["stop", "set-aside", "install", "start", "catch-up"].contains(&state) {
            return Ok(());
        }
        let is_master = |node: &&Node| {
            let info = node.site.as_ref().and_then(|site| site.info("replication").ok());
            info.is_some_and(|info| info.get("role") == Some("master"))
        };
        let master = self.lab.nodes.iter().find(is_master);
        site.run("start", "", master.map(|master| master.dialled(self.lab.plan.way)))
    }

    fn stuck(&self, until: &str) -> String {
        format!(
            "not {until}: {:#}\n{}",
            self.lab.status().unwrap_or_default()["transaction"],
            self.lab.logs()
        )
    }
}

fn restart(node: &Node) -> Result<()> {
    node.kill_sidecar()?;
    sleep(DOWN_TIME);
    node.restart_sidecar()
}

fn listed(cases: &[Case]) -> String {
    cases.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
