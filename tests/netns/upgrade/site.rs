//! A node's store, with what its host has for it.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use redis::Connection;
use rustix::process::{Pid, Signal, kill_process};
use segue_bench::{
    child::wait_for,
    client::{self, Info},
    netns::Host,
    stores::Store,
    workspace,
    writers::Writers,
};
use tempfile::TempDir;

use super::{
    disk::Disks,
    lab::{Plan, Way},
};
use crate::lab::{STORE_PORT, STORE_USER};

const SYNC_TIME_MAX: Duration = Duration::from_secs(60);
const WRITES_PER_S: u32 = 300;
const LOG_LINES: usize = 40;

/// It is ended when this value is dropped.
pub struct Site {
    pub host: Host,
    /// Before the folder that one is on.
    pub disks: Option<Disks>,
    folder: TempDir,
}

/// Clients of every store.
pub fn write<'a>(sites: impl Iterator<Item = &'a Arc<Site>>, clients: &Host) -> Result<Writers> {
    let stores = sites.map(|site| site.address()).collect::<Vec<_>>();
    clients.enter(|| Ok(Writers::start(stores, WRITES_PER_S)))
}

/// The store that takes writes; there must be one.
pub fn master<'a>(sites: impl Iterator<Item = &'a Arc<Site>>) -> Result<&'a Arc<Site>> {
    let mut masters = Vec::new();
    for site in sites {
        if site.info("replication")?.get("role") == Some("master") {
            masters.push(site);
        }
    }
    match &*masters {
        [one] => Ok(one),
        several => bail!("{} stores are master", several.len()),
    }
}

/// Until all have what the master has; nobody writes meanwhile. The master.
pub fn level<'a>(sites: impl Iterator<Item = &'a Arc<Site>> + Clone) -> Result<&'a Arc<Site>> {
    let mut last = String::new();
    let level = wait_for(SYNC_TIME_MAX, || match try_level(sites.clone()) {
        Ok(level) => Ok(level),
        Err(error) => {
            last = format!("{error:#}");
            Ok(None)
        }
    })?;
    level.with_context(|| format!("the stores are not in sync: {last}"))
}

fn try_level<'a>(sites: impl Iterator<Item = &'a Arc<Site>> + Clone) -> Result<Option<&'a Arc<Site>>> {
    let master = master(sites.clone())?;
    let info = master.info("replication")?;
    let written = info.number("master_repl_offset")?;
    let level = info.fields().filter(|(name, value)| {
        let offset = value.split(',').find_map(|part| part.strip_prefix("offset="));
        name.starts_with("slave")
            && value.contains("state=online")
            && offset.and_then(|offset| offset.parse().ok()) == Some(written)
    });
    Ok((level.count() + 1 == sites.count()).then_some(master))
}

impl Site {
    /// With the programs of both releases; nothing is installed.
    pub fn furnish(plan: &Plan, host: &Host) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("segue-upgrade-").tempdir()?;
        let path = folder.path();
        let disks = plan.small_disks.then(|| Disks::mount(path)).transpose()?;
        fs::create_dir(path.join("bin"))?;
        for release in [plan.from, plan.to] {
            // A store's program looks for its libraries beside itself.
            let program = path.join("bin").join(release);
            let server = Store::want(release)?.server;
            write_program(&program, &format!("#!/bin/sh\nexec {server:?} \"$@\"\n"))?;
        }
        fs::write(path.join("options"), format!("--bind 0.0.0.0 --protected-mode no {}", plan.options))?;
        if plan.way == Way::Redirect {
            fs::write(path.join("as"), format!("setpriv --reuid={STORE_USER} --clear-groups --"))?;
            chown(path, Some(STORE_USER), None)?;
        }
        Ok(Self { host: host.clone(), disks, folder })
    }

    /// The script, as a hook runs it.
    pub fn run(&self, what: &str, release: &str, follows: Option<SocketAddr>) -> Result<()> {
        let mut command = Command::new(script());
        command.arg(what).arg(self.folder.path()).arg(release).arg(STORE_PORT.to_string());
        if let Some(master) = follows {
            command.args([master.ip().to_string(), master.port().to_string()]);
        }
        self.host.output(&mut command).map(drop)
    }

    /// Who starts it waits from now on.
    pub fn hold_start(&self) -> Result<()> {
        Ok(fs::write(self.held_start(), "")?)
    }

    pub fn let_start(&self) -> Result<()> {
        Ok(fs::remove_file(self.held_start())?)
    }

    /// While it is there, the script waits.
    fn held_start(&self) -> PathBuf {
        self.folder.path().join("hold-start")
    }

    /// SIGKILL; it may be down already.
    pub fn kill(&self) {
        let pid = fs::read_to_string(self.folder.path().join("pid"));
        let pid = pid.ok().and_then(|pid| pid.trim().parse().ok());
        // It works in its folder; a number alone may be another's by now.
        let is_it = |pid: &i32| {
            fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|folder| folder == self.folder.path())
        };
        let _may_be_down =
            pid.filter(is_it).and_then(Pid::from_raw).map(|pid| kill_process(pid, Signal::KILL));
    }

    pub fn address(&self) -> SocketAddr {
        address(&self.host, STORE_PORT)
    }

    pub fn connect(&self) -> Result<Connection> {
        self.host.enter(|| client::connect(STORE_PORT))
    }

    /// Once it listens: who starts it does not wait for that.
    pub fn await_connection(&self) -> Result<Connection> {
        let connected = wait_for(SYNC_TIME_MAX, || Ok(self.connect().ok()))?;
        connected.with_context(|| format!("{} does not answer\n{}", self.host.ipv4(), self.log_tail()))
    }

    /// Until what it acknowledges is in its append-only file, if it runs: not before that is whole for the first
    /// time since it got all from its master.
    pub fn await_file(&self) -> Result<()> {
        let is_whole = wait_for(SYNC_TIME_MAX, || {
            let Ok(info) = self.info("persistence") else { return Ok(Some(())) };
            Ok((!info.rewrites_aof()?).then_some(()))
        })?;
        is_whole.with_context(|| format!("{} writes its file for ever", self.host.ipv4()))
    }

    pub fn info(&self, section: &str) -> Result<Info> {
        Info::ask(&mut self.connect()?, section)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn log_tail(&self) -> String {
        let text = fs::read(self.folder.path().join("log")).unwrap_or_default();
        tail(&String::from_utf8_lossy(&text))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // One that writes its append-only file anew would not end otherwise.
        self.kill();
    }
}

/// By another process: what this one still has open for writing, or a child that it forks meanwhile, can't be run.
fn write_program(program: &Path, text: &str) -> Result<()> {
    let script = "printf %s \"$1\" >\"$2\" && chmod 755 \"$2\"";
    let written = Command::new("sh").args(["-c", script, "sh", text]).arg(program).output()?;
    ensure!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    Ok(())
}

pub fn script() -> PathBuf {
    workspace().join("tests/matrix/upgrade/store.sh")
}

#[allow(clippy::expect_used, reason = "the lab writes it itself")]
pub fn address(host: &Host, port: u16) -> SocketAddr {
    format!("{}:{port}", host.ipv4()).parse().expect("an address of the lab")
}

pub fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().join("\n")
}
