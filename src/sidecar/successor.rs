//! The process that takes over on SIGUSR2: this program again, by the path and arguments it was started
//! with, so that an upgraded file is what starts.

use std::{ffi::OsString, path::PathBuf, process::Stdio};

use tokio::process::Command;

use super::takeover::READY_TIME_MAX;

const TAKEOVER: &str = "--takeover";

/// How this process was started.
#[derive(Clone, Debug)]
pub struct Program {
    pub path: PathBuf,
    /// Without the program's own name.
    pub arguments: Vec<OsString>,
}

/// Starts the successor and watches it until it has taken over (then this is cancelled), has failed, or
/// its time is up.
pub async fn start(program: Program) {
    let mut command = Command::new(&program.path);
    command.args(&program.arguments).stdin(Stdio::null());
    if !program.arguments.iter().any(|argument| argument == TAKEOVER) {
        command.arg(TAKEOVER);
    }
    let mut successor = match command.spawn() {
        Ok(successor) => successor,
        Err(error) => {
            tracing::error!(program = %program.path.display(), %error, "no successor could be started");
            return;
        }
    };
    tracing::info!(pid = successor.id(), program = %program.path.display(), "successor started");
    match tokio::time::timeout(READY_TIME_MAX, successor.wait()).await {
        Ok(Ok(status)) => {
            tracing::error!(%status, "the successor failed, as it says above: this process goes on");
        }
        Ok(Err(error)) => tracing::error!(%error, "the successor can't be watched"),
        Err(_) => {
            tracing::error!("the successor is not ready in {READY_TIME_MAX:?}: this process goes on");
            if let Err(error) = successor.kill().await {
                tracing::error!(%error, "the successor can't be ended");
            }
        }
    }
}
