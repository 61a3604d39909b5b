//! Carries a plan out with nft(8) and ip(8), and undoes it. Both may be done again at any time.

use std::{
    io::{self, Write},
    process::{Command, Output, Stdio},
};

use super::Plan;

#[derive(Debug, thiserror::Error)]
pub enum InterceptError {
    #[error("there is no {program}; on Debian it is in the package {package}")]
    Missing { program: &'static str, package: &'static str },
    #[error("cannot run {program}: {error}")]
    NotRun { program: &'static str, error: io::Error },
    /// What was asked, and the program's own words.
    #[error("{command}: {said}")]
    Failed { command: String, said: String },
    #[error("{0}: {1}")]
    Io(String, io::Error),
}

/// Puts the plan in place of whatever an earlier one of this node left. Routes come first, so that no packet
/// is marked for a route that is not there.
///
/// # Errors
/// No `nft` or `ip`, no leave to use them (root or CAP_NET_ADMIN), rules that this kernel can't do; then the
/// rules are as they were before.
pub fn install(plan: &Plan) -> Result<(), InterceptError> {
    for arguments in plan.routes() {
        match ip(&arguments) {
            Err(InterceptError::Failed { said, .. }) if said.contains("File exists") => {}
            other => drop(other?),
        }
    }
    nft(&["-f", "-"], &plan.ruleset()).map(drop)
}

/// Takes away all that [`install`] put there, all or in part; nothing at all is fine too.
///
/// # Errors
/// As [`install`]. What could be removed is.
pub fn remove(plan: &Plan) -> Result<(), InterceptError> {
    let removed = nft(&["-f", "-"], &plan.removal()).map(drop);
    let routes_removed = plan.route_removals().iter().try_for_each(|arguments| match ip(arguments) {
        Err(InterceptError::Failed { said, .. }) if is_absent(&said) => Ok(()),
        other => other.map(drop),
    });
    removed.and(routes_removed)
}

/// No rule (ENOENT), no route (ESRCH), no routing table.
fn is_absent(said: &str) -> bool {
    ["No such file or directory", "No such process", "FIB table does not exist"]
        .iter()
        .any(|absent| said.contains(absent))
}

/// The standard output of `nft` with these arguments and this input.
pub(super) fn nft(arguments: &[&str], input: &str) -> Result<String, InterceptError> {
    let mut command = Command::new("nft");
    run(command.args(arguments), "nft", "nftables", input)
}

pub(super) fn ip(arguments: &[String]) -> Result<String, InterceptError> {
    let mut command = Command::new("ip");
    run(command.args(arguments), "ip", "iproute2", "")
}

fn run(
    command: &mut Command,
    program: &'static str,
    package: &'static str,
    input: &str,
) -> Result<String, InterceptError> {
    let not_run = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => InterceptError::Missing { program, package },
        _ => InterceptError::NotRun { program, error },
    };
    command.env("LC_ALL", "C").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(not_run)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read to the end says why by itself.
        let _unread = stdin.write_all(input.as_bytes());
    }
    let Output { status, stdout, stderr } = child.wait_with_output().map_err(not_run)?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let arguments: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let said = String::from_utf8_lossy(&stderr).trim().to_owned();
    let said = if said.is_empty() { status.to_string() } else { said };
    Err(InterceptError::Failed { command: format!("{program} {}", arguments.join(" ")), said })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<String, InterceptError> {
        run(Command::new("sh").args(["-c", script]), "sh", "dash", "input\n")
    }

    #[test]
    fn a_program_reads_and_is_read() {
        assert_eq!(shell("cat").unwrap(), "input\n");
    }

    #[test]
    fn a_failure_is_in_the_programs_own_words() {
        let error = shell("echo wrong >&2; exit 3").unwrap_err();
        assert_eq!(error.to_string(), "sh -c echo wrong >&2; exit 3: wrong");
        assert_eq!(shell("exit 3").unwrap_err().to_string(), "sh -c exit 3: exit status: 3");
    }

    #[test]
    fn a_missing_program_is_told_with_its_package() {
        let error = run(&mut Command::new("/nonexistent"), "nft", "nftables", "").unwrap_err();
        assert_eq!(error.to_string(), "there is no nft; on Debian it is in the package nftables");
    }
}
