//! `[mesh]`, and what `[node]` and `[[peer]]` say of it: read and checked.

use std::{net::SocketAddr, path::Path, time::Duration};

use segue_wire::PeerName;

use super::{
    StoreAddress,
    document::{At, Section},
    problem::Problems,
    tls::{self, WrittenTls},
    written::{LISTEN_EXPECTED, WrittenStore, listen_address},
};
use crate::tls::Keys;

/// Most sidecars of a mesh.
pub const MEMBERS_MAX: usize = 64;
const ELECTION_TIMEOUT_DEFAULT: Duration = Duration::from_secs(1);
const PROPOSE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// How the sidecars reach each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mesh {
    pub listen: SocketAddr,
    /// Mutual TLS; there unless all of them are on loopback.
    pub keys: Option<Keys>,
    /// A member's certificate must name it.
    pub verify_name: bool,
    /// All sidecars, the own one too.
    pub members: Vec<MeshMember>,
    /// How long members wait for word of their leader before they elect another.
    pub election_timeout: Duration,
    /// How long it may take until something is agreed on.
    pub propose_timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshMember {
    pub id: PeerName,
    /// Where its mesh listens.
    pub address: StoreAddress,
    /// It has no store.
    pub witness: bool,
}

/// `[mesh]`.
pub(super) struct WrittenMesh {
    pub listen: Option<At<SocketAddr>>,
    line: usize,
    tls: Option<WrittenTls>,
    verify_name: bool,
    election_timeout: Duration,
    propose_timeout: Duration,
}

pub(super) const ADDRESS_EXPECTED: &str =
    "the address that the peer's sidecar is a member of the mesh at, such as \"10.0.0.2:9902\"";

pub(super) fn read(mut section: Section<'_>, problems: &mut Problems) -> WrittenMesh {
    let line = section.line();
    let listen = section.required_text("listen", LISTEN_EXPECTED, listen_address, problems);
    let election_timeout = section
        .number("election_timeout_ms", "milliseconds", 100..=60_000, problems)
        .map_or(ELECTION_TIMEOUT_DEFAULT, Duration::from_millis);
    let propose_timeout = propose_timeout(&mut section, problems);
    let verify_name = section.flag("verify_name", problems).is_some_and(|verify_name| verify_name.value);
    let has_tls = ["certificate_file", "key_file", "ca_file"].iter().any(|key| section.has(key));
    // Asked for in any case, so that a mistyped key is told what there is.
    let tls = has_tls.then(|| tls::read_files(&mut section, problems));
    section.finish(problems);
    WrittenMesh { listen, line, tls, verify_name, election_timeout, propose_timeout }
}

pub(super) fn propose_timeout(section: &mut Section<'_>, problems: &mut Problems) -> Duration {
    section
        .number("propose_timeout_ms", "milliseconds", 100..=600_000, problems)
        .map_or(PROPOSE_TIMEOUT_DEFAULT, Duration::from_millis)
}

pub(super) fn check(
    written: WrittenMesh,
    node: Option<&WrittenStore>,
    peers: &[WrittenStore],
    folder: &Path,
    problems: &mut Problems,
) -> Option<Mesh> {
    let has_tls = written.tls.is_some();
    let keys = written.tls.map(|written| tls::check(written, folder, problems));
    let (listen, node) = (written.listen?, node?);
    let mut members = vec![MeshMember {
        id: node.id.as_ref()?.value.clone(),
        address: listen.value.into(),
        witness: node.witness,
    }];
    for peer in peers {
        let (Some(id), Some(address)) = (&peer.id, &peer.mesh) else { continue };
        members.push(MeshMember {
            id: id.value.clone(),
            address: address.value.clone(),
            witness: peer.witness,
        });
    }
    if members.len() > MEMBERS_MAX {
        let message = format!("{} members are too many; expected at most {MEMBERS_MAX}", members.len());
        problems.add(written.line, "[mesh]", message);
    }
    if !has_tls && let Some(far) = members.iter().find(|member| !is_loopback(&member.address)) {
        let message = format!(
            "\"{}\" is a member at {}, and without TLS all have to be on loopback; expected certificate_file, \
             key_file and ca_file",
            far.id, far.address
        );
        problems.add(written.line, "[mesh]", message);
    }
    if written.verify_name && !has_tls {
        problems.add(
            written.line,
            "[mesh] verify_name",
            "there are no certificates; expected certificate_file",
        );
    }
    let keys = match keys {
        Some(checked) => Some(checked?),
        None => None,
    };
    Some(Mesh {
        listen: listen.value,
        keys,
        verify_name: written.verify_name,
        members,
        election_timeout: written.election_timeout,
        propose_timeout: written.propose_timeout,
    })
}

/// Without a `[mesh]` nobody is a member, and a witness is nothing at all.
pub(super) fn missing(node: Option<&WrittenStore>, peers: &[WrittenStore], problems: &mut Problems) {
    for (store, title) in
        node.map(|node| (node, "[node]")).into_iter().chain(peers.iter().map(|peer| (peer, "[[peer]]")))
    {
        if let Some(mesh) = &store.mesh {
            mesh.problem(problems, "there is no [mesh]; expected that table, with listen");
        } else if let (true, Some(id)) = (store.witness, &store.id) {
            let message = "a witness is there for the mesh alone; expected a table [mesh], with listen";
            problems.add(id.line, format!("{title} witness"), message);
        }
    }
}

pub(super) fn is_loopback(address: &StoreAddress) -> bool {
    address.host() == "localhost" || address.socket_addr().is_some_and(|address| address.ip().is_loopback())
}
