//! What a process uses, and which processor it runs on.

use std::fs;

use anyhow::{Context, Result, anyhow};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// User and system time of a process so far, in seconds: fields 14 and 15 of `/proc/<pid>/stat`, proc(5).
///
/// # Errors
/// The process is gone.
pub fn cpu_s(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The second field, in brackets, may hold spaces; the rest begins with field 3.
    let (_, rest) = text.rsplit_once(')').with_context(|| format!("{path} has no program name"))?;
    let ticks = |field: usize| -> Result<f64> {
        let text = rest.split_whitespace().nth(field.saturating_sub(3));
        text.and_then(|text| text.parse().ok()).ok_or_else(|| anyhow!("{path} has no field {field}"))
    };
    Ok((ticks(14)? + ticks(15)?) / rustix::param::clock_ticks_per_second() as f64)
}

/// Keeps every thread of some processes on one processor, until it is dropped.
#[derive(Debug)]
pub struct Pinned {
    pids: Vec<u32>,
    before: CpuSet,
}

impl Pinned {
    /// # Errors
    /// A process is gone, or there is no such processor for it.
    pub fn new(pids: Vec<u32>, cpu: usize) -> Result<Self> {
        let pinned = Self { pids, before: sched_getaffinity(None)? };
        let mut only = CpuSet::new();
        only.set(cpu);
        pinned.set(&only)?;
        Ok(pinned)
    }

    fn set(&self, processors: &CpuSet) -> Result<()> {
        for pid in &self.pids {
            for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
                let id = thread?.file_name().to_string_lossy().parse()?;
                match sched_setaffinity(Pid::from_raw(id), processors) {
                    // The thread has ended meanwhile.
                    Err(Errno::SRCH) => {}
                    set => set.context("cannot choose a thread's processors")?,
                }
            }
        }
        Ok(())
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // A process that has ended needs nothing any more.
        let _ = self.set(&self.before);
    }
}

/// Raises the limit of open files as far as the system lets it, and never lowers it; children inherit it. What it
/// is now.
///
/// # Errors
/// The limit cannot be set at all.
pub fn raise_file_limit(wanted: u64) -> Result<u64> {
    let raised = Rlimit { current: Some(wanted), maximum: Some(wanted) };
    let now = getrlimit(Resource::Nofile);
    if now.current.is_none_or(|current| current >= wanted) {
        return Ok(now.current.unwrap_or(wanted));
    }
    if now.maximum.is_none_or(|maximum| maximum >= wanted) || setrlimit(Resource::Nofile, raised).is_err() {
        let maximum = now.maximum.map_or(wanted, |maximum| maximum.min(wanted));
        setrlimit(Resource::Nofile, Rlimit { current: Some(maximum), maximum: now.maximum })?;
    }
    Ok(getrlimit(Resource::Nofile).current.unwrap_or(wanted))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn time_that_is_spent_is_counted() {
        let (start, before_s) = (Instant::now(), cpu_s(std::process::id()).unwrap());
        let spent_s = loop {
            let spent_s = cpu_s(std::process::id()).unwrap() - before_s;
            if spent_s >= 0.2 {
                break spent_s;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "{spent_s} s for a minute of one thread");
        };
        // Other tests may run on every other processor meanwhile.
        let processors = std::thread::available_parallelism().unwrap().get() as f64;
        let most_s = (start.elapsed().as_secs_f64() + 0.1) * processors;
        assert!(spent_s <= most_s, "{spent_s} s where at most {most_s} s were to be had");
    }

    #[test]
    fn pinned_threads_run_on_their_processor_and_are_free_again() {
        let before = sched_getaffinity(None).unwrap();
        let cpu = (0..CpuSet::MAX_CPU).find(|cpu| before.is_set(*cpu)).unwrap();
        let pinned = Pinned::new(vec![std::process::id()], cpu).unwrap();
        let inside = sched_getaffinity(None).unwrap();
        assert_eq!((inside.count(), inside.is_set(cpu)), (1, true));
        drop(pinned);
        assert_eq!(sched_getaffinity(None).unwrap(), before);
    }
}
