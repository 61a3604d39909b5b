//! `cargo verify`: every test of the workspace, on a fresh machine.
//!
//! Fetches the stores and the etcd that the tests need, runs `cargo test --workspace --all-targets` and the documentation
//! tests, shows their output as it comes, and ends with a line `N passed, N failed` over all of them. The exit
//! status is that of the first run that failed.

use std::io::{BufRead, BufReader, Write};
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result};
use clap::Parser;
use segue_bench::cargo::cargo;
use segue_bench::peers::programs::Programs;
use segue_bench::progress::Progress;
use segue_bench::stores::{self, StoreName};

/// What the tests of the workspace run; `redis-8.0` is the newest 8.0.x that a source still has.
const STORES: &[&str] = &[
    "redis-5.0",
    "redis-6.0",
    "redis-6.2.5",
    "redis-6.2",
    "redis-7.0",
    "redis-8.0.2",
    "redis-8.0",
    "redis-8.2",
    "redis-8.6",
    "redis-8.10",
    "redict-7.3",
    "valkey-8.0",
    "valkey-8.1",
    "valkey-9.0",
    "valkey-9.1",
];

/// Runs every test of the workspace with real stores.
#[derive(Parser)]
#[command(name = "cargo verify")]
struct Arguments {
    /// Passed on to `cargo test`, such as a filter, or `-- --nocapture`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    cargo_arguments: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("verify: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    fetch_stores()?;
    let mut tally = Tally::default();
    let mut exit_status = 0;
    // Documentation tests are no target: cargo runs them apart.
    for targets in ["--all-targets", "--doc"] {
        let status = run_tests(targets, &arguments.cargo_arguments, &mut tally)?;
        if exit_status == 0 {
            exit_status = status;
        }
    }
    if !rustix::process::geteuid().is_root() {
        println!("{}", left_out(tally.ignored));
    } else if tally.ignored > 0 {
        println!("{} tests are marked ignored and were left out", tally.ignored);
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    let failed_without_saying = exit_status == 0 && tally.failed > 0;
    Ok(ExitCode::from(if failed_without_saying { 1 } else { exit_status }))
}

fn fetch_stores() -> Result<()> {
    let names: Vec<StoreName> = STORES.iter().map(|name| name.parse()).collect::<Result<_>>()?;
    let progress = Progress::new("stores");
    let stores = stores::fetch(&names, &progress);
    progress.finish();
    stores.context("the stores that the tests need cannot be fetched")?;
    Programs::etcd().map(drop).context("the etcd that the tests need cannot be fetched")
}

fn left_out(ignored: u64) -> String {
    let netns = "run without privileges: the tests in network namespaces (tests/netns) were left out";
    if ignored == 0 { netns.to_owned() } else { format!("{netns}, and {ignored} marked ignored") }
}

/// Runs cargo with its standard output passed on line by line; its exit status.
fn run_tests(targets: &str, more: &[String], tally: &mut Tally) -> Result<u8> {
    let mut child = cargo()
        .args(["test", "--workspace", "--no-fail-fast", targets])
        .args(more)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run cargo")?;
    let output = child.stdout.take().context("no standard output of cargo")?;
    let mut shown = std::io::stdout().lock();
    for line in BufReader::new(output).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        tally.add(&line);
        writeln!(shown, "{line}")?;
    }
    let status = child.wait()?;
    // Ended by a signal: 1, as for any failure.
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// Sums of the lines that every test program ends with.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Tally {
    /// Counts a line such as `test result: ok. 16 passed; 0 failed; 0 ignored; 0 measured; …`.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line.split_once("test result: ") else { return };
        let words: Vec<&str> = counts.split([' ', ';', '.']).filter(|word| !word.is_empty()).collect();
        for pair in words.windows(2) {
            let [number, what] = pair else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match *what {
                "passed" => self.passed = self.passed.saturating_add(number),
                "failed" => self.failed = self.failed.saturating_add(number),
                "ignored" => self.ignored = self.ignored.saturating_add(number),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_programs_are_summed() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test x ... ok",
            "test result: ok. 16 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.02s",
            "test result: FAILED. 1 passed; 3 failed; 0 ignored; 0 measured; 9 filtered out; finished in 1.10s",
        ] {
            tally.add(line);
        }
        assert_eq!(tally, Tally { passed: 17, failed: 3, ignored: 2 });
    }
}
