//! `segue convert`: the translator on an RDB file or an AOF.
//!
//! | module | holds |
//! |---|---|
//! | here | the command: what is to be done, on a thread of its own, signals, the report |
//! | `source` | IN: a file, or a folder with a manifest |
//! | `rewrite` | bytes from IN through the translator to OUT |
//! | `output` | OUT: whole or not at all |
//! | `tally` | losses by kind |

mod output;
mod rewrite;
mod source;
mod tally;

use std::{
    io::{self, Write},
    thread,
};

use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use segue_redis::{
    aof::{self, Layout},
    rdb,
    releases::{rdb_target, verdict},
};
use segue_wire::{Limits, Release, Verdict};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

use self::{
    output::{Output, Sink},
    rewrite::{Job, Rewritten, Work},
    source::Source,
};
use super::{ConvertArgs, Exit, Failure};

/// Rewrites IN for a release into OUT. Ctrl-c and SIGTERM end it, and leave OUT as it was.
///
/// # Errors
/// A release that is not known; IN or OUT that cannot be used; content that is damaged, or that the
/// release cannot represent where that is to be refused. OUT is as it was then, unless it is `-`.
pub async fn run(args: &ConvertArgs) -> Result<(), Failure> {
    let work = work(args)?;
    let mut interrupts = Interrupts::listen().map_err(Failure::failed)?;
    let source = Source::open(&args.input)?;
    let (output, sinks) = output(args, &source)?;
    let progress = progress_bar(source.bytes);
    let copied = matches!(work, Work::Copy);
    let job = Job { work, parts: source.parts, sinks, progress: progress.clone() };

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
    report(args, &rewritten, copied);
    Ok(())
}

/// What is to be done, as the two releases say.
fn work(args: &ConvertArgs) -> Result<Work, Failure> {
    let (policy, limits) = (args.loss.into(), Limits::default());
    let Some(from) = &args.from else {
        let target = rdb_target(&args.to).ok_or_else(|| unknown("--to", &args.to))?;
        let rewriter = Box::new(rdb::Rewriter::new(target, policy, limits));
        return Ok(Work::Snapshot { rewriter, progress: rdb::Progress::More });
    };
    aof::layout(from).ok_or_else(|| unknown("--from", from))?;
    match verdict(from, &args.to) {
        Verdict::Same => Ok(Work::Copy),
        Verdict::Refuse(refusal) => Err(usage(refusal)),
        Verdict::Downshift | Verdict::Rewrite => aof::Rewriter::new(from, &args.to, policy, limits)
            .map(|rewriter| Work::Log(Box::new(rewriter)))
            .ok_or_else(|| unknown("--to", &args.to)),
    }
}

/// Where it goes: a folder stays a folder for releases that keep one.
fn output(args: &ConvertArgs, source: &Source) -> Result<(Output, Vec<Sink>), Failure> {
    if let Some(folder) = &source.folder {
        let Some(from) = &args.from else {
            return Err(usage(
                "IN is an AOF folder, which does not say which release wrote it: name it with --from",
            ));
        };
        if aof::layout(from) == Some(Layout::File) {
            return Err(usage(format_args!(
                "--from {from}: IN is an AOF folder, and this release keeps one file"
            )));
        }
        if aof::layout(&args.to) == Some(Layout::Folder) {
            return Output::create_folder(&args.output, folder, &source.parts);
        }
    }
    let model = source.parts.first().and_then(|part| part.metadata.as_ref());
    let (output, sink) = Output::create(&args.output, model)?;
    Ok((output, vec![sink]))
}

fn unknown(option: &str, release: &Release) -> Failure {
    usage(format_args!("{option} {release}: segue knows no RDB format of this release"))
}

fn usage(message: impl std::fmt::Display) -> Failure {
    Failure { exit: Exit::Usage, message: format!("segue: {message}") }
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
fn report(args: &ConvertArgs, rewritten: &Rewritten, copied: bool) {
    let Rewritten { read_bytes, written_bytes, losses, cut_off } = rewritten;
    let (read, written) = (BinaryBytes(*read_bytes), BinaryBytes(*written_bytes));
    let out = args.output.display();
    let mut text = format!("{out}: {written} for {}, from {read}\n{losses}", args.to);
    if copied {
        text = format!("{out}: {written}, a copy: {} loads IN as it is\n", args.to);
    }
    if let Some(cut_off) = cut_off {
        text += &format!("{cut_off}; what follows was left out, as a store does (aof-load-truncated)\n");
    }
    let _unwritable = io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests;
