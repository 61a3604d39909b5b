//! What the parts of a file say about each other: names that meet, addresses that clash, files that exist.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use segue_wire::{LossPolicy, Mode, PeerName, Release, SecondConnection};

use super::{
    ADMIN_DEFAULT, Config, Credentials, KnownProtocol, Link, LinkTarget, Log, LogFormat, METRICS_DEFAULT,
    Node, Peer, ReleaseSetting, STATE_FOLDER_DEFAULT, Secret, State, Translation, WITNESS_PROTOCOL,
    document::At,
    etcd, intercept, mesh,
    problem::{Problems, did_you_mean},
    tls, upgrade,
    written::{Written, WrittenLink, WrittenStore},
};

/// The config that a file means; `None`, or a problem noted, where it means none.
pub(super) fn check(
    written: Written,
    folder: &Path,
    protocols: &[KnownProtocol<'_>],
    problems: &mut Problems,
) -> Option<Config> {
    let protocol = written.protocol.as_ref().and_then(|name| known_protocol(name, protocols, problems));
    ids(&written, problems);
    buses(&written, protocol, problems);
    let intercept = written.intercept.as_ref().map(|intercept| {
        let bus_port = |store: &WrittenStore| bus_port(store, protocol);
        intercept::check(intercept, written.node.as_ref(), &written.peers, bus_port, problems)
    });
    listeners(&written, problems);
    let has_tls = written.tls.is_some();
    let tls = written.tls.map(|written| tls::check(written, folder, problems));
    if written.mesh.is_none() && written.etcd.is_none() {
        mesh::missing(written.node.as_ref(), &written.peers, problems);
    }
    let mesh =
        written.mesh.map(|mesh| mesh::check(mesh, written.node.as_ref(), &written.peers, folder, problems));
    let etcd =
        written.etcd.map(|etcd| etcd::check(etcd, written.node.as_ref(), &written.peers, folder, problems));
    let written_protocol = written.protocol;
    let is_witness = written.node.as_ref().is_some_and(|node| node.witness);
    let of_store = StoreContext { folder, protocol, has_tls };
    let own_id = written.node.as_ref().and_then(|node| Some(node.id.as_ref()?.value.clone()));
    let node = written.node.and_then(|written| node(written, written_protocol, of_store, problems));
    let ids: Vec<PeerName> =
        written.peers.iter().filter_map(|peer| Some(peer.id.as_ref()?.value.clone())).collect();
    let stores = written.peers.into_iter().filter(|peer| !peer.witness);
    let peers: Vec<Peer> = stores.filter_map(|peer| store(peer, of_store, problems)).collect();
    if is_witness {
        witness_without_links(&written.links, written.intercept.is_some(), problems);
    } else if written.links.is_empty() && written.intercept.is_none() {
        problems.add(1, "[[link]]", "there is none; expected at least one, or there is nothing to intercept");
    }
    let links =
        written.links.into_iter().filter_map(|written| link(written, &ids, has_tls, problems)).collect();
    if let (Some(mode), Some(protocol)) = (&written.translation.mode, protocol) {
        pin(mode, protocol, problems);
    }
    let upgrade = written.upgrade.map(|upgrade| {
        let nodes = own_id.iter().chain(&ids);
        upgrade::check(upgrade, folder, nodes, problems)
    });
    let state_dir = written.state_dir.map_or(STATE_FOLDER_DEFAULT.to_owned(), |dir| dir.value);
    let intercept = match intercept {
        Some(checked) => Some(checked?),
        None => None,
    };
    let tls = match tls {
        Some(checked) => Some(checked?),
        None => None,
    };
    let upgrade = match upgrade {
        Some(checked) => Some(checked?),
        None => None,
    };
    let mesh = match mesh {
        Some(checked) => Some(checked?),
        None => None,
    };
    let etcd = match etcd {
        Some(checked) => Some(checked?),
        None => None,
    };
    Some(Config {
        node: node?,
        peers,
        links,
        intercept,
        mesh,
        etcd,
        tls,
        translation: Translation {
            mode: written.translation.mode.map_or(Mode::Auto, |mode| mode.value),
            loss: written.translation.loss.map_or(LossPolicy::Refuse, |loss| loss.value),
            second_connection: written
                .translation
                .second_connection
                .map_or(SecondConnection::Strip, |second| second.value),
        },
        upgrade,
        admin: written.admin.map_or(ADMIN_DEFAULT, |listen| listen.value),
        metrics: written.metrics.map_or(METRICS_DEFAULT, |listen| listen.value),
        state: State { dir: folder.join(state_dir) },
        limits: written.limits,
        log: Log {
            format: written.log_format.map_or(LogFormat::Text, |format| format.value),
            level: written.log_level.map_or(tracing::Level::INFO, |level| level.value),
        },
        warnings: problems.take_warnings(),
    })
}

fn known_protocol<'a>(
    name: &At<String>,
    protocols: &[KnownProtocol<'a>],
    problems: &mut Problems,
) -> Option<KnownProtocol<'a>> {
    let found = protocols.iter().copied().find(|protocol| protocol.name == name.value);
    if found.is_none() {
        let names: Vec<_> = protocols.iter().map(|protocol| protocol.name).collect();
        let hint = did_you_mean(&name.value, names.iter().copied(), || {
            format!("expected one of {}", quoted(names.iter().copied()))
        });
        name.problem(problems, format!("no such protocol; {hint}"));
    }
    found
}

