//! Where an accepted connection goes: what the config says of its listener, or where it was going before
//! the kernel handed it over.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use segue_wire::PeerName;
use tokio::net::{TcpStream, lookup_host};

use super::Shared;
use crate::{
    config::{self, Intercept, InterceptMode, LinkTarget, StoreAddress},
    net::{self, original, transparent},
};

/// How long the name of a peer's store may take to look up, to see whether it is the one that is dialled.
const LOOKUP_TIME_MAX: Duration = Duration::from_secs(1);
/// The metric label of every peer that the config does not name: there may be any number of them.
const UNNAMED: &str = "unnamed";

/// What a listener accepts.
#[derive(Clone, Debug)]
pub enum Accepts {
    /// Connections to itself.
    Configured(config::Link),
    /// Connections that the kernel hands over.
    Intercepted { listen: SocketAddr, way: Way },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From peers and clients to the own store.
    Inbound,
    /// From the own store to peers.
    Outbound,
}

/// Where one connection goes.
pub struct Route {
    /// The link as it would be written in the config.
    pub configured: config::Link,
    pub target: StoreAddress,
    /// The target's name in the metrics.
    pub label: PeerName,
    /// Who dialled speaks TLS.
    pub dialer_tls: bool,
    /// The target does.
    pub listener_tls: bool,
    /// The target's name, as its certificate may say it.
    pub host: String,
    dial_as: DialAs,
}

enum DialAs {
    Ourselves {
        mark: Option<u32>,
    },
    /// The store sees this address.
    Dialer {
        from: IpAddr,
        to: SocketAddr,
        mark: u32,
    },
}

/// Why a connection goes nowhere.
#[derive(Debug, thiserror::Error)]
pub enum NoRoute {
    #[error("the kernel does not know where the connection was going")]
    NoOriginalDestination,
    #[error("the connection was going to {0}, where this sidecar itself listens")]
    SelfLoop(SocketAddr),
    #[error("the link leads to a peer that the config no longer names")]
    PeerGone,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl NoRoute {
    /// A stable label, as in `segue_refusals_total{reason}`.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::NoOriginalDestination => "no-original-destination",
            Self::SelfLoop(_) => "self-loop",
            Self::PeerGone => "peer-gone",
            Self::Io(_) => "accept",
        }
    }
}

impl From<config::Link> for Accepts {
    fn from(link: config::Link) -> Self {
        Self::Configured(link)
    }
}

impl Accepts {
    pub const fn listen(&self) -> SocketAddr {
        match self {
            Self::Configured(link) => link.listen,
            Self::Intercepted { listen, .. } => *listen,
        }
    }

    /// The listeners of an `[intercept]`, and whether each needs a transparent socket.
    pub fn intercepted(intercept: &Intercept) -> Vec<(Self, bool)> {
        let transparent = intercept.mode == InterceptMode::Tproxy;
        let mut all = Vec::new();
        for (ipv6, wanted) in [(false, intercept.ipv4), (true, intercept.ipv6)] {
            if !wanted {
                continue;
            }
            let inbound = SocketAddr::new(transparent::everywhere(ipv6), intercept.inbound_listen_port);
            all.push((Self::Intercepted { listen: inbound, way: Way::Inbound }, transparent));
            if !intercept.outbound_ports.is_empty() {
                let outbound = SocketAddr::new(transparent::loopback(ipv6), intercept.outbound_listen_port);
                all.push((Self::Intercepted { listen: outbound, way: Way::Outbound }, false));
            }
        }
        all
    }

