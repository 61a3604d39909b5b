//! Builds the sidecar of this tree.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use segue_bench::cargo::cargo;
use serde_json::Value;

/// `cargo build --release --bin segue`, with its own messages on stderr; the path of the program.
pub fn sidecar() -> Result<PathBuf> {
    let output = cargo()
        .args(["build", "--release", "--package", "segue", "--bin", "segue"])
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("the sidecar does not build: {}", output.status);
    }
    // One JSON object a line; the last artifact with an executable is the program.
    let text = String::from_utf8_lossy(&output.stdout);
    let executable = |line: &str| -> Option<PathBuf> {
        let message: Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message.get("executable")?.as_str()?))
    };
    text.lines().rev().find_map(executable).context("cargo built the sidecar and named no executable")
}
