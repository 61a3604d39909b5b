//! Runs the outside programs of a fetch: time-limited, tried again a bounded number of times, and failing
//! with a message that names the step, the command and the end of what it said.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

/// How often a step that needs the network is tried.
pub const STEP_TRIES_MAX: u32 = 6;
/// How long one try may take before it is ended: a slow line, not a dead one, which the programs notice themselves.
pub const STEP_TIME_MAX: Duration = Duration::from_secs(600);
/// A step that has taken this long in all is not tried again.
const TRIES_TIME_MAX: Duration = Duration::from_secs(900);
/// After the first try, and twice as long after each one more: a mirror that has too much to do, or is itself
/// being brought up to date, needs a minute.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
const STDERR_TAIL_LINES: usize = 8;

/// Runs a command once; its standard output on success.
pub fn run(step: &str, command: &mut Command) -> Result<String> {
    let shown = show(command);
    attempt(command).with_context(|| format!("{step}: `{shown}` failed"))
}

/// Runs what `make` makes until it succeeds, at most [`STEP_TRIES_MAX`] times.
pub fn run_retried(step: &str, make: impl FnMut() -> Command) -> Result<String> {
    run_with_pauses(step, make, FIRST_PAUSE)
}

fn run_with_pauses(step: &str, mut make: impl FnMut() -> Command, first_pause: Duration) -> Result<String> {
    let (begun, mut pause) = (Instant::now(), first_pause);
    let mut tries = 1;
    loop {
        match run(step, &mut make()) {
            Ok(output) => return Ok(output),
            Err(_) if tries < STEP_TRIES_MAX && begun.elapsed() < TRIES_TIME_MAX => {
                tries += 1;
                thread::sleep(pause);
                pause = pause.saturating_mul(2);
            }
            Err(error) => return Err(error.context(format!("given up after {tries} tries"))),
        }
    }
}

fn attempt(command: &mut Command) -> Result<String> {
    // Files and not pipes: a full pipe that nobody reads would stop the child for ever.
    let mut stdout = tempfile::tempfile()?;
    let mut stderr = tempfile::tempfile()?;
    let mut child = command
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?)
        .spawn()
        .context("it cannot be started")?;
    let deadline = Instant::now() + STEP_TIME_MAX;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            bail!("ended after {} s without a result: {}", STEP_TIME_MAX.as_secs(), tail(&mut stderr)?);
        }
        thread::sleep(POLL_INTERVAL);
    };
    if !status.success() {
        return Err(anyhow!("{status}; it said last: {}", tail(&mut stderr)?));
    }
    read_from_start(&mut stdout)
}

fn tail(file: &mut File) -> Result<String> {
    let text = read_from_start(file)?;
    let lines: Vec<&str> = text.lines().collect();
    let start = lines.len().saturating_sub(STDERR_TAIL_LINES);
    let tail = lines.get(start..).unwrap_or_default().join("\n");
    Ok(if tail.is_empty() { "(nothing)".to_owned() } else { tail })
}

fn read_from_start(file: &mut File) -> Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Removes a folder that may be absent.
pub fn remove_folder(path: &std::path::Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_step_command_and_what_it_said() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo one >&2; echo two >&2; exit 7"]);
        let error = format!("{:#}", run("unpack the thing", &mut command).unwrap_err());
        for part in ["unpack the thing", "sh -c", "exit status: 7", "one\ntwo"] {
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
    }

    #[test]
    fn a_step_that_fails_is_tried_again_so_often_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let tried = folder.path().join("tried");
        let until = |wanted: u32| {
            fs::write(&tried, "").unwrap();
            let script = format!(r#"echo x >> "$0"; [ "$(wc -l < "$0")" -ge {wanted} ] && echo done"#);
            let make = || {
                let mut command = Command::new("sh");
                command.args(["-c", &script]).arg(&tried);
                command
            };
            let ended = run_with_pauses("ask the mirror", make, Duration::from_millis(1));
            (ended, u32::try_from(fs::read_to_string(&tried).unwrap().lines().count()).unwrap())
        };
        for wanted in [1, 3, STEP_TRIES_MAX] {
            let (ended, tries) = until(wanted);
            assert_eq!((ended.unwrap().as_str(), tries), ("done\n", wanted));
        }
        let (ended, tries) = until(STEP_TRIES_MAX + 1);
        let error = format!("{:#}", ended.unwrap_err());
        let given_up = format!("given up after {STEP_TRIES_MAX} tries: ask the mirror: `sh -c");
        assert!(error.starts_with(&given_up), "{error}");
        assert_eq!(tries, STEP_TRIES_MAX);
    }

    #[test]
    fn output_longer_than_a_pipe_does_not_hang() {
        let mut command = Command::new("sh");
        command.args(["-c", "head -c 300000 /dev/zero | tr '\\0' x"]);
        assert_eq!(run("long output", &mut command).unwrap().len(), 300_000);
    }
}
