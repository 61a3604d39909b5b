//! The config file: read, checked, and turned into the types that the rest of Segue uses.
//!
//! | module | holds |
//! |---|---|
//! | here | [`Config`] and its parts: what a sidecar is told to do, already known to make sense |
//! | `document` | TOML tables whose values know their line and key |
//! | `written` | the file as written: known keys, each value of its own type |
//! | [`intercept`] | `[intercept]`, read and checked |
//! | `tls` | `[tls]`, read, and its files checked |
//! | `check` | what the parts of a file say about each other |
//! | [`exec`] | `[upgrade.exec]`: commands that drive other stores |
//! | [`etcd`] | `[mesh] etcd`: one that runs already |
//! | [`mesh`] | `[mesh]`, and what `[node]` and `[[peer]]` say of it |
//! | [`upgrade`], [`hook`], [`rules`] | `[upgrade]`: what this node does, by which commands, and how the operator wants it |
//! | [`problem`] | what is wrong with a file, all of it, by line |
//! | [`address`], [`secret`], [`time`] | the types of single values |
//!
//! Nothing here reads the environment: paths come in, and relative ones in a file are relative to
//! the file's own folder.

mod check;
mod document;
mod tls;
mod written;

pub mod address;
pub mod etcd;
pub mod exec;
pub mod hook;
pub mod intercept;
pub mod mesh;
pub mod problem;
pub mod rules;
pub mod secret;
pub mod time;
pub mod upgrade;

use std::{
    fs::File,
    io::Read,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use segue_wire::{LossPolicy, Mode, PeerName, Protocol, Release, SecondConnection};

use crate::tls::Keys;
pub use address::StoreAddress;
pub use etcd::{Endpoint, Etcd};
pub use intercept::{Cidr, Intercept, InterceptMode, OnFailure, StoreProcess};
pub use mesh::{Mesh, MeshMember};
pub use problem::{ConfigError, Problem};
pub use secret::Secret;
pub use upgrade::Upgrade;

/// A larger file is refused unread.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where the admin API listens when the file does not say.
pub const ADMIN_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9901);
/// Where the metrics are served when the file does not say.
pub const METRICS_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);
/// The folder of the saved stream state when the file does not say, beside the file.
pub const STATE_FOLDER_DEFAULT: &str = "segue-state";

/// A witness has no links: whatever it would do with them is right.
const WITNESS_PROTOCOL: &str = "passthrough";

/// What one sidecar is told to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub node: Node,
    pub peers: Vec<Peer>,
    /// At least one, or there is an [`Intercept`], or the node is a witness.
    pub links: Vec<Link>,
    pub intercept: Option<Intercept>,
    /// How the sidecars agree; without it they don't.
    pub mesh: Option<Mesh>,
    /// In place of a mesh.
    pub etcd: Option<Etcd>,
    /// Where TLS is spoken, with what.
    pub tls: Option<Keys>,
    pub translation: Translation,
    /// What this node does in an upgrade of the whole cluster.
    pub upgrade: Option<Upgrade>,
    /// Where the admin API listens.
    pub admin: SocketAddr,
    /// Where the metrics are served.
    pub metrics: SocketAddr,
    pub state: State,
    pub limits: Limits,
    pub log: Log,
    /// What can be used, but won't do for long.
    pub warnings: Vec<Problem>,
}

/// This node and its store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub id: PeerName,
    /// The name of a known protocol.
    pub protocol: String,
    /// `None` of a witness.
    pub store: Option<StoreAddress>,
    /// Of the own store's bus; always there when a link of the bus is.
    pub bus_port: Option<u16>,
    pub release: ReleaseSetting,
    pub credentials: Option<Credentials>,
    /// Its port speaks TLS.
    pub tls: bool,
    /// Its place among the secondaries; otherwise that of its id.
    pub number: Option<u32>,
}

/// Another node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub id: PeerName,
    /// The address that the peer's store is known by.
    pub store: StoreAddress,
    /// As the node's.
    pub bus_port: Option<u16>,
    pub release: ReleaseSetting,
    pub credentials: Option<Credentials>,
    /// Its port speaks TLS.
    pub tls: bool,
    /// What [`Config::dial`] gives, where the file says it.
    pub dial: Option<StoreAddress>,
}

/// How a store's release is learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReleaseSetting {
    /// From the wire, or by asking the store.
    Auto,
    /// What the operator says, where neither the wire nor the store does.
    Fixed(Release),
}

/// How the sidecar logs in to a store that it asks for its release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub username: Option<String>,
    /// Where the password came from, to name it in messages.
    pub password_file: PathBuf,
    pub password: Secret,
}