    /// # Errors
    /// No destination, or one that leads back here.
    pub async fn route(&self, shared: &Shared, dialer: &TcpStream) -> Result<Route, NoRoute> {
        let config = shared.config();
        let intercept = config.intercept.as_ref();
        let mark = intercept.map(|intercept| intercept.mark);
        match self {
            Self::Configured(link) => {
                let peers = &shared.peers;
                let (target, label) = match (&link.to, link.bus) {
                    (LinkTarget::Store, false) => (peers.own_store(), peers.own_name()),
                    (LinkTarget::Store, true) => (peers.own_bus(), peers.own_name()),
                    (LinkTarget::Peer(peer), false) => (peers.store_of(peer), peer),
                    (LinkTarget::Peer(peer), true) => (peers.bus_of(peer), peer),
                };
                let (target, label) = (target.ok_or(NoRoute::PeerGone)?, label.clone());
                Ok(Route {
                    configured: link.clone(),
                    dialer_tls: link.tls,
                    listener_tls: shared.peers.speaks_tls(&label, target.port()),
                    host: target.host().to_owned(),
                    target,
                    label,
                    dial_as: DialAs::Ourselves { mark },
                })
            }
            Self::Intercepted { listen, way } => {
                let intercept = intercept.ok_or(NoRoute::NoOriginalDestination)?;
                let transparent = *way == Way::Inbound && intercept.mode == InterceptMode::Tproxy;
                let to = destination(dialer, transparent, listen.port())?;
                if let Some(link) = config.links.iter().find(|link| link.listen == to) {
                    return Err(NoRoute::SelfLoop(link.listen));
                }
                let bus_ports = match way {
                    Way::Inbound => &intercept.inbound_bus_ports,
                    Way::Outbound => &intercept.outbound_bus_ports,
                };
                let bus = bus_ports.contains(&to.port());
                let (link_to, label) = match way {
                    Way::Inbound => (LinkTarget::Store, shared.peers.own_name().clone()),
                    Way::Outbound => match shared.peer_at(to, bus).await {
                        Some(peer) => (LinkTarget::Peer(peer.clone()), peer),
                        None => (LinkTarget::Peer(shared.unnamed_store(to, bus)), UNNAMED.into()),
                    },
                };
                let dial_as = if transparent {
                    let from = dialer.peer_addr()?.ip();
                    DialAs::Dialer { from, to, mark: intercept.mark }
                } else {
                    DialAs::Ourselves { mark }
                };
                // The connection is the store's own: both ends speak what its port does.
                let tls = shared.peers.speaks_tls(&label, to.port());
                let configured = config::Link { listen: *listen, to: link_to, peer: None, tls, bus };
                let target = StoreAddress::from(to);
                let known = shared.peers.store_of(&label);
                let host = known.as_ref().unwrap_or(&target).host().to_owned();
                Ok(Route { configured, target, label, dialer_tls: tls, listener_tls: tls, host, dial_as })
            }
        }
    }

    /// The link as it would be written in the config, for what is said of a connection without a route.
    pub fn configured(&self) -> config::Link {
        match self {
            Self::Configured(link) => link.clone(),
            Self::Intercepted { listen, .. } => {
                config::Link { listen: *listen, to: LinkTarget::Store, peer: None, tls: false, bus: false }
            }
        }
    }
}

impl Route {
    /// Does the store see another address than the dialer's?
    pub const fn hides_dialer(&self) -> bool {
        matches!(self.configured.to, LinkTarget::Store) && matches!(self.dial_as, DialAs::Ourselves { .. })
    }

    /// # Errors
    /// The system's own, or `TimedOut`.
    pub async fn dial(&self, limit: Duration) -> io::Result<TcpStream> {
        match self.dial_as {
            DialAs::Ourselves { mark } => net::dial_with(&self.target.to_string(), mark, limit).await,
            DialAs::Dialer { from, to, mark } => {
                transparent::dial_in_the_name_of(from, to, mark, limit).await
            }
        }
    }
}

