//! `redis-benchmark` through each proxy to one real store.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use segue_bench::peers::programs::Programs;
use segue_bench::peers::proxy::Proxy;

use crate::results::{Metric, Sample};

const CLIENTS: &str = "50";
const BUSY_CLIENTS: u64 = 1000;
const SAMPLE_INTERVAL: Duration = Duration::from_millis(20);

/// GET of 64 bytes from 50 clients, one command at a time and 64.
pub fn get(proxy: &Proxy, tools: &Programs, requests: u64) -> Result<Vec<Sample>> {
    let port = proxy.ports.redis;
    let one = benchmark(tools, port, CLIENTS, 1, requests)?;
    let many = benchmark(tools, port, CLIENTS, 64, requests.saturating_mul(15))?;
    Ok(vec![Sample(Metric::GetP1PerS, one), Sample(Metric::GetP64PerS, many)])
}

/// GET from 1000 clients, and what each costs the proxy at most. `proxy` is fresh.
pub fn busy(proxy: &Proxy, tools: &Programs, requests: u64) -> Result<Vec<Sample>> {
    benchmark(tools, proxy.ports.redis, "20", 1, 2000)?;
    let before_bytes = proxy.resident_bytes()?;
    let ended = AtomicBool::new(false);
    let (rate, most_bytes) = thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most_bytes = before_bytes;
            while !ended.load(Relaxed) {
                most_bytes = most_bytes.max(proxy.resident_bytes().unwrap_or(0));
                thread::sleep(SAMPLE_INTERVAL);
            }
            most_bytes
        });
        let rate = benchmark(tools, proxy.ports.redis, &BUSY_CLIENTS.to_string(), 1, requests);
        ended.store(true, Relaxed);
        (rate, watch.join())
    });
    let mut samples = vec![Sample(Metric::BusyPerS, rate?)];
    if proxy.pid().is_some() {
        let most_bytes = most_bytes.map_err(|_| anyhow!("the watching thread panicked"))?;
        let each = most_bytes.saturating_sub(before_bytes) as f64 / BUSY_CLIENTS as f64;
        samples.push(Sample(Metric::BusyLinkBytes, each));
    }
    Ok(samples)
}

/// Commands a second, as `redis-benchmark -q` says: `GET: 90000.00 requests per second, p50=…`.
pub fn benchmark(tools: &Programs, port: u16, clients: &str, pipeline: u32, requests: u64) -> Result<f64> {
    let mut command = tools.command("redis-benchmark")?;
    command.args(["-h", "127.0.0.1", "-q", "-t", "get", "-d", "64", "-c", clients]);
    command.args(["-p", &port.to_string(), "-P", &pipeline.to_string(), "-n", &requests.to_string()]);
    let output = command.output().context("redis-benchmark does not run")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.split(['\r', '\n']).rfind(|line| line.contains("requests per second"));
    let number = line.and_then(|line| line.split("GET: ").nth(1)?.split_whitespace().next()?.parse().ok());
    match number {
        Some(number) if output.status.success() => Ok(number),
        _ => bail!("redis-benchmark said {text:?} {:?}", String::from_utf8_lossy(&output.stderr)),
    }
}
