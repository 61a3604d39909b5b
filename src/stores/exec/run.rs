//! Runs a command within a time, and keeps what it prints within a size.

use std::{process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy, sink},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
};

use crate::stores::driver::{DriverError, StillWanted};

/// One that prints more is killed.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;
/// What is kept of its standard error, to be told.
const ERROR_BYTES_MAX: u64 = 1024;

/// A line that asks, rather than being part of the answer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    ask: Question,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Question {
    StillWanted,
}

/// All that it printed, but for questions: these are answered with a line, `yes` or `no`.
pub async fn run(
    command: &[String],
    time_max: Duration,
    wanted: &(dyn StillWanted + '_),
) -> Result<String, DriverError> {
    let [program, arguments @ ..] = command else {
        return Err(DriverError::Failed("no command".to_owned()));
    };
    let failed = |why: String| DriverError::Failed(format!("{program}: {why}"));
    let mut running = Running::start(program, arguments).map_err(|error| failed(error.to_string()))?;
    match tokio::time::timeout(time_max, running.end(wanted)).await {
        Ok(ended) => ended.map_err(failed),
        Err(_) => Err(failed(format!("not done within {time_max:?}, so it was killed"))),
    }
}

/// Killed when it is dropped, with all that it started.
struct Running {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: ChildStderr,
    group: Option<Pid>,
}

impl Running {
    fn start(program: &str, arguments: &[String]) -> std::io::Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let group = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let pipes = child.stdin.take().zip(child.stdout.take()).zip(child.stderr.take());
        let ((stdin, stdout), stderr) = pipes.ok_or(std::io::ErrorKind::BrokenPipe)?;
        Ok(Self { child, stdin, stdout, stderr, group })
    }

    async fn end(&mut self, wanted: &(dyn StillWanted + '_)) -> Result<String, String> {
        let answer = answer(&mut self.stdout, &mut self.stdin, wanted);
        // One that printed too much goes on doing so, and its standard error does not end.
        let complaint = async { Ok(complaint(&mut self.stderr).await) };
        let (said, complaint) = tokio::try_join!(answer, complaint)?;
        let status = self.child.wait().await.map_err(|error| error.to_string())?;
        // It was waited for: its id may belong to another group by now.
        self.group = None;
        if status.success() { Ok(said) } else { Err(format!("{status}: {}", complaint.trim())) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            // One that has just ended is what is wanted.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

async fn answer(
    stdout: &mut ChildStdout,
    stdin: &mut ChildStdin,
    wanted: &(dyn StillWanted + '_),
) -> Result<String, String> {
    let mut lines = BufReader::new(stdout.take(OUTPUT_BYTES_MAX + 1));
    let (mut said, mut bytes) = (String::new(), 0_u64);
    loop {
        let start = said.len();
        let read = lines.read_line(&mut said).await.map_err(|error| error.to_string())?;
        bytes = bytes.saturating_add(read as u64);
        if bytes > OUTPUT_BYTES_MAX {
            return Err(format!("it printed more than {OUTPUT_BYTES_MAX} bytes, so it was killed"));
        }
        if read == 0 {
            return Ok(said);
        }
        let line = said.get(start..).unwrap_or_default();
        if let Ok(Asked { ask: Question::StillWanted }) = serde_json::from_str(line) {
            said.truncate(start);
            let word: &[u8] = if wanted.still_wanted().await { b"yes\n" } else { b"no\n" };
            // One that does not listen goes on as if it had not asked; its answer tells.
            let _ = stdin.write_all(word).await;
        }
    }
}

async fn complaint(stderr: &mut ChildStderr) -> String {
    let mut kept = Vec::new();
    let mut first = stderr.take(ERROR_BYTES_MAX);
    // What can't be read can't be told.
    let _ = first.read_to_end(&mut kept).await;
    let _ = copy(first.into_inner(), &mut sink()).await;
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;

    struct Wanted(bool);

    #[async_trait]
    impl StillWanted for Wanted {
        async fn still_wanted(&self) -> bool {
            self.0
        }
    }

    async fn shell(script: &str, time_max: Duration, wanted: bool) -> Result<String, String> {
        let command = ["sh", "-c", script].map(str::to_owned);
        run(&command, time_max, &Wanted(wanted)).await.map_err(|error| error.to_string())
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_question_is_answered_and_is_no_part_of_the_answer() {
        let script = r#"echo '{"ask":"still-wanted"}'; read word; printf '{\n"done": "%s"}' $word"#;
        assert_eq!(shell(script, LONG, true).await, Ok("{\n\"done\": \"yes\"}".to_owned()));
        assert_eq!(shell(script, LONG, false).await, Ok("{\n\"done\": \"no\"}".to_owned()));
    }

    #[tokio::test]
    async fn what_fails_says_why() {
        let failed = shell("echo what a pity >&2; exit 3", LONG, true).await.unwrap_err();
        assert!(failed.contains("exit status: 3") && failed.contains("what a pity"), "{failed}");
        let command = ["/nowhere/at-all".to_owned()];
        assert!(
            run(&command, LONG, &Wanted(true)).await.unwrap_err().to_string().contains("/nowhere/at-all")
        );
    }

    #[tokio::test]
    async fn one_that_prints_or_takes_too_much_is_killed() {
        let failed = shell("yes", LONG, true).await.unwrap_err();
        assert!(failed.contains("more than 1048576 bytes"), "{failed}");
        let failed = shell("sleep 1000 & sleep 1000", Duration::from_millis(50), true).await.unwrap_err();
        assert!(failed.contains("not done within 50ms"), "{failed}");
        let fits = format!("head -c {OUTPUT_BYTES_MAX} /dev/zero | tr '\\0' 1");
        assert_eq!(shell(&fits, LONG, true).await.map(|said| said.len()), Ok(1 << 20));
    }
}
