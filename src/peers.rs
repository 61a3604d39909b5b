//! Who stands at an address, and which release it speaks: how learned, never guessed.
//!
//! In this order: what the wire said (the session's own business), the store's own `INFO`, the
//! configured hint. For the own store a fixed `release` is taken at its word.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use arc_swap::ArcSwap;
use segue_wire::{PeerName, Protocol, Release};

use crate::{
    config::{Config, Credentials, ReleaseSetting, StoreAddress},
    status::{KnownRelease, Learned},
    stores::{self, redis::Way},
    tls,
};

/// A release and how it was learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub release: Release,
    pub learned: Learned,
}

impl From<&Known> for KnownRelease {
    fn from(known: &Known) -> Self {
        Self { release: known.release.to_string(), learned: known.learned }
    }
}

/// The own node and its peers.
pub struct Peers {
    protocol: Arc<dyn Protocol>,
    tls: Arc<tls::Current>,
    /// Never changes while the sidecar runs.
    own_name: PeerName,
    nodes: ArcSwap<Nodes>,
    /// What was last learned, for the status and for the check before a toggle; at most one for each
    /// configured node.
    last: RwLock<HashMap<PeerName, Known>>,
    /// Configured stores whose last probe failed: said once, not at every try.
    silent: RwLock<HashSet<StoreAddress>>,
}

/// What the config says of them; a new config brings a new one.
struct Nodes {
    /// `None` of a witness.
    own: Option<Node>,
    peers: Vec<Node>,
    /// Of our own connections.
    mark: Option<u32>,
    /// There is a `[tls]`: stores that no one named speak it, except at these ports.
    tls_but: Option<Vec<u16>>,
    probe_timeout: Duration,
}

#[derive(Clone)]
struct Node {
    name: PeerName,
    store: StoreAddress,
    bus_port: Option<u16>,
    release: ReleaseSetting,
    credentials: Option<Credentials>,
    tls: bool,
}

impl Peers {
    pub fn new(config: &Config, protocol: Arc<dyn Protocol>, tls: Arc<tls::Current>) -> Self {
        Self {
            protocol,
            tls,
            own_name: config.node.id.clone(),
            nodes: ArcSwap::from_pointee(Nodes::of(config)),
            last: RwLock::default(),
            silent: RwLock::default(),
        }
    }

