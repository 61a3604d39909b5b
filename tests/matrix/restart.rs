//! One sidecar after another, under load: no connection is refused, no replica needs a full sync.

use std::{
    fs::File,
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use segue_bench::{
    child::{ChildProcess, wait_for},
    data,
    sidecar::Sidecar,
};

use crate::{
    cluster::{Cluster, Plan, SYNC_TIME_MAX},
    resync::{await_syncs, under_load},
};

/// A process ends when its links have, and their state is on disk.
const END_TIME_MAX: Duration = Duration::from_secs(60);

#[test]
fn a_takeover_costs_no_full_sync_and_no_connection() -> Result<()> {
    let mut clients = None;
    let mut running: Option<ChildProcess> = None;
    let cluster = under_load("redis-6.0", 11, |cluster| {
        clients.get_or_insert_with(|| Clients::start(cluster.link_port));
        let (_, before) = cluster.syncs()?;
        let successor = take_over(&cluster.sidecar)?;
        match running.replace(successor) {
            Some(mut earlier) => await_end(cluster, || Ok(earlier.exited()?.is_some()))?,
            None => {
                let sidecar = &mut cluster.sidecar;
                let ended = wait_for(END_TIME_MAX, || Ok((!sidecar.is_running()?).then_some(())))?;
                ended.context("the first sidecar does not end")?;
            }
        }
        await_syncs(cluster, |(_, partial)| partial > before)
    })?;
    ensure!(cluster.syncs()? == (1, 4), "{:?}\n{}", cluster.syncs()?, cluster.sidecar.log_text());
    clients.context("no clients")?.assert_none_refused()?;
    let ended = running.context("no successor")?.terminate()?;
    ensure!(ended.success(), "{ended}");
    Ok(())
}

#[test]
fn sigusr2_starts_a_successor_at_the_cost_of_nothing() -> Result<()> {
    let mut clients = None;
    let mut running: Option<Orphan> = None;
    let cluster = under_load("redis-7.0", 12, |cluster| {
        clients.get_or_insert_with(|| Clients::start(cluster.link_port));
        let (_, before) = cluster.syncs()?;
        let signalled = running.as_ref().map_or(cluster.sidecar.pid().cast_signed(), |orphan| orphan.pid);
        let ends_before = ends(&cluster.sidecar);
        kill_process(Pid::from_raw(signalled).context("no pid")?, Signal::USR2)?;
        await_end(cluster, || Ok(ends(&cluster.sidecar) > ends_before))?;
        running = Some(Orphan::newest_of(&cluster.sidecar)?);
        await_syncs(cluster, |(_, partial)| partial > before)
    })?;
    ensure!(cluster.syncs()? == (1, 4), "{:?}\n{}", cluster.syncs()?, cluster.sidecar.log_text());
    clients.context("no clients")?.assert_none_refused()
}

/// The snapshot takes its time, and the sidecar that moves it is told to end meanwhile.
#[test]
fn a_snapshot_under_way_arrives_before_its_sidecar_ends() -> Result<()> {
    let mut plan = Plan::new("redis-8.0", "redis-6.0");
    plan.master_arguments = &["--rdb-key-save-delay", "500", "--repl-diskless-sync", "yes"];
    plan.node = "[limits]\ndrain_ms = 60000";
    let mut cluster = plan.start()?;
    data::fill_core(&mut cluster.master.client()?, 2)?;
    cluster.replicate()?;
    wait_for(SYNC_TIME_MAX, || {
        let moved = cluster.sidecar.status()?["links"][0]["bytes_from_listener"].as_u64();
        Ok((moved > Some(20_000)).then_some(()))
    })?
    .context("no snapshot arrives")?;
    ensure!(cluster.replica.info("replication")?.get("master_link_status") == Some("down"), "it is too late");

    let mut successor = take_over(&cluster.sidecar)?;
    let sidecar = &mut cluster.sidecar;
    wait_for(END_TIME_MAX, || Ok((!sidecar.is_running()?).then_some(())))?.context("it does not end")?;
    cluster.await_link_up()?;
    await_syncs(&cluster, |(_, partial)| partial == 1)?;
    redis::cmd("SET").arg("k").arg("v").arg("EX").arg(1000).exec(&mut cluster.master.client()?)?;
    cluster.assert_equal()?;
    ensure!(cluster.syncs()? == (1, 1), "{:?}\n{}", cluster.syncs()?, cluster.sidecar.log_text());
    successor.terminate()?;
    Ok(())
}

#[test]
fn a_snapshot_that_takes_too_long_is_cut() -> Result<()> {
    let mut plan = Plan::new("redis-8.0", "redis-6.0");
    plan.master_arguments = &["--rdb-key-save-delay", "20000", "--repl-diskless-sync", "yes"];
    plan.node = "[limits]\ndrain_ms = 300";
    let mut cluster = plan.start()?;
    data::fill_core(&mut cluster.master.client()?, 6)?;
    cluster.replicate()?;
    let decided = || Ok(cluster.sidecar.log_text().contains("link decided").then_some(()));
    wait_for(SYNC_TIME_MAX, decided)?.context("the replica does not dial")?;
    let start = Instant::now();
    cluster.sidecar.stop()?;
    let took = start.elapsed();
    ensure!(took > Duration::from_millis(300) && took < Duration::from_secs(3), "it took {took:?}");
    ensure!(ends(&cluster.sidecar) == 1, "{}", cluster.sidecar.log_text());
    Ok(())
}

#[test]
fn a_second_signal_ends_a_drain_at_once() -> Result<()> {
    let mut plan = Plan::new("redis-8.0", "redis-6.0");
    plan.master_arguments = &["--rdb-key-save-delay", "20000", "--repl-diskless-sync", "yes"];
    let mut cluster = plan.start()?;
    data::fill_core(&mut cluster.master.client()?, 6)?;
    cluster.replicate()?;
    let logged = |text: &str| {
        wait_for(SYNC_TIME_MAX, || Ok(cluster.sidecar.log_text().contains(text).then_some(())))?
            .with_context(|| format!("no {text} in the log"))
    };
    let terminate = || -> Result<()> {
        let pid = Pid::from_raw(cluster.sidecar.pid().cast_signed()).context("no pid")?;
        Ok(kill_process(pid, Signal::TERM)?)
    };
    logged("link decided")?;
    terminate()?;
    logged("draining")?;
    thread::sleep(Duration::from_millis(300));
    ensure!(ends(&cluster.sidecar) == 0, "the snapshot under way was cut");
    terminate()?;
    logged("sidecar ends")?;
    let sidecar = &mut cluster.sidecar;
    wait_for(END_TIME_MAX, || Ok((!sidecar.is_running()?).then_some(())))?.context("it does not end")
}

/// Starts `segue run --takeover` on the same config, with the same log.
fn take_over(sidecar: &Sidecar) -> Result<ChildProcess> {
    let log = File::options().append(true).open(sidecar.folder().join("log"))?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_segue"));
    command.args(["run", "--takeover", "--config"]).arg(sidecar.folder().join("segue.toml"));
    command.current_dir(sidecar.folder()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    ChildProcess::spawn(&mut command)
}

fn await_end(cluster: &Cluster, mut ended: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_for(END_TIME_MAX, || Ok(ended()?.then_some(())))?
        .with_context(|| format!("the sidecar before does not end:\n{}", cluster.sidecar.log_text()))
}

/// How many sidecars have ended in order.
fn ends(sidecar: &Sidecar) -> usize {
    sidecar.log_text().matches("sidecar ends").count()
}

/// A sidecar that another one started: known by its log only, and nobody else's to end.
struct Orphan {
    pid: i32,
}

impl Orphan {
    fn newest_of(sidecar: &Sidecar) -> Result<Self> {
        let log = sidecar.log_text();
        let line = log.lines().rfind(|line| line.contains("handed over")).context("no successor")?;
        let pid = line.split("successor=").nth(1).and_then(|rest| rest.split_whitespace().next());
        Ok(Self { pid: pid.context("no pid")?.parse()? })
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        // In a chain of successors all but the newest are gone already.
        let ours = std::fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let ours = ours.windows(10).any(|window| window == b"--takeover");
        if let (true, Some(pid)) = (ours, Pid::from_raw(self.pid)) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

/// Clients of the store that dial the link over and over.
struct Clients {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Clients {
    fn start(port: u16) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..4)
            .map(|_| {
                let (stop, answered) = (stop.clone(), answered.clone());
                thread::spawn(move || {
                    while !stop.load(Relaxed) {
                        if ping(port)? {
                            answered.fetch_add(1, Relaxed);
                        }
                        thread::sleep(Duration::from_millis(2));
                    }
                    Ok(())
                })
            })
            .collect();
        Self { stop, answered, threads }
    }

    fn assert_none_refused(self) -> Result<()> {
        self.stop.store(true, Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        let answered = self.answered.load(Relaxed);
        ensure!(answered > 100, "only {answered} pings were answered");
        Ok(())
    }
}

/// False where the connection was cut, which is how a link of the ending sidecar ends; never refused.
fn ping(port: u16) -> Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).context("a connection was refused")?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut answer = [0; 7];
    match stream.write_all(b"PING\r\n").and_then(|()| stream.read_exact(&mut answer)) {
        Ok(()) if answer == *b"+PONG\r\n" => Ok(true),
        Ok(()) => bail!("an answer of {}", answer.escape_ascii()),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => bail!("no answer within 10 s"),
        Err(_) => Ok(false),
    }
}
