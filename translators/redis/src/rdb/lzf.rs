//! LZF, decoded as it arrives (the format of liblzf's `lzf_d.c`).
//!
//! ```text
//! 000nnnnn + n+1 bytes                      literals
//! lllddddd dddddddd             l in 1..=6  copy l+2 bytes from d+1 back
//! 111ddddd llllllll dddddddd                copy l+9 bytes from d+1 back
//! ```

use super::encoding::Damage;

/// How far back a copy can reach, in bytes.
pub const WINDOW_BYTES: usize = 1 << 13;

#[derive(Clone, Debug)]
pub struct Decoder {
    /// Bytes still to come, as the sender declared; no memory is set aside for them.
    left: u64,
    next: Next,
}

#[derive(Clone, Copy, Debug)]
enum Next {
    Control,
    Literals(usize),
    /// The length of a long copy; the high bits of its distance are known.
    Length {
        high: usize,
    },
    Distance {
        high: usize,
        len: usize,
    },
}

impl Decoder {
    /// For a blob that decodes to `len` bytes.
    pub const fn new(len: u64) -> Self {
        Self { left: len, next: Next::Control }
    }

    /// Decodes all of `packed` to the end of `out`, which must still hold the last [`WINDOW_BYTES`]
    /// that came out before. What is behind the damage stays in `packed`.
    pub fn decode(&mut self, packed: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Damage> {
        while let Some((&byte, rest)) = packed.split_first() {
            if let Next::Literals(run) = self.next {
                let (now, later) = packed.split_at(run.min(packed.len()));
                out.extend_from_slice(now);
                self.next = if now.len() == run { Next::Control } else { Next::Literals(run - now.len()) };
                *packed = later;
                continue;
            }
            *packed = rest;
            let byte = usize::from(byte);
            self.next = match self.next {
                Next::Control if byte < 32 => {
                    self.claim(byte + 1)?;
                    Next::Literals(byte + 1)
                }
                Next::Control if byte >> 5 == 7 => Next::Length { high: (byte & 31) << 8 },
                Next::Control => Next::Distance { high: (byte & 31) << 8, len: (byte >> 5) + 2 },
                Next::Length { high } => Next::Distance { high, len: byte + 9 },
                Next::Distance { high, len } => {
                    self.copy((high | byte) + 1, len, out)?;
                    Next::Control
                }
                Next::Literals(_) => Next::Control,
            };
        }
        Ok(())
    }

    /// The packed bytes are over.
    pub fn finish(&self) -> Result<(), Damage> {
        match (self.next, self.left) {
            (Next::Control, 0) => Ok(()),
            (Next::Control, _) => Err(Damage("LZF: shorter than declared")),
            _ => Err(Damage("LZF: ends inside an instruction")),
        }
    }

    fn copy(&mut self, distance: usize, len: usize, out: &mut Vec<u8>) -> Result<(), Damage> {
        let start = out.len().checked_sub(distance).ok_or(Damage("LZF: copy from before the start"))?;
        self.claim(len)?;
        // A copy may reach into what it itself writes: the bytes since `start` then repeat.
        let mut left = len;
        while left > 0 {
            let run = left.min(out.len() - start);
            out.extend_from_within(start..start + run);
            left -= run;
        }
        Ok(())
    }

    /// A whole instruction's bytes at once, so that damage shows at the same place in any cut.
    fn claim(&mut self, len: usize) -> Result<(), Damage> {
        self.left = self.left.checked_sub(len as u64).ok_or(Damage("LZF: longer than declared"))?;
        Ok(())
    }
}

/// Decodes a blob that is there as a whole, much faster; `None` where it is damaged, which a [`Decoder`]
/// names. `out` is set to the `len` bytes it was declared to decode to.
pub fn decode_whole(packed: &[u8], len: usize, out: &mut Vec<u8>) -> Option<()> {
    // A declared length that the bytes can't come to gets no memory.
    if len / COPY_BYTES_MAX > packed.len() {
        return None;
    }
    // What it held before is written over, or there is no result.
    out.resize(len, 0);
    let (mut from, mut to) = (0, 0);
    while let Some(&control) = packed.get(from) {
        from += 1;
        let control = usize::from(control);
        if control < 32 {
            let run = control + 1;
            // Copies of a fixed size are a few moves: what is over is written again later.
            if let (Some(source), Some(target)) = (packed.get(from..from + 32), out.get_mut(to..to + 32)) {
                target.copy_from_slice(source);
            } else {
                out.get_mut(to..to + run)?.copy_from_slice(packed.get(from..from + run)?);
            }
            (from, to) = (from + run, to + run);
            continue;
        }
        let mut run = (control >> 5) + 2;
        if control >> 5 == 7 {
            run += usize::from(*packed.get(from)?);
            from += 1;
        }
        let distance = ((control & 31) << 8 | usize::from(*packed.get(from)?)) + 1;
        from += 1;
        copy_back(out, to, distance, run)?;
        to += run;
    }
    (to == len).then_some(())
}

const COPY_BYTES_MAX: usize = 255 + 9;

/// Copies `run` bytes to `to` from `distance` before it.
fn copy_back(out: &mut [u8], to: usize, distance: usize, run: usize) -> Option<()> {
    const WIDE: usize = 16;
    let start = to.checked_sub(distance)?;
    let room = out.get_mut(start..)?;
    if distance >= WIDE && distance + run + WIDE <= room.len() {
        let mut done = 0;
        while done < run {
            let chunk: [u8; WIDE] = *room.get(done..)?.first_chunk()?;
            *room.get_mut(distance + done..)?.first_chunk_mut()? = chunk;
            done += WIDE;
        }
    } else if distance + run <= room.len() {
        let mut done = 0;
        while done < run {
            let piece = (run - done).min(distance + done);
            room.copy_within(..piece, distance + done);
            done += piece;
        }
    } else {
        return None;
    }
    Some(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A plain packer for tests: the longest copy found by a hash of the next three bytes.
    pub fn pack(bytes: &[u8]) -> Vec<u8> {
        let mut seen = std::collections::HashMap::new();
        let mut out = Vec::new();
        let mut literals = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let found = bytes.get(at..at + 3).and_then(|three| seen.insert(three, at));
            let len = found.map_or(0, |from: usize| {
                bytes[from..].iter().zip(&bytes[at..]).take(264).take_while(|(a, b)| a == b).count()
            });
            match found {
                Some(from) if len >= 3 && at - from <= WINDOW_BYTES => {
                    put_literals(&mut literals, &mut out);
                    let distance = at - from - 1;
                    if len < 9 {
                        out.push(((len - 2) << 5 | distance >> 8) as u8);
                    } else {
                        out.push((7 << 5 | distance >> 8) as u8);
                        out.push((len - 9) as u8);
                    }
                    out.push(distance as u8);
                    at += len;
                }
                _ => {
                    literals.push(bytes[at]);
                    at += 1;
                }
            }
        }
        put_literals(&mut literals, &mut out);
        out
    }

    fn put_literals(literals: &mut Vec<u8>, out: &mut Vec<u8>) {
        for run in literals.chunks(32) {
            out.push((run.len() - 1) as u8);
            out.extend_from_slice(run);
        }
        literals.clear();
    }

    fn unpack(packed: &[u8], len: usize, cut: usize) -> Result<Vec<u8>, Damage> {
        let mut decoder = Decoder::new(len as u64);
        let mut out = Vec::new();
        for mut piece in packed.chunks(cut) {
            decoder.decode(&mut piece, &mut out)?;
        }
        decoder.finish().map(|()| out)
    }

    #[test]
    fn round_trip_in_any_cut() {
        let mut text = b"the quick brown fox ".repeat(700);
        text.extend((0..30_000u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 20).to_le_bytes()));
        text.extend([b'x'; 5000]);
        let packed = pack(&text);
        assert!(packed.len() < text.len());
        for cut in [1, 2, 3, 7, 100, packed.len()] {
            assert_eq!(unpack(&packed, text.len(), cut).as_ref(), Ok(&text), "cut {cut}");
        }
        let mut whole = Vec::new();
        assert_eq!(decode_whole(&packed, text.len(), &mut whole), Some(()));
        assert!(whole == text);
    }

