//! `cargo demo`: a cluster of redis 6.0 is upgraded to 8.0, back to 6.0 and to 8.0 again, while it serves.
//!
//! Everything is real: fetched servers, the sidecar built from this tree, loopback connections, and clients that
//! write without a break and remember what was acknowledged. The last line of the standard output is `demo: N
//! writes acknowledged, L lost, longest pause P ms, D differences`; the exit status is 0 only when L and D are 0
//! and nothing else went wrong.

mod build;
mod cluster;
mod home;
mod operator;
mod refused;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use segue_bench::progress::Progress;
use segue_bench::server::{Options, Server};
use segue_bench::stores::{self, Store};
use segue_bench::writers::{History, Writers};
use segue_bench::{client, data, reader};

use cluster::Cluster;
use home::HookArguments;
use operator::Operator;

const FROM: &str = "redis-6.0";
const TO: &str = "redis-8.0";
/// How large the data set is that is there before; see `data::fill_core`.
const DATA_SCALE: u32 = 3;
const LOST_SHOWN_MAX: usize = 10;

/// Upgrades three nodes from redis 6.0 to 8.0 one by one, rolls them back, and upgrades them again, under writes.
#[derive(Parser)]
#[command(name = "cargo demo")]
struct Arguments {
    #[command(subcommand)]
    hook: Option<Inner>,
    /// Writes a second.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// How long all nodes run on the new release before it goes on.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=600))]
    soak_seconds: u64,
    /// A segue program to use, in place of the one that is built from this tree.
    #[arg(long, value_name = "FILE")]
    sidecar: Option<PathBuf>,
}

/// What the sidecars' hooks run.
#[derive(Subcommand)]
enum Inner {
    #[command(hide = true)]
    Hook(HookArguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Inner::Hook(hook)) = &arguments.hook {
        return ended(home::run(hook), "hook");
    }
    match run(&arguments) {
        Ok(outcome) => {
            println!("{outcome}");
            if outcome.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        error => ended(error.map(drop), "demo"),
    }
}

fn ended(result: Result<()>, what: &str) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{what}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What the last line says.
struct Outcome {
    acknowledged: usize,
    lost: usize,
    longest_pause: Duration,
    differences: u64,
}

impl Outcome {
    const fn is_good(&self) -> bool {
        self.acknowledged > 0 && self.lost == 0 && self.differences == 0
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "demo: {} writes acknowledged, {} lost, longest pause {} ms, {} differences",
            self.acknowledged,
            self.lost,
            self.longest_pause.as_millis(),
            self.differences
        )
    }
}

fn run(arguments: &Arguments) -> Result<Outcome> {
    let binary = match &arguments.sidecar {
        Some(binary) => binary.clone(),
        None => {
            say("building the sidecar");
            build::sidecar()?
        }
    };
    say("fetching redis 6.0 and 8.0");
    let [old, new] = fetch()?;

    let started = Instant::now();
    say(&format!("WITHOUT Segue: {} is made a replica of {}", old.name(), new.name()));
    let newer = Server::start(&new, Options::new())?;
    say(&format!("  its log says: {}", refused::log_line(&old, &newer)?));
    drop(newer);

    say(&format!("WITH Segue: three nodes of {}, a sidecar beside each", old.name()));
    let soak = Duration::from_secs(arguments.soak_seconds);
    let cluster = Cluster::start(&binary, &[(FROM, &old), (TO, &new)], soak, |master| {
        let commands = data::fill_core(&mut client::connect(master)?, DATA_SCALE)?;
        say(&format!("  n1 is the master; {commands} commands filled it"));
        Ok(())
    })?;
    let operator = Operator::of(&binary, &cluster)?;
    let writers = Writers::start(cluster.stores(), arguments.rate);
    let outcome = there_and_back(&operator, &cluster, &writers).and_then(|()| {
        let history = writers.stop()?;
        compare(&cluster, &history)
    });
    match outcome {
        Ok(outcome) if outcome.is_good() => {
            say(&format!("took {:.0} s", started.elapsed().as_secs_f64()));
            Ok(outcome)
        }
        bad => {
            eprintln!("demo: logs are kept in:");
            for folder in cluster.keep_folders() {
                eprintln!("  {}", folder.display());
            }
            bad
        }
    }
}

fn fetch() -> Result<[Store; 2]> {
    let names = [FROM.parse()?, TO.parse()?];
    let progress = Progress::new("stores");
    let stores = stores::fetch(&names, &progress);
    progress.finish();
    stores?.try_into().map_err(|_| anyhow::anyhow!("two stores were asked for, others came"))
}

fn there_and_back(operator: &Operator, cluster: &Cluster, writers: &Writers) -> Result<()> {
    operator.waits_for(FROM)?;
    operator.tells(&["plan", "--to", TO])?;
    operator.tells(&["start", "--to", TO])?;
    operator.looks_on("upgraded", writers)?;
    all_run(cluster, "8.0.")?;
    operator.tells(&["rollback"])?;
    operator.looks_on("rolled-back", writers)?;
    all_run(cluster, "6.0.")?;
    operator.waits_for(FROM)?;
    operator.tells(&["start", "--to", TO])?;
    operator.looks_on("upgraded", writers)?;
    operator.tells(&["finalize"])?;
    operator.looks_on("done", writers)?;
    operator.waits_for(TO)?;
    all_run(cluster, "8.0.")
}

/// By the stores' own words.
fn all_run(cluster: &Cluster, version: &str) -> Result<()> {
    for node in &cluster.nodes {
        let found = node.version()?;
        if !found.starts_with(version) {
            bail!("the store on port {} is {found} and not {version}x", node.port);
        }
    }
    Ok(())
}

/// Every acknowledged write against the master, and the secondaries' whole data against the master's.
fn compare(cluster: &Cluster, history: &History) -> Result<Outcome> {
    cluster.level().context("the secondaries do not reach the master's offset")?;
    let master = cluster.master()?;
    let lost = history.lost(master.port)?;
    for write in lost.iter().take(LOST_SHOWN_MAX) {
        say(&format!("  lost: {write}"));
    }
    let mut differences: u64 = 0;
    for node in cluster.nodes.iter().filter(|node| node.port != master.port) {
        let comparison = reader::compare(master.port, node.port)?;
        say(&format!("  the store on port {} against the master: {comparison}", node.port));
        differences = differences.saturating_add(comparison.differences_total);
    }
    Ok(Outcome {
        acknowledged: history.writes.len(),
        lost: lost.len(),
        longest_pause: history.longest_pause,
        differences,
    })
}

fn say(text: &str) {
    println!("demo: {text}");
}
