//! `segue convert`: the snapshot translator on an RDB file.
//!
//! | module | holds |
//! |---|---|
//! | here | the command: work on a thread of its own, signals, the report |
//! | `rewrite` | bytes from IN through the translator to OUT |
//! | `output` | OUT: whole or not at all |
//! | `tally` | losses by kind |

mod output;
mod rewrite;
mod tally;

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
    thread,
};

use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use segue_redis::releases::rdb_target;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

use self::{
    output::Output,
    rewrite::{Job, Rewritten},
};
use super::{ConvertArgs, Exit, Failure};

/// Rewrites IN for a release into OUT. Ctrl-c and SIGTERM end it, and leave OUT as it was.
///
/// # Errors
/// A release that is not known; IN or OUT that cannot be used; content that is damaged, or that the
/// release cannot represent where that is to be refused. OUT is as it was then, unless it is `-`.
pub async fn run(args: &ConvertArgs) -> Result<(), Failure> {
    let target = rdb_target(&args.to).ok_or_else(|| Failure {
        exit: Exit::Usage,
        message: format!("segue: --to {}: segue knows no RDB format of this release", args.to),
    })?;
    let mut interrupts = Interrupts::listen().map_err(Failure::failed)?;
    let (input, input_bytes) = open(&args.input)?;
    let (output, writer) = Output::create(&args.output, &args.input)?;
    let progress = progress_bar(input_bytes);
    let job = Job { target, policy: args.loss.into(), input, writer, progress: progress.clone() };

    // A thread and not a task: a blocked read of a pipe must not outlive a signal.
    let (done, outcome) = oneshot::channel();
    thread::spawn(move || done.send(job.run()));
    let outcome = tokio::select! {
        outcome = outcome => outcome.unwrap_or_else(|_| Err(Failure::failed("the translator's thread ended early"))),
        () = interrupts.next() => Err(Failure::failed("interrupted")),
    };
    progress.finish_and_clear();
    let rewritten = outcome.map_err(|failure| output.after(failure))?;
    output.keep()?;
    report(args, &rewritten);
    Ok(())
}

/// What is read, and its length where that is known.
fn open(path: &Path) -> Result<(Box<dyn Read + Send>, Option<u64>), Failure> {
    if path == Path::new("-") {
        return Ok((Box::new(io::stdin()), None));
    }
    let unreadable = |e| Failure::failed(format_args!("cannot read {}: {e}", path.display()));
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    Ok((Box::new(file), metadata.is_file().then_some(metadata.len())))
}

/// On stderr, and only where that is a terminal.
fn progress_bar(input_bytes: Option<u64>) -> ProgressBar {
    let template = match input_bytes {
        Some(_) => "{bar:40} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left",
        None => "{spinner} {binary_bytes}, {binary_bytes_per_sec}",
    };
    let bar = ProgressBar::with_draw_target(input_bytes, ProgressDrawTarget::stderr());
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Heard from before there is a file to clean up.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// On stderr: stdout may be OUT.
fn report(args: &ConvertArgs, rewritten: &Rewritten) {
    let Rewritten { read_bytes, written_bytes, losses } = rewritten;
    let (read, written) = (BinaryBytes(*read_bytes), BinaryBytes(*written_bytes));
    let out = args.output.display();
    let _unwritable = write!(io::stderr(), "{out}: {written} for {}, from {read}\n{losses}", args.to);
}

#[cfg(test)]
mod tests;
