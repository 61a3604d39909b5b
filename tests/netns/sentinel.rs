//! Three sentinels watch a master and a replica of different releases.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use redis::Connection;
use segue_bench::{
    child::{ChildProcess, wait_for},
    netns::Host,
    server::Server,
    stores::Store,
};
use tempfile::TempDir;

use crate::lab::{self, STORE_PORT, STORE_USER};

/// A sentinel that a busy machine kept waiting does nothing for half a minute.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(150);
/// With it no sentinel takes a store that a busy machine keeps from answering for dead.
const PATIENT_MS: u32 = 60_000;
/// What takes longer to answer is gone.
const IMPATIENT_MS: u32 = 2000;
const SENTINELS: u16 = 3;
const FIRST_PORT: u16 = 26_379;

/// One sentinel, which writes its own config.
struct Sentinel {
    /// Before its folder.
    _process: ChildProcess,
    port: u16,
    folder: TempDir,
}

impl Sentinel {
    fn start(host: &Host, store: &Store, port: u16, master: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (config, log) = (folder.path().join("sentinel.conf"), folder.path().join("log"));
        let text = format!(
            "port {port}\nbind 127.0.0.1 {}\nprotected-mode no\nlogfile {}\ndir {}\n\
             sentinel monitor set {master} {STORE_PORT} 2\n\
             sentinel down-after-milliseconds set {PATIENT_MS}\nsentinel failover-timeout set 20000\n",
            host.ipv4(),
            log.display(),
            folder.path().display()
        );
        fs::write(&config, text)?;
        // Another user than the stores': what a sentinel dials is none of the sidecar's.
        for path in [folder.path(), &config] {
            chown(path, Some(STORE_USER + 1), None)?;
        }
        let mut command = Command::new(&store.server);
        command.arg(&config).arg("--sentinel").uid(STORE_USER + 1).stdin(Stdio::null()).stdout(Stdio::null());
        let process = host.enter(|| ChildProcess::spawn(&mut command))?;
        Ok(Self { _process: process, port, folder })
    }

    fn client(&self, host: &Host) -> Result<Connection> {
        host.enter(|| segue_bench::client::connect(self.port))
    }

    /// The fields of `SENTINEL MASTER`, by name.
    fn field(&self, host: &Host, name: &str) -> Result<Option<String>> {
        let fields: Vec<String> =
            redis::cmd("SENTINEL").arg("MASTER").arg("set").query(&mut self.client(host)?)?;
        Ok(fields.chunks_exact(2).find(|pair| pair[0] == name).map(|pair| pair[1].clone()))
    }

    fn set_down_after(&self, host: &Host, milliseconds: u32) -> Result<()> {
        let mut set = redis::cmd("SENTINEL");
        set.arg("SET").arg("set").arg("down-after-milliseconds").arg(milliseconds);
        Ok(set.exec(&mut self.client(host)?)?)
    }

