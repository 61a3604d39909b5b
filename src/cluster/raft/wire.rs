//! What members say to each other: requests over HTTP, bodies in JSON, all of it bounded.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::types::Id;

/// Most bytes of an entry that is proposed.
pub const ENTRY_BYTES_MAX: usize = 256 << 10;
/// Most bytes of a node's word.
pub const WORD_BYTES_MAX: usize = 256 << 10;
/// Bytes of a snapshot that are sent at once: some four times as many in JSON.
pub const CHUNK_BYTES_MAX: u64 = 128 << 10;
/// Most bytes of a snapshot that is taken in.
pub const SNAPSHOT_BYTES_MAX: u64 = 64 << 20;
/// Most bytes of a request or an answer: an entry in JSON may take twice its bytes.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Most bytes of a request's head.
pub const HEADER_BYTES_MAX: usize = 16 << 10;

/// How long a TLS handshake may take.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a connection may take to open.
pub const DIAL_TIME_MAX: Duration = Duration::from_secs(2);
/// How long a body may take from its first byte to its last.
pub const BODY_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a connection may be idle.
pub const IDLE_TIME_MAX: Duration = Duration::from_secs(30);
/// How long an answer to a hello may take.
pub const HELLO_TIME_MAX: Duration = Duration::from_secs(2);

/// Who asks.
pub const NODE_HEADER: &str = "segue-node";
/// Which mesh the asking node is a member of, where it is of one.
pub const MESH_HEADER: &str = "segue-mesh";

pub const APPEND: &str = "/append";
pub const SNAPSHOT: &str = "/snapshot";
pub const VOTE: &str = "/vote";
pub const HELLO: &str = "/hello";
pub const PROPOSE: &str = "/propose";
pub const ELECT: &str = "/elect";
/// Its body is the word; its age follows, in milliseconds.
pub const WORD: &str = "/word/";

/// Said every now and then to every member, and answered with the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// It is a member of a mesh that was begun, this one.
    pub mesh: Option<u64>,
    /// Whom its config has as members.
    pub members: Vec<Id>,
    /// Those of them that vote.
    pub voters: Vec<Id>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Proposal {
    pub entry: String,
    /// How long its node waits for the answer.
    pub time_max_ms: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proposed {
    /// As the entry of this index, with the machine's answer.
    Agreed {
        index: u64,
        answer: String,
    },
    /// It was not taken; another leads, or nobody.
    NotLeader {
        leader: Option<Id>,
    },
    NoMajority(String),
    TimedOut,
    Failed(String),
}

/// Whether the node leads now.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Elected(pub bool);
