//! Segue, a sidecar that translates a storage cluster's inter-node link between releases.
//!
//! # Layout, from the lowest floor up
//!
//! A module imports only from lower floors; `tests/floors.rs` keeps it so.
//!
//! | floor | module | holds |
//! |---|---|---|
//! | 2 | [`status`] | what the sidecar says of itself, as plain data |
//! | 2 | [`config`] | the config file, checked |
//! | 2 | [`durable`] | small files that are whole or not there |
//! | 2 | [`losses`] | the loss report |
//! | 2 | [`streams`] | saved stream state |
//! | 2 | [`tls`] | TLS on links: keys, handshakes, streams |
//! | 3 | [`intercept`] | the kernel's rules: planned, put in place, taken away |
//! | 3 | [`net`] | sockets |
//! | 3 | [`stores`] | what the sidecar asks of a store |
//! | 3 | [`peers`] | who stands at an address, and which release it speaks |
//! | 4 | [`relay`] | links: accepted, given to a session, pumped |
//! | 4 | [`cluster`] | one state that all sidecars agree on |
//! | 5 | [`upgrade`] | the upgrade of a whole cluster, as one transaction; pure |
//! | 6 | [`hands`] | what a sidecar does for a transaction: leads it, and works on its own node |
//! | 7 | [`admin`] | the HTTP API and the metrics endpoint |
//! | 8 | [`cli`], [`registry`], [`sidecar`] | the commands, the translators by name, the wiring |

pub mod admin;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod durable;
pub mod hands;
pub mod intercept;
pub mod losses;
pub mod net;
pub mod peers;
pub mod registry;
pub mod relay;
pub mod seldom;
pub mod sidecar;
pub mod status;
pub mod stores;
pub mod streams;
pub mod tls;
pub mod upgrade;
