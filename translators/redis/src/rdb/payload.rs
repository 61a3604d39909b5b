//! Values by themselves: what DUMP gives, RESTORE takes and MIGRATE sends.
//!
//! ```text
//! type byte, value          or, for FUNCTION DUMP, items of opcode 245
//! u16 LE RDB version, u64 LE CRC-64 of all before it (0: not computed)
//! ```

use bytes::BytesMut;
use segue_wire::{FaultKind, Limits, Loss, LossPolicy};

use super::{
    layout,
    rewriter::checksum,
    tape::Tape,
    target::Target,
    versions,
    walk::{Fate, Reached, Walk},
};

/// A payload, made for a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The target takes it as it is.
    Same,
    /// What the target takes instead, and what it lacks. Whether that may be is for the caller to say.
    Rewritten(Vec<u8>, Vec<Loss>),
    /// The whole value has no older form.
    None(Loss),
}

/// Rewrites the payload of a DUMP for `target`. A loss names no key: the payload has none.
///
/// # Errors
///
/// [`FaultKind::Malformed`], [`FaultKind::TooLarge`], [`FaultKind::Truncated`] and
/// [`FaultKind::Checksum`] as for [`super::Rewriter::feed`].
pub fn rewrite_payload(payload: &[u8], target: &Target, limits: &Limits) -> Result<Payload, FaultKind> {
    let (body, version) = open(payload)?;
    let Some(&code) = body.first().filter(|code| **code < layout::OPCODE_FIRST) else {
        return Err(malformed("it does not start with a value type"));
    };
    let mut rewriting = Rewriting::new(target, version, limits);
    let (rest, fate) = rewriting.item(code, body)?;
    if !rest.is_empty() {
        return Err(malformed("bytes behind the value"));
    }
    if fate == Fate::LeftOut {
        return rewriting.losses.pop().map(Payload::None).ok_or_else(|| malformed("no value"));
    }
    Ok(rewriting.close(body, version))
}

/// Rewrites the payload of a FUNCTION DUMP for `target`: libraries it cannot load are left out.
///
/// # Errors
///
/// As [`rewrite_payload`].
pub fn rewrite_function_payload(
    payload: &[u8],
    target: &Target,
    limits: &Limits,
) -> Result<Payload, FaultKind> {
    const FUNCTION2: u8 = 245;
    let (mut rest, version) = open(payload)?;
    let body = rest;
    let mut rewriting = Rewriting::new(target, version, limits);
    while let Some(&code) = rest.first() {
        if code != FUNCTION2 {
            return Err(malformed("an item that is no function library"));
        }
        (rest, _) = rewriting.item(code, rest)?;
    }
    Ok(rewriting.close(body, version))
}

const FOOTER_BYTES: usize = 10;

/// The items of a payload and its RDB version.
fn open(payload: &[u8]) -> Result<(&[u8], u16), FaultKind> {
    let (signed, crc) = payload.split_last_chunk().ok_or_else(|| malformed("shorter than its footer"))?;
    let (body, version) = signed.split_last_chunk().ok_or_else(|| malformed("shorter than its footer"))?;
    let (sent, version) = (u64::from_le_bytes(*crc), u16::from_le_bytes(*version));
    if !versions::reads(version) {
        return Err(malformed(&format!("RDB version {version}")));
    }
    let computed = checksum_of(signed);
    if sent != 0 && sent != computed {
        return Err(FaultKind::Checksum { computed, sent });
    }
    Ok((body, version))
}

struct Rewriting {
    walk: Walk,
    limits: Limits,
    out: BytesMut,
    losses: Vec<Loss>,
}

impl Rewriting {
    fn new(target: &Target, version: u16, limits: &Limits) -> Self {
        let mut walk = Walk::new(target.clone(), LossPolicy::Degrade);
        walk.read_as(version);
        Self { walk, limits: *limits, out: BytesMut::new(), losses: Vec::new() }
    }

    /// Rewrites the item at the front; gives what follows it and what became of it.
    fn item<'a>(&mut self, code: u8, body: &'a [u8]) -> Result<(&'a [u8], Fate), FaultKind> {
        let mut deferred = Walk::deferred(&self.limits);
        let mut tape = Tape::new(body, &mut deferred, &mut self.out);
        self.walk.begin(code, 0, false, &mut tape)?;
        let reached = self.walk.run(&mut tape, &mut self.losses)?;
        let consumed = tape.close();
        match reached {
            Reached::ItemEnd => Ok((body.get(consumed..).unwrap_or_default(), self.walk.fate)),
            Reached::InputEnd => Err(FaultKind::Truncated { what: "a DUMP payload" }),
        }
    }

    fn close(mut self, body: &[u8], version: u16) -> Payload {
        let older = self.walk.target.version_for(version);
        if older == version && self.out == body {
            return Payload::Same;
        }
        self.out.reserve(FOOTER_BYTES);
        self.out.extend_from_slice(&older.to_le_bytes());
        let crc = checksum_of(&self.out);
        self.out.extend_from_slice(&crc.to_le_bytes());
        Payload::Rewritten(self.out.into(), self.losses)
    }
}

fn checksum_of(bytes: &[u8]) -> u64 {
    let mut digest = checksum();
    digest.update(bytes);
    digest.finalize()
}

fn malformed(detail: &str) -> FaultKind {
    FaultKind::Malformed { what: "DUMP payload", detail: detail.to_owned() }
}