    /// Takes the nodes of another config, and forgets what was learned of those that are not as they were.
    pub fn replace(&self, config: &Config) {
        let after = Nodes::of(config);
        let before = self.nodes.swap(Arc::new(after));
        let after = self.nodes.load();
        let stays = |name: &PeerName| match (before.named(name), after.named(name)) {
            (Some(before), Some(after)) => {
                (&before.store, &before.release, before.tls) == (&after.store, &after.release, after.tls)
            }
            _ => false,
        };
        self.last.write().unwrap_or_else(PoisonError::into_inner).retain(|name, _| stays(name));
        self.silent.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub fn own_name(&self) -> &PeerName {
        &self.own_name
    }

    /// `None` of a witness.
    pub fn own_store(&self) -> Option<StoreAddress> {
        self.nodes.load().own.as_ref().map(|own| own.store.clone())
    }

    /// Where the own store's bus is.
    pub fn own_bus(&self) -> Option<StoreAddress> {
        self.nodes.load().own.as_ref().map(Node::bus)
    }

    pub fn store_of(&self, peer: &PeerName) -> Option<StoreAddress> {
        self.nodes.load().named(peer).map(|node| node.store.clone())
    }

    pub fn bus_of(&self, peer: &PeerName) -> Option<StoreAddress> {
        self.nodes.load().named(peer).map(Node::bus)
    }

    /// Whether TLS is spoken at this port of a node, or of a store that no one named.
    pub fn speaks_tls(&self, name: &PeerName, port: u16) -> bool {
        let nodes = self.nodes.load();
        match nodes.named(name).filter(|node| node.store.port() == port) {
            Some(node) => node.tls,
            None => nodes.tls_but.as_ref().is_some_and(|plain| !plain.contains(&port)),
        }
    }

    /// The peer that announces this address as its own, if exactly one is configured with it.
    pub fn by_address(&self, ip: IpAddr, port: Option<u16>) -> Option<PeerName> {
        let nodes = self.nodes.load();
        let mut found = nodes.at(ip).filter(|peer| port.is_none_or(|port| peer.store.port() == port));
        let first = found.next()?;
        found.next().is_none().then(|| first.name.clone())
    }

    /// Is any peer's store configured with this address?
    pub fn any_at(&self, ip: IpAddr) -> bool {
        self.nodes.load().at(ip).next().is_some()
    }

    /// The own store's release, asked anew.
    pub async fn own_release(&self) -> Option<Known> {
        self.release(&self.own_name).await
    }

    /// The release of a node, asked anew: an upgrade changes what stands at an address.
    pub async fn release(&self, name: &PeerName) -> Option<Known> {
        let node = self.nodes.load().named(name).cloned();
        let Some(node) = node else {
            // A store that no one named is called by its address.
            return self.release_at(name.parse().ok()?).await;
        };
        let known = self.find_out(&node).await;
        if let Some(known) = &known {
            self.learned(name, known.clone());
        }
        known
    }

    /// The release of a store that no one named, at the address that it announced.
    pub async fn release_at(&self, address: SocketAddr) -> Option<Known> {
        let name = address.to_string().into();
        self.probe(&address.into(), None, self.speaks_tls(&name, address.port())).await
    }

    /// Remembers what the wire told.
    pub fn learned(&self, name: &PeerName, known: Known) {
        if self.nodes.load().named(name).is_some() {
            self.last.write().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), known);
        }
    }

    pub fn last_known(&self, name: &PeerName) -> Option<Known> {
        self.last.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub fn names(&self) -> Vec<PeerName> {
        self.nodes.load().peers.iter().map(|peer| peer.name.clone()).collect()
    }

    async fn find_out(&self, node: &Node) -> Option<Known> {
        let configured = match &node.release {
            ReleaseSetting::Auto => None,
            ReleaseSetting::Fixed(release) => {
                Some(Known { release: release.clone(), learned: Learned::Config })
            }
        };
        if node.name == self.own_name && configured.is_some() {
            return configured;
        }
        self.probe(&node.store, node.credentials.as_ref(), node.tls).await.or(configured)
    }

    async fn probe(
        &self,
        address: &StoreAddress,
        credentials: Option<&Credentials>,
        tls: bool,
    ) -> Option<Known> {
        if self.protocol.releases().is_empty() {
            return None;
        }
        match stores::redis::probe(&self.way(address, credentials, tls).await).await {
            Ok(identity) => {
                let release = self.protocol.recognize(identity.store, &identity.version);
                if release.is_none() {
                    tracing::warn!(%address, store = identity.store, version = identity.version,
                        "the store's version can't be read");
                }
                if self.silent.write().unwrap_or_else(PoisonError::into_inner).remove(address) {
                    tracing::info!(%address, "the store answers again");
                }
                release.map(|release| Known { release, learned: Learned::Probe })
            }
            Err(error) => {
                if self.is_news(address) {
                    tracing::warn!(%address, %error, "the store can't be asked for its release");
                }
                None
            }
        }
    }

    /// How this store is reached and asked, whether it is a node's or one that no one named.
    pub async fn way_to(&self, store: &StoreAddress) -> Way {
        let node = self.nodes.load().all().find(|node| node.store == *store).cloned();
        match node {
            Some(node) => self.way(store, node.credentials.as_ref(), node.tls).await,
            None => {
                let tls = self.speaks_tls(&store.to_string().into(), store.port());
                self.way(store, None, tls).await
            }
        }
    }

    async fn way(&self, address: &StoreAddress, credentials: Option<&Credentials>, tls: bool) -> Way {
        let (mark, limit) = {
            let nodes = self.nodes.load();
            (nodes.mark, nodes.probe_timeout)
        };
        let keys = if tls { self.tls.keys().await } else { None };
        Way { address: address.clone(), credentials: credentials.cloned(), keys, mark, limit }
    }

    /// Was this store's last probe a success? Stores that no one named are not remembered.
    fn is_news(&self, address: &StoreAddress) -> bool {
        let configured = self.nodes.load().all().any(|node| node.store == *address);
        !configured || self.silent.write().unwrap_or_else(PoisonError::into_inner).insert(address.clone())
    }
}

