//! Three nodes, each a real store and a `segue run` beside it, that agree by a mesh.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use segue_bench::{child::wait_for, client, client::Info, port, sidecar::Sidecar, stores::Store, workspace};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::{self, Runtime};

use crate::switch::proxy::{self, Gate};

/// A transaction of three nodes, under load, on a slow machine.
pub const TRANSACTION_TIME_MAX: Duration = Duration::from_secs(240);
pub const SYNC_TIME_MAX: Duration = Duration::from_secs(120);
/// What `segue upgrade` says where it is not known whether a command will be done.
const LEFT_OPEN: [&str; 3] = ["it may still come to be", "it may have been agreed", "did not answer within"];
/// What a hook runs: the script, and before it a file that is called as the hook in the sidecar's folder.
const MEDDLED: &str = r#"[ ! -e "./$0" ] || . "./$0"; exec "$@""#;
pub const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// What differs from test to test.
pub struct Plan {
    /// By its short name, such as `redis-6.0`.
    pub from: &'static str,
    pub to: &'static str,
    /// More lines of `[upgrade]`.
    pub upgrade: &'static str,
    /// More tables of each sidecar's config.
    pub tables: &'static str,
    /// Other words for a hook of one node: node, hook, words.
    pub hook: Option<(&'static str, &'static str, &'static str)>,
    /// A node whose new program is missing.
    pub without_program: Option<&'static str>,
    /// More options of the stores.
    pub options: &'static str,
    /// Sidecars reach the stores of other nodes through [`Lab::gates`].
    pub gated: bool,
}

impl Plan {
    pub const fn new(from: &'static str, to: &'static str) -> Self {
        Self {
            from,
            to,
            upgrade: "",
            tables: "",
            hook: None,
            without_program: None,
            options: "",
            gated: false,
        }
    }
}

pub struct Lab {
    /// Before their folders.
    pub sidecars: Vec<Sidecar>,
    pub stores: Vec<Site>,
    /// Before each store, where the plan says so.
    pub gates: Vec<Arc<Gate>>,
    /// What they run on.
    _runtime: Runtime,
}

/// A node's store. It is ended when this value is dropped.
pub struct Site {
    pub folder: TempDir,
    pub port: u16,
    /// Where the sidecars of other nodes reach it.
    peer: u16,
    pub link: u16,
    mesh: u16,
    admin: u16,
    metrics: u16,
}

impl Lab {
    /// n1 is master, the others follow it through its sidecar; all is in sync.
    pub fn start(plan: &Plan) -> Result<Self> {
        let (from, to) = (Store::want(plan.from)?, Store::want(plan.to)?);
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (mut stores, mut gates) = (Vec::new(), Vec::new());
        for node in NODES {
            let [port, link, mesh, admin, metrics] = port::free_ports()?;
            let folder = tempfile::Builder::new().prefix("segue-upgrade-").tempdir()?;
            fs::create_dir(folder.path().join("bin"))?;
            program(&from.server, &folder.path().join("bin").join(plan.from))?;
            if plan.without_program != Some(node) {
                program(&to.server, &folder.path().join("bin").join(plan.to))?;
            }
            fs::write(folder.path().join("options"), plan.options)?;
            let mut peer = port;
            if plan.gated {
                let gate = Arc::new(Gate::default());
                peer = runtime.block_on(proxy::start(port, gate.clone()))?;
                gates.push(gate);
            }
            stores.push(Site { folder, port, peer, link, mesh, admin, metrics });
        }
        let mut sidecars = Vec::new();
        for (number, node) in NODES.into_iter().enumerate() {
            let config = config(plan, &stores, number)?;
            let sidecar = Sidecar::start(Path::new(env!("CARGO_BIN_EXE_segue")), &config)
                .with_context(|| format!("the sidecar of {node}"))?;
            sidecars.push(sidecar);
        }
        for (number, site) in stores.iter().enumerate() {
            site.run("install", plan.from, None)?;
            site.run("start", plan.from, (number > 0).then(|| stores[0].link))?;
        }
        let lab = Self { sidecars, stores, gates, _runtime: runtime };
        wait_for(SYNC_TIME_MAX, || Ok(lab.are_in_sync(0)?.then_some(())))?
            .context("no links at the start")?;
        wait_for(SYNC_TIME_MAX, || Ok(lab.are_registered()?.then_some(())))?
            .with_context(|| format!("not all are registered: {:#?}", lab.status(0)))?;
        Ok(lab)
    }

