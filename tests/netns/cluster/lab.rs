//! A cluster of stores on hosts of their own, the newer ones with a sidecar each.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use redis::{Connection, FromRedisValue, Value};
use segue_bench::{
    child::wait_for,
    netns::{Host, Network},
    server::Server,
    sidecar::Sidecar,
};

use super::client::{self, Client};
use crate::lab::{self, STORE_PORT, STORE_USER};

/// A cluster's own clocks run in seconds; a machine under load takes its time.
pub const SETTLE_TIME_MAX: Duration = Duration::from_secs(120);
/// With it nobody takes a node that a busy machine keeps from answering for dead.
pub const PATIENT_MS: u32 = 30_000;
const SLOTS: u32 = 16_384;

/// What a cluster is made of.
pub struct Plan<'a> {
    /// Masters of these releases share the slots.
    pub masters: &'a [&'a str],
    /// Each of these follows the master at its index.
    pub replicas: &'a [&'a str],
    /// The release whose nodes have a sidecar each, and how it intercepts.
    pub sidecars_on: &'a str,
    pub mode: &'a str,
    pub bus: bool,
    /// Valkey announces addresses for its clients, on the bus.
    pub announce: bool,
    pub node_timeout_ms: u32,
}

/// Dropped in this order: what runs on the hosts goes before them.
pub struct Cluster {
    pub nodes: Vec<Node>,
    /// Where the clients are.
    pub outside: Host,
    _network: Network,
}

pub struct Node {
    pub sidecar: Option<Sidecar>,
    pub server: Server,
    pub host: Host,
    pub id: String,
}

impl Node {
    pub fn address(&self) -> String {
        format!("{}:{STORE_PORT}", self.host.ipv4())
    }

    pub fn client(&self) -> Result<Connection> {
        self.host.enter(|| self.server.client())
    }

    pub fn cluster<T: FromRedisValue>(&self, arguments: &[&str]) -> Result<T> {
        let mut command = redis::cmd("CLUSTER");
        let answer = command.arg(arguments).query(&mut self.client()?);
        answer.with_context(|| format!("CLUSTER {arguments:?} at {}", self.address()))
    }

    pub fn role(&self) -> Result<String> {
        let info = self.host.enter(|| self.server.info("replication"))?;
        Ok(info.get("role").unwrap_or_default().to_owned())
    }

    fn info_has(&self, section: &str, field: &str, value: &str) -> Result<bool> {
        let info: String = redis::cmd(section).arg(field).query(&mut self.client()?)?;
        Ok(info.contains(value))
    }
}

impl Cluster {
    /// `None` on a machine that can't have it.
    pub fn start(plan: &Plan<'_>) -> Result<Option<Self>> {
        let stores: Vec<&str> = plan.masters.iter().chain(plan.replicas).copied().collect();
        let Some(network) = lab::network(u8::try_from(stores.len() + 1)?)? else { return Ok(None) };
        let hosts = network.hosts.clone();
        let (outside, hosts) = hosts.split_last().context("a network without hosts")?;
        let mut nodes = Vec::new();
        for (host, store) in hosts.iter().zip(&stores) {
            let own = host.ipv4();
            let node_timeout_ms = plan.node_timeout_ms.to_string();
            let mut arguments = vec!["--cluster-enabled", "yes", "--cluster-node-timeout", &node_timeout_ms];
            if plan.announce && store.starts_with("valkey") {
                arguments.extend(["--cluster-announce-client-ipv4", &own]);
            }
            let server = lab::store_with(host, store, Some(STORE_USER), &arguments)?;
            let has_sidecar = plan.sidecars_on == *store;
            let sidecar = has_sidecar.then(|| lab::sidecar(host, &config(host, hosts, plan))).transpose()?;
            let mut node = Node { sidecar, server, host: host.clone(), id: String::new() };
            node.id = node.cluster(&["MYID"])?;
            nodes.push(node);
        }
        let cluster = Self { nodes, outside: outside.clone(), _network: network };
        cluster.join(plan.masters.len())?;
        Ok(Some(cluster))
    }

    fn join(&self, masters: usize) -> Result<()> {
        let share = SLOTS.div_ceil(u32::try_from(masters)?);
        for (index, node) in (0_u32..).zip(&self.nodes) {
            node.cluster::<()>(&["SET-CONFIG-EPOCH", &(index + 1).to_string()])?;
            if (index as usize) < masters {
                let slots = index * share..SLOTS.min((index + 1) * share);
                let slots: Vec<String> = slots.map(|slot| slot.to_string()).collect();
                let mut words = vec!["ADDSLOTS"];
                words.extend(slots.iter().map(String::as_str));
                node.cluster::<()>(&words)?;
            }
        }
        let (first, others) = self.nodes.split_first().context("no nodes")?;
        for node in others {
            first.cluster::<()>(&["MEET", &node.host.ipv4(), &STORE_PORT.to_string()])?;
        }
        self.await_all("all nodes know each other", |node| {
            let known = node.nodes_text()?;
            Ok(known.lines().count() == self.nodes.len() && !known.contains("handshake"))
        })?;
        for (index, node) in self.nodes.iter().enumerate().skip(masters) {
            node.cluster::<()>(&["REPLICATE", &self.nodes[index - masters].id])?;
        }
        self.await_ok()
    }

