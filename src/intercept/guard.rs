//! Knows when the sidecar is gone, however it went: a file that each running sidecar holds locked, shared.
//! The kernel frees the lock of a process that ends, even by SIGKILL; so the guard, which asks for it alone,
//! gets it when there is no sidecar left, and not while one hands over to the next.

use std::{
    fs::{File, TryLockError},
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use super::{InterceptError, Plan, remove};
use crate::config::{Config, OnFailure};

const LOCK_FILE: &str = "intercept.lock";

/// Held as long as this process runs.
#[derive(Debug)]
pub struct Running {
    _locked: File,
}

impl Running {
    /// # Errors
    /// The state folder can't be written; the lock is not to be had.
    pub fn announce(state_dir: &Path) -> Result<Self, InterceptError> {
        let (path, file) = open(state_dir)?;
        file.lock_shared().map_err(|error| InterceptError::Io(shown(&path), error))?;
        Ok(Self { _locked: file })
    }
}

/// To be called by a sidecar that starts: announces it, and starts its guard where there is one to be. `None`
/// where nothing is intercepted.
///
/// # Errors
/// As [`Running::announce`]; the guard can't be started.
pub fn watched(config: &Config, program: &Path, file: &Path) -> Result<Option<Running>, InterceptError> {
    let Some(intercept) = &config.intercept else { return Ok(None) };
    let running = Running::announce(&config.state.dir)?;
    if intercept.on_failure == OnFailure::Open {
        let mut guard = start(program, file)
            .map_err(|error| InterceptError::Io(format!("{} intercept guard", program.display()), error))?;
        let wait = move || {
            let ended = guard.wait();
            tracing::warn!(
                ?ended,
                "the guard of the interception rules is gone: if the sidecar dies, they stay"
            );
        };
        let waiting = thread::Builder::new().name("guard".to_owned()).spawn(wait);
        waiting.map_err(|error| InterceptError::Io("a thread for the guard".to_owned(), error))?;
    }
    Ok(Some(running))
}

/// Waits until no sidecar of this state folder runs, then removes its rules. To be started while one does.
///
/// # Errors
/// As [`remove`], and of the lock file.
pub fn guard(plan: &Plan, state_dir: &Path) -> Result<(), InterceptError> {
    let (path, file) = open(state_dir)?;
    file.lock().map_err(|error| InterceptError::Io(shown(&path), error))?;
    remove(plan)
}

/// Is there a sidecar?
///
/// # Errors
/// Of the lock file.
pub fn is_running(state_dir: &Path) -> Result<bool, InterceptError> {
    let (path, file) = open(state_dir)?;
    match file.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(InterceptError::Io(shown(&path), error)),
    }
}

/// Starts `<program> intercept guard --config <config>` in a process group of its own, which a ctrl-c for the
/// sidecar does not reach.
fn start(program: &Path, config: &Path) -> io::Result<Child> {
    Command::new(program)
        .args(["intercept", "guard", "--config"])
        .arg(config)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
}

fn open(state_dir: &Path) -> Result<(PathBuf, File), InterceptError> {
    let path = state_dir.join(LOCK_FILE);
    let opened = std::fs::create_dir_all(state_dir)
        .and_then(|()| File::options().create(true).truncate(false).write(true).open(&path));
    let file = opened.map_err(|error| InterceptError::Io(shown(&path), error))?;
    Ok((path, file))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sidecar_is_seen_until_the_last_one_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_running(folder.path()).unwrap());
        let old = Running::announce(folder.path()).unwrap();
        let new = Running::announce(folder.path()).unwrap();
        drop(old);
        assert!(is_running(folder.path()).unwrap());
        drop(new);
        assert!(!is_running(folder.path()).unwrap());
    }
}
