//! The keys of one cluster.

use super::messages::Blob;
use crate::config::Etcd;

pub(super) struct Keys {
    /// All keys begin like this, and nobody else's do.
    prefix: String,
    state: String,
}

pub(super) enum Key<'k> {
    State,
    /// Holds the name of who leads, for as long as its lease lasts.
    Leader,
    /// Holds a sidecar's word, for as long as its lease lasts; empty at first.
    Node(&'k str),
}

const STATE: &str = "state";
const LEADER: &str = "leader";
const NODES: &str = "nodes/";

impl Keys {
    pub fn new(settings: &Etcd) -> Self {
        let prefix = format!("{}{}/", settings.prefix, settings.cluster);
        Self { state: format!("{prefix}{STATE}"), prefix }
    }

    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    pub fn state_name(&self) -> &str {
        &self.state
    }

    pub fn state(&self) -> Blob {
        self.state.clone().into()
    }

    pub fn leader(&self) -> Blob {
        format!("{}{LEADER}", self.prefix).into()
    }

    pub fn node(&self, name: &str) -> Blob {
        format!("{}{NODES}{name}", self.prefix).into()
    }

    /// `None` of one that is not known to this release.
    pub fn key<'k>(&self, key: &'k Blob) -> Option<Key<'k>> {
        match std::str::from_utf8(&key.0).ok()?.strip_prefix(&self.prefix)? {
            STATE => Some(Key::State),
            LEADER => Some(Key::Leader),
            other => other.strip_prefix(NODES).map(Key::Node),
        }
    }
}
