//! Another config while links are up: compared with the one that runs, then taken over whole or not at all.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use segue_wire::PeerName;

use super::{ChangeError, Shared, link::Link, shared::unix_now_s};
use crate::{
    config::{self, Config, LinkTarget},
    status::{ConfigStatus, TranslationChange},
};

/// Why a config was not taken over; then nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The names of the keys.
    #[error("{} can't change while the sidecar runs; restart it, or undo the change", .0.join(", "))]
    Fixed(Vec<&'static str>),
    #[error(transparent)]
    Listen(#[from] io::Error),
    #[error("[translation]: {0}")]
    Translation(String),
}

impl Shared {
    /// Takes over what differs from the config that runs. Links that were opened under what has changed
    /// end and resume; those of a removed listener end for good.
    ///
    /// # Errors
    /// A difference that needs a restart, an address that can't be listened on, a translation that a
    /// live old peer would not survive.
    pub fn reload(self: &Arc<Self>, after: Config) -> Result<(), ReloadError> {
        let before = self.config();
        let fixed = fixed_differences(&before, &after);
        if !fixed.is_empty() {
            return Err(ReloadError::Fixed(fixed));
        }
        let changes = Changes::between(&before, &after);
        let listeners = self.open(&changes.listened)?;
        if let Err(error) = self.reload_translation(&before.translation, &after.translation) {
            for (_, link) in &listeners {
                if !before.links.iter().any(|other| other.listen == link.listen) {
                    self.listening.sockets.close(link.listen);
                }
            }
            return Err(ReloadError::Translation(error));
        }

        self.set_config(after);
        self.refusals.clear();
        for (listener, link) in listeners {
            tracing::info!(listen = %link.listen, "listening by the new config");
            self.listen(listener, link);
        }
        for address in &changes.unlistened {
            tracing::info!(listen = %address, "listening no more");
            self.unlisten(*address);
        }
        let shared = self.clone();
        let next_link = self.next_link.load(Relaxed);
        self.listening.runtime.spawn(async move {
            // Not those that open under the new config while these take their time.
            shared.drain(|link| link.id < next_link && changes.concern(link)).await;
        });
        Ok(())
    }

    /// How the last reload went, for status and metric.
    pub fn record_reload(&self, outcome: Result<(), String>) -> Result<ConfigStatus, String> {
        let label = if outcome.is_ok() { "loaded" } else { "refused" };
        let mut status = self.reloads();
        // Whoever sees it counted sees how it went.
        self.metrics.config_reloads.with_label_values(&[label]).inc();
        match outcome {
            Ok(()) => {
                *status = ConfigStatus { loaded_at_unix_s: unix_now_s(), last_error: None };
                Ok(status.clone())
            }
            Err(error) => {
                status.last_error = Some(error.clone());
                Err(error)
            }
        }
    }

    /// All or none of them.
    fn open(&self, links: &[config::Link]) -> io::Result<Vec<(TcpListener, config::Link)>> {
        let sockets = &self.listening.sockets;
        let opened = links
            .iter()
            .map(|link| Ok((sockets.open(link.listen)?, link.clone())))
            .collect::<io::Result<_>>();
        if opened.is_err() {
            let running = self.config();
            for link in links.iter().filter(|link| !running.links.iter().any(|at| at.listen == link.listen)) {
                sockets.close(link.listen);
            }
        }
        opened
    }

    /// Only a change of the file counts: what was set by hand since stays otherwise.
    fn reload_translation(
        &self,
        before: &config::Translation,
        after: &config::Translation,
    ) -> Result<(), String> {
        let change = TranslationChange {
            mode: (before.mode != after.mode).then(|| after.mode.to_string()),
            loss: (before.loss != after.loss).then(|| after.loss.label().to_owned()),
            who: Some("config".to_owned()),
            reason: Some("the config was reloaded".to_owned()),
            force: false,
        };
        if change.mode.is_none() && change.loss.is_none() {
            return Ok(());
        }
        self.set_translation(change).map(drop).map_err(|error| match error {
            ChangeError::Invalid(why) | ChangeError::WouldBreak(why) => why,
        })
    }
}

/// What differs and can't be changed live.
fn fixed_differences(before: &Config, after: &Config) -> Vec<&'static str> {
    let mut keys: Vec<_> = [
        ("node.id", before.node.id != after.node.id),
        ("node.protocol", before.node.protocol != after.node.protocol),
        ("state.dir", before.state != after.state),
        ("admin.listen", before.admin != after.admin),
        ("metrics.listen", before.metrics != after.metrics),
        ("log.format", before.log.format != after.log.format),
        ("intercept", before.intercept != after.intercept),
        ("mesh", !is_same_mesh(before.mesh.as_ref(), after.mesh.as_ref())),
        ("mesh.etcd", before.etcd != after.etcd),
        ("upgrade.driver", commands(before).is_some() != commands(after).is_some()),
        ("upgrade.exec", matches!((commands(before), commands(after)), (Some(a), Some(b)) if a != b)),
    ]
    .into_iter()
    .filter_map(|(key, differs)| differs.then_some(key))
    .collect();
    // Whatever part a config gets one day is fixed until it is taken over here.
    let taken_over = Config {
        node: config::Node {
            id: before.node.id.clone(),
            protocol: before.node.protocol.clone(),
            ..after.node.clone()
        },
        peers: after.peers.clone(),
        links: after.links.clone(),
        tls: after.tls.clone(),
        mesh: after.mesh.clone(),
        upgrade: after.upgrade.clone(),
        translation: after.translation.clone(),
        limits: after.limits.clone(),
        log: config::Log { level: after.log.level, ..before.log.clone() },
        ..before.clone()
    };
    if keys.is_empty() && taken_over != *after {
        keys.push("a table other than [node], [[peer]], [[link]], [tls], [translation], [upgrade], [limits] and [log]");
    }
    keys
}

