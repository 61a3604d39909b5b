//! What the terminal shows while the load runs.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use redis::cmd;
use segue_bench::load::Load;

use crate::cluster::{Cluster, Replica};
use crate::lag;

/// How long the first sync may take, under writes.
const SYNC_TIME_MAX: Duration = Duration::from_secs(40);
const INTERVAL: Duration = Duration::from_millis(250);
/// Every how many intervals a plain line is printed where there is no terminal.
const INTERVALS_PER_LINE: u32 = 8;
const LOG_TAIL_LINES: usize = 10;

/// Shows the links until all replicas are in sync and `time` has passed since then.
pub fn show(cluster: &mut Cluster, load: &Load, time: Duration) -> Result<()> {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("  {spinner} {wide_msg}") {
        bar.set_style(style);
    }
    let started = Instant::now();
    let mut synced_at = None;
    let mut written_before = load.counts().acknowledged;
    for interval in 0_u32.. {
        thread::sleep(INTERVAL);
        if !cluster.sidecar.is_running()? {
            bail!("the sidecar ended:\n{}", tail(&cluster.sidecar.log_text()));
        }
        let written = load.counts().acknowledged;
        let rate_per_s = written.saturating_sub(written_before) * 1000 / INTERVAL.as_millis().max(1) as u64;
        written_before = written;
        let line = status_line(cluster, rate_per_s)?;
        bar.set_message(line.clone());
        bar.tick();
        if bar.is_hidden() && interval % INTERVALS_PER_LINE == 0 {
            println!("demo:   {line}");
        }
        match synced_at {
            None if cluster
                .replicas
                .iter()
                .map(is_in_sync)
                .collect::<Result<Vec<_>>>()?
                .iter()
                .all(|up| *up) =>
            {
                bar.println(format!("demo:   all in sync after {:.1} s", started.elapsed().as_secs_f64()));
                synced_at = Some(Instant::now());
            }
            None if started.elapsed() > SYNC_TIME_MAX => return Err(not_in_sync(cluster)),
            Some(synced_at) if synced_at.elapsed() > time => break,
            _ => {}
        }
    }
    bar.finish_and_clear();
    Ok(())
}

fn status_line(cluster: &Cluster, rate_per_s: u64) -> Result<String> {
    let behind = match lag::behind_bytes(&cluster.master, cluster.replicas.len())? {
        Some(bytes) => format!("{bytes} bytes behind"),
        None => "not yet acknowledging".to_owned(),
    };
    let mut line = format!("{rate_per_s} writes/s, {behind}");
    for replica in &cluster.replicas {
        let info = replica.server.info("replication")?;
        let link = info.get("master_link_status").unwrap_or("?").to_owned();
        // A replica that loads its snapshot answers INFO and nothing else.
        let keys: Option<u64> = cmd("DBSIZE").query(&mut replica.server.client()?).ok();
        let keys = keys.map_or_else(|| "loading".to_owned(), |keys| format!("{keys} keys"));
        line += &format!(" | {} {link}, {keys}", replica.server.store().name());
    }
    for link in
        cluster.sidecar.status()?.get("links").and_then(|links| links.as_array()).into_iter().flatten()
    {
        let text = |field: &str| link.get(field).map_or_else(|| "?".to_owned(), ToString::to_string);
        line += &format!(" | link {}: {} rewritten", text("id"), text("messages_rewritten"));
    }
    Ok(line)
}

fn is_in_sync(replica: &Replica) -> Result<bool> {
    Ok(replica.server.info("replication")?.get("master_link_status") == Some("up"))
}

fn not_in_sync(cluster: &Cluster) -> anyhow::Error {
    let mut text = format!("not in sync after {} s\n", SYNC_TIME_MAX.as_secs());
    for replica in &cluster.replicas {
        let (name, log) = (replica.server.store().name(), replica.server.log_text());
        text += &format!("end of the log of {name}:\n{}\n", tail(&log));
    }
    text += &format!("end of the sidecar's log:\n{}", tail(&cluster.sidecar.log_text()));
    anyhow::Error::msg(text)
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines.get(lines.len().saturating_sub(LOG_TAIL_LINES)..).unwrap_or_default().join("\n")
}
