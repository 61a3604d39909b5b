//! Builds the sidecar of this tree.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// `cargo build --release --bin segue`, with its own messages on stderr; the path of the program.
pub fn sidecar() -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(&cargo)
        .args(["build", "--release", "--package", "segue", "--bin", "segue"])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(segue_bench::workspace())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", cargo.display()))?;
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
