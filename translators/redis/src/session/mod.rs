//! One replication link between two releases.
//!
//! ```text
//!            dialer (replica)                        listener (master)
//! Handshake  PING, AUTH, REPLCONF …          ->      one line each
//!            PSYNC id offset                 ->      (offset mapped, or a full sync asked for)
//! Asked                                      <-      +FULLRESYNC id offset | +CONTINUE [id]
//! Snapshot                                   <-      $<len> or $EOF:<mark>, the snapshot rewritten
//! Loading    REPLCONF ACK                    ->      (nothing of the stream before this)
//! Streaming  REPLCONF ACK offset (mapped)    ->
//!                                            <-      commands, rewritten and padded
//! ```
//!
//! The replica hears the master's id of the stream as long as it counts as its master does. Where the counts
//! would part, the link ends; when the replica dials again, it is told an id of its own to go on by.
//!
//! A dialer that says anything else is a client of the store: its bytes pass unchanged, unless it is another
//! store that migrates keys.
//!
//! Of two sidecars on one link the one at the master's end translates. The other, at the replica's end,
//! asks for it before it would itself: `REPLCONF segue 1`, to which a sidecar that will see to the link
//! answers `+SEGUE 1`, and any store with an error.
//!
//! A snapshot may come on a connection of its own: then two sessions carry one sync (`apart`).
//!
//! | module | holds |
//! |---|---|
//! | here | the phases, and what a session keeps |
//! | `replica` | the dialer's bytes |
//! | `begin` | `PSYNC`: the link's fate |
//! | `master` | the listener's bytes |
//! | `apart` | a snapshot on a connection of its own |
//! | `client` | another store's `RESTORE`s |

mod apart;
mod begin;
mod client;
mod master;
mod replica;

use bytes::{Bytes, BytesMut};
use segue_wire::{
    Answer, Effects, End, Fault, FaultKind, Flow, Hints, Limits, Refusal, Session, Side, StreamKey,
};

use apart::{Apart, Offered, SnapshotAt};
use client::Client;

use crate::{
    handshake::{self, Announced, Decision},
    offsets::OffsetMap,
    releases::Pair,
    resp::{Collect, Command},
    saved::Saved,
    snapshot::Snapshot,
    stream::{Course, Stream},
};

const REPLICA: Side = Side::Dialer;
const MASTER: Side = Side::Listener;

pub struct RedisSession {
    hints: Hints,
    limits: Limits,
    announced: Announced,
    /// Replica and master, once asked for.
    ends: Option<(End, End)>,
    /// What was saved of the stream that the replica asks for; for the replica, for the master.
    saved: Option<(Option<Saved>, Option<Saved>)>,
    refuse_early: Option<Refusal>,
    /// What the connection of the stream offered, where this one is for the snapshot alone.
    joined: Option<Offered>,
    /// What the connection of the snapshot says, where this one is for the stream.
    told: Option<Result<SnapshotAt, Refusal>>,
    /// The replica does not have the snapshot yet that comes on another connection.
    apart: Option<Apart>,
    /// Another sidecar's word that it sees to this link, once asked for.
    peer_translates: Option<bool>,
    waiting: bool,
    collect: Collect,
    /// A command of the dialer's that waits for an answer.
    pending: Option<(Bytes, Command)>,
    phase: Phase,
    /// Bytes taken from the dialer and from the listener.
    taken: [u64; 2],
    spoiled: bool,
}

enum Phase {
    Handshake {
        replies_due: u64,
        in_line: bool,
    },
    /// Does a sidecar at the master's end translate?
    AskedPeer,
    Asked {
        pair: Pair,
        resume: Option<Resume>,
    },
    /// Likewise, on a link that is not rewritten; what is known of the replica's stream then no longer holds.
    AskedAnew {
        spent: Vec<StreamKey>,
    },
    Announced {
        pair: Pair,
        course: Course,
        offset: u64,
    },
    Snapshot {
        snapshot: Box<Snapshot>,
        pair: Pair,
        course: Course,
        offset: u64,
    },
    /// The snapshot comes on another connection, and says where this one's stream begins.
    AwaitsStream {
        pair: Pair,
        branch: Option<String>,
    },
    Loading(Box<Stream>),
    Streaming(Box<Stream>),
    /// The counts would part here, once the replica has the snapshot that comes on another connection.
    Parting(Box<Stream>),
    /// The dialer is a client, and may be a store.
    Client(Box<Client>),
    Over,
}

