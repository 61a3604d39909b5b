//! Single connections: bulk, one small message at a time, and how fast they are made.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use segue_bench::peers::proxy::Proxy;
use segue_bench::peers::usage::Pinned;

use crate::backend::{self, Service};
use crate::results::{Metric, Sample};

const READ_BYTES: usize = 256 << 10;
const MESSAGE_BYTES: usize = 64;
const CONNECTING_THREADS: u64 = 4;

/// One connection, as fast as it goes, for `time`.
pub fn bulk(proxy: &Proxy, time: Duration) -> Result<Vec<Sample>> {
    let mut stream = backend::ask(proxy.ports.tool, Service::Bulk)?;
    let mut piece = vec![0; READ_BYTES];
    // The first bytes are still slow: windows grow.
    let warm = Instant::now();
    while warm.elapsed() < time / 10 {
        stream.read_exact(&mut piece)?;
    }
    let (start, cpu_s, mut bytes) = (Instant::now(), proxy.cpu_s()?, 0_u64);
    while start.elapsed() < time {
        bytes += stream.read(&mut piece)? as u64;
    }
    let (elapsed_s, cpu_s) = (start.elapsed().as_secs_f64(), proxy.cpu_s()? - cpu_s);
    let gigabytes = bytes as f64 / 1e9;
    let mut samples = vec![Sample(Metric::BulkGbPerS, gigabytes / elapsed_s)];
    if proxy.pid().is_some() {
        samples.push(Sample(Metric::BulkCpuSPerGb, cpu_s / gigabytes));
    }
    Ok(samples)
}

/// 64 bytes there and back, one at a time, client, server and proxy on one processor: without that,
/// wake-ups across processors are all that is measured.
pub fn ping(proxy: &Proxy, count: usize) -> Result<Vec<Sample>> {
    let pids = [Some(std::process::id()), proxy.pid()].into_iter().flatten().collect();
    let _pinned = Pinned::new(pids, 0)?;
    let mut stream = backend::ask(proxy.ports.tool, Service::Echo)?;
    let (message, mut answer) = ([7; MESSAGE_BYTES], [0; MESSAGE_BYTES]);
    let mut times_us = Vec::with_capacity(count);
    for turn in 0..count + count / 10 {
        let start = Instant::now();
        stream.write_all(&message)?;
        stream.read_exact(&mut answer)?;
        if turn >= count / 10 {
            times_us.push(start.elapsed().as_nanos() as f64 / 1e3);
        }
    }
    times_us.sort_by(f64::total_cmp);
    let at = |percent: usize| times_us.get(times_us.len() * percent / 100).copied().context("no pings");
    Ok(vec![Sample(Metric::PingP50Us, at(50)?), Sample(Metric::PingP99Us, at(99)?)])
}

/// Connections made, used for one byte and closed, a second.
pub fn set_up(proxy: &Proxy, count: u64) -> Result<Vec<Sample>> {
    let port = proxy.ports.tool;
    let start = Instant::now();
    let threads: Vec<_> = (0..CONNECTING_THREADS)
        .map(|_| {
            thread::spawn(move || -> Result<()> {
                for _ in 0..count / CONNECTING_THREADS {
                    let mut stream = backend::ask(port, Service::Once)?;
                    stream.read_exact(&mut [0])?;
                }
                Ok(())
            })
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| anyhow!("a connecting thread panicked"))??;
    }
    Ok(vec![Sample(Metric::SetUpPerS, count as f64 / start.elapsed().as_secs_f64())])
}
