//! `[mesh]`, and what `[node]` and `[[peer]]` say of it: read and checked.

use std::{net::SocketAddr, time::Duration};

use segue_wire::PeerName;

use super::StoreAddress;
use crate::tls::Keys;

/// How the sidecars reach each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mesh {
    pub listen: SocketAddr,
    /// Mutual TLS; there unless all of them are on loopback.
    pub keys: Option<Keys>,
    /// A member's certificate must name it.
    pub verify_name: bool,
    /// All sidecars, the own one too, by id.
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
