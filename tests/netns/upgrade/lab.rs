//! Nodes on hosts of their own, each a real store and a `segue run` beside it, that agree by a mesh.

use std::{
    fs::{self, Permissions},
    net::SocketAddr,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use redis::Connection;
use segue_bench::{
    authority::Authority,
    child::wait_for,
    client::{self, Info},
    netns::{Host, Network},
    reader,
    sidecar::Sidecar,
    stores::Store,
    workspace,
    writers::{History, Writers},
};
use serde_json::Value;
use tempfile::TempDir;

use super::disk::Disks;
use crate::lab::{STORE_PORT, STORE_USER, network, node_id};

const SEGUE: &str = env!("CARGO_BIN_EXE_segue");
const SYNC_TIME_MAX: Duration = Duration::from_secs(60);
/// A transaction of three nodes, under load, on a slow machine.
pub const TRANSACTION_TIME_MAX: Duration = Duration::from_secs(240);
const LOOK_PERIOD: Duration = Duration::from_millis(100);
const WRITES_PER_S: u32 = 300;
const LOST_SHOWN_MAX: usize = 10;
const LOG_LINES: usize = 40;

/// How the stores' connections come to the sidecars.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By `[intercept]`, in the kernel.
    Redirect,
    /// Each store dials the others' sidecars.
    Inbound,
}

/// What differs from test to test.
pub struct Plan {
    pub nodes: u8,
    pub witness: bool,
    pub way: Way,
    pub from: &'static str,
    pub to: &'static str,
    /// More lines of `[upgrade]`.
    pub upgrade: &'static str,
    /// More options of the stores.
    pub options: &'static str,
    /// Each node's folders are on small disks of their own.
    pub small_disks: bool,
}

impl Plan {
    pub const fn new(from: &'static str, to: &'static str) -> Self {
        Self {
            nodes: 3,
            witness: false,
            way: Way::Inbound,
            from,
            to,
            upgrade: "",
            options: "",
            small_disks: false,
        }
    }
}

pub struct Lab {
    pub plan: Plan,
    /// In the order of their hosts; those of witnesses last. Before what they stand on.
    pub nodes: Vec<Node>,
    /// Where clients are.
    pub clients: Host,
    pub network: Network,
    _authority: Authority,
}

pub struct Node {
    pub id: String,
    pub host: Host,
    sidecar: Mutex<Arc<Sidecar>>,
    /// `None` of a witness.
    pub site: Option<Arc<Site>>,
}

/// A node's store. It is ended when this value is dropped.
pub struct Site {
    pub host: Host,
    /// Before the folder that one is on.
    pub disks: Option<Disks>,
    folder: TempDir,
}

impl Lab {
    /// n1 is master, the others follow it through sidecars; all is in sync. `None` where there can be no hosts.
    pub fn start(plan: Plan) -> Result<Option<Self>> {
        let members = plan.nodes + u8::from(plan.witness);
        let Some(network) = network(members + 1)? else { return Ok(None) };
        let authority = Authority::new("the mesh")?;
        let mut hosts = network.hosts.clone();
        let clients = hosts.pop().context("no host for clients")?;
        let mut nodes = Vec::new();
        for (at, host) in hosts.iter().enumerate() {
            let site = (at < plan.nodes.into()).then(|| Site::furnish(&plan, host).map(Arc::new));
            let site = site.transpose()?;
            if let Some(site) = &site {
                site.run("install", plan.from, None)?;
                site.run("start", plan.from, None)?;
            }
            let config = config(&plan, &hosts, at, site.as_deref(), &authority)?;
            let sidecar = host.enter(|| Sidecar::start(Path::new(SEGUE), &config))?;
            if plan.way == Way::Redirect && site.is_some() {
                crate::lab::segue(host, &sidecar, "install")?;
            }
            let sidecar = Mutex::new(Arc::new(sidecar));
            nodes.push(Node { id: node_id(host), host: host.clone(), sidecar, site });
        }
        let lab = Self { plan, nodes, clients, network, _authority: authority };
        let master = lab.node(0)?.dialled(lab.plan.way);
        for site in lab.sites().skip(1) {
            let mut store = site.connect()?;
            redis::cmd("REPLICAOF").arg(master.ip().to_string()).arg(master.port()).exec(&mut store)?;
        }
        lab.level()?;
        let mut last = Value::Null;
        wait_for(SYNC_TIME_MAX, || {
            last = lab.status().unwrap_or_default();
            Ok(lab.are_registered(&last).then_some(()))
        })?
        .with_context(|| format!("not all are registered: {last:#}\n{}", lab.logs()))?;
        Ok(Some(lab))
    }

