//! The operator: says what is to be done with `segue upgrade`, and looks on.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use segue_bench::child::wait_for;
use segue_bench::writers::Writers;
use serde_json::Value;

use crate::cluster::{Cluster, NODES};
use crate::say;

const INTERVAL: Duration = Duration::from_millis(250);
/// Every how many intervals a plain line is printed where there is no terminal.
const INTERVALS_PER_LINE: u32 = 20;
/// How long all nodes may take.
const WAY_TIME_MAX: Duration = Duration::from_secs(90);
/// How long no sidecar may answer.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long it may take until all know of all.
const REGISTER_TIME_MAX: Duration = Duration::from_secs(20);

pub struct Operator {
    binary: PathBuf,
    config: PathBuf,
}

impl Operator {
    /// One that asks the sidecar of the first node.
    pub fn of(binary: &Path, cluster: &Cluster) -> Result<Self> {
        let first = cluster.nodes.first().context("no node")?;
        Ok(Self { binary: binary.to_owned(), config: first.sidecar.folder().join("segue.toml") })
    }

    /// `segue upgrade …`; what it prints.
    pub fn says(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.binary);
        let output = command.arg("upgrade").args(words).arg("--config").arg(&self.config).output()?;
        if !output.status.success() {
            bail!(
                "segue upgrade {}: {}",
                words.join(" "),
                String::from_utf8_lossy(&output.stderr).trim_end()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// As [`Self::says`], and shows it.
    pub fn tells(&self, words: &[&str]) -> Result<()> {
        say(&format!("$ segue upgrade {}", words.join(" ")));
        for line in self.says(words)?.lines() {
            println!("demo:   {line}");
        }
        Ok(())
    }

    /// Waits until all sidecars have told that their stores run this release and are in sync.
    pub fn waits_for(&self, release: &str) -> Result<()> {
        let mut last = Value::Null;
        let told = wait_for(REGISTER_TIME_MAX, || {
            thread::sleep(INTERVAL);
            last = serde_json::from_str(&self.says(&["status", "--json"])?)?;
            let nodes = last.get("nodes").and_then(Value::as_array).cloned().unwrap_or_default();
            let is_there = |node: &Value| {
                text(node, "/release").starts_with(release) && node.get("in_sync") == Some(&Value::Bool(true))
            };
            Ok((nodes.len() == NODES && nodes.iter().all(is_there)).then_some(()))
        })?;
        told.with_context(|| format!("not all nodes are {release} and in sync: {}", nodes(&last)))
    }

    /// Looks on until the transaction is in this phase, and shows what changes.
    pub fn looks_on(&self, until: &str, writers: &Writers) -> Result<()> {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("  {spinner} {wide_msg}") {
            bar.set_style(style);
        }
        let started = Instant::now();
        let mut answered_at = Instant::now();
        let mut nodes_before = String::new();
        let mut rate = Rate { at: Instant::now(), acknowledged: writers.acknowledged() };
        for interval in 0_u32.. {
            thread::sleep(INTERVAL);
            let status: Value = match self.says(&["status", "--json"]) {
                Ok(text) => serde_json::from_str(&text)?,
                Err(error) if answered_at.elapsed() > SILENCE_MAX => return Err(error),
                Err(_) => continue,
            };
            answered_at = Instant::now();
            let phase = text(&status, "/transaction/phase");
            let nodes = nodes(&status);
            if nodes != nodes_before {
                line(&bar, &format!("  {:>5.1} s  {nodes}", started.elapsed().as_secs_f64()));
                nodes_before = nodes;
            }
            let now = format!(
                "{}, longest pause {} ms; {}",
                rate.of(writers),
                writers.longest_pause().as_millis(),
                doing(&status)
            );
            bar.set_message(now.clone());
            bar.tick();
            if bar.is_hidden() && interval % INTERVALS_PER_LINE == 0 {
                println!("demo:           {now}");
            }
            if phase == until {
                break;
            }
            let is_paused = !status.pointer("/transaction/paused").is_none_or(Value::is_null);
            let is_over = status.pointer("/transaction/over") == Some(&Value::Bool(true));
            if is_paused || is_over || started.elapsed() > WAY_TIME_MAX {
                bar.finish_and_clear();
                bail!(
                    "it is {phase} and not {until}\n{}{}",
                    self.says(&["explain"])?,
                    self.says(&["status"])?
                );
            }
        }
        bar.finish_and_clear();
        say(&format!("  {until} after {:.0} s", started.elapsed().as_secs_f64()));
        Ok(())
    }
}

fn line(bar: &ProgressBar, text: &str) {
    if bar.is_hidden() {
        println!("demo: {text}");
    } else {
        bar.println(format!("demo: {text}"));
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("?")
}

/// Who is what.
fn nodes(status: &Value) -> String {
    let nodes = status.get("nodes").and_then(Value::as_array).into_iter().flatten();
    let node = |node: &Value| {
        let (id, role, release) = (text(node, "/id"), text(node, "/role"), text(node, "/release"));
        format!("{id} {role} {release}")
    };
    nodes.map(node).collect::<Vec<_>>().join(", ")
}

/// What is being done, and what it waits for.
fn doing(status: &Value) -> String {
    let pending = status.pointer("/transaction/pending").and_then(Value::as_array).into_iter().flatten();
    let one = |pending: &Value| {
        let waits = pending.get("waits_for").and_then(Value::as_str).map(|why| format!(" ({why})"));
        format!("{} of {}{}", text(pending, "/step"), text(pending, "/node"), waits.unwrap_or_default())
    };
    let all: Vec<_> = pending.map(one).collect();
    if all.is_empty() { text(status, "/transaction/phase").to_owned() } else { all.join(", ") }
}

/// How fast the writers are.
struct Rate {
    at: Instant,
    acknowledged: u64,
}

impl Rate {
    fn of(&mut self, writers: &Writers) -> String {
        let (acknowledged, took) = (writers.acknowledged(), self.at.elapsed());
        let written = acknowledged.saturating_sub(std::mem::replace(&mut self.acknowledged, acknowledged));
        self.at = Instant::now();
        let per_s = u128::from(written) * 1000 / took.as_millis().max(1);
        format!("{acknowledged} writes acknowledged, {per_s}/s")
    }
}