/// Every id names one node.
fn ids(written: &Written, problems: &mut Problems) {
    let mut taken: BTreeMap<&str, (&str, usize)> = BTreeMap::new();
    if let Some(id) = written.node.as_ref().and_then(|node| node.id.as_ref()) {
        taken.insert(&id.value, ("this [node] itself", id.line));
    }
    for id in written.peers.iter().filter_map(|peer| peer.id.as_ref()) {
        match taken.get(&*id.value) {
            Some((whose, line)) => id.problem(
                problems,
                format!("the id is already used by {whose} at line {line}; give each node its own"),
            ),
            None => {
                taken.insert(&id.value, ("the [[peer]]", id.line));
            }
        }
    }
}

/// Where there are links of the bus, each store has a bus port.
fn buses(written: &Written, protocol: Option<KnownProtocol<'_>>, problems: &mut Problems) {
    let intercepted = written.intercept.as_ref().is_some_and(|intercept| intercept.has_bus());
    if !intercepted && !written.links.iter().any(|link| link.bus) {
        return;
    }
    let Some(protocol) = protocol else { return };
    for store in written.node.iter().chain(&written.peers) {
        if let (Some(at), None) = (&store.store, bus_port(store, Some(protocol))) {
            let message = match protocol.bus_port_offset {
                Some(offset) => format!("no port is {offset} above it, for the bus; expected bus_port, too"),
                None => format!("stores of protocol \"{}\" have no bus; expected bus = false", protocol.name),
            };
            at.problem(problems, message);
        }
    }
}

fn bus_port(store: &WrittenStore, protocol: Option<KnownProtocol<'_>>) -> Option<u16> {
    let offset = protocol?.bus_port_offset?;
    store.bus_port.or_else(|| store.store.as_ref()?.value.port().checked_add(offset))
}

