//! The bus on explicit links: of two families, with TLS, and what replicas say there of a hand-over.

use anyhow::{Context, Result, ensure};
use segue_bench::authority::Authority;
use serde_json::Value;

use crate::nodes::{self, Node};

#[test]
fn the_bus_passes_explicit_links_without_a_secret() -> Result<()> {
    let nodes = nodes::start(["redis-8.0", "valkey-9.1"], None)?;
    for (epoch, (node, slots)) in nodes.iter().zip([0..=8000, 8001..=16_383]).enumerate() {
        node.add_slots(slots)?;
        node.cluster::<()>(&["SET-CONFIG-EPOCH", &(epoch + 1).to_string()])?;
    }
    nodes[0].meet(&nodes[1])?;

    for node in &nodes {
        node.await_so("the nodes know each other, without extensions", || {
            let told: String = node.cluster(&["NODES"])?;
            let is_told = |of: &Node| told.contains(&format!(" 127.0.0.1:{}@", of.link));
            let info: String = node.cluster(&["INFO"])?;
            let dropped = node.sidecar.metric("segue_messages_translated_total{rule=\"bus-extension\"}")?;
            Ok(info.contains("cluster_state:ok") && nodes.iter().all(is_told) && dropped > Some(3.0))
        })?;
        // Each dials the other again where it hears nothing for a while: such a link is not decided at once.
        node.await_so("the bus is rewritten", || {
            let is_rewritten =
                |link: &Value| link["verdict"] == "rewrite" && link["dialer"]["peer"] == "peer";
            let bus = node.links(true)?;
            Ok(!bus.is_empty() && bus.iter().all(is_rewritten))
        })?;
    }
    let moved = redis::cmd("GET").arg("foo").exec(&mut nodes[0].server.client()?).expect_err("no MOVED");
    let place = format!("127.0.0.1:{}", nodes[1].link);
    ensure!(moved.redirect_node().is_some_and(|(to, _)| to == place), "{moved}");
    Ok(())
}

fn is_sealed(link: &Value) -> bool {
    link["dialer"]["tls"].is_string() && link["listener"]["tls"].is_string()
}

/// TLS at both ends of both: the bus, and the link of a replica of another release.
fn speak_tls(master: &str, replica: &str) -> Result<()> {
    let authority = Authority::new("the lab")?;
    let keys = [authority.issue("first")?, authority.issue("second")?];
    let nodes = nodes::start([master, replica], Some([&keys[0], &keys[1]]))?;
    nodes::join_as_shard(&nodes)?;
    let [master, replica] = &nodes;
    master.write("sealed", 100)?;
    ensure!(master.values()? == replica.values()? && master.values()?.len() == 100, "the data differ");

    for node in &nodes {
        node.await_so("the bus is sealed", || {
            let bus = node.links(true)?;
            let is_named = |link: &Value| is_sealed(link) && link["dialer"]["peer"] == "peer";
            Ok(!bus.is_empty() && bus.iter().all(is_named))
        })?;
    }
    let links = master.links(false)?;
    let link = links.iter().find(|link| link["verdict"] == "rewrite").context("no rewritten link")?;
    ensure!(is_sealed(link), "{links:#?}");
    Ok(())
}

#[test]
fn a_cluster_of_7_0_and_8_0_speaks_tls_on_the_bus_and_on_links() -> Result<()> {
    speak_tls("redis-8.0", "redis-7.0")
}

/// Here pings are rewritten as well.
#[test]
fn a_cluster_of_8_0_and_valkey_speaks_tls_on_the_bus_and_on_links() -> Result<()> {
    speak_tls("valkey-8.1", "redis-8.0")
}