/// Those of the driver `exec`; any other is the store's own, as without an `[upgrade]`.
fn commands(config: &Config) -> Option<&config::exec::Commands> {
    match &config.upgrade.as_ref()?.driver {
        config::upgrade::DriverKind::Redis => None,
        config::upgrade::DriverKind::Exec(commands) => Some(commands),
    }
}

/// But for the files of its keys, which the mesh follows by itself.
fn is_same_mesh(before: Option<&config::Mesh>, after: Option<&config::Mesh>) -> bool {
    let (Some(before), Some(after)) = (before, after) else { return before.is_none() && after.is_none() };
    let settings = |mesh: &config::Mesh| mesh.keys.as_ref().map(|keys| keys.settings().clone());
    settings(before) == settings(after)
        && config::Mesh { keys: before.keys.clone(), ..after.clone() } == *before
}

/// What a new config does to listeners and links.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    /// New, or with another meaning at the same address.
    listened: Vec<config::Link>,
    /// Gone.
    unlistened: Vec<SocketAddr>,
    /// Where links were accepted that would be other ones now.
    ended: Vec<SocketAddr>,
    /// Nodes that are gone, or whose links would be other ones now.
    nodes: Vec<PeerName>,
}

impl Changes {
    fn between(before: &Config, after: &Config) -> Self {
        let gone = |link: &&config::Link| !after.links.iter().any(|other| other.listen == link.listen);
        let is_another =
            |link: &&config::Link| !after.links.contains(link) || target(before, link) != target(after, link);
        let stays = |peer: &config::Peer| {
            after.peer(&peer.id).is_some_and(|after| {
                let (credentials, dial) = (peer.credentials.clone(), peer.dial.clone());
                config::Peer { credentials, dial, ..after.clone() } == *peer
            })
        };
        let mut nodes: Vec<PeerName> =
            before.peers.iter().filter(|peer| !stays(peer)).map(|peer| peer.id.clone()).collect();
        let node = |config: &Config| config::Node { credentials: None, number: None, ..config.node.clone() };
        if node(before) != node(after) {
            nodes.push(before.node.id.clone());
        }
        Self {
            listened: after.links.iter().filter(|link| !before.links.contains(link)).cloned().collect(),
            unlistened: before.links.iter().filter(gone).map(|link| link.listen).collect(),
            ended: before.links.iter().filter(is_another).map(|link| link.listen).collect(),
            nodes,
        }
    }

    fn concern(&self, link: &Link) -> bool {
        let facts = link.facts();
        let named = |name: &Option<PeerName>| name.as_ref().is_some_and(|name| self.nodes.contains(name));
        self.ended.contains(&link.listen) || named(&facts.dialer.name) || named(&facts.listener.name)
    }
}