    pub fn set_node_timeout(&self, milliseconds: u32) -> Result<()> {
        for node in &self.nodes {
            let mut set = redis::cmd("CONFIG");
            set.arg("SET").arg("cluster-node-timeout").arg(milliseconds).exec(&mut node.client()?)?;
        }
        Ok(())
    }

    /// The state is ok everywhere, and every replica is linked.
    pub fn await_ok(&self) -> Result<()> {
        self.await_all("the state is ok and replicas are linked", |node| {
            let replication = node.host.enter(|| node.server.info("replication"))?;
            let linked = replication.get("master_link_status").is_none_or(|status| status == "up");
            Ok(linked && node.info_has("CLUSTER", "INFO", "cluster_state:ok")?)
        })
    }

    pub fn await_all(&self, what: &str, is_so: impl Fn(&Node) -> Result<bool>) -> Result<()> {
        for node in &self.nodes {
            let so = wait_for(SETTLE_TIME_MAX, || Ok(is_so(node)?.then_some(())))?;
            so.with_context(|| format!("{} does not see that {what}\n{}", node.address(), self.logs()))?;
        }
        Ok(())
    }

    /// A client outside of all nodes.
    pub fn client(&self) -> Client {
        Client::new(&self.outside, self.nodes.iter().map(Node::address).collect())
    }

    pub fn assert_addresses(&self) -> Result<()> {
        let told = wait_for(SETTLE_TIME_MAX, || Ok(self.addresses().ok()))?;
        told.map_or_else(|| self.addresses(), Ok).with_context(|| self.logs())
    }

    /// What each node tells of the cluster names its nodes by their own addresses, and tells the same to a
    /// client outside as to one on its own host.
    pub fn addresses(&self) -> Result<()> {
        let ids: BTreeSet<&str> = self.nodes.iter().map(|node| &*node.id).collect();
        let hosts: BTreeSet<String> = self.nodes.iter().map(|node| node.host.ipv4()).collect();
        let addresses: BTreeSet<String> = self.nodes.iter().map(Node::address).collect();
        for node in &self.nodes {
            let text = node.nodes_text()?;
            for line in text.lines() {
                let place = line.split(' ').nth(1).unwrap_or_default();
                let address = place.split(['@', ',']).next().unwrap_or_default();
                ensure!(addresses.contains(address), "{} names {address}:\n{text}", node.address());
            }
            let mut outside = client::connect(&self.outside, &node.address())?;
            let inside = &mut node.client()?;
            let ask = |at: &mut Connection, what| redis::cmd("CLUSTER").arg(what).query::<Value>(at);
            let slots = ask(inside, "SLOTS")?;
            ensure!(ask(&mut outside, "SLOTS")? == slots, "the answer differs outside");
            let named = texts(&slots);
            let not_its = named.iter().find(|text| text.len() == 40 && !ids.contains(text.as_str()));
            ensure!(not_its.is_none(), "CLUSTER SLOTS has {not_its:?}: {named:?}");
            // 6.2 and before have no shards.
            let shards = ask(inside, "SHARDS").map(|shards| texts(&shards)).unwrap_or_default();
            for place in shards.windows(2).filter(|pair| ["ip", "endpoint"].contains(&&*pair[0])) {
                let known = hosts.contains(&place[1]);
                ensure!(known, "CLUSTER SHARDS has {place:?}: {shards:?}");
            }
        }
        Ok(())
    }

    pub fn logs(&self) -> String {
        let logs = self.nodes.iter().map(|node| {
            let sidecar = node.sidecar.as_ref().map(|sidecar| lab::tail(&sidecar.log_text()));
            let (store, nodes) = (lab::tail(&node.server.log_text()), node.nodes_text().unwrap_or_default());
            format!(
                "== {}\n{nodes}\nstore:\n{store}\nsidecar:\n{}",
                node.address(),
                sidecar.unwrap_or_default()
            )
        });
        logs.collect::<Vec<_>>().join("\n")
    }
}

impl Node {
    /// Starts its store again.
    pub fn restart(&mut self) -> Result<()> {
        let Self { server, host, .. } = self;
        host.clone().enter(|| server.restart())
    }

    pub fn nodes_text(&self) -> Result<String> {
        self.cluster(&["NODES"])
    }
}

/// All texts of an answer, in their order.
fn texts(answer: &Value) -> Vec<String> {
    match answer {
        Value::Array(parts) => parts.iter().flat_map(texts).collect(),
        Value::BulkString(text) => vec![String::from_utf8_lossy(text).into_owned()],
        _ => Vec::new(),
    }
}

fn config(host: &Host, hosts: &[Host], Plan { mode, bus, .. }: &Plan<'_>) -> String {
    let name = |host: &Host| format!("n{}", host.ipv4().rsplit('.').next().unwrap_or_default());
    let peers: String = hosts
        .iter()
        .filter(|peer| peer.ipv4() != host.ipv4())
        .map(|peer| format!("[[peer]]\nid = \"{}\"\nstore = \"{}:{STORE_PORT}\"\n", name(peer), peer.ipv4()))
        .collect();
    let own = name(host);
    format!(
        r#"
[node]
id = "{own}"
protocol = "redis"
store = "127.0.0.1:{STORE_PORT}"
{peers}
[intercept]
mode = "{mode}"
on_failure = "open"
store_user = "{STORE_USER}"
bus = {bus}

[admin]
listen = "127.0.0.1:9901"

[metrics]
listen = "127.0.0.1:9464"
"#
    )
}
