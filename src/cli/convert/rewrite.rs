use std::io::Read;

use bytes::BytesMut;
use indicatif::ProgressBar;
use segue_redis::{
    aof::{self, Ending},
    rdb::{self, Progress},
};
use segue_wire::{FaultKind, Loss, Refusal};

use super::{output::Sink, source::Part, tally::Tally};
use crate::cli::Failure;

/// How much is read at a time.
const CHUNK_BYTES: usize = 256 << 10;

pub(super) struct Job {
    pub work: Work,
    pub parts: Vec<Part>,
    /// One for each part, or one for all.
    pub sinks: Vec<Sink>,
    pub progress: ProgressBar,
}

/// What is done to what is read.
pub(super) enum Work {
    /// Nothing: the release loads it as it is.
    Copy,
    /// An RDB file, whatever wrote it.
    Snapshot { rewriter: Box<rdb::Rewriter>, progress: Progress },
    /// An RDB file or an AOF, of a known release.
    Log(Box<aof::Rewriter>),
}

#[derive(Debug, Default)]
pub(super) struct Rewritten {
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub losses: Tally,
    pub cut_off: Option<CutOff>,
}

/// An end such as a crash leaves.
#[derive(Debug)]
pub(super) struct CutOff {
    pub part: String,
    pub read_bytes: u64,
    pub kept_bytes: u64,
}

impl Job {
    /// Blocks until all of the input is in the sinks, or something is wrong.
    pub(super) fn run(mut self) -> Result<Rewritten, Failure> {
        let mut rewritten = Rewritten::default();
        for (at, part) in std::mem::take(&mut self.parts).into_iter().enumerate() {
            if let Some(cut_off) = &rewritten.cut_off {
                return Err(Failure::failed(format_args!("{cut_off}; only the last file may end so")));
            }
            let at = at.min(self.sinks.len().saturating_sub(1));
            let Some(sink) = self.sinks.get_mut(at) else { continue };
            let copying =
                Copying { work: &mut self.work, sink, rewritten: &mut rewritten, progress: &self.progress };
            copying.run(part)?;
        }
        Ok(rewritten)
    }
}

/// One part on its way.
struct Copying<'a> {
    work: &'a mut Work,
    sink: &'a mut Sink,
    rewritten: &'a mut Rewritten,
    progress: &'a ProgressBar,
}

impl Copying<'_> {
    fn run(self, mut part: Part) -> Result<(), Failure> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
        let mut losses = Vec::new();
        let mut read_bytes = 0u64;
        loop {
            let read = match part.reader.read(&mut chunk) {
                Ok(read) => chunk.get(..read).unwrap_or_default(),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Failure::failed(format_args!("cannot read {}: {e}", part.name))),
            };
            if read.is_empty() {
                break;
            }
            input.extend_from_slice(read);
            read_bytes = read_bytes.saturating_add(read.len() as u64);
            let fed = self.work.feed(&mut input, &mut output, &mut losses);
            fed.map_err(|fault| self.work.failure(fault, &part.name))?;
            for loss in losses.drain(..) {
                self.rewritten.losses.add(&loss);
            }
            self.sink.write(&output)?;
            output.clear();
            self.progress.inc(read.len() as u64);
        }
        let ending = self.work.end_file(&input).map_err(|fault| self.work.failure(fault, &part.name))?;
        if let Ending::CutOff(kept) = ending {
            self.sink.cut(kept.written_bytes)?;
            let cut_off = CutOff { part: part.name, read_bytes, kept_bytes: kept.read_bytes };
            self.rewritten.cut_off = Some(cut_off);
        }
        self.rewritten.read_bytes = self.rewritten.read_bytes.saturating_add(read_bytes);
        self.rewritten.written_bytes = self.rewritten.written_bytes.saturating_add(self.sink.end_part()?);
        Ok(())
    }
}

impl Work {
    fn feed(
        &mut self,
        input: &mut BytesMut,
        output: &mut BytesMut,
        losses: &mut Vec<Loss>,
    ) -> Result<(), FaultKind> {
        match self {
            Self::Copy => {
                output.unsplit(input.split());
                Ok(())
            }
            Self::Snapshot { rewriter, progress } => {
                let is_log = rewriter.position() == 0 && matches!(input.first(), Some(b'*' | b'#'));
                if *progress == Progress::More && !is_log {
                    *progress = rewriter.feed(input, output, losses)?;
                }
                if is_log || (*progress == Progress::Done && !input.is_empty()) {
                    let detail = "commands, as in an AOF, which does not say which release wrote it: name it \
                                  with --from";
                    return Err(FaultKind::Malformed { what: "RDB file", detail: detail.to_owned() });
                }
                Ok(())
            }
            Self::Log(rewriter) => rewriter.feed(input, output, losses),
        }
    }

    fn end_file(&mut self, left: &[u8]) -> Result<Ending, FaultKind> {
        match self {
            Self::Copy => Ok(Ending::Whole),
            Self::Snapshot { rewriter, .. } => rewriter.finish().map(|()| Ending::Whole),
            Self::Log(rewriter) => rewriter.end_file(left),
        }
    }

    fn failure(&self, fault: FaultKind, part: &str) -> Failure {
        let position_bytes = match self {
            Self::Copy => 0,
            Self::Snapshot { rewriter, .. } => rewriter.position(),
            Self::Log(rewriter) => rewriter.position(),
        };
        match fault {
            FaultKind::Refused(Refusal::Loss { to, loss }) => Failure::failed(format_args!(
                "refused: {to} cannot represent {loss}. Remove it from the store, or let it be left out and \
                 counted: --loss degrade"
            )),
            fault => Failure::failed(format_args!("{part} at byte {position_bytes}: {fault}")),
        }
    }
}

impl std::fmt::Display for CutOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { part, read_bytes, kept_bytes } = self;
        write!(
            f,
            "{part} is cut off: its {read_bytes} bytes end inside a command or transaction that begins at byte {kept_bytes}"
        )
    }
}