/// A partial resync that was asked for.
struct Resume {
    /// The master's id of the stream.
    trunk: String,
    map: OffsetMap,
    begun: Begun,
    incomplete: bool,
}

/// How far a replica had come that wants to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Begun {
    /// It counts as its master does.
    Trunk,
    /// It does as yet, but the next command will part them.
    Parting,
    /// It follows this branch; whose it is.
    Branch { id: String, follower: String },
}

impl RedisSession {
    pub fn new(hints: Hints, limits: Limits) -> Self {
        Self {
            hints,
            limits,
            announced: Announced::default(),
            ends: None,
            saved: None,
            refuse_early: None,
            joined: None,
            told: None,
            apart: None,
            peer_translates: None,
            waiting: false,
            collect: Collect::default(),
            pending: None,
            phase: Phase::Handshake { replies_due: 0, in_line: false },
            taken: [0; 2],
            spoiled: false,
        }
    }
}

// === impl Session ===

impl Session for RedisSession {
    fn feed(&mut self, from: Side, input: &mut BytesMut, out: &mut Effects) -> Result<Flow, Fault> {
        if self.waiting {
            return Ok(Flow::Hold);
        }
        let before = input.len();
        let flow = match from {
            Side::Dialer => self.take_from_dialer(input, out),
            Side::Listener => self.take_from_listener(input, out),
        };
        let taken = &mut self.taken[usize::from(from == Side::Listener)];
        *taken += (before - input.len()) as u64;
        let position = *taken;
        flow.map_err(|kind| {
            self.spoiled |= !matches!(kind, FaultKind::Refused(_));
            Fault { kind, side: from, position }
        })
    }

    fn answer(&mut self, answer: Answer, out: &mut Effects) -> Result<(), Fault> {
        self.waiting = false;
        match answer {
            Answer::Ends { dialer, listener, refuse_early, joined } => {
                self.ends = Some((dialer, listener));
                self.refuse_early = refuse_early;
                self.joined = joined.and_then(|offered| Offered::decode(&offered));
            }
            Answer::Told(told) => {
                self.hear(told.and_then(|told| SnapshotAt::decode(&told)), out);
            }
            Answer::Stores { dialer, listener, .. } => self.client_is(Some((dialer, listener))),
            Answer::NoStore => self.client_is(None),
            Answer::OwnOffsets(_) => {}
            Answer::Stream { dialer, listener } => {
                let decode = |saved: Bytes| Saved::decode(&saved, self.limits.offset_marks_max);
                self.saved = Some((dialer.map(decode), listener.map(decode)));
            }
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Effects) {
        if let Phase::Loading(stream) | Phase::Streaming(stream) | Phase::Parting(stream) =
            std::mem::replace(&mut self.phase, Phase::Over)
        {
            if self.spoiled {
                stream.spoil(out);
            } else {
                stream.save(out);
            }
        }
    }

    fn held_bytes(&self) -> usize {
        match &self.phase {
            Phase::Snapshot { snapshot, .. } => snapshot.held_bytes(),
            _ => self.pending.as_ref().map_or(0, |(raw, _)| raw.len()),
        }
    }
}

// === what all phases use ===

impl RedisSession {
    /// What the wire told outranks what was asked.
    fn decision(&self) -> Option<Decision> {
        let (dialer, listener) = self.ends.as_ref()?;
        let release = self.announced.release().or_else(|| dialer.release.clone());
        Some(handshake::decide(&self.hints, &End { release, ..dialer.clone() }, listener))
    }

    fn follower(&self) -> String {
        self.ends.as_ref().map(|(dialer, _)| dialer.name.to_string()).unwrap_or_default()
    }

    /// The state of the master's own stream, for this replica.
    fn trunk_key(&self, stream: String) -> StreamKey {
        StreamKey { stream, follower: self.follower() }
    }

    /// Nothing more can be told from `input` yet: is there room to wait?
    fn bounded(&self, input: &BytesMut) -> Result<Flow, FaultKind> {
        let max = self.limits.handshake_bytes_max;
        if input.len() < max {
            return Ok(Flow::More);
        }
        Err(FaultKind::TooLarge { what: "a line of the handshake", limit: "handshake_bytes_max", max })
    }
}