    /// From now on this hook of the node runs these lines of shell first. Its words are the script's: `$2` what,
    /// `$3` the folder, `$4` the release, `$5` the port, `$6` and `$7` the master.
    pub fn meddle(&self, number: usize, hook: &str, lines: &str) -> Result<()> {
        Ok(fs::write(self.sidecars[number].folder().join(hook), lines)?)
    }

    /// From now on this hook of the node waits until it is let go.
    pub fn hold(&self, number: usize, hook: &str) -> Result<()> {
        Ok(fs::write(self.held_by(number, hook), "")?)
    }

    pub fn await_held(&self, node: &str, hook: &str) -> Result<()> {
        self.await_status(&format!("{hook} of {node} held"), |status| {
            let mut pending = status["transaction"]["pending"].as_array().into_iter().flatten();
            pending.any(|action| action["node"] == node && action["step"] == hook)
        })?;
        Ok(())
    }

    /// How often a hook of the node began to wait.
    pub fn held(&self, number: usize) -> usize {
        let held = fs::read_to_string(self.stores[number].folder.path().join("held"));
        held.map_or(0, |held| held.lines().count())
    }

    pub fn let_go(&self, number: usize, hook: &str) -> Result<()> {
        Ok(fs::remove_file(self.held_by(number, hook))?)
    }

    fn held_by(&self, number: usize, hook: &str) -> PathBuf {
        self.stores[number].folder.path().join(format!("hold-{hook}"))
    }

    /// One more release that can be installed there.
    pub fn add_program(&self, number: usize, release: &str) -> Result<()> {
        program(&Store::want(release)?.server, &self.stores[number].folder.path().join("bin").join(release))
    }

    pub fn ports(&self) -> [u16; 3] {
        [0, 1, 2].map(|number| self.stores[number].port)
    }

