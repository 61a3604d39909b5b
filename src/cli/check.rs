//! `segue check`

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::Path,
};

use super::{Failure, print};
use crate::{
    config::{Config, KnownProtocol, LinkTarget, ReleaseSetting},
    tls::Settings,
};

/// Checks a config file and prints what would run; to stderr, what of it won't do for long.
///
/// # Errors
/// Everything that is wrong with the file.
pub fn run(file: &Path, protocols: &[KnownProtocol<'_>]) -> Result<(), Failure> {
    let config = Config::load(file, protocols)?;
    for warning in &config.warnings {
        let _unwritable = writeln!(io::stderr(), "warning: {}:{warning}", file.display());
    }
    print(&summary(&config, protocols))
}

fn summary(config: &Config, protocols: &[KnownProtocol<'_>]) -> String {
    let mut text = String::new();
    let passes =
        protocols.iter().any(|known| known.name == config.node.protocol && known.releases.is_empty());
    // Writing to a String cannot fail.
    let _infallible = write_summary(config, passes, &mut text);
    text
}

/// `passes`: the protocol has no releases that anyone could be asked for.
fn write_summary(config: &Config, passes: bool, text: &mut String) -> std::fmt::Result {
    let release = |setting, reservation| match passes {
        true => "whatever its release".to_owned(),
        false => release(setting, reservation),
    };
    let node = &config.node;
    match &node.store {
        Some(store) => {
            let release = release(&node.release, "");
            writeln!(text, "node {}: {} store at {store}, {release}", node.id, node.protocol)?;
        }
        None => writeln!(text, "node {}: a witness, without a store", node.id)?,
    }
    for peer in &config.peers {
        writeln!(
            text,
            "peer {}: store at {}, {}",
            peer.id,
            peer.store,
            release(&peer.release, " unless it announces another")
        )?;
    }
    if let Some(tls) = &config.tls {
        let Settings { files, auth_clients, verify_name } = tls.settings();
        writeln!(
            text,
            "tls: {} by {}; dialers' certificates: {auth_clients:?}, names checked: {verify_name}",
            files.certificate.display(),
            files.ca.display()
        )?;
    }
    if let Some(mesh) = &config.mesh {
        let others = mesh.members.iter().filter(|member| member.id != node.id);
        let others: Vec<_> = others.map(|other| format!("{} at {}", other.id, other.address)).collect();
        let tls = if mesh.keys.is_some() { "mutual TLS" } else { "plain, on loopback" };
        writeln!(text, "mesh {}: {tls}, with {}", mesh.listen, others.join(", "))?;
    }
    if let Some(etcd) = &config.etcd {
        let endpoints: Vec<_> = etcd.endpoints.iter().map(ToString::to_string).collect();
        let others: Vec<_> = etcd.members.iter().filter(|id| **id != node.id).map(|id| &**id).collect();
        let at = format!("{}{}/", etcd.prefix, etcd.cluster);
        writeln!(text, "etcd {}: keys {at}, with {}", endpoints.join(", "), others.join(", "))?;
    }
    for link in &config.links {
        let bus = if link.bus { "'s bus" } else { "" };
        match (&link.to, &link.peer) {
            (LinkTarget::Store, Some(peer)) => {
                writeln!(text, "link {}: {peer} dials the own store{bus}", link.listen)?;
            }
            (LinkTarget::Store, None) => {
                writeln!(text, "link {}: peers dial the own store{bus}", link.listen)?;
            }
            (LinkTarget::Peer(to), _) => {
                writeln!(text, "link {}: the own store dials {to}{bus}", link.listen)?;
            }
        }
    }
    if let Some(intercept) = &config.intercept {
        writeln!(
            text,
            "interception by {:?} of ports {:?} inbound and {:?} outbound, {:?} on failure",
            intercept.mode,
            [&intercept.inbound_ports[..], &intercept.inbound_bus_ports].concat(),
            [&intercept.outbound_ports[..], &intercept.outbound_bus_ports].concat(),
            intercept.on_failure
        )?;
    }
    writeln!(text, "translation {}, loss {}", config.translation.mode, config.translation.loss.label())?;
    writeln!(text, "admin at {}, metrics at {}", config.admin, config.metrics)?;
    writeln!(text, "state in {}", config.state.dir.display())?;
    writeln!(text, "ok")
}

fn release(setting: &ReleaseSetting, reservation: &str) -> String {
    match setting {
        ReleaseSetting::Auto => "its release is asked".to_owned(),
        ReleaseSetting::Fixed(release) => format!("{release}{reservation}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_what_would_run() {
        let text = r#"
            [node]
            id = "n1"
            protocol = "redis"
            store = "127.0.0.1:6401"
            [[peer]]
            id = "n2"
            store = "127.0.0.1:6402"
            release = "redis-6.0"
            [[link]]
            listen = "127.0.0.1:7401"
            to = "store"
            peer = "n2"
            [[link]]
            listen = "127.0.0.1:7402"
            to = "store"
            [[link]]
            listen = "127.0.0.1:7412"
            to = "n2"
        "#;
        let releases = ["redis-6.0".parse().unwrap()];
        let redis = [KnownProtocol { name: "redis", releases: &releases, bus_port_offset: Some(10_000) }];
        let config = Config::parse(Path::new("/etc/segue/segue.toml"), text, &redis).unwrap();
        assert_eq!(
            summary(&config, &redis),
            "node n1: redis store at 127.0.0.1:6401, its release is asked\n\
             peer n2: store at 127.0.0.1:6402, redis-6.0 unless it announces another\n\
             link 127.0.0.1:7401: n2 dials the own store\n\
             link 127.0.0.1:7402: peers dial the own store\n\
             link 127.0.0.1:7412: the own store dials n2\n\
             translation auto, loss refuse\n\
             admin at 127.0.0.1:9901, metrics at 127.0.0.1:9464\n\
             state in /etc/segue/segue-state\n\
             ok\n"
        );
    }
}