/// Where a connection was going before it was handed over.
fn destination(dialer: &TcpStream, transparent: bool, listen_port: u16) -> Result<SocketAddr, NoRoute> {
    let local = dialer.local_addr()?;
    if transparent {
        // The socket has the address that was dialled; our own port, if it was dialled itself.
        return if local.port() == listen_port { Err(NoRoute::SelfLoop(local)) } else { Ok(local) };
    }
    match original::original_destination(dialer)? {
        None => Err(NoRoute::NoOriginalDestination),
        Some(to) if to == local => Err(NoRoute::SelfLoop(to)),
        Some(to) => Ok(to),
    }
}

impl Shared {
    /// The peer whose store, or its bus, is known by this address.
    async fn peer_at(&self, address: SocketAddr, bus: bool) -> Option<PeerName> {
        let address_of =
            |name: &PeerName| if bus { self.peers.bus_of(name) } else { self.peers.store_of(name) };
        for name in self.peers.names() {
            if let Some(store) = address_of(&name)
                && store.port() == address.port()
                && is_at(&store, address.ip()).await
            {
                return Some(name);
            }
        }
        None
    }

    /// Is the store of any peer at this address?
    pub(super) async fn has_peer_at(&self, ip: IpAddr) -> bool {
        if self.peers.any_at(ip) {
            return true;
        }
        for name in self.peers.names() {
            if let Some(store) = self.peers.store_of(&name)
                && is_at(&store, ip).await
            {
                return true;
            }
        }
        false
    }

    /// What a store is called that no one named: its own address, also where its bus was dialled.
    fn unnamed_store(&self, dialled: SocketAddr, bus: bool) -> PeerName {
        let offset = self.protocol.bus_port_offset().filter(|_| bus).unwrap_or(0);
        SocketAddr::new(dialled.ip(), dialled.port().saturating_sub(offset)).to_string().into()
    }
}

async fn is_at(store: &StoreAddress, ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    if let Some(address) = store.socket_addr() {
        return address.ip().to_canonical() == ip;
    }
    let looked_up = tokio::time::timeout(LOOKUP_TIME_MAX, lookup_host((store.host(), store.port()))).await;
    match looked_up {
        Ok(Ok(mut found)) => found.any(|found| found.ip().to_canonical() == ip),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_listener_dialled_by_its_own_address_is_a_loop() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listen = listener.local_addr().unwrap();
        let _dialer = TcpStream::connect(listen).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let error = destination(&accepted, true, listen.port()).unwrap_err();
        assert_eq!(error.label(), "self-loop");
        // With connection tracking the kernel says the same address, without it nothing.
        let error = destination(&accepted, false, listen.port()).unwrap_err();
        assert!(["self-loop", "no-original-destination"].contains(&error.label()), "{error}");
    }

    #[test]
    fn each_family_and_way_has_its_listener() {
        let intercept = |mode, ipv6| Intercept {
            mode,
            inbound_listen_port: 1,
            outbound_listen_port: 2,
            inbound_ports: vec![6379],
            outbound_ports: vec![6379],
            plain_ports: Vec::new(),
            inbound_bus_ports: Vec::new(),
            outbound_bus_ports: Vec::new(),
            store: None,
            exclude: Vec::new(),
            ipv4: true,
            ipv6,
            mark: 1,
            on_failure: config::OnFailure::Open,
        };
        let listen = |intercept: Intercept| -> Vec<(String, bool)> {
            let all = Accepts::intercepted(&intercept);
            all.into_iter()
                .map(|(accepts, transparent)| (accepts.listen().to_string(), transparent))
                .collect()
        };
        let both = listen(intercept(InterceptMode::Tproxy, true));
        let expected = [("0.0.0.0:1", true), ("127.0.0.1:2", false), ("[::]:1", true), ("[::1]:2", false)];
        assert_eq!(both, expected.map(|(listen, transparent)| (listen.to_owned(), transparent)));
        let one = listen(intercept(InterceptMode::Redirect, false));
        assert_eq!(one, [("0.0.0.0:1".to_owned(), false), ("127.0.0.1:2".to_owned(), false)]);
    }
}