    pub fn node(&self, at: usize) -> Result<&Node> {
        self.nodes.get(at).context("no such node")
    }

    pub fn named(&self, id: &str) -> Result<&Node> {
        self.nodes.iter().find(|node| node.id == id).with_context(|| format!("no node {id}"))
    }

    pub fn sites(&self) -> impl Iterator<Item = &Arc<Site>> {
        self.nodes.iter().filter_map(|node| node.site.as_ref())
    }

    /// Clients of every store.
    pub fn write(&self) -> Result<Writers> {
        let stores = self.sites().map(|site| site.address()).collect::<Vec<_>>();
        self.clients.enter(|| Ok(Writers::start(stores, WRITES_PER_S)))
    }

    /// The upgrade as a node knows it that hears of a leader.
    pub fn status(&self) -> Result<Value> {
        for node in &self.nodes {
            if let Ok(status) = node.status()
                && status["mesh"]["leader"].is_string()
            {
                return Ok(status);
            }
        }
        bail!("no sidecar knows a leader")
    }

    /// `segue upgrade …`, of whichever node can do it.
    pub fn told(&self, words: &[&str]) -> Result<String> {
        let mut said = String::new();
        let told = wait_for(SYNC_TIME_MAX, || {
            for node in &self.nodes {
                match node.told(words) {
                    Ok(told) => return Ok(Some(told)),
                    Err(error) => said = format!("{}: {error:#}", node.id),
                }
            }
            std::thread::sleep(LOOK_PERIOD);
            Ok(None)
        })?;
        told.with_context(|| format!("segue upgrade {words:?}: {said}\n{}", self.logs()))
    }

    /// Until the transaction is in this phase.
    pub fn await_phase(&self, phase: &str) -> Result<Value> {
        let mut last = Value::Null;
        let met = wait_for(TRANSACTION_TIME_MAX, || {
            std::thread::sleep(LOOK_PERIOD);
            last = self.status().unwrap_or_else(|_| last.take());
            let transaction = &last["transaction"];
            let is_stuck = transaction["over"] == true || !transaction["paused"].is_null();
            ensure!(
                transaction["phase"] == phase || !is_stuck,
                "it is {} and not {phase}: {last:#}\n{}",
                transaction["phase"],
                self.logs()
            );
            Ok((transaction["phase"] == phase).then(|| last.clone()))
        })?;
        met.with_context(|| format!("not {phase}: {last:#}\n{}", self.logs()))
    }