    /// `segue upgrade …` of this node: its output, or what it said of the error.
    pub fn upgrade(&self, number: usize, words: &[&str]) -> Result<Result<String, String>> {
        let output = Command::new(env!("CARGO_BIN_EXE_segue"))
            .arg("upgrade")
            .args(words)
            .args(["--admin", &format!("127.0.0.1:{}", self.stores[number].admin)])
            .output()?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) })
    }

    /// What `segue losses` says of this node.
    pub fn losses(&self, number: usize) -> Result<String> {
        let admin = format!("127.0.0.1:{}", self.stores[number].admin);
        let output =
            Command::new(env!("CARGO_BIN_EXE_segue")).args(["losses", "--admin", &admin]).output()?;
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Again where a slow machine left it open whether the sidecars agreed: who is told twice says so.
    pub fn told(&self, number: usize, words: &[&str]) -> Result<String> {
        let mut left_open = false;
        let told = wait_for(SYNC_TIME_MAX, || match self.upgrade(number, words)? {
            Ok(said) => Ok(Some(said)),
            Err(why) if LEFT_OPEN.iter().any(|open| why.contains(open)) => {
                println!("segue upgrade {words:?}: {why}");
                left_open = true;
                Ok(None)
            }
            Err(why) if left_open => Ok(Some(why)),
            Err(why) => bail!("segue upgrade {words:?}: {why}"),
        })?;
        told.with_context(|| format!("segue upgrade {words:?}: nothing is agreed on"))
    }

    /// A moment at which no secondary keeps up is not the one to begin.
    pub fn begin(&self, number: usize, to: &str) -> Result<()> {
        let mut why = String::new();
        let begun = wait_for(SYNC_TIME_MAX, || {
            match self.upgrade(number, &["start", "--to", to])? {
                Ok(_) => return Ok(Some(())),
                Err(refused) => why = refused,
            }
            std::thread::sleep(Duration::from_millis(500));
            Ok(None)
        })?;
        begun.with_context(|| format!("the upgrade does not begin: {why}"))
    }

    pub fn status(&self, number: usize) -> Result<Value> {
        let said = self.upgrade(number, &["status", "--json"])?;
        Ok(serde_json::from_str(&said.map_err(|why| anyhow::anyhow!("no status: {why}"))?)?)
    }

    /// Until the transaction, as n2 sees it, is in this phase.
    pub fn await_phase(&self, phase: &str) -> Result<Value> {
        self.await_status(&format!("the phase {phase}"), |status| status["transaction"]["phase"] == phase)
    }

    pub fn await_status(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut last = Value::Null;
        let met = wait_for(TRANSACTION_TIME_MAX, || {
            std::thread::sleep(Duration::from_millis(200));
            if let Ok(status) = self.status(1) {
                last = status;
            }
            Ok(is_it(&last).then(|| last.clone()))
        })?;
        met.with_context(|| {
            let logs = self.sidecars.iter().map(|sidecar| {
                let log = sidecar.log_text();
                let lines: Vec<&str> = log.lines().collect();
                lines[lines.len().saturating_sub(30)..].join("\n")
            });
            format!("not {what}: {last:#}\n{}", logs.collect::<Vec<_>>().join("\n---\n"))
        })
    }

    /// Until all know that the node is on the new release.
    pub fn await_upgraded(&self, node: &str) -> Result<()> {
        self.await_status(&format!("{node} upgraded"), |status| {
            self.resume_unless(status, |_| false);
            let mut nodes = status["nodes"].as_array().into_iter().flatten();
            nodes.any(|known| known["id"] == node && known["part"]["generation"] == "new")
        })?;
        Ok(())
    }

    /// Until it is paused because of this step of this node, whatever a slow machine paused it for before.
    pub fn await_pause(&self, step: &str, node: &str) -> Result<Value> {
        let why = format!("{step} of {node} ");
        let is_it = |paused: &Value| paused["why"].as_str().is_some_and(|said| said.starts_with(&why));
        self.await_status(&format!("paused for {why}"), |status| {
            self.resume_unless(status, is_it);
            is_it(&status["transaction"]["paused"])
        })
    }

    fn resume_unless(&self, status: &Value, is_wanted: impl Fn(&Value) -> bool) {
        let paused = &status["transaction"]["paused"];
        if paused["cause"] == "gate" && !is_wanted(paused) {
            println!("resumed: {}", paused["why"]);
            // It may have gone on meanwhile.
            drop(self.upgrade(1, &["resume"]));
        }
    }

    /// The store's own word of its release: `6.0.16`.
    pub fn version(&self, number: usize) -> Result<String> {
        let info = Info::ask(&mut client::connect(self.stores[number].port)?, "server")?;
        let version = info.get("valkey_version").or_else(|| info.get("redis_version"));
        Ok(version.context("no version")?.to_owned())
    }

    pub fn full_syncs(&self, number: usize) -> Result<u64> {
        Info::ask(&mut client::connect(self.stores[number].port)?, "stats")?.number("sync_full")
    }

    pub fn log(&self, number: usize) -> Result<String> {
        Ok(fs::read_to_string(self.stores[number].folder.path().join("log"))?)
    }

    /// The store that takes writes; there must be one.
    pub fn master(&self) -> Result<usize> {
        self.master_of(&[0, 1, 2])
    }

    /// As [`Self::master`], of those that are up.
    pub fn master_of(&self, numbers: &[usize]) -> Result<usize> {
        let mut masters = Vec::new();
        for number in numbers.iter().copied() {
            if self.replication(number)?.get("role") == Some("master") {
                masters.push(number);
            }
        }
        match &*masters {
            [one] => Ok(*one),
            masters => bail!("masters: {masters:?}"),
        }
    }

    pub fn await_in_sync(&self) -> Result<usize> {
        let synced = wait_for(SYNC_TIME_MAX, || {
            let Ok(master) = self.master() else { return Ok(None) };
            Ok(self.are_in_sync(master)?.then_some(master))
        })?;
        synced.context("the stores are not in sync")
    }

    /// Until this store is linked with that one, through its sidecar.
    pub fn await_follows(&self, number: usize, master: usize) -> Result<()> {
        let link = self.stores[master].link.to_string();
        let follows = wait_for(SYNC_TIME_MAX, || {
            let info = self.replication(number)?;
            let is_up = info.get("master_link_status") == Some("up");
            Ok((is_up && info.get("master_port") == Some(&*link)).then_some(()))
        })?;
        follows.with_context(|| format!("{} does not follow {}", NODES[number], NODES[master]))
    }

    pub fn replication(&self, number: usize) -> Result<Info> {
        self.info(number, "replication")
    }

    pub fn info(&self, number: usize, section: &str) -> Result<Info> {
        Info::ask(&mut client::connect(self.stores[number].port)?, section)
    }

    fn are_in_sync(&self, master: usize) -> Result<bool> {
        for number in (0..NODES.len()).filter(|number| *number != master) {
            let Ok(info) = self.replication(number) else { return Ok(false) };
            if info.get("master_link_status") != Some("up") {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn are_registered(&self) -> Result<bool> {
        let Ok(status) = self.status(1) else { return Ok(false) };
        let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
        let knows = |node: &Value| node["release"].is_string() && node["in_sync"] == true;
        Ok(nodes.len() == NODES.len() && nodes.iter().all(knows))
    }
}

impl Site {
    /// The script, as a hook runs it.
    pub fn run(&self, what: &str, release: &str, follows: Option<u16>) -> Result<()> {
        let mut command = Command::new(script());
        command.arg(what).arg(self.folder.path()).arg(release).arg(self.port.to_string());
        if let Some(link) = follows {
            command.args(["127.0.0.1", &link.to_string()]);
        }
        let output = command.output()?;
        ensure!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// With SIGKILL.
    pub fn kill(&self) -> Result<()> {
        let pid = fs::read_to_string(self.folder.path().join("pid"))?.trim().parse()?;
        kill_process(Pid::from_raw(pid).context("no pid")?, Signal::KILL)?;
        let is_gone = || fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default().is_empty();
        wait_for(SYNC_TIME_MAX, || Ok(is_gone().then_some(())))?.context("it does not end")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        drop(self.run("stop", "", None));
    }
}

/// Some of the lab's programs are scripts that look for their libraries beside themselves.
fn program(server: &Path, at: &Path) -> Result<()> {
    fs::write(at, format!("#!/bin/sh\nexec \"{}\" \"$@\"\n", server.display()))?;
    Ok(fs::set_permissions(at, fs::Permissions::from_mode(0o755))?)
}

pub fn script() -> PathBuf {
    workspace().join("tests/matrix/upgrade/store.sh")
}

fn config(plan: &Plan, sites: &[Site], number: usize) -> Result<String> {
    let (own, node) = (&sites[number], NODES[number]);
    let mut text = format!(
        "[node]\nid = \"{node}\"\nprotocol = \"redis\"\nstore = \"127.0.0.1:{}\"\n\
         [[link]]\nlisten = \"127.0.0.1:{}\"\nto = \"store\"\n\
         [mesh]\nlisten = \"127.0.0.1:{}\"\n\
         [admin]\nlisten = \"127.0.0.1:{}\"\n[metrics]\nlisten = \"127.0.0.1:{}\"\n",
        own.port, own.link, own.mesh, own.admin, own.metrics
    );
    for (other, site) in sites.iter().enumerate().filter(|(other, _)| *other != number) {
        text += &format!(
            "[[peer]]\nid = \"{}\"\nstore = \"127.0.0.1:{}\"\nmesh = \"127.0.0.1:{}\"\ndial = \"127.0.0.1:{}\"\n",
            NODES[other], site.peer, site.mesh, site.link
        );
    }
    text += &format!("[upgrade]\ndisk_free_bytes_min = 1000000\n{}\n[upgrade.hooks]\n", plan.upgrade);
    let folder = own.folder.path().display();
    for what in ["stop", "install", "start", "set_aside"] {
        let words = match plan.hook {
            Some((of, hook, words)) if (of, hook) == (node, what) => words.to_owned(),
            _ if what == "set_aside" => format!(
                "[\"env\", \"SEGUE={}\", \"{}\", \"{{data}}\", \"{{release}}\", \"{folder}\"]",
                env!("CARGO_BIN_EXE_segue"),
                workspace().join("config/set-aside.sh").display()
            ),
            _ => format!(
                "[\"sh\", \"-c\", '{MEDDLED}', \"{what}\", \"{}\", \"{what}\", \"{folder}\", \"{{release}}\", \
                 \"{{store_port}}\", \"{{master_host}}\", \"{{master_port}}\"]",
                script().display()
            ),
        };
        text += &format!("{what} = {words}\n");
    }
    Ok(text + plan.tables)
}
