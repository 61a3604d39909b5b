//! Cargo, run by a program that cargo runs.

use std::{env, process::Command};

use crate::workspace;

/// What `cargo run` says of the package it runs: build scripts that look at it (ring's does) would see another
/// package than when they ran last, and all that stands on them would be compiled anew, each time.
const OF_A_PACKAGE: [&str; 4] = ["CARGO_BIN_NAME", "CARGO_CRATE_NAME", "CARGO_MANIFEST_", "CARGO_PKG_"];

/// The cargo that runs this program, or else the one on the path, at the root of the workspace.
#[must_use]
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace());
    for (name, _) in env::vars_os() {
        if OF_A_PACKAGE.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command
}
