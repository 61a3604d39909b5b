//! Nodes on hosts of their own, each a real store and a `segue run` beside it, that agree by a mesh.

use std::{
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use segue_bench::{
    authority::Authority,
    child::wait_for,
    netns::{Host, Network},
    reader,
    sidecar::Sidecar,
    writers::{History, Writers},
};
use serde_json::Value;

use super::site::{Site, address, level, master, script, tail, write};
use crate::lab::{STORE_PORT, STORE_USER, network, node_id};

const SEGUE: &str = env!("CARGO_BIN_EXE_segue");
const SYNC_TIME_MAX: Duration = Duration::from_secs(60);
/// A transaction of three nodes, under load, on a slow machine.
pub const TRANSACTION_TIME_MAX: Duration = Duration::from_secs(240);
pub const MESH_PORT: u16 = 9902;
const LINK_PORT: u16 = 7401;
const LOOK_PERIOD: Duration = Duration::from_millis(100);
const LOST_SHOWN_MAX: usize = 10;

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
    /// The time of the newest line of the journal that any node has shown, in milliseconds since the epoch.
    newest_ms: AtomicU64,
    _authority: Authority,
}

pub struct Node {
    pub id: String,
    pub host: Host,
    sidecar: Mutex<Arc<Sidecar>>,
    /// `None` of a witness.
    pub site: Option<Arc<Site>>,
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
        let newest_ms = AtomicU64::new(0);
        let lab = Self { plan, nodes, clients, network, newest_ms, _authority: authority };
        let master = lab.node(0)?.dialled(lab.plan.way);
        for site in lab.sites().skip(1) {
            let mut store = site.await_connection()?;
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

    pub fn sites(&self) -> impl Iterator<Item = &Arc<Site>> + Clone {
        self.nodes.iter().filter_map(|node| node.site.as_ref())
    }

    /// Clients of every store.
    pub fn write(&self) -> Result<Writers> {
        write(self.sites(), &self.clients)
    }

    /// The upgrade as whoever leads knows it: the others may still have to hear of what was just agreed on.
    pub fn status(&self) -> Result<Value> {
        for node in &self.nodes {
            let leader =
                node.status().ok().and_then(|status| Some(status["mesh"]["leader"].as_str()?.to_owned()));
            if let Some(leader) = leader
                && let Ok(status) = self.named(&leader)?.status()
                && status["mesh"]["leader"] == *leader
                && self.is_newest(&status)
            {
                return Ok(status);
            }
        }
        bail!("no sidecar leads")
    }

    /// Who has just begun to lead still reads what was agreed on.
    fn is_newest(&self, status: &Value) -> bool {
        let journal = status["journal"].as_array().into_iter().flatten();
        let newest_ms = journal.filter_map(|line| line["at_ms"].as_u64()).max().unwrap_or_default();
        self.newest_ms.fetch_max(newest_ms, Relaxed) <= newest_ms
    }

    pub fn leader(&self) -> Result<&Node> {
        let leader = |status: Value| status["mesh"]["leader"].as_str().map(str::to_owned);
        let leader = wait_for(SYNC_TIME_MAX, || Ok(self.status().ok().and_then(leader)))?;
        self.named(&leader.with_context(|| format!("nobody leads\n{}", self.logs()))?)
    }

    /// `segue upgrade …`, of whichever node can do it.
    pub fn told(&self, words: &[&str]) -> Result<String> {
        let number = |status: &Value| status["transaction"]["id"].as_u64();
        let before = self.status().ok().and_then(|status| number(&status));
        let mut said = String::new();
        let told = wait_for(SYNC_TIME_MAX, || {
            for node in &self.nodes {
                match node.told(words) {
                    Ok(told) => {
                        self.is_newest(&node.status()?);
                        return Ok(Some(told));
                    }
                    Err(error) => said = format!("{}: {error:#}", node.id),
                }
            }
            // What was not answered in time may have been agreed on: it is not taken twice.
            let is_done = |status: &Value| match words.first() {
                Some(&"start") => number(status) > before,
                Some(&word) => is_obeyed(word, &status["transaction"]),
                None => false,
            };
            if self.status().is_ok_and(|status| is_done(&status)) {
                return Ok(Some(said.clone()));
            }
            std::thread::sleep(LOOK_PERIOD);
            Ok(None)
        })?;
        told.with_context(|| format!("segue upgrade {words:?}: {said}\n{}", self.logs()))
    }

    /// Until the transaction is in this phase.
    pub fn await_phase(&self, phase: &str) -> Result<Value> {
        self.await_status(phase, |status| status["transaction"]["phase"] == phase)
    }

    /// Until the transaction is as wanted; it must not pause or end before that.
    pub fn await_status(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut last = Value::Null;
        let met = wait_for(TRANSACTION_TIME_MAX, || {
            std::thread::sleep(LOOK_PERIOD);
            last = self.status().unwrap_or_else(|_| last.take());
            let transaction = &last["transaction"];
            let is_stuck = transaction["over"] == true || !transaction["paused"].is_null();
            ensure!(
                wanted(&last) || !is_stuck,
                "it is {} and not {what}: {last:#}\n{}",
                transaction["phase"],
                self.logs()
            );
            Ok(wanted(&last).then(|| last.clone()))
        })?;
        met.with_context(|| format!("not {what}: {last:#}\n{}", self.logs()))
    }

    /// The store that takes writes; there must be one.
    pub fn master(&self) -> Result<&Arc<Site>> {
        master(self.sites())
    }

    /// Until all have what the master has; nobody writes meanwhile. The master.
    pub fn level(&self) -> Result<&Arc<Site>> {
        level(self.sites()).with_context(|| self.logs())
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

    /// # Errors
    /// It is a witness.
    pub fn site(&self) -> Result<&Arc<Site>> {
        self.site.as_ref().context("a witness has no store")
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

/// Whether a command has nothing left to do.
fn is_obeyed(command: &str, transaction: &Value) -> bool {
    let is_in = |phases: &[&str]| transaction["phase"].as_str().is_some_and(|phase| phases.contains(&phase));
    match command {
        "pause" => transaction["paused"].is_object(),
        "resume" => transaction["paused"].is_null(),
        "rollback" => is_in(&["rolling-back", "rolled-back"]),
        "finalize" => is_in(&["finalizing", "done"]),
        _ => false,
    }
}

/// A sidecar that stands still as long as this is there, unless it is killed.
pub struct Frozen(Pid);

impl Frozen {
    pub fn new(node: &Node) -> Result<Self> {
        let pid =
            i32::try_from(node.sidecar().pid()).ok().and_then(Pid::from_raw).context("no such process")?;
        kill_process(pid, Signal::STOP)?;
        Ok(Self(pid))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _may_be_gone = kill_process(self.0, Signal::CONT);
    }
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
        "[admin]\nlisten = \"127.0.0.1:9901\"\n[metrics]\nlisten = \"127.0.0.1:9464\"\n[mesh]\nlisten = \"{}:{MESH_PORT}\"\n{keys}\n[node]\nid = \"{id}\"\n",
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
        text += &format!("data_dir = {:?}\n", site.folder());
    }
    text += "[upgrade.hooks]\n";
    for what in ["stop", "install", "start", "set_aside"] {
        let more = if what == "set_aside" { "{data}\"" } else { "{master_host}\", \"{master_port}\"" };
        text += &format!(
            "{what} = [{:?}, \"{what}\", {:?}, \"{{release}}\", \"{{store_port}}\", \"{more}]\n",
            script(),
            site.folder()
        );
    }
    Ok(text)
}

fn peers(plan: &Plan, hosts: &[Host], own: usize) -> String {
    let mut text = String::new();
    for (at, host) in hosts.iter().enumerate().filter(|(at, _)| *at != own) {
        let ip = host.ipv4();
        text += &format!("[[peer]]\nid = \"{}\"\nmesh = \"{ip}:{MESH_PORT}\"\n", node_id(host));
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
