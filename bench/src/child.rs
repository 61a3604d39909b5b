//! One child process: ended by its own id when it is dropped, so that a failing test leaves nothing behind.

use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// How long a process may take to end by itself after SIGTERM, on a machine under load: a sidecar drains, a store waits
/// for replicas that lag.
const TERMINATE_TIME_MAX: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub struct ChildProcess {
    child: Child,
}

impl ChildProcess {
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("cannot start {program}"))?;
        Ok(Self { child })
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The exit status, if the process has ended.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// SIGTERM, then SIGKILL for one that does not end within [`TERMINATE_TIME_MAX`].
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // Not signalled once it has been waited for: its id may belong to another process by then.
        if let (None, Some(pid)) = (self.child.try_wait()?, pid) {
            kill_process(pid, Signal::TERM)?;
        }
        let deadline = Instant::now() + TERMINATE_TIME_MAX;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(POLL_INTERVAL);
        }
        self.kill()
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.child.kill()?;
        Ok(self.child.wait()?)
    }

    /// Resident memory now and at its highest, in bytes: `VmRSS` and `VmHWM` of proc(5).
    pub fn memory(&self) -> Result<Memory> {
        let path = format!("/proc/{}/status", self.pid());
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let bytes = |field: &str| -> Result<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
            let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
            kilobytes.map(|kb| kb.saturating_mul(1024)).with_context(|| format!("no {field} in {path}"))
        };
        Ok(Memory { resident_bytes: bytes("VmRSS")?, resident_peak_bytes: bytes("VmHWM")? })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub resident_bytes: u64,
    pub resident_peak_bytes: u64,
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // Nothing is left to tell an error to; a process that is gone already is what is wanted.
        drop(self.kill());
    }
}

/// Calls `done` until it gives a value, for at most `limit`.
pub fn wait_for<T>(limit: Duration, mut done: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = done()? {
            return Ok(Some(value));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(POLL_INTERVAL);
    }
}
