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

use segue_wire::{PeerName, Protocol, Release};

use crate::{
    config::{Config, Credentials, ReleaseSetting, StoreAddress},
    status::{KnownRelease, Learned},
    stores,
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
    own: Node,
    peers: Vec<Node>,
    probe_timeout: Duration,
    /// What was last learned, for the status and for the check before a toggle; at most one for each
    /// configured node.
    last: RwLock<HashMap<PeerName, Known>>,
    /// Configured stores whose last probe failed: said once, not at every try.
    silent: RwLock<HashSet<StoreAddress>>,
}

struct Node {
    name: PeerName,
    store: StoreAddress,
    release: ReleaseSetting,
    credentials: Option<Credentials>,
}

impl Peers {
    pub fn new(config: &Config, protocol: Arc<dyn Protocol>) -> Self {
        let node = &config.node;
        let own = Node {
            name: node.id.clone(),
            store: node.store.clone(),
            release: node.release.clone(),
            credentials: node.credentials.clone(),
        };
        let peers = config.peers.iter().map(|peer| Node {
            name: peer.id.clone(),
            store: peer.store.clone(),
            release: peer.release.clone(),
            credentials: peer.credentials.clone(),
        });
        Self {
            protocol,
            own,
            peers: peers.collect(),
            probe_timeout: config.limits.probe_timeout,
            last: RwLock::default(),
            silent: RwLock::default(),
        }
    }

    pub fn own_name(&self) -> &PeerName {
        &self.own.name
    }

    pub fn own_store(&self) -> &StoreAddress {
        &self.own.store
    }

    pub fn store_of(&self, peer: &PeerName) -> Option<&StoreAddress> {
        self.node(peer).map(|node| &node.store)
    }

    /// The peer that announces this address as its own, if exactly one is configured with it.
    pub fn by_address(&self, ip: IpAddr, port: Option<u16>) -> Option<PeerName> {
        let ip = ip.to_canonical();
        let mut at_ip = self
            .peers
            .iter()
            .filter(|peer| peer.store.host().parse::<IpAddr>().is_ok_and(|host| host.to_canonical() == ip))
            .filter(|peer| port.is_none_or(|port| peer.store.port() == port));
        let found = at_ip.next()?;
        at_ip.next().is_none().then(|| found.name.clone())
    }

    /// The own store's release, asked anew.
    pub async fn own_release(&self) -> Option<Known> {
        self.release(&self.own.name).await
    }

    /// The release of a configured node, asked anew: an upgrade changes what stands at an address.
    pub async fn release(&self, name: &PeerName) -> Option<Known> {
        let node = self.node(name)?;
        let known = self.find_out(node).await;
        if let Some(known) = &known {
            self.learned(name, known.clone());
        }
        known
    }

    /// The release of a store that no one named, at the address that it announced.
    pub async fn release_at(&self, address: SocketAddr) -> Option<Known> {
        self.probe(&address.into(), None).await
    }

    /// Remembers what the wire told.
    pub fn learned(&self, name: &PeerName, known: Known) {
        if self.node(name).is_some() {
            self.last.write().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), known);
        }
    }

    pub fn last_known(&self, name: &PeerName) -> Option<Known> {
        self.last.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub fn names(&self) -> impl Iterator<Item = &PeerName> {
        self.peers.iter().map(|peer| &peer.name)
    }

    fn node(&self, name: &PeerName) -> Option<&Node> {
        std::iter::once(&self.own).chain(&self.peers).find(|node| node.name == *name)
    }

    async fn find_out(&self, node: &Node) -> Option<Known> {
        let configured = match &node.release {
            ReleaseSetting::Auto => None,
            ReleaseSetting::Fixed(release) => {
                Some(Known { release: release.clone(), learned: Learned::Config })
            }
        };
        if node.name == self.own.name && configured.is_some() {
            return configured;
        }
        self.probe(&node.store, node.credentials.as_ref()).await.or(configured)
    }

    async fn probe(&self, address: &StoreAddress, credentials: Option<&Credentials>) -> Option<Known> {
        match stores::redis::probe(address, credentials, self.probe_timeout).await {
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

    /// Was this store's last probe a success? Stores that no one named are not remembered.
    fn is_news(&self, address: &StoreAddress) -> bool {
        let configured = std::iter::once(&self.own).chain(&self.peers).any(|node| node.store == *address);
        !configured || self.silent.write().unwrap_or_else(PoisonError::into_inner).insert(address.clone())
    }
}
