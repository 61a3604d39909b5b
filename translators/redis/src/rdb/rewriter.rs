use bytes::{Buf, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};
use segue_wire::{FaultKind, Limits, Loss, LossPolicy};

use super::{
    layout,
    tape::{Deferred, Tape},
    target::Target,
    versions::{self, HEADER_BYTES},
    walk::{Reached, Walk},
};

/// Rewrites one snapshot to what an older release loads, as it arrives.
///
/// What it holds is bounded whatever comes in: what waits for a decision (a key whose value may have to
/// be left out) and a packed value that must be converted take at most [`Limits::held_bytes_max`]
/// together, the templates of `HIMPORT` as much again; all else passes through. What one call puts out is bounded by what it takes: a held value
/// grows to at most 2.5 times its unpacked size, and LZF bytes of a large list element to 88 times.
#[derive(Debug)]
pub struct Rewriter {
    walk: Walk,
    deferred: Deferred,
    stage: Stage,
    /// Checksums of what was consumed and of what was put out.
    read: Digest,
    written: Digest,
    position: u64,
    emitted: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more to come.
    More,
    /// Exactly the snapshot was consumed; what follows it stays in the input.
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Header,
    BetweenItems,
    InItem,
    Checksum,
    Done,
}

impl Rewriter {
    #[must_use]
    pub fn new(target: Target, policy: LossPolicy, limits: Limits) -> Self {
        Self {
            walk: Walk::new(target, policy),
            deferred: Walk::deferred(&limits),
            stage: Stage::Header,
            read: checksum(),
            written: checksum(),
            position: 0,
            emitted: 0,
        }
    }

    /// Takes what it can from the front of `input`, appends the rewritten bytes to `out`, and pushes
    /// what was left out to `losses`.
    ///
    /// With [`Progress::More`] at most [`super::TOKEN_BYTES_MAX`] bytes stay in `input`: the start of
    /// something whose end has not come. Append to them.
    ///
    /// # Errors
    ///
    /// * [`FaultKind::Refused`]: a loss that the policy does not allow; nothing of its item was put out, or
    ///   of a stream at most what stands before the loss.
    /// * [`FaultKind::Malformed`]: damaged, or newer than the tables know.
    /// * [`FaultKind::TooLarge`]: what has to be held is over [`Limits::held_bytes_max`].
    /// * [`FaultKind::Checksum`]: the content is not what was sent.
    ///
    /// What `out` holds up to the error is a snapshot without its end. Do not call again after an error.
    pub fn feed(
        &mut self,
        input: &mut BytesMut,
        out: &mut BytesMut,
        losses: &mut Vec<Loss>,
    ) -> Result<Progress, FaultKind> {
        let before = out.len();
        if self.stage != Stage::Checksum && self.stage != Stage::Done {
            let mut tape = Tape::new(input, &mut self.deferred, out);
            let scanned = scan(&mut self.walk, &mut self.stage, self.position, &mut tape, losses);
            let consumed = tape.close();
            self.read.update(input.get(..consumed).unwrap_or_default());
            self.written.update(out.get(before..).unwrap_or_default());
            input.advance(consumed);
            self.position += consumed as u64;
            self.emitted += out.len().saturating_sub(before) as u64;
            scanned?;
        }
        if self.stage == Stage::Checksum && input.len() >= 8 {
            let sent = input.get_u64_le();
            self.position += 8;
            let computed = self.read.finalize();
            // The sender writes 0 where it is configured to compute none.
            if sent != 0 && sent != computed {
                return Err(FaultKind::Checksum { computed, sent });
            }
            out.extend_from_slice(&self.written.finalize().to_le_bytes());
            self.emitted += 8;
            self.stage = Stage::Done;
        }
        Ok(if self.stage == Stage::Done { Progress::Done } else { Progress::More })
    }

    /// Bytes consumed so far.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Bytes put out so far.
    #[must_use]
    pub fn emitted(&self) -> u64 {
        self.emitted
    }

    /// Bytes held back now, at most [`Limits::held_bytes_max`] and the 8 KiB that an LZF copy can reach;
    /// without the templates.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.deferred.len() + self.walk.buffer.len()
    }

    /// The stream ended.
    ///
    /// # Errors
    ///
    /// [`FaultKind::Truncated`] unless the whole snapshot has been consumed.
    pub fn finish(&self) -> Result<(), FaultKind> {
        let what = match self.stage {
            Stage::Done => return Ok(()),
            Stage::Header => "the RDB header",
            Stage::BetweenItems => "the RDB, before its end",
            Stage::InItem => "an RDB item",
            Stage::Checksum => "the RDB checksum",
        };
        Err(FaultKind::Truncated { what })
    }
}

/// The checksum that ends a snapshot and a DUMP payload: CRC-64/Jones.
pub fn checksum() -> Digest {
    Digest::new(CrcAlgorithm::Crc64Redis)
}

/// Goes from item to item up to the end of the tape or of the snapshot.
fn scan(
    walk: &mut Walk,
    stage: &mut Stage,
    base: u64,
    tape: &mut Tape<'_>,
    losses: &mut Vec<Loss>,
) -> Result<(), FaultKind> {
    loop {
        match *stage {
            Stage::Header => {
                let Some(header) = tape.rest().first_chunk() else { return Ok(()) };
                let malformed = |detail| FaultKind::Malformed { what: "RDB header", detail };
                let sent = versions::parse(header).map_err(malformed)?;
                walk.read_as(sent);
                tape.skip(HEADER_BYTES);
                tape.put(versions::write(walk.target.version_for(sent)).as_bytes());
                *stage = Stage::BetweenItems;
            }
            Stage::BetweenItems => {
                let Some(&code) = tape.rest().first() else { return Ok(()) };
                walk.begin(code, base + tape.at() as u64, true, tape)?;
                *stage = if code == layout::EOF { Stage::Checksum } else { Stage::InItem };
            }
            Stage::InItem => match walk.run(tape, losses)? {
                Reached::InputEnd => return Ok(()),
                Reached::ItemEnd => *stage = Stage::BetweenItems,
            },
            Stage::Checksum | Stage::Done => return Ok(()),
        }
    }
}