    #[test]
    fn whole_and_in_pieces_agree_on_anything() {
        let mut random = 1u32;
        let mut next = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 24) as u8
        };
        for round in 0..20_000 {
            let packed: Vec<u8> =
                (0..round % 40).map(|_| if next() < 128 { next() % 40 } else { next() }).collect();
            let len = usize::from(next());
            let mut whole = Vec::new();
            let fast = decode_whole(&packed, len, &mut whole).map(|()| whole);
            let slow = unpack(&packed, len, 3);
            assert_eq!(slow, unpack(&packed, len, 100), "{packed:?} to {len}");
            assert_eq!(fast, slow.ok(), "{packed:?} to {len}");
        }
    }

    #[test]
    fn a_length_that_lies_is_damage() {
        let packed = pack(&[b'x'; 300]);
        assert!(unpack(&packed, 300, 9).is_ok());
        assert_eq!(unpack(&packed, 299, 9), Err(Damage("LZF: longer than declared")));
        assert_eq!(unpack(&packed, 301, 9), Err(Damage("LZF: shorter than declared")));
        assert_eq!(
            unpack(&packed[..packed.len() - 1], 300, 9),
            Err(Damage("LZF: ends inside an instruction"))
        );
        assert_eq!(unpack(&[0x20, 0], 3, 9), Err(Damage("LZF: copy from before the start")));
    }
}
