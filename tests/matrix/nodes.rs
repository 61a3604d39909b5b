//! Two nodes of a cluster on explicit links: each has a sidecar and announces its links.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use segue_bench::{
    authority::Certificate,
    child::wait_for,
    command, port,
    server::{Options, Server},
    sidecar::Sidecar,
    stores::Store,
};

use crate::cluster::WAIT_MS;

pub const SETTLE_TIME_MAX: Duration = Duration::from_secs(180);
/// Before 7.0 a store's bus is always so far above the store.
const BUS_OFFSET: u16 = 10_000;

pub struct Node {
    pub server: Server,
    pub sidecar: Sidecar,
    pub link: u16,
    link_bus: u16,
}

struct Ports {
    /// What other stores speak with, whether TLS or not.
    store: u16,
    link: u16,
    link_bus: u16,
}

impl Ports {
    fn free() -> Result<Self> {
        let [link, link_bus] = port::free_ports()?;
        Ok(Self { store: port::free_with_one_above(BUS_OFFSET)?, link, link_bus })
    }
}

/// With `keys`, stores and links speak TLS, the bus too; the stores' own plain ports are for the tests alone.
pub fn start(releases: [&str; 2], keys: Option<[&Certificate; 2]>) -> Result<[Node; 2]> {
    let ports = [Ports::free()?, Ports::free()?];
    let node = |at: usize| {
        start_node(releases[at], &ports[at], &ports[1 - at], keys.map(|keys| keys[at]))
            .with_context(|| format!("node {at}"))
    };
    Ok([node(0)?, node(1)?])
}

fn start_node(release: &str, own: &Ports, peer: &Ports, keys: Option<&Certificate>) -> Result<Node> {
    let [store, link, link_bus] = [own.store, own.link, own.link_bus].map(|port| port.to_string());
    let files = keys.map(Certificate::store_arguments).unwrap_or_default();
    let announced = if keys.is_some() { "--cluster-announce-tls-port" } else { "--cluster-announce-port" };
    let mut arguments = vec!["--cluster-enabled", "yes", "--cluster-node-timeout", "5000"];
    arguments.extend([announced, &link, "--cluster-announce-bus-port", &link_bus]);
    arguments.extend(["--replica-announce-port", &link]);
    if keys.is_some() {
        arguments.extend(["--tls-port", &store, "--tls-replication", "yes", "--tls-cluster", "yes"]);
        arguments.extend(files.iter().map(String::as_str));
    }
    let port = if keys.is_some() { Ports::free()?.store } else { own.store };
    let options = Options { port: Some(port), ..Options::new().arguments(&arguments) };
    let server = Server::start(&Store::want(release)?, options)?;
    let [admin, metrics] = port::free_ports()?;
    let config = format!(
        r#"
[node]
id = "own"
protocol = "redis"
store = "127.0.0.1:{store}"
[[peer]]
id = "peer"
store = "127.0.0.1:{}"
bus_port = {}
[[link]]
listen = "127.0.0.1:{link}"
to = "store"
[[link]]
listen = "127.0.0.1:{link_bus}"
to = "store"
bus = true
[admin]
listen = "127.0.0.1:{admin}"
[metrics]
listen = "127.0.0.1:{metrics}"
{}
"#,
        peer.link,
        peer.link_bus,
        keys.map(Certificate::sidecar_table).unwrap_or_default(),
    );
    let sidecar = Sidecar::start(Path::new(env!("CARGO_BIN_EXE_segue")), &config)?;
    Ok(Node { server, sidecar, link: own.link, link_bus: own.link_bus })
}

impl Node {
    pub fn cluster<T: redis::FromRedisValue>(&self, words: &[&str]) -> Result<T> {
        Ok(redis::cmd("CLUSTER").arg(words).query(&mut self.server.client()?)?)
    }

    pub fn add_slots(&self, slots: std::ops::RangeInclusive<u16>) -> Result<()> {
        let slots: Vec<String> = slots.map(|slot| slot.to_string()).collect();
        let mut words = vec!["ADDSLOTS"];
        words.extend(slots.iter().map(String::as_str));
        self.cluster(&words)
    }

    pub fn meet(&self, other: &Self) -> Result<()> {
        self.cluster(&["MEET", "127.0.0.1", &other.link.to_string(), &other.link_bus.to_string()])
    }

    pub fn await_so(&self, what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
        wait_for(SETTLE_TIME_MAX, || Ok(is_so()?.then_some(())))?.with_context(|| {
            let nodes: String = self.cluster(&["NODES"]).unwrap_or_default();
            format!("{what}: not so\n{nodes}\n{}\n{}", self.server.log_text(), self.sidecar.log_text())
        })
    }

    pub fn role(&self) -> Result<String> {
        Ok(self.server.info("replication")?.get("role").unwrap_or_default().to_owned())
    }

    /// Keys that expire, one hash of them, and waits until its replica has them.
    pub fn write(&self, who: &str, count: u32) -> Result<()> {
        let mut client = self.server.client()?;
        for n in 1..count {
            command!("SET", format!("{who}:{n}"), n, "EX", 10_000).exec(&mut client)?;
            command!("HSET", format!("{who}:hash"), n, n).exec(&mut client)?;
        }
        let replicas: u64 = command!("WAIT", 1, WAIT_MS).query(&mut client)?;
        ensure!(replicas == 1, "the replica does not have all\n{}", self.sidecar.log_text());
        Ok(())
    }

    /// All that was written, master or replica.
    pub fn values(&self) -> Result<BTreeMap<String, Vec<String>>> {
        let mut client = self.server.client()?;
        command!("READONLY").exec(&mut client)?;
        let keys: Vec<String> = command!("KEYS", "*").query(&mut client)?;
        let value = |key: String| {
            let value = if key.ends_with("hash") {
                let mut fields: Vec<String> = command!("HVALS", &key).query(&mut client)?;
                fields.sort();
                fields
            } else {
                vec![command!("GET", &key).query(&mut client)?]
            };
            Ok((key, value))
        };
        keys.into_iter().map(value).collect()
    }

    /// The links of its sidecar's status.
    pub fn links(&self, bus: bool) -> Result<Vec<serde_json::Value>> {
        let status = self.sidecar.status()?;
        let links = status["links"].as_array().context("no links")?;
        Ok(links.iter().filter(|link| link["bus"] == bus).cloned().collect())
    }
}

/// The first serves all slots, the second is its replica.
pub fn join_as_shard(nodes: &[Node; 2]) -> Result<()> {
    let [master, replica] = nodes;
    master.add_slots(0..=16_383)?;
    master.meet(replica)?;
    let id: String = master.cluster(&["MYID"])?;
    replica.await_so("it knows the master", || {
        let told: String = replica.cluster(&["NODES"])?;
        Ok(told.contains(&id) && !told.contains("handshake"))
    })?;
    replica.cluster::<()>(&["REPLICATE", &id])?;
    replica.await_so("it follows", || crate::cluster::link_is_up(&replica.server))?;
    for node in nodes {
        node.await_so("the cluster is well", || {
            Ok(node.cluster::<String>(&["INFO"])?.contains("cluster_state:ok"))
        })?;
    }
    Ok(())
}