    /// The store that takes writes; there must be one.
    pub fn master(&self) -> Result<&Arc<Site>> {
        let mut masters = Vec::new();
        for site in self.sites() {
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
    pub fn level(&self) -> Result<&Arc<Site>> {
        let mut last = String::new();
        let level = wait_for(SYNC_TIME_MAX, || match self.try_level() {
            Ok(level) => Ok(level),
            Err(error) => {
                last = format!("{error:#}");
                Ok(None)
            }
        })?;
        level.with_context(|| format!("the stores are not in sync: {last}\n{}", self.logs()))
    }

    fn try_level(&self) -> Result<Option<&Arc<Site>>> {
        let master = self.master()?;
        let info = master.info("replication")?;
        let written = info.number("master_repl_offset")?;
        let level = info.fields().filter(|(name, value)| {
            let offset = value.split(',').find_map(|part| part.strip_prefix("offset="));
            name.starts_with("slave")
                && value.contains("state=online")
                && offset.and_then(|offset| offset.parse().ok()) == Some(written)
        });
        Ok((level.count() + 1 == self.sites().count()).then_some(master))
    }

    /// By the stores' own words.
    pub fn all_run(&self, version: &str) -> Result<()> {
        for site in self.sites() {
            let info = site.info("server")?;
            let found = info.get("valkey_version").or_else(|| info.get("redis_version"));
            ensure!(
                found.is_some_and(|found| found.starts_with(version)),
                "{} is {found:?} and not {version}",
                site.host.ipv4()
            );
        }
        Ok(())
    }

    /// Every acknowledged write is at the master, and every store has the same.
    pub fn assert_nothing_lost(&self, history: &History) -> Result<()> {
        let master = self.level()?;
        let lost = master.host.enter(|| history.lost(STORE_PORT))?;
        let shown: Vec<_> = lost.iter().take(LOST_SHOWN_MAX).map(ToString::to_string).collect();
        ensure!(
            lost.is_empty(),
            "{} of {} acknowledged writes are lost: {shown:?}\n{}",
            lost.len(),
            history.writes.len(),
            self.logs()
        );
        for site in self.sites().filter(|site| !Arc::ptr_eq(site, master)) {
            let (one, other) = (master.connect()?, site.connect()?);
            let compared = reader::compare_connected(one, other, reader::Options::default())?;
            ensure!(compared.is_equal(), "{}: {:#?}", site.host.ipv4(), compared.differences);
        }
        Ok(())
    }

    pub fn logs(&self) -> String {
        let log = |node: &Node| {
            let sidecar = tail(&node.sidecar().log_text());
            let store = node.site.as_ref().map(|site| site.log_tail()).unwrap_or_default();
            format!("--- {}, sidecar:\n{sidecar}\n--- {}, store:\n{store}", node.id, node.id)
        };
        self.nodes.iter().map(log).collect::<Vec<_>>().join("\n")
    }

    fn are_registered(&self, status: &Value) -> bool {
        let nodes = status["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let stores = nodes.iter().filter(|node| node["release"].is_string() && node["in_sync"] == true);
        nodes.len() == self.nodes.len() && stores.count() == self.sites().count()
    }
}

impl Node {
    pub fn sidecar(&self) -> Arc<Sidecar> {
        self.slot().clone()
    }

    pub fn status(&self) -> Result<Value> {
        let sidecar = self.sidecar();
        self.host.enter(|| sidecar.upgrade())
    }

    pub fn told(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(SEGUE);
        self.host.output(command.arg("upgrade").args(words).args(["--admin", "127.0.0.1:9901"]))
    }

    /// SIGKILL; another is to be started.
    pub fn kill_sidecar(&self) -> Result<()> {
        self.with_sidecar(Sidecar::kill9)
    }

    pub fn restart_sidecar(&self) -> Result<()> {
        self.with_sidecar(Sidecar::restart)
    }

    fn with_sidecar(&self, act: impl FnOnce(&mut Sidecar) -> Result<()> + Send) -> Result<()> {
        let mut slot = self.slot();
        // Whoever looks at it has done so soon.
        let alone = wait_for(SYNC_TIME_MAX, || Ok((Arc::strong_count(&slot) == 1).then_some(())))?;
        alone.context("the sidecar is looked at for ever")?;
        let sidecar = Arc::get_mut(&mut slot).context("the sidecar is looked at")?;
        self.host.enter(|| act(sidecar))
    }

    fn slot(&self) -> MutexGuard<'_, Arc<Sidecar>> {
        self.sidecar.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the other stores find this one.
    pub fn dialled(&self, way: Way) -> SocketAddr {
        SocketAddr::new(
            address(&self.host, STORE_PORT).ip(),
            if way == Way::Inbound { LINK_PORT } else { STORE_PORT },
        )
    }
}

const LINK_PORT: u16 = 7401;

impl Site {
    fn furnish(plan: &Plan, host: &Host) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("segue-upgrade-").tempdir()?;
        let path = folder.path();
        let disks = plan.small_disks.then(|| Disks::mount(path)).transpose()?;
        fs::create_dir(path.join("bin"))?;
        for release in [plan.from, plan.to] {
            // A store's program looks for its libraries beside itself.
            let program = path.join("bin").join(release);
            fs::write(&program, format!("#!/bin/sh\nexec {:?} \"$@\"\n", Store::want(release)?.server))?;
            fs::set_permissions(&program, Permissions::from_mode(0o755))?;
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

    pub fn pid(&self) -> Result<i32> {
        Ok(fs::read_to_string(self.folder.path().join("pid"))?.trim().parse()?)
    }

    pub fn address(&self) -> SocketAddr {
        address(&self.host, STORE_PORT)
    }

    pub fn connect(&self) -> Result<Connection> {
        self.host.enter(|| client::connect(STORE_PORT))
    }

    pub fn info(&self, section: &str) -> Result<Info> {
        Info::ask(&mut self.connect()?, section)
    }

    fn log_tail(&self) -> String {
        let text = fs::read(self.folder.path().join("log")).unwrap_or_default();
        tail(&String::from_utf8_lossy(&text))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Nothing is left to tell an error to.
        drop(self.run("stop", "", None));
    }
}

fn script() -> PathBuf {
    workspace().join("tests/matrix/upgrade/store.sh")
}

#[allow(clippy::expect_used, reason = "the lab writes it itself")]
fn address(host: &Host, port: u16) -> SocketAddr {
    format!("{}:{port}", host.ipv4()).parse().expect("an address of the lab")
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().join("\n")
}

fn config(
    plan: &Plan,
    hosts: &[Host],
    at: usize,
    site: Option<&Site>,
    authority: &Authority,
) -> Result<String> {
    let host = hosts.get(at).context("no such host")?;
    let id = node_id(host);
    let keys = authority.issue(&id)?.sidecar_table().replace("[tls]\n", "");
    let mut text = format!(
        "[admin]\nlisten = \"127.0.0.1:9901\"\n[metrics]\nlisten = \"127.0.0.1:9464\"\n[mesh]\nlisten = \"{}:9902\"\n{keys}\n[node]\nid = \"{id}\"\n",
        host.ipv4()
    );
    let Some(site) = site else {
        return Ok(text + "witness = true\n" + &peers(plan, hosts, at));
    };
    text += &format!("protocol = \"redis\"\nstore = \"127.0.0.1:{STORE_PORT}\"\n");
    if let Some(disks) = &site.disks {
        text += &format!("[state]\ndir = {:?}\n", disks.state.folder);
    }
    text += &match plan.way {
        Way::Redirect => format!(
            "[intercept]\nmode = \"redirect\"\non_failure = \"open\"\nstore_user = \"{STORE_USER}\"\n"
        ),
        Way::Inbound => format!("[[link]]\nlisten = \"{}:{LINK_PORT}\"\nto = \"store\"\n", host.ipv4()),
    };
    text += &peers(plan, hosts, at);
    text += &format!("[upgrade]\ndisk_free_bytes_min = 1000000\n{}\n", plan.upgrade);
    if plan.small_disks {
        text += &format!("data_dir = {:?}\n", site.folder.path());
    }
    text += "[upgrade.hooks]\n";
    for what in ["stop", "install", "start", "set_aside"] {
        let more = if what == "set_aside" { "{data}\"" } else { "{master_host}\", \"{master_port}\"" };
        text += &format!(
            "{what} = [{:?}, \"{what}\", {:?}, \"{{release}}\", \"{{store_port}}\", \"{more}]\n",
            script(),
            site.folder.path()
        );
    }
    Ok(text)
}

fn peers(plan: &Plan, hosts: &[Host], own: usize) -> String {
    let mut text = String::new();
    for (at, host) in hosts.iter().enumerate().filter(|(at, _)| *at != own) {
        let ip = host.ipv4();
        text += &format!("[[peer]]\nid = \"{}\"\nmesh = \"{ip}:9902\"\n", node_id(host));
        if at >= plan.nodes.into() {
            text += "witness = true\n";
            continue;
        }
        text += &format!("store = \"{ip}:{STORE_PORT}\"\n");
        if plan.way == Way::Inbound {
            text += &format!("dial = \"{ip}:{LINK_PORT}\"\n");
        }
    }
    text
}
