//! What the raft is made of: names of members, entries and answers as text.

use std::{
    fmt,
    hash::{Hash, Hasher},
    io::Cursor,
    str,
};

use segue_wire::PeerName;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// The longest id of a node that a config may have.
const ID_BYTES_MAX: usize = 64;

openraft::declare_raft_types!(
    /// Entries (`D`) and answers (`R`) are JSON: only the machine knows of what.
    pub Types:
        D = String,
        R = String,
        NodeId = Id,
        Node = Node,
);

pub type Raft = openraft::Raft<Types>;
pub type LogId = openraft::LogId<Id>;
pub type Vote = openraft::Vote<Id>;
pub type Entry = openraft::Entry<Types>;
pub type StoredMembership = openraft::StoredMembership<Id, Node>;
pub type SnapshotMeta = openraft::SnapshotMeta<Id, Node>;
pub type RaftMetrics = openraft::RaftMetrics<Id, Node>;

/// A node's id from the config, as raft wants it: copied without a thought.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    /// Padded with zeroes, so that the order is that of the texts.
    bytes: [u8; ID_BYTES_MAX],
    length: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a node's id has at most {ID_BYTES_MAX} bytes")]
pub struct IdTooLong;

impl Id {
    pub fn new(id: &str) -> Result<Self, IdTooLong> {
        let mut bytes = [0; ID_BYTES_MAX];
        bytes.get_mut(..id.len()).ok_or(IdTooLong)?.copy_from_slice(id.as_bytes());
        Ok(Self { bytes, length: u8::try_from(id.len()).map_err(|_| IdTooLong)? })
    }

    pub fn as_str(&self) -> &str {
        let text = self.bytes.get(..usize::from(self.length)).unwrap_or_default();
        str::from_utf8(text).unwrap_or_default()
    }

    pub fn name(&self) -> PeerName {
        self.as_str().into()
    }
}

impl Default for Id {
    fn default() -> Self {
        Self { bytes: [0; ID_BYTES_MAX], length: 0 }
    }
}

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let id = String::deserialize(deserializer)?;
        Self::new(&id).map_err(D::Error::custom)
    }
}

/// What all members know of one. Its address is in each one's config, so that it can change there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Which mesh it is a member of: a number drawn when that was begun. Two meshes that meet stay two.
    pub mesh: u64,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn ids_are_ordered_and_written_as_their_texts() {
        let ids = ["n1", "n10", "n2", "n-1", "", "a.b_c"].map(|id| Id::new(id).unwrap());
        for (a, b) in ids.iter().flat_map(|a| ids.iter().map(move |b| (a, b))) {
            assert_eq!(a.cmp(b), a.as_str().cmp(b.as_str()), "{a} {b}");
        }
        let map: BTreeMap<Id, u8> = ids.iter().map(|id| (*id, 1)).collect();
        let json = serde_json::to_string(&map).unwrap();
        assert!(json.contains("\"n10\":1"), "{json}");
        assert_eq!(serde_json::from_str::<BTreeMap<Id, u8>>(&json).unwrap(), map);
        assert_eq!(Id::new(&"x".repeat(ID_BYTES_MAX)).unwrap().as_str().len(), ID_BYTES_MAX);
        assert_eq!(Id::new(&"x".repeat(ID_BYTES_MAX + 1)), Err(IdTooLong));
    }
}
