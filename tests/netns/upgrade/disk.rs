//! Disks that are really full: of a store's data, and of a sidecar's state.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use segue_bench::child::wait_for;
use serde_json::Value;
use tempfile::TempDir;

use super::{
    finalize,
    lab::{Lab, Node, Plan, TRANSACTION_TIME_MAX},
    under_load,
};

const DISK_BYTES: u64 = 16 << 20;
/// Less than `disk_free_bytes_min`, and room enough for what is written meanwhile.
const LITTLE_BYTES: u64 = 700_000;
const LOOK_PERIOD: Duration = Duration::from_millis(200);
const BALLAST: &str = "ballast";

/// A small file system of its own, in memory, on a folder. It goes away when it is dropped.
pub struct Disk {
    pub folder: PathBuf,
}

impl Disk {
    fn mount(folder: &Path) -> Result<Self> {
        let size = format!("size={DISK_BYTES}");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder).output()?;
        ensure!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
        Ok(Self { folder: folder.to_owned() })
    }

    /// Until no more than so many bytes are free.
    fn fill(&self, left: u64) -> Result<()> {
        let mut ballast = File::create(self.folder.join(BALLAST))?;
        let block = [1; 4096];
        loop {
            let stat = rustix::fs::statvfs(&self.folder)?;
            if stat.f_bavail * stat.f_frsize <= left {
                return Ok(());
            }
            match ballast.write_all(&block) {
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                written => written?,
            }
        }
    }

    fn make_room(&self) -> Result<()> {
        Ok(fs::remove_file(self.folder.join(BALLAST))?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Nothing is left to tell an error to.
        drop(Command::new("umount").arg("--lazy").arg(&self.folder).output());
    }
}

/// The disks of a node: of its store's data, of its sidecar's state.
pub struct Disks {
    pub data: Disk,
    pub state: Disk,
    /// After the disk on it.
    _state: TempDir,
}

impl Disks {
    pub fn mount(data: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("segue-state-").tempdir()?;
        Ok(Self { data: Disk::mount(data)?, state: Disk::mount(folder.path())?, _state: folder })
    }
}

fn disks(node: &Node) -> Result<&Disks> {
    node.site
        .as_ref()
        .and_then(|site| site.disks.as_ref())
        .with_context(|| format!("no disks of {}", node.id))
}

/// No node was touched, and this is why.
fn is_refused(lab: &Lab, node: &Node, disk: &Disk) -> Result<()> {
    let mut reason = String::new();
    // On a slow machine there may be another reason first, such as a store that does not answer in time.
    let found = wait_for(TRANSACTION_TIME_MAX, || {
        lab.told(&["start", "--to", lab.plan.to])?;
        let status = lab.await_phase("failed")?;
        reason = status["transaction"]["reason"].as_str().unwrap_or_default().to_owned();
        let of_node = reason.strip_prefix(&format!("preflight of {} failed: ", node.id));
        let told = of_node.and_then(|told| told.split_once(" bytes are free at "));
        Ok(told.map(|(free, rest)| (free.to_owned(), rest.to_owned())))
    })?;
    let (free, rest) = found.with_context(|| reason.clone())?;
    ensure!(free.parse::<u64>()? <= LITTLE_BYTES, "{reason}");
    let rest_expected = format!("{} (disk_free_bytes_min = 1000000): make room", disk.folder.display());
    ensure!(rest == rest_expected, "{reason}");
    Ok(())
}

/// Until it is paused like this; resumed where a slow machine paused it otherwise.
fn await_pause(lab: &Lab, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
    let paused = wait_for(TRANSACTION_TIME_MAX, || {
        sleep(LOOK_PERIOD);
        let Ok(status) = lab.status() else { return Ok(None) };
        let transaction = &status["transaction"];
        ensure!(transaction["over"] == false, "it is over: {transaction:#}\n{}", lab.logs());
        let paused = &transaction["paused"];
        if paused.is_object() && !is_it(paused) {
            resume(lab);
        }
        Ok(is_it(paused).then(|| paused.clone()))
    })?;
    paused.with_context(|| {
        format!("not paused as expected: {:#}\n{}", lab.status().unwrap_or_default(), lab.logs())
    })
}

/// It may have gone on meanwhile.
fn resume(lab: &Lab) {
    let _any = lab.nodes.iter().any(|node| node.told(&["resume"]).is_ok());
}

/// To this phase, resumed where it is paused.
fn goes_on_to(lab: &Lab, phase: &str) -> Result<()> {
    let met = wait_for(TRANSACTION_TIME_MAX, || {
        sleep(LOOK_PERIOD);
        let Ok(status) = lab.status() else { return Ok(None) };
        let transaction = &status["transaction"];
        if transaction["paused"].is_object() {
            resume(lab);
        }
        Ok((transaction["phase"] == phase).then_some(()))
    })?;
    met.with_context(|| format!("not {phase}: {:#}\n{}", lab.status().unwrap_or_default(), lab.logs()))
}

