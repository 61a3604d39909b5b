//! The lab: real store binaries, local clusters, load, an independent reader, and what `cargo demo` and
//! `cargo verify` are made of.

pub mod authority;
pub mod cargo;
pub mod child;
pub mod client;
pub mod clients;
mod command;
pub mod data;
pub mod forms;
pub mod load;
pub mod netns;
pub mod peers;
pub mod port;
pub mod progress;
pub mod reader;
pub mod server;
pub mod sidecar;
pub mod stores;
pub mod writers;

use std::path::PathBuf;

/// The root folder of the workspace.
#[must_use]
pub fn workspace() -> PathBuf {
    let bench = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    bench.parent().map(PathBuf::from).unwrap_or(bench)
}