impl Nodes {
    fn of(config: &Config) -> Self {
        let node = &config.node;
        let own = node.store.as_ref().map(|store| Node {
            name: node.id.clone(),
            store: store.clone(),
            bus_port: node.bus_port,
            release: node.release.clone(),
            credentials: node.credentials.clone(),
            tls: node.tls,
        });
        let peers = config.peers.iter().map(|peer| Node {
            name: peer.id.clone(),
            store: peer.store.clone(),
            bus_port: peer.bus_port,
            release: peer.release.clone(),
            credentials: peer.credentials.clone(),
            tls: peer.tls,
        });
        let intercept = config.intercept.as_ref();
        let plain_ports = || intercept.map_or_else(Vec::new, |intercept| intercept.plain_ports.clone());
        Self {
            own,
            peers: peers.collect(),
            mark: intercept.map(|intercept| intercept.mark),
            tls_but: config.tls.as_ref().map(|_| plain_ports()),
            probe_timeout: config.limits.probe_timeout,
        }
    }

    fn all(&self) -> impl Iterator<Item = &Node> {
        self.own.iter().chain(&self.peers)
    }

    fn named(&self, name: &PeerName) -> Option<&Node> {
        self.all().find(|node| node.name == *name)
    }

    fn at(&self, ip: IpAddr) -> impl Iterator<Item = &Node> {
        let ip = ip.to_canonical();
        let is_there = move |host: &str| host.parse::<IpAddr>().is_ok_and(|host| host.to_canonical() == ip);
        self.peers.iter().filter(move |peer| is_there(peer.store.host()))
    }
}

impl Node {
    /// The config has seen to it that there is a port where it is asked for.
    fn bus(&self) -> StoreAddress {
        self.store.with_port(self.bus_port.unwrap_or_else(|| self.store.port()))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use segue_redis::Redis;

    use super::*;

    const TEXT: &str = "[node]\nid = \"n1\"\nprotocol = \"redis\"\nstore = \"127.0.0.1:6401\"\n\
        [[peer]]\nid = \"n2\"\nstore = \"127.0.0.1:6402\"\n\
        [[peer]]\nid = \"n3\"\nstore = \"127.0.0.1:6403\"\n\
        [[link]]\nlisten = \"127.0.0.1:7401\"\nto = \"store\"\n";

    fn config(text: &str) -> Config {
        let redis: &dyn Protocol = &Redis;
        Config::parse(Path::new("segue.toml"), text, &[redis.into()]).unwrap()
    }

    fn no_tls() -> Arc<tls::Current> {
        let opts = prometheus::Opts::new("renewals", "renewals");
        Arc::new(tls::Current::new(None, prometheus::IntCounterVec::new(opts, &["outcome"]).unwrap()))
    }

    #[test]
    fn another_config_is_used_at_once_and_what_it_does_not_touch_is_remembered() {
        let peers = Peers::new(&config(TEXT), Arc::new(Redis), no_tls());
        let (n2, n3): (PeerName, PeerName) = ("n2".into(), "n3".into());
        let known = Known { release: "redis-6.0".parse().unwrap(), learned: Learned::Wire };
        for name in [&n2, &n3] {
            peers.learned(name, known.clone());
        }
        peers.replace(&config(&TEXT.replace(":6402", ":6502").replace(":6401", ":6501")));
        assert_eq!(peers.store_of(&n2).unwrap().port(), 6502);
        assert_eq!(peers.own_store().unwrap().port(), 6501);
        assert_eq!(peers.by_address([127, 0, 0, 1].into(), Some(6402)), None);
        assert_eq!(peers.by_address([127, 0, 0, 1].into(), Some(6502)), Some(n2.clone()));
        // Another store may stand at another address.
        assert_eq!((peers.last_known(&n2), peers.last_known(&n3)), (None, Some(known)));
    }
}