/// Its own sidecar's word of the mesh, and its metric.
fn part(node: &Node) -> Result<(Value, Option<f64>)> {
    let sidecar = node.sidecar();
    let metric = node.host.enter(|| sidecar.metric("segue_mesh_member"))?;
    Ok((node.status()?["mesh"].clone(), metric))
}

/// The log of the mesh can't be written there: it takes no part any more, says so, and links go on; with room, it
/// takes part again by itself. `stir` brings entries to the log.
fn state_is_full(lab: &Lab, node: &Node, stir: impl Fn()) -> Result<()> {
    disks(node)?.state.fill(0)?;
    let failed = wait_for(TRANSACTION_TIME_MAX, || {
        stir();
        sleep(LOOK_PERIOD);
        let (mesh, metric) = part(node)?;
        Ok((mesh["failed"].is_string() && metric == Some(0.0)).then(|| mesh["failed"].to_string()))
    })?;
    let failed = failed.with_context(|| format!("{} takes part all the same\n{}", node.id, lab.logs()))?;
    ensure!(failed.contains("mesh.redb") && failed.contains("No space left on device"), "{failed}");
    let explained = node.told(&["explain"])?;
    ensure!(explained.contains("takes no part in the mesh any more"), "{explained}");
    ensure!(explained.contains("making room in state.dir"), "{explained}");
    println!("{explained}");

    // What is written now reaches every store.
    let (key, value) = (format!("while {} is full", node.id), "there");
    redis::cmd("SET").arg(&key).arg(value).exec(&mut lab.master()?.connect()?)?;
    for site in lab.sites() {
        let there = wait_for(TRANSACTION_TIME_MAX, || {
            let found: Option<String> = redis::cmd("GET").arg(&key).query(&mut site.connect()?)?;
            Ok((found.as_deref() == Some(value)).then_some(()))
        })?;
        there.with_context(|| format!("no write comes to {}\n{}", site.host.ipv4(), lab.logs()))?;
    }

    disks(node)?.state.make_room()?;
    let back = wait_for(TRANSACTION_TIME_MAX, || {
        sleep(LOOK_PERIOD);
        let (mesh, metric) = part(node)?;
        Ok((mesh["failed"].is_null() && mesh["leader"].is_string() && metric == Some(1.0)).then_some(()))
    })?;
    back.with_context(|| format!("{} takes no part again\n{}", node.id, lab.logs()))?;
    let log = node.sidecar().log_text();
    ensure!(!log.contains("panicked"), "{log}");
    Ok(())
}

#[test]
fn full_disks_are_told_and_stop_nothing_that_runs() -> Result<()> {
    let plan = Plan {
        small_disks: true,
        upgrade: "hold_before_master = true\ngate_time_max = \"15s\"",
        options: "--stop-writes-on-bgsave-error no",
        ..Plan::new("redis-6.0", "redis-8.0")
    };
    let Some(lab) = Lab::start(plan)? else { return Ok(()) };
    let [n1, n2, n3] = &*lab.nodes else { bail!("three nodes were asked for") };
    for (node, disk, left) in [(n2, &disks(n2)?.data, 0), (n3, &disks(n3)?.state, LITTLE_BYTES)] {
        disk.fill(left)?;
        is_refused(&lab, node, disk)?;
        disk.make_room()?;
    }
    under_load(&lab, || {
        lab.told(&["start", "--to", lab.plan.to])?;
        await_pause(&lab, |paused| paused["cause"] == "barrier")?;
        // Since the checks before the start.
        let data = &disks(n1)?.data;
        data.fill(0)?;
        let is_of_disk =
            |paused: &Value| paused["why"].as_str().is_some_and(|why| why.contains("bytes are free at"));
        resume(&lab);
        let paused = await_pause(&lab, is_of_disk)?;
        let why = paused["why"].as_str().unwrap_or_default();
        ensure!(paused["node"] == *n1.id && paused["cause"] == "gate", "{paused:#}");
        ensure!(why.starts_with(&format!("gate-before of {} took too long: ", n1.id)), "{why}");
        ensure!(why.contains(&*data.folder.to_string_lossy()), "{why}");
        println!("{why}");

        state_is_full(&lab, n3, || resume(&lab))?;
        data.make_room()?;
        goes_on_to(&lab, "upgraded")?;
        state_is_full(&lab, lab.leader()?, || {
            let _any = lab.nodes.iter().any(|node| node.told(&["pause"]).is_ok());
            resume(&lab);
        })?;
        goes_on_to(&lab, "upgraded")?;
        finalize(&lab)
    })?;
    lab.all_run("8.0.")
}