/// One explicitly intercepted address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub listen: SocketAddr,
    pub to: LinkTarget,
    /// Who dials here, where the address can't tell. Only on a link to the own store.
    pub peer: Option<PeerName>,
    /// Who dials here speaks TLS.
    pub tls: bool,
    /// It joins the stores' buses, and not the stores themselves.
    pub bus: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkTarget {
    /// Inbound: peers reach this node's store.
    Store,
    /// Outbound: the own store reaches this peer, one of [`Config::peers`].
    Peer(PeerName),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translation {
    pub mode: Mode,
    pub loss: LossPolicy,
    pub second_connection: SecondConnection,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Folder of the saved stream state; made at start when it is not there.
    pub dir: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most links open at one time, those that are still dialled included.
    pub links_max: usize,
    /// Of these, most whose session has not made up its mind.
    pub undecided_links_max: usize,
    /// How long the bytes of a handshake may take from the first of a command to its last.
    pub handshake_timeout: Duration,
    /// Most bytes that all links together hold.
    pub held_bytes_total_max: usize,
    /// Most pipes that carry bytes in bulk.
    pub pipes_max: usize,
    /// How long a connection to a store may take to open.
    pub dial_timeout: Duration,
    /// How long a store may take to answer what its release is.
    pub probe_timeout: Duration,
    /// How long a TLS handshake may take, with a dialer as with a store.
    pub tls_handshake_timeout: Duration,
    /// How long the stream of a sync over two connections may wait for word of its snapshot.
    pub pairing_timeout: Duration,
    /// How long a snapshot under way may take to finish when links are to end.
    pub drain_time: Duration,
    /// The bounds of each link's session.
    pub session: segue_wire::Limits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            links_max: 20_000,
            undecided_links_max: 10_000,
            handshake_timeout: Duration::from_secs(10),
            held_bytes_total_max: 1 << 30,
            pipes_max: 128,
            dial_timeout: Duration::from_secs(5),
            probe_timeout: Duration::from_secs(2),
            tls_handshake_timeout: Duration::from_secs(5),
            pairing_timeout: Duration::from_secs(5),
            drain_time: Duration::from_secs(10),
            session: segue_wire::Limits::default(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub format: LogFormat,
    pub level: tracing::Level,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// What a config may name of a protocol; the registry says it.
#[derive(Clone, Copy, Debug)]
pub struct KnownProtocol<'a> {
    pub name: &'a str,
    pub releases: &'a [Release],
    /// As [`Protocol::bus_port_offset`] has it.
    pub bus_port_offset: Option<u16>,
}

impl<'a> From<&'a dyn Protocol> for KnownProtocol<'a> {
    fn from(protocol: &'a dyn Protocol) -> Self {
        Self {
            name: protocol.name(),
            releases: protocol.releases(),
            bus_port_offset: protocol.bus_port_offset(),
        }
    }
}

impl Config {
    /// Reads and checks a file, and the passwords, certificates and keys in the files that it names.
    ///
    /// # Errors
    /// Everything that is wrong with the file, by line; not just the first of it.
    pub fn load(file: &Path, protocols: &[KnownProtocol<'_>]) -> Result<Self, ConfigError> {
        let text = text_of(file)?;
        Self::parse(file, &text, protocols)
    }

    /// Checks the text of a file. `file` is for messages, and its folder is where relative paths start.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(file: &Path, text: &str, protocols: &[KnownProtocol<'_>]) -> Result<Self, ConfigError> {
        let mut problems = problem::Problems::default();
        let config = written::read(text, &mut problems)
            .and_then(|written| check::check(written, folder_of(file), protocols, &mut problems));
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(problems.into_error(file)),
        }
    }

    /// Only where the admin API listens, whatever else is in the file: all that a client needs.
    ///
    /// # Errors
    /// An unreadable file, bad TOML, or a bad `[admin]`.
    pub fn admin_of(file: &Path) -> Result<SocketAddr, ConfigError> {
        let text = text_of(file)?;
        let mut problems = problem::Problems::default();
        let admin = written::read_admin(&text, &mut problems);
        if problems.is_empty() { Ok(admin.unwrap_or(ADMIN_DEFAULT)) } else { Err(problems.into_error(file)) }
    }

    #[must_use]
    pub fn peer(&self, id: &str) -> Option<&Peer> {
        self.peers.iter().find(|peer| &*peer.id == id)
    }

    /// What the own store is told to replicate from when this peer is master: what the file says, or the
    /// outbound link to it, or its store.
    #[must_use]
    pub fn dial(&self, id: &str) -> Option<StoreAddress> {
        let peer = self.peer(id)?;
        let outbound =
            || self.links.iter().find(|link| !link.bus && link.to == LinkTarget::Peer(peer.id.clone()));
        Some(match (&peer.dial, outbound()) {
            (Some(dial), _) => dial.clone(),
            (None, Some(link)) => reachable(link.listen).into(),
            (None, None) => peer.store.clone(),
        })
    }
}

/// Where a listener of this host is reached from it.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn text_of(file: &Path) -> Result<String, ConfigError> {
    let unreadable = |why: String| ConfigError::unreadable(file, why);
    let opened = File::open(file).map_err(|e| unreadable(e.to_string()))?;
    let mut bytes = Vec::new();
    opened
        .take(FILE_BYTES_MAX.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|e| unreadable(e.to_string()))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(unreadable(format!("larger than {FILE_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| unreadable("not UTF-8 text".to_owned()))
}

/// A bare file name has the empty path as its parent, which joins as the current folder.
fn folder_of(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new(""))
}

#[cfg(test)]
mod tests;
