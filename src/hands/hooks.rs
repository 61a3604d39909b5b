//! One run of a hook: a process group of its own, ended at its time limit, its output kept within bounds.

use std::{
    collections::VecDeque,
    future::pending,
    io,
    os::fd::AsFd,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, ChildStderr, ChildStdout, Command},
    time::timeout,
};

/// Lines of a hook's output that are kept: the last ones.
pub const OUTPUT_LINES_MAX: usize = 64;
/// Bytes of one line of it; the rest is cut off, visibly.
pub const OUTPUT_LINE_BYTES_MAX: usize = 512;
/// What a hook started may keep its output open; it is waited for no longer once the hook has ended.
const OUTPUT_GRACE: Duration = Duration::from_millis(200);
/// Between the request to end and the end.
const END_TIME_MAX: Duration = Duration::from_secs(2);
const READ_BYTES: usize = 4096;

/// How it went, and what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Otherwise why not, for a person.
    pub ended: Result<(), String>,
    pub output: Vec<String>,
}

/// Runs a program with its arguments; what it started ends with it if it takes too long, or if nobody waits
/// any more.
pub async fn run(program: &str, arguments: &[String], time_max: Duration) -> Ran {
    let mut command = Command::new(program);
    command.args(arguments).process_group(0).kill_on_drop(true).env_remove("NOTIFY_SOCKET");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            return Ran { ended: Err(format!("{program} can't be run: {error}")), output: Vec::new() };
        }
    };
    let mut group = Group { id: child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)) };
    let mut output = Output::of(&mut child);
    let ended = timeout(time_max, output.until_end(&mut child)).await;
    let ended = match ended {
        Ok(Ok(status)) => outcome(program, status),
        Ok(Err(error)) => Err(format!("{program} can't be waited for: {error}")),
        Err(_) => {
            group.signal(Signal::TERM);
            let _in_time = timeout(END_TIME_MAX, output.until_end(&mut child)).await;
            group.signal(Signal::KILL);
            Err(format!("{program} did not end within {time_max:?}, and was ended"))
        }
    };
    // Whatever it left behind is what it was run for.
    group.id = None;
    let _until_then = timeout(OUTPUT_GRACE, output.until_closed()).await;
    Ran { ended, output: output.finish() }
}

fn outcome(program: &str, status: ExitStatus) -> Result<(), String> {
    if status.success() { Ok(()) } else { Err(format!("{program} ended with {status}")) }
}

/// What it says, by both ways.
struct Output {
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    lines: Lines,
}

impl Output {
    fn of(child: &mut Child) -> Self {
        Self { stdout: child.stdout.take(), stderr: child.stderr.take(), lines: Lines::default() }
    }

    async fn until_end(&mut self, child: &mut Child) -> io::Result<ExitStatus> {
        loop {
            tokio::select! {
                ended = child.wait() => return ended,
                () = self.take_next() => {}
            }
        }
    }

    async fn until_closed(&mut self) {
        while self.stdout.is_some() || self.stderr.is_some() {
            self.take_next().await;
        }
    }

    async fn take_next(&mut self) {
        let [mut out, mut err] = [[0; READ_BYTES]; 2];
        let said = tokio::select! {
            said = next(&mut self.stdout, &mut out) => said,
            said = next(&mut self.stderr, &mut err) => said,
        };
        self.lines.take(said);
    }

    /// With what is in the pipes by now: of what the hook itself said nothing is lost, however late it is read.
    fn finish(mut self) -> Vec<String> {
        let pipes = [self.stdout.as_ref().map(AsFd::as_fd), self.stderr.as_ref().map(AsFd::as_fd)];
        let mut buffer = [0; READ_BYTES];
        for pipe in pipes.into_iter().flatten() {
            let mut left = usize::try_from(rustix::io::ioctl_fionread(pipe).unwrap_or(0)).unwrap_or(0);
            while left > 0 {
                let part = buffer.get_mut(..left.min(READ_BYTES)).unwrap_or_default();
                let Ok(count @ 1..) = rustix::io::retry_on_intr(|| rustix::io::read(pipe, &mut *part)) else {
                    break;
                };
                self.lines.take(part.get(..count).unwrap_or_default());
                left = left.saturating_sub(count);
            }
        }
        self.lines.finish()
    }
}