    fn log_text(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

/// The newer store has the sidecar; first it is the master, then the older one, then again it.
#[test]
fn masters_of_both_releases_are_replaced() -> Result<()> {
    let Some(network) = lab::network(3)? else { return Ok(()) };
    let [n1, n2, n3] = &network.hosts[..] else { unreachable!("three hosts were asked for") };
    // What sentinels take for each store's address is where the other sees it come from.
    let sidecar = lab::sidecar(n1, &lab::config("tproxy", "open", &format!("{}:6379", n2.ipv4()), ""))?;
    let (mut newer, mut older) = (lab::store(n1, "redis-8.0")?, lab::store(n2, "redis-6.0")?);
    lab::fill(n1, &newer)?;
    lab::follow(n2, &older, &n1.ipv4())?;
    lab::await_link_up(n2, &older, || lab::tail(&sidecar.log_text()))?;

    let store = Store::want("redis-7.0")?;
    let sentinels = (0..SENTINELS)
        .map(|n| Sentinel::start(n3, &store, FIRST_PORT + n, &n1.ipv4()))
        .collect::<Result<Vec<_>>>()?;
    let logs = || {
        let sentinels: Vec<_> = sentinels.iter().map(|sentinel| lab::tail(&sentinel.log_text())).collect();
        format!("{}\nsidecar:\n{}", sentinels.join("\n"), lab::tail(&sidecar.log_text()))
    };
    let watching = || -> Result<Option<()>> {
        for sentinel in &sentinels {
            for (field, value) in [("num-other-sentinels", "2"), ("num-slaves", "1"), ("flags", "master")] {
                if sentinel.field(n3, field).ok().flatten().as_deref() != Some(value) {
                    return Ok(None);
                }
            }
        }
        Ok(Some(()))
    };
    wait_for(SETTLE_TIME_MAX, watching)?.with_context(logs)?;

    replaced((n1, &mut newer), (n2, &mut older), (n3, &sentinels)).with_context(logs)?;
    wait_for(SETTLE_TIME_MAX, watching)?.with_context(logs)?;
    replaced((n2, &mut older), (n1, &mut newer), (n3, &sentinels)).with_context(logs)
}

/// The master dies, the replica becomes master, and the old one follows it once it is back.
fn replaced(
    (old_host, old): (&Host, &mut Server),
    (new_host, new): (&Host, &mut Server),
    (watch, sentinels): (&Host, &[Sentinel]),
) -> Result<()> {
    let mut client = old_host.enter(|| old.client())?;
    redis::cmd("SET").arg("before").arg(old_host.ipv4()).exec(&mut client)?;
    let confirmed: u64 = redis::cmd("WAIT").arg(1).arg(20_000).query(&mut client)?;
    ensure!(confirmed == 1, "the replica does not confirm");
    old.kill9()?;
    for sentinel in sentinels {
        sentinel.set_down_after(watch, IMPATIENT_MS)?;
    }

    // A sentinel cuts the clients of a store whose role it changes.
    let is = |host: &Host, server: &Server, role: &str| {
        let info = host.enter(|| server.info("replication"));
        Ok(info.is_ok_and(|info| info.get("role") == Some(role)).then_some(()))
    };
    wait_for(SETTLE_TIME_MAX, || is(new_host, new, "master"))?
        .context("the replica does not become master")?;
    for sentinel in sentinels {
        let told = || Ok((sentinel.field(watch, "ip")? == Some(new_host.ipv4())).then_some(()));
        wait_for(SETTLE_TIME_MAX, told)?.context("a sentinel does not name the new master")?;
        sentinel.set_down_after(watch, PATIENT_MS)?;
    }

    old_host.enter(|| old.restart())?;
    wait_for(SETTLE_TIME_MAX, || is(old_host, old, "slave"))?.context("the old master is not demoted")?;
    lab::await_link_up(old_host, old, String::new)?;
    let info = old_host.enter(|| old.info("replication"))?;
    ensure!(info.get("master_host") == Some(&new_host.ipv4()), "it follows {:?}", info.get("master_host"));
    let info = new_host.enter(|| new.info("replication"))?;
    let seen = info.get("slave0").context("the new master has no replica")?;
    ensure!(seen.starts_with(&format!("ip={},port={STORE_PORT},", old_host.ipv4())), "it sees {seen}");
    let mut client = new_host.enter(|| new.client())?;
    let before: String = redis::cmd("GET").arg("before").query(&mut client)?;
    ensure!(before == old_host.ipv4(), "a confirmed write is lost");
    let mut equal = lab::assert_equal((new_host, new), (old_host, old));
    // Each sentinel may cut the clients of the old master by itself, when it sees that it is none.
    for _ in sentinels {
        if equal.as_ref().err().and_then(|error| error.downcast_ref()).is_none_or(is_other) {
            break;
        }
        equal = lab::assert_equal((new_host, new), (old_host, old));
    }
    equal
}

fn is_other(error: &redis::RedisError) -> bool {
    !(error.is_io_error() || error.is_connection_dropped())
}
