//! The Redis replication link between releases.
//!
//! # Layout
//!
//! | module | holds |
//! |---|---|
//! | [`releases`] | the releases by name, what each has, the verdict on a pair |
//! | `session` | one link: the phases from handshake to stream |
//! | `handshake` | what a replica says before its `PSYNC`, and the decision it leads to |
//! | `snapshot` | the snapshot's envelope on the wire |
//! | [`aof`] | append-only files, rewritten as a stream |
//! | [`rdb`] | the snapshot itself, rewritten as a stream |
//! | `stream` | the command stream: rewritten, padded, accounted |
//! | [`rules`] | which command forms another release does not understand, and what says the same |
//! | `changes` | the tables of [`rdb`] and [`rules`], for two releases and a reader |
//! | `offsets` | replica offsets and master offsets |
//! | `saved` | what is kept of a stream between two links |
//! | `resp` | commands on the wire |
//! | `bus` | one connection of the cluster bus |
//!
//! Formats: the Redis serialization protocol, `replication.c` and `rdb.c` of the releases from Redis 5.0 on, and
//! what their servers were seen to send.

pub mod aof;
mod bus;
mod changes;
mod fuzz;
mod handshake;
mod offsets;
pub mod rdb;
pub mod releases;
mod resp;
pub mod rules;
mod saved;
mod session;
mod snapshot;
mod stream;

#[doc(hidden)]
pub use fuzz::{fuzz, fuzz_bus};
use segue_wire::{Change, Hints, Limits, Protocol, Release, Session, Verdict};

/// The protocol `redis`.
#[derive(Debug, Default)]
pub struct Redis;

impl Protocol for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn releases(&self) -> &[Release] {
        &releases::RELEASES
    }

    fn recognize(&self, store: &str, version: &str) -> Option<Release> {
        releases::recognize(store, version)
    }

    fn verdict(&self, from: &Release, to: &Release) -> Verdict {
        releases::verdict(from, to)
    }

    fn changes(&self, from: &Release, to: &Release) -> Vec<Change> {
        changes::changes(from, to)
    }

    fn held_to(&self, before: &Release, to: &Release) -> Option<Release> {
        releases::older(before, to).cloned()
    }

    fn open(&self, hints: Hints, limits: Limits) -> Box<dyn Session> {
        Box::new(session::RedisSession::new(hints, limits))
    }

    fn bus_port_offset(&self) -> Option<u16> {
        Some(10_000)
    }

    fn open_bus(&self, hints: Hints, limits: Limits) -> Option<Box<dyn Session>> {
        Some(Box::new(bus::BusSession::new(hints, limits)))
    }
}
