use std::io::{Read, Write};

use bytes::BytesMut;
use indicatif::ProgressBar;
use segue_redis::rdb::{Progress, Rewriter, Target};
use segue_wire::{FaultKind, Limits, LossPolicy, Refusal};

use super::tally::Tally;
use crate::cli::Failure;

/// How much is read at a time.
const CHUNK_BYTES: usize = 256 << 10;

pub(super) struct Job {
    pub target: Target,
    pub policy: LossPolicy,
    pub input: Box<dyn Read + Send>,
    pub writer: Box<dyn Write + Send>,
    pub progress: ProgressBar,
}

#[derive(Debug)]
pub(super) struct Rewritten {
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub losses: Tally,
}

impl Job {
    /// Blocks until all of the input is in the writer, or something is wrong.
    pub(super) fn run(mut self) -> Result<Rewritten, Failure> {
        let mut rewriter = Rewriter::new(self.target, self.policy, Limits::default());
        let mut chunk = vec![0; CHUNK_BYTES];
        let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
        let mut rewritten = Rewritten { read_bytes: 0, written_bytes: 0, losses: Tally::default() };
        let mut losses = Vec::new();
        let mut progress = Progress::More;
        loop {
            let read = match self.input.read(&mut chunk) {
                Ok(read) => chunk.get(..read).unwrap_or_default(),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Failure::failed(format_args!("cannot read IN: {e}"))),
            };
            if read.is_empty() {
                break;
            }
            input.extend_from_slice(read);
            rewritten.read_bytes = rewritten.read_bytes.saturating_add(read.len() as u64);
            if progress == Progress::More {
                progress = rewriter
                    .feed(&mut input, &mut output, &mut losses)
                    .map_err(|fault| failure(fault, rewriter.position()))?;
            }
            if progress == Progress::Done && !input.is_empty() {
                return Err(trailing(rewriter.position()));
            }
            for loss in losses.drain(..) {
                rewritten.losses.add(&loss);
            }
            rewritten.written_bytes = rewritten.written_bytes.saturating_add(output.len() as u64);
            let written = self.writer.write_all(&output);
            written.map_err(|e| Failure::failed(format_args!("cannot write OUT: {e}")))?;
            output.clear();
            self.progress.set_position(rewritten.read_bytes);
        }
        rewriter.finish().map_err(|fault| failure(fault, rewriter.position()))?;
        self.writer.flush().map_err(|e| Failure::failed(format_args!("cannot write OUT: {e}")))?;
        Ok(rewritten)
    }
}

fn failure(fault: FaultKind, position_bytes: u64) -> Failure {
    match fault {
        FaultKind::Refused(Refusal::Loss { to, loss }) => Failure::failed(format_args!(
            "refused: {to} cannot represent {loss}. Remove it from the store, or let it be left out and \
             counted: --loss degrade"
        )),
        fault => Failure::failed(format_args!("IN at byte {position_bytes}: {fault}")),
    }
}

fn trailing(position_bytes: u64) -> Failure {
    Failure::failed(format_args!(
        "IN at byte {position_bytes}: more bytes follow the snapshot's end; an AOF with an RDB at its start is \
         not an RDB file"
    ))
}