/// The store that the link leads to, and its bus.
fn target<'a>(config: &'a Config, link: &config::Link) -> Option<(&'a config::StoreAddress, Option<u16>)> {
    match &link.to {
        LinkTarget::Store => config.node.store.as_ref().map(|store| (store, config.node.bus_port)),
        LinkTarget::Peer(peer) => config.peer(peer).map(|peer| (&peer.store, peer.bus_port)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use segue_redis::Redis;
    use segue_wire::Protocol;

    use super::*;

    const TEXT: &str = r#"
        [node]
        id = "n1"
        protocol = "redis"
        store = "127.0.0.1:6401"
        [[peer]]
        id = "n2"
        store = "127.0.0.1:6402"
        [[peer]]
        id = "n3"
        store = "127.0.0.1:6403"
        [[link]]
        listen = "127.0.0.1:7401"
        to = "store"
        [[link]]
        listen = "127.0.0.1:7412"
        to = "n2"
    "#;

    fn config(replaced: &[(&str, &str)]) -> Config {
        let mut text = TEXT.to_owned();
        for (from, to) in replaced {
            assert!(text.contains(from), "{from}");
            text = text.replacen(from, to, 1);
        }
        let redis: &dyn Protocol = &Redis;
        Config::parse(Path::new("/etc/segue/segue.toml"), &text, &[redis.into()]).unwrap()
    }

    fn changes(replaced: &[(&str, &str)]) -> Changes {
        Changes::between(&config(&[]), &config(replaced))
    }

    fn fixed(replaced: &[(&str, &str)]) -> Vec<&'static str> {
        fixed_differences(&config(&[]), &config(replaced))
    }

    #[test]
    fn what_needs_a_restart_is_named() {
        assert_eq!(fixed(&[]), [""; 0]);
        let added = |table: &str| fixed(&[("[node]", &format!("{table}\n[node]"))]);
        assert_eq!(fixed(&[("\"n1\"", "\"n9\"")]), ["node.id"]);
        assert_eq!(added("[state]\ndir = \"other\""), ["state.dir"]);
        assert_eq!(added("[log]\nformat = \"json\""), ["log.format"]);
        assert_eq!(
            added("[admin]\nlisten = \"127.0.0.1:1\"\n[metrics]\nlisten = \"127.0.0.1:2\""),
            ["admin.listen", "metrics.listen"]
        );
        let mesh = "[mesh]\nlisten = \"127.0.0.1:3\"";
        assert_eq!(added(mesh), ["mesh"]);
        let hooks = "stop = [\"x\"]\ninstall = [\"x\"]\nstart = [\"x\", \"{master}\"]\nset_aside = [\"x\"]";
        let upgrade = |driver: &str, see: &str| {
            let exec = match see {
                "" => String::new(),
                see => format!(
                    "[upgrade.exec]\nsee = [\"{see}\"]\nfollow = [\"x\"]\nswitch = [\"x\"]\ncompare = [\"x\"]\n"
                ),
            };
            format!("[upgrade]\n{driver}\n[upgrade.hooks]\n{hooks}\n{exec}[node]")
        };
        let (redis, exec) = (upgrade("soak = \"1m\"", ""), upgrade("driver = \"exec\"", "see"));
        assert_eq!(fixed(&[("[node]", &redis)]), [""; 0]);
        assert_eq!(fixed(&[("[node]", &exec)]), ["upgrade.driver"]);
        let other = config(&[("[node]", &upgrade("driver = \"exec\"", "look"))]);
        assert_eq!(fixed_differences(&config(&[("[node]", &exec)]), &other), ["upgrade.exec"]);
        assert_eq!(added("[limits]\nlinks_max = 2\n[log]\nlevel = \"debug\""), [""; 0]);
        assert_eq!(fixed(&[(":6401", ":6501"), (":6402", ":6502"), (":7401", ":7501")]), [""; 0]);
    }

    #[test]
    fn only_what_differs_is_touched() {
        assert_eq!(changes(&[]), Changes::default());
        let moved = changes(&[(":7401", ":7501")]);
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(moved.listened.iter().map(|link| link.listen).collect::<Vec<_>>(), [at(7501)]);
        assert_eq!((moved.unlistened, moved.ended, moved.nodes), (vec![at(7401)], vec![at(7401)], vec![]));

        let redirected = changes(&[("to = \"n2\"", "to = \"n3\"")]);
        assert_eq!(redirected.listened.iter().map(|link| link.listen).collect::<Vec<_>>(), [at(7412)]);
        assert_eq!((redirected.unlistened, redirected.ended), (vec![], vec![at(7412)]));

        let upgraded = changes(&[(":6403\"", ":6403\"\nrelease = \"redis-6.0\"")]);
        assert_eq!(upgraded, Changes { nodes: vec!["n3".into()], ..Changes::default() });
        let (own, peer) = (changes(&[(":6401", ":6501")]), changes(&[(":6402", ":6502")]));
        let changed = |ended, node: &str| Changes {
            ended: vec![at(ended)],
            nodes: vec![node.into()],
            ..Changes::default()
        };
        assert_eq!((own, peer), (changed(7401, "n1"), changed(7412, "n2")));
        // Nobody need be cut for a new password or a new peer.
        let added = "[[peer]]\nid = \"n4\"\nstore = \"127.0.0.1:6404\"\n[[link]]";
        assert_eq!(changes(&[("[[link]]", added)]), Changes::default());
        // Nor for where the store is sent in an upgrade, and when.
        let upgraded =
            [(":6401\"", ":6401\"\nnumber = 2"), (":6402\"", ":6402\"\ndial = \"127.0.0.1:7402\"")];
        assert_eq!(changes(&upgraded), Changes::default());
    }
}
