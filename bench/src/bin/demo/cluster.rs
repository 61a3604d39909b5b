//! The demo's cluster: three nodes, each a store and a sidecar; the sidecars agree over a mesh on loopback.

use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use redis::cmd;
use segue_bench::child::wait_for;
use segue_bench::client::{self, Info};
use segue_bench::port;
use segue_bench::sidecar::Sidecar;
use segue_bench::stores::Store;
use tempfile::TempDir;

use crate::home::Home;

pub const NODES: usize = 3;
/// How long the first sync may take.
const SYNC_TIME_MAX: Duration = Duration::from_secs(40);
/// How long replicas may take for the last writes.
const LEVEL_TIME_MAX: Duration = Duration::from_secs(20);

pub struct Cluster {
    pub nodes: Vec<Node>,
    folder: TempDir,
}

pub struct Node {
    pub sidecar: Sidecar,
    pub host: Host,
    pub port: u16,
}

/// A host whose store is stopped when this value is dropped.
pub struct Host(pub Home);

/// Where everything of one node listens.
struct Ports {
    store: u16,
    mesh: u16,
    admin: u16,
    metrics: u16,
    /// Of its sidecar, for its own store: the way to each node. The one to itself is not used.
    links: [u16; NODES],
}

impl Cluster {
    /// Starts stores and sidecars on the first of these releases. The first node is the master, `fill` fills it
    /// with data, and the others follow it through their sidecars once this returns.
    pub fn start(
        binary: &Path,
        stores: &[(&str, &Store)],
        soak: Duration,
        fill: impl FnOnce(u16) -> Result<()>,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("segue-demo-").tempdir()?;
        let ports = ports()?;
        let mut hosts = Vec::new();
        for (at, own) in ports.iter().enumerate() {
            let host = Host(Home::furnish(folder.path().join(id(at)), own.store, stores)?);
            host.0.start(None)?;
            hosts.push(host);
        }
        let (master, first) = (ports.first().context("no node")?.store, hosts.len());
        fill(master)?;
        let mut nodes = Vec::with_capacity(first);
        for ((at, own), host) in ports.iter().enumerate().zip(hosts) {
            let sidecar = Sidecar::start(binary, &configuration(at, &ports, &host.0, soak)?)?;
            nodes.push(Node { sidecar, host, port: own.store });
        }
        for own in ports.iter().skip(1) {
            let [to_master, ..] = own.links;
            let mut store = client::connect(own.store)?;
            cmd("REPLICAOF").arg("127.0.0.1").arg(to_master).exec(&mut store)?;
        }
        let cluster = Self { nodes, folder };
        let synced = wait_for(SYNC_TIME_MAX, || Ok((cluster.offsets()?.len() == NODES).then_some(())))?;
        synced.with_context(|| {
            format!("the secondaries do not follow the first node\n{}", cluster.log_tails())
        })?;
        Ok(cluster)
    }

    pub fn stores(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| (Ipv4Addr::LOCALHOST, node.port).into()).collect()
    }

    /// The one master.
    pub fn master(&self) -> Result<&Node> {
        let mut masters = Vec::new();
        for node in &self.nodes {
            if node.info("replication")?.get("role") == Some("master") {
                masters.push(node);
            }
        }
        match &*masters {
            [master] => Ok(master),
            several => anyhow::bail!("{} stores are master", several.len()),
        }
    }

    /// Waits until all secondaries have what the master has, by its own word.
    pub fn level(&self) -> Result<()> {
        let mut offsets = Vec::new();
        let level = wait_for(LEVEL_TIME_MAX, || {
            offsets = self.offsets()?;
            let level = offsets.len() == NODES && offsets.iter().min() == offsets.iter().max();
            Ok(level.then_some(()))
        })?;
        level.with_context(|| format!("offsets {offsets:?} are not equal after {LEVEL_TIME_MAX:?}"))
    }

    /// How far the master is, and how far each secondary that is online has acknowledged: lines such as
    /// `slave0:ip=127.0.0.1,port=6402,state=online,offset=1234,lag=0`.
    fn offsets(&self) -> Result<Vec<u64>> {
        let info = self.master()?.info("replication")?;
        let online = info
            .fields()
            .filter(|(name, value)| name.starts_with("slave") && value.contains("state=online"))
            .filter_map(|(_, value)| {
                value.split(',').find_map(|part| part.strip_prefix("offset="))?.parse().ok()
            });
        Ok(std::iter::once(info.number("master_repl_offset")?).chain(online).collect())
    }

    /// What the stores last said.
    fn log_tails(&self) -> String {
        let tail = |node: &Node| format!("end of the log of port {}:\n{}", node.port, node.host.0.log_tail());
        self.nodes.iter().map(tail).collect::<Vec<_>>().join("\n")
    }

    /// Ends everything and leaves data and logs behind.
    pub fn keep_folders(self) -> Vec<PathBuf> {
        let Self { nodes, mut folder } = self;
        folder.disable_cleanup(true);
        let sidecars = nodes.into_iter().map(|node| node.sidecar.keep_folder());
        sidecars.chain([folder.path().to_owned()]).collect()
    }
}

impl Node {
    pub fn info(&self, section: &str) -> Result<Info> {
        Info::ask(&mut client::connect(self.port)?, section)
    }

    pub fn version(&self) -> Result<String> {
        Ok(self.info("server")?.get("redis_version").context("the store says no version")?.to_owned())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Nothing is left to tell an error to.
        drop(self.0.stop());
    }
}

fn id(at: usize) -> String {
    format!("n{}", at + 1)
}

fn ports() -> Result<Vec<Ports>> {
    let all = port::free_ports::<{ NODES * (4 + NODES) }>()?;
    let mut all = all.into_iter();
    let mut next = || all.next().context("a port too few");
    (0..NODES)
        .map(|_| {
            let [store, mesh, admin, metrics] = [next()?, next()?, next()?, next()?];
            Ok(Ports { store, mesh, admin, metrics, links: [next()?, next()?, next()?] })
        })
        .collect()
}

fn configuration(at: usize, ports: &[Ports], home: &Home, soak: Duration) -> Result<String> {
    let own = ports.get(at).context("no such node")?;
    let program = env::current_exe()?;
    let mut text = format!(
        "[node]\nid = \"{}\"\nprotocol = \"redis\"\nstore = \"127.0.0.1:{}\"\n\
         \n[admin]\nlisten = \"127.0.0.1:{}\"\n\n[metrics]\nlisten = \"127.0.0.1:{}\"\n\
         \n[mesh]\nlisten = \"127.0.0.1:{}\"\n",
        id(at),
        own.store,
        own.admin,
        own.metrics,
        own.mesh
    );
    text += &format!(
        "\n[upgrade]\nsoak = \"{}ms\"\n\n[upgrade.hooks]\nstop = {}\ninstall = {}\nstart = {}\nset_aside = {}\n",
        soak.as_millis(),
        home.hook(&program, &["stop"]),
        home.hook(&program, &["install", "{release}"]),
        home.hook(&program, &["start", "{master_host}:{master_port}"]),
        home.hook(&program, &["set-aside", "{data}"]),
    );
    for (other, (peer, link)) in ports.iter().zip(own.links).enumerate().filter(|(other, _)| *other != at) {
        text += &format!(
            "\n[[peer]]\nid = \"{0}\"\nstore = \"127.0.0.1:{1}\"\nmesh = \"127.0.0.1:{2}\"\n\
             \n[[link]]\nlisten = \"127.0.0.1:{link}\"\nto = \"{0}\"\n",
            id(other),
            peer.store,
            peer.mesh
        );
    }
    Ok(text)
}