/// No two listeners, and no listener and the own store, want one port of one address.
fn listeners(written: &Written, problems: &mut Problems) {
    let own_store = written.node.iter().filter_map(|node| {
        let store = node.store.as_ref()?;
        Some(("the own store", store.line, &store.place, store.value.socket_addr()?))
    });
    let links = written.links.iter().filter_map(|link| Some(("the link", link.listen.as_ref()?)));
    let admin = written.admin.iter().map(|listen| ("[admin]", listen));
    let metrics = written.metrics.iter().map(|listen| ("[metrics]", listen));
    let mesh = written.mesh.iter().filter_map(|mesh| Some(("[mesh]", mesh.listen.as_ref()?)));
    let intercepted = written.intercept.iter().flat_map(|intercept| intercept.listeners());
    let mut listeners: Vec<_> = links
        .chain(admin)
        .chain(metrics)
        .chain(mesh)
        .map(|(whose, listen)| (whose, listen.line, &listen.place, listen.value))
        .chain(own_store)
        .chain(intercepted)
        .collect();
    listeners.sort_by_key(|(_, line, ..)| *line);

    let mut taken: Vec<(String, SocketAddr)> = Vec::new();
    if written.admin.is_none() {
        taken.push(("[admin], which listens there unless told otherwise".to_owned(), ADMIN_DEFAULT));
    }
    if written.metrics.is_none() {
        taken.push(("[metrics], which listens there unless told otherwise".to_owned(), METRICS_DEFAULT));
    }
    for (whose, line, place, address) in listeners {
        match taken.iter().find(|(_, other)| clash(*other, address)) {
            Some((other, _)) => {
                let message = format!("the port is already used by {other}; give each its own");
                problems.add(line, place, message);
            }
            None => taken.push((format!("{whose} at line {line}"), address)),
        }
    }
    for link in &written.links {
        dials_itself(link, &written.peers, problems);
    }
}

/// An outbound link that listens where the peer's store does would dial itself for ever.
fn dials_itself(link: &WrittenLink, peers: &[WrittenStore], problems: &mut Problems) {
    let (Some(listen), Some(to)) = (&link.listen, &link.to) else { return };
    let target = peers
        .iter()
        .find(|peer| peer.id.as_ref().is_some_and(|id| *id.value == *to.value))
        .and_then(|peer| peer.store.as_ref());
    if let Some(store) = target.filter(|store| store.value.socket_addr() == Some(listen.value)) {
        listen.problem(
            problems,
            format!(
                "the link would dial itself: this is the store of peer \"{}\" at line {}; expected an address \
                 of this node",
                to.value, store.line
            ),
        );
    }
}

/// Whether the kernel would refuse the second of two listeners. Port 0 is a new one each time; an
/// unspecified address is every address of its family, and `[::]` of both.
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let covers = |a: IpAddr, b: IpAddr| match a {
        IpAddr::V4(v4) => v4.is_unspecified() && b.is_ipv4(),
        IpAddr::V6(v6) => v6.is_unspecified(),
    };
    a.port() != 0
        && a.port() == b.port()
        && (a.ip() == b.ip() || covers(a.ip(), b.ip()) || covers(b.ip(), a.ip()))
}

/// What a store's table is checked against.
#[derive(Clone, Copy)]
struct StoreContext<'a> {
    folder: &'a Path,
    protocol: Option<KnownProtocol<'a>>,
    has_tls: bool,
}

fn node(
    written: WrittenStore,
    protocol: Option<At<String>>,
    context: StoreContext<'_>,
    problems: &mut Problems,
) -> Option<Node> {
    if written.witness {
        return Some(Node {
            id: written.id?.value,
            protocol: WITNESS_PROTOCOL.to_owned(),
            store: None,
            bus_port: None,
            release: ReleaseSetting::Auto,
            credentials: None,
            tls: false,
            number: None,
        });
    }
    let number = written.number;
    let Peer { id, store, bus_port, release, credentials, tls, .. } = store(written, context, problems)?;
    let protocol = protocol?.value;
    Some(Node { id, protocol, store: Some(store), bus_port, release, credentials, tls, number })
}

fn witness_without_links(links: &[WrittenLink], has_intercept: bool, problems: &mut Problems) {
    const MESSAGE: &str = "a witness has no store; expected no link to it";
    for listen in links.iter().filter_map(|link| link.listen.as_ref()) {
        listen.problem(problems, MESSAGE);
    }
    if has_intercept {
        problems.add(1, "[intercept]", MESSAGE);
    }
}

