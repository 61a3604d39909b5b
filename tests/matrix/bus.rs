//! Two masters of a cluster on explicit links: each has a sidecar and announces its links.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use segue_bench::{
    child::wait_for,
    port,
    server::{Options, Server},
    sidecar::Sidecar,
    stores::Store,
};

const SETTLE_TIME_MAX: Duration = Duration::from_secs(60);

struct Node {
    server: Server,
    sidecar: Sidecar,
    link: u16,
}

struct Ports {
    store: u16,
    store_bus: u16,
    link: u16,
    link_bus: u16,
}

fn ports() -> Result<[Ports; 2]> {
    let all = port::free_ports::<8>()?;
    let node = |at: usize| Ports {
        store: all[at],
        store_bus: all[at + 1],
        link: all[at + 2],
        link_bus: all[at + 3],
    };
    Ok([node(0), node(4)])
}

fn start(release: &str, own: &Ports, peer: &Ports) -> Result<Node> {
    let [store_bus, link, link_bus] = [own.store_bus, own.link, own.link_bus].map(|port| port.to_string());
    let arguments = [
        ("--cluster-enabled", "yes"),
        ("--cluster-port", &store_bus),
        ("--cluster-announce-port", &link),
        ("--cluster-announce-bus-port", &link_bus),
    ];
    let arguments: Vec<&str> = arguments.iter().flat_map(|(name, value)| [*name, *value]).collect();
    let options = Options { port: Some(own.store), ..Options::new().arguments(&arguments) };
    let server = Server::start(&Store::want(release)?, options)?;
    let [admin, metrics] = port::free_ports()?;
    let config = format!(
        r#"
[node]
id = "own"
protocol = "redis"
store = "{}"
bus_port = {store_bus}
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
"#,
        server.address(),
        peer.link,
        peer.link_bus,
    );
    let sidecar = Sidecar::start(Path::new(env!("CARGO_BIN_EXE_segue")), &config)?;
    Ok(Node { server, sidecar, link: own.link })
}

#[test]
fn the_bus_passes_explicit_links_without_a_secret() -> Result<()> {
    let [first, second] = ports()?;
    let nodes = [start("redis-8.0", &first, &second)?, start("valkey-9.1", &second, &first)?];
    for (node, (from, to)) in nodes.iter().zip([(0, 8000), (8001, 16_383)]) {
        let mut client = node.server.client()?;
        redis::cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(from).arg(to).exec(&mut client)?;
        redis::cmd("CLUSTER").arg("SET-CONFIG-EPOCH").arg(from + 1).exec(&mut client)?;
    }
    let mut meet = redis::cmd("CLUSTER");
    meet.arg("MEET").arg("127.0.0.1").arg(second.link).arg(second.link_bus);
    meet.exec(&mut nodes[0].server.client()?)?;

    for node in &nodes {
        let settled = wait_for(SETTLE_TIME_MAX, || {
            let told: String = redis::cmd("CLUSTER").arg("NODES").query(&mut node.server.client()?)?;
            let is_told = |of: &Node| told.contains(&format!(" 127.0.0.1:{}@", of.link));
            let info: String = redis::cmd("CLUSTER").arg("INFO").query(&mut node.server.client()?)?;
            let dropped = node.sidecar.metric("segue_messages_translated_total{rule=\"bus-extension\"}")?;
            let settled = info.contains("cluster_state:ok") && nodes.iter().all(is_told);
            Ok((settled && dropped > Some(3.0)).then_some(()))
        })?;
        settled.with_context(|| format!("{}\n{}", node.server.log_text(), node.sidecar.log_text()))?;
        let status = node.sidecar.status()?;
        let links = status["links"].as_array().context("no links")?;
        let bus = links.iter().find(|link| link["bus"] == true).context("no link of the bus")?;
        ensure!(bus["verdict"] == "rewrite" && bus["dialer"]["peer"] == "peer", "{bus:#}");
    }
    let moved = redis::cmd("GET").arg("foo").exec(&mut nodes[0].server.client()?).expect_err("no MOVED");
    let place = format!("127.0.0.1:{}", second.link);
    ensure!(moved.redirect_node().is_some_and(|(to, _)| to == place), "{moved}");
    Ok(())
}