/// What comes next; nothing does once it is closed.
async fn next<'a>(output: &mut Option<impl AsyncRead + Unpin>, buffer: &'a mut [u8]) -> &'a [u8] {
    let Some(open) = output else { return pending().await };
    let count = open.read(buffer).await.unwrap_or(0);
    if count == 0 {
        *output = None;
    }
    buffer.get(..count).unwrap_or_default()
}

/// Ended when it is dropped.
struct Group {
    id: Option<Pid>,
}

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(id) = self.id {
            // One that is gone is what is wanted.
            let _gone = kill_process_group(id, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// The last lines of an output.
#[derive(Default)]
struct Lines {
    kept: VecDeque<String>,
    left_out: usize,
    open: Vec<u8>,
    cut: bool,
}

impl Lines {
    fn take(&mut self, chunk: &[u8]) {
        for byte in chunk {
            match byte {
                b'\n' => self.end_line(),
                _ if self.open.len() < OUTPUT_LINE_BYTES_MAX => self.open.push(*byte),
                _ => self.cut = true,
            }
        }
    }

    fn end_line(&mut self) {
        let mut line = String::from_utf8_lossy(&std::mem::take(&mut self.open)).trim_end().to_owned();
        if std::mem::take(&mut self.cut) {
            line.push_str(" … (cut off)");
        }
        if self.kept.len() >= OUTPUT_LINES_MAX {
            self.kept.pop_front();
            self.left_out += 1;
        }
        self.kept.push_back(line);
    }

    fn finish(mut self) -> Vec<String> {
        if !self.open.is_empty() {
            self.end_line();
        }
        let left_out = match self.left_out {
            0 => None,
            left_out => Some(format!("… ({left_out} lines before these are left out)")),
        };
        left_out.into_iter().chain(self.kept).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    async fn shell(script: &str, time_max: Duration) -> Ran {
        run("/bin/sh", &["-c".to_owned(), script.to_owned()], time_max).await
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn what_it_says_is_kept_with_how_it_ended() {
        let ran = shell("echo one; echo two >&2; exit 3", LONG).await;
        assert_eq!(ran.ended, Err("/bin/sh ended with exit status: 3".to_owned()));
        let mut output = ran.output;
        output.sort();
        assert_eq!(output, ["one", "two"]);
    }

    #[tokio::test]
    async fn much_output_is_cut_and_says_so() {
        let ran = shell("seq 1 1000; printf %9999d 1", LONG).await;
        assert_eq!(ran.ended, Ok(()));
        assert_eq!(ran.output.len(), OUTPUT_LINES_MAX + 1);
        assert_eq!(ran.output[0], "… (937 lines before these are left out)");
        assert_eq!(ran.output[OUTPUT_LINES_MAX - 1], "1000");
        let last = &ran.output[OUTPUT_LINES_MAX];
        assert!(last.ends_with(" … (cut off)") && last.len() < OUTPUT_LINE_BYTES_MAX + 32, "{last}");
    }

    #[tokio::test]
    async fn one_that_hangs_is_ended_with_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let script = format!("trap '' TERM; sleep 1000 & echo $! > {}; wait; sleep 1000", pid.display());
        let mut time_max = Duration::from_millis(500);
        let child = loop {
            let ran = shell(&script, time_max).await;
            assert_eq!(ran.ended, Err(format!("/bin/sh did not end within {time_max:?}, and was ended")));
            let child = std::fs::read_to_string(&pid).unwrap_or_default();
            if !child.is_empty() {
                break child;
            }
            // It was ended before it had got so far.
            time_max *= 2;
            assert!(time_max < LONG, "it starts nothing");
        };
        let gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        };
        let begun = Instant::now();
        while !gone() && begun.elapsed() < LONG {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(gone(), "what the hook started still runs");
    }

    #[tokio::test]
    async fn what_it_leaves_behind_is_not_waited_for() {
        let ran = shell("sleep 5 & echo started", LONG).await;
        assert_eq!(ran, Ran { ended: Ok(()), output: vec!["started".to_owned()] });
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let ran = run("/nowhere/redis-upgrade", &[], LONG).await;
        let why = ran.ended.unwrap_err();
        assert!(why.starts_with("/nowhere/redis-upgrade can't be run: No such file"), "{why}");
    }
}