fn store(written: WrittenStore, context: StoreContext<'_>, problems: &mut Problems) -> Option<Peer> {
    let StoreContext { folder, protocol, has_tls } = context;
    if let (Some(at), Some(protocol)) = (&written.release, protocol)
        && let ReleaseSetting::Fixed(release) = &at.value
    {
        of_protocol(release, at, protocol, problems);
    }
    let bus_port = bus_port(&written, protocol);
    let credentials = credentials(written.username, written.password_file, folder, problems);
    let release = written.release.map_or(ReleaseSetting::Auto, |release| release.value);
    let tls = tls::spoken(written.tls, has_tls, problems);
    Some(Peer {
        id: written.id?.value,
        store: written.store?.value,
        bus_port,
        release,
        credentials,
        tls,
        dial: written.dial,
    })
}

pub(super) fn credentials(
    username: Option<At<String>>,
    password_file: Option<At<String>>,
    folder: &Path,
    problems: &mut Problems,
) -> Option<Credentials> {
    let Some(file) = password_file else {
        if let Some(username) = username {
            username.problem(problems, "a user without a password; expected a password_file beside it");
        }
        return None;
    };
    let password_file = folder.join(&file.value);
    match Secret::from_file(&password_file) {
        Ok(password) => {
            Some(Credentials { username: username.map(|username| username.value), password_file, password })
        }
        Err(why) => {
            let path = password_file.display();
            file.problem(
                problems,
                format!("cannot read {path}: {why}; expected a file that holds the password"),
            );
            None
        }
    }
}

fn link(written: WrittenLink, peers: &[PeerName], has_tls: bool, problems: &mut Problems) -> Option<Link> {
    let tls = tls::spoken(written.tls, has_tls, problems);
    let peer = written.peer.as_ref().and_then(|peer| named(peer, "", peers, problems));
    let to = written.to?;
    let to = if to.value == "store" {
        LinkTarget::Store
    } else {
        if let Some(peer) = &written.peer {
            let message = "only the own store dials an outbound link; expected no peer here";
            peer.problem(problems, message);
        }
        LinkTarget::Peer(named(&to, "\"store\" or ", peers, problems)?)
    };
    Some(Link { listen: written.listen?.value, to, peer, tls, bus: written.bus })
}

fn named(id: &At<String>, also: &str, peers: &[PeerName], problems: &mut Problems) -> Option<PeerName> {
    let found = peers.iter().find(|peer| ***peer == *id.value).cloned();
    if found.is_none() {
        let names = || peers.iter().map(|peer| &**peer);
        let hint = did_you_mean(&id.value, names(), || match peers {
            [] => format!("expected {also}the id of a [[peer]], and there is none"),
            _ => format!("expected {also}one of {}", quoted(names())),
        });
        id.problem(problems, format!("no [[peer]] has this id; {hint}"));
    }
    found
}

/// A pin must be a release that Segue can speak, not only a well-formed name.
fn pin(mode: &At<Mode>, protocol: KnownProtocol<'_>, problems: &mut Problems) {
    let Mode::Pin(release) = &mode.value else { return };
    let stores_ok = of_protocol(release, mode, protocol, problems);
    let known = |known: &Release| known == release || known.short() == *release;
    if stores_ok && !protocol.releases.iter().any(known) {
        let names: Vec<_> = protocol.releases.iter().map(ToString::to_string).collect();
        mode.problem(
            problems,
            format!("no such release is known; expected auto, off or one of {}", names.join(", ")),
        );
    }
}

/// Whether a release is one of the protocol's stores.
fn of_protocol<T>(
    release: &Release,
    at: &At<T>,
    protocol: KnownProtocol<'_>,
    problems: &mut Problems,
) -> bool {
    if protocol.releases.is_empty() {
        let message = format!("protocol \"{}\" knows no releases; expected no release here", protocol.name);
        at.problem(problems, message);
        return false;
    }
    let known = protocol.releases.iter().any(|known| known.store() == release.store());
    if !known {
        let mut stores: Vec<_> = protocol.releases.iter().map(Release::store).collect();
        stores.sort_unstable();
        stores.dedup();
        at.problem(
            problems,
            format!(
                "\"{}\" is no store of protocol \"{}\"; expected a release of {}",
                release.store(),
                protocol.name,
                stores.join(" or ")
            ),
        );
    }
    known
}

fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}
