//! `cargo demo`: a redis 8.0 master cannot feed redis 6.0 and 7.0 replicas; through Segue it can.
//!
//! Everything is real: fetched servers, the sidecar built from this tree, loopback connections. The last line
//! of the standard output is `demo: N keys compared, D differences, L losses`; the exit status is 0 only when
//! D and L are 0 and nothing else went wrong.

mod build;
mod cluster;
mod lag;
mod live;
mod refused;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use segue_bench::load::{self, Load};
use segue_bench::progress::Progress;
use segue_bench::server::{Options, Server};
use segue_bench::stores::{self, Store};
use segue_bench::{data, reader};

use cluster::Cluster;

/// Commands a second that the load writes.
const LOAD_RATE_PER_S: u32 = 4000;
/// How large the data set is that is there before the replicas come; see `data::fill_core`.
const DATA_SCALE: u32 = 3;

/// Feeds redis 6.0 and 7.0 replicas from a redis 8.0 master, first without Segue, then through it.
#[derive(Parser)]
#[command(name = "cargo demo")]
struct Arguments {
    /// How long to write through the synced links.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Seed of the written commands.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(outcome) => {
            println!("{outcome}");
            if outcome.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What the last line says.
struct Outcome {
    keys: u64,
    differences: u64,
    losses: u64,
}

impl Outcome {
    const fn is_good(&self) -> bool {
        self.keys > 0 && self.differences == 0 && self.losses == 0
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "demo: {} keys compared, {} differences, {} losses",
            self.keys, self.differences, self.losses
        )
    }
}

fn run(arguments: &Arguments) -> Result<Outcome> {
    say("building the sidecar");
    let binary = build::sidecar()?;
    say("fetching redis 8.0, 7.0 and 6.0");
    let [newest, middle, oldest] = fetch()?;

    let started = Instant::now();
    let master = Server::start(&newest, Options::new())?;
    let commands = data::fill_core(&mut master.client()?, DATA_SCALE)?;
    say(&format!("{} is the master; {commands} commands filled it", newest.name()));

    say(&format!("WITHOUT Segue: {} is made its replica", oldest.name()));
    say(&format!("  its log says: {}", refused::log_line(&oldest, &master)?));

    say(&format!("WITH Segue: {} and {} dial the sidecar instead", oldest.name(), middle.name()));
    let mut cluster = Cluster::start(&binary, master, &[oldest, middle])?;
    let outcome = translate(&mut cluster, arguments);
    match outcome {
        Ok(outcome) if outcome.is_good() => {
            say(&format!("took {:.0} s", started.elapsed().as_secs_f64()));
            Ok(outcome)
        }
        bad => {
            eprintln!("demo: seed {}; logs are kept in:", arguments.seed);
            for folder in cluster.keep_folders() {
                eprintln!("  {}", folder.display());
            }
            bad
        }
    }
}

fn fetch() -> Result<[Store; 3]> {
    let names = ["redis-8.0".parse()?, "redis-7.0".parse()?, "redis-6.0".parse()?];
    let progress = Progress::new("stores");
    let stores = stores::fetch(&names, &progress);
    progress.finish();
    stores?.try_into().map_err(|_| anyhow::anyhow!("three stores were asked for, others came"))
}

/// Syncs the replicas under writes, lets them follow, and compares all data in the end.
fn translate(cluster: &mut Cluster, arguments: &Arguments) -> Result<Outcome> {
    let options =
        load::Options { seed: arguments.seed, rate_per_s: Some(LOAD_RATE_PER_S), ..Default::default() };
    let load = Load::start(cluster.master.port(), options)?;
    cluster.attach_replicas()?;
    live::show(cluster, &load, Duration::from_secs(arguments.seconds))?;
    let counts = load.stop()?;
    say(&format!("  the load wrote {} commands", counts.acknowledged));
    if let (true, Some(error)) = (counts.errors > 0, &counts.last_error) {
        say(&format!("  note: the master refused {} commands, the last with: {error}", counts.errors));
    }
    if let (true, Some(error)) = (counts.disconnects > 0, &counts.last_error) {
        bail!("the load lost its connection to the master: {error}");
    }

    lag::wait_until_level(cluster).context("the replicas do not reach the master's offset")?;
    say("  every replica has acknowledged the master's own offset");
    let mut outcome = Outcome { keys: 0, differences: 0, losses: 0 };
    for replica in &cluster.replicas {
        let comparison = reader::compare(cluster.master.port(), replica.server.port())?;
        say(&format!("  {} against the master: {comparison}", replica.server.store().name()));
        outcome.keys = outcome.keys.saturating_add(comparison.keys);
        outcome.differences = outcome.differences.saturating_add(comparison.differences_total);
    }
    outcome.losses = report_losses(cluster)?;
    check_logs(cluster)?;
    Ok(outcome)
}

/// Losses of data; those of bookkeeping (counters that older releases do not keep) are only mentioned.
fn report_losses(cluster: &Cluster) -> Result<u64> {
    let losses = cluster.sidecar.losses()?;
    let counts = losses.get("counts").and_then(|counts| counts.as_array()).context("no counts of losses")?;
    let mut data: u64 = 0;
    for count in counts {
        let text = |field: &str| count.get(field).and_then(|value| value.as_str()).unwrap_or("?");
        let number = count.get("count").and_then(serde_json::Value::as_u64).context("a loss has no count")?;
        if text("grade") != "bookkeeping" {
            data = data.saturating_add(number);
        }
        say(&format!("  note: {number} × {} ({}) for {}", text("kind"), text("grade"), text("peer")));
    }
    Ok(data)
}

/// A replica that cannot run a command says so in its log alone: the link stays up.
fn check_logs(cluster: &Cluster) -> Result<()> {
    for replica in &cluster.replicas {
        let log = replica.server.log_text();
        if let Some(line) = log.lines().find(|line| line.contains("sending an error to its master")) {
            bail!("the log of {} says: {line}", replica.server.store().name());
        }
    }
    Ok(())
}

fn say(text: &str) {
    println!("demo: {text}");
}
