//! Writes a ziplist (`ziplist.c` of Redis 5.0).
//!
//! ```text
//! u32 LE total bytes, u32 LE offset of the last entry, u16 LE count (65535: not known), entries, 0xff
//! entry: length of the entry before (u8 below 254, else 254 and u32 LE), encoding, data
//!   00llllll                      text below 64 bytes
//!   01llllll llllllll             text below 16384 bytes
//!   10000000 + u32 BE length      text
//!   1111nnnn                      nnnn−1, in 0..=12
//!   11111110 + i8, 11000000 + i16 LE, 11110000 + i24 LE, 11010000 + i32 LE, 11100000 + i64 LE
//! ```

use super::encoding::Damage;

const HEAD_BYTES: usize = 10;
pub const END: u8 = 0xff;
const TOO_LARGE: Damage = Damage("ziplist: larger than 4 GiB");

/// The largest frame of an entry: the length of the one before, and the encoding or an integer.
const FRAME_BYTES_MAX: usize = 5 + 9;
/// Texts below this length have the shortest encoding.
const SHORT_BYTES: usize = 64;

/// Builds one ziplist after the other in the same memory.
#[derive(Debug, Default)]
pub struct Writer {
    /// The ziplist so far is the first `len` of them.
    bytes: Vec<u8>,
    len: usize,
    /// Where the last entry starts.
    last: usize,
    count: u64,
}

impl Writer {
    pub fn start(&mut self) {
        (self.len, self.last, self.count) = (HEAD_BYTES, HEAD_BYTES, 0);
    }

    #[inline]
    pub fn push_text(&mut self, text: &[u8]) -> Result<(), Damage> {
        let (len, before) = (text.len(), self.len - self.last);
        let room = self.room(len);
        match room.first_chunk_mut::<{ 2 + SHORT_BYTES }>() {
            Some([before_byte, head, target @ ..]) if len < SHORT_BYTES && before < 254 => {
                (*before_byte, *head) = (before as u8, len as u8);
                copy_short(text, target);
                self.end_entry(2 + len);
                Ok(())
            }
            _ => self.push_long_text(text),
        }
    }

    fn push_long_text(&mut self, text: &[u8]) -> Result<(), Damage> {
        let (head, head_bytes) = text_head(text.len() as u64)?;
        let size = self.frame(head.get(..head_bytes).unwrap_or_default());
        if let Some(target) = self.room(text.len()).get_mut(size..size + text.len()) {
            target.copy_from_slice(text);
        }
        self.end_entry(size + text.len());
        Ok(())
    }

    pub fn push_integer(&mut self, value: i64) {
        let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
        let (encoding, data_bytes) = match value {
            0..=12 => (0xf1 + a, 0),
            -0x80..=0x7f => (0xfe, 1),
            -0x8000..=0x7fff => (0xc0, 2),
            -0x80_0000..=0x7f_ffff => (0xf0, 3),
            -0x8000_0000..=0x7fff_ffff => (0xd0, 4),
            _ => (0xe0, 8),
        };
        let encoded = [encoding, a, b, c, d, e, f, g, h];
        let size = self.frame(encoded.get(..1 + data_bytes).unwrap_or_default());
        self.end_entry(size);
    }

    /// The ziplist.
    pub fn finish(&mut self) -> Result<&[u8], Damage> {
        if let Some(end) = self.room(1).first_mut() {
            *end = END;
        }
        let bytes = self.bytes.get_mut(..=self.len).unwrap_or_default();
        let total = u32::try_from(bytes.len()).map_err(|_| TOO_LARGE)?;
        let last = u32::try_from(self.last).map_err(|_| TOO_LARGE)?;
        let count = u16::try_from(self.count).unwrap_or(u16::MAX);
        if let Some(head) = bytes.first_chunk_mut() {
            *head = list_head(total, last, count);
        }
        Ok(bytes)
    }

    /// Gives memory back that is over `bytes_max`.
    pub fn shrink(&mut self, bytes_max: usize) {
        self.bytes.truncate(bytes_max);
        self.bytes.shrink_to(bytes_max);
    }

    /// Where the next entry goes: room for `text_bytes` and all that may stand before them.
    #[inline]
    fn room(&mut self, text_bytes: usize) -> &mut [u8] {
        let wanted = self.len + FRAME_BYTES_MAX.max(2 + SHORT_BYTES) + text_bytes;
        if self.bytes.len() < wanted {
            self.bytes.resize(wanted.max(2 * self.bytes.len()), 0);
        }
        self.bytes.get_mut(self.len..).unwrap_or_default()
    }

    /// Writes what stands before an entry's text; its size.
    fn frame(&mut self, encoding: &[u8]) -> usize {
        let before = self.len - self.last;
        let ([a, b, c, d], before_bytes) = match u8::try_from(before) {
            Ok(small) if small < 254 => ([small, 0, 0, 0], 1),
            // Over 4 GiB the total is too, and `finish` says so.
            _ => (u32::try_from(before).unwrap_or(u32::MAX).to_le_bytes(), 5),
        };
        let before = if before_bytes == 1 { [a, 0, 0, 0, 0] } else { [254, a, b, c, d] };
        let size = before_bytes + encoding.len();
        let room = self.room(0);
        if let Some(target) = room.first_chunk_mut() {
            *target = before;
        }
        if let Some(target) = room.get_mut(before_bytes..size) {
            target.copy_from_slice(encoding);
        }
        size
    }

    #[inline]
    fn end_entry(&mut self, size: usize) {
        self.last = self.len;
        self.len += size;
        self.count += 1;
    }
}

/// Copies below [`SHORT_BYTES`] bytes in a few moves of a fixed size, two of which may overlap.
#[inline]
fn copy_short(text: &[u8], target: &mut [u8; SHORT_BYTES]) {
    fn ends<const N: usize>(text: &[u8], target: &mut [u8; SHORT_BYTES]) {
        if let (Some(front), Some(back)) = (text.first_chunk::<N>(), text.last_chunk::<N>())
            && let Some(target) = target.get_mut(..text.len())
        {
            if let Some(target) = target.first_chunk_mut() {
                *target = *front;
            }
            if let Some(target) = target.last_chunk_mut() {
                *target = *back;
            }
        }
    }
    match text.len() {
        32.. => ends::<32>(text, target),
        16.. => ends::<16>(text, target),
        8.. => ends::<8>(text, target),
        4.. => ends::<4>(text, target),
        _ => text.iter().zip(target).for_each(|(from, to)| *to = *from),
    }
}

/// The two ends of a ziplist around the `len` bytes of its only entry, a text.
pub fn around_single(len: u64) -> Result<(Vec<u8>, [u8; 1]), Damage> {
    let (head, size) = text_head(len)?;
    let total = u32::try_from(len).ok().and_then(|len| len.checked_add(HEAD_BYTES as u32 + 2 + size as u32));
    let mut front = Vec::with_capacity(HEAD_BYTES + 1 + size);
    front.extend_from_slice(&list_head(total.ok_or(TOO_LARGE)?, HEAD_BYTES as u32, 1));
    front.push(0);
    front.extend_from_slice(head.get(..size).unwrap_or_default());
    Ok((front, [END]))
}

fn list_head(total: u32, last: u32, count: u16) -> [u8; HEAD_BYTES] {
    let ([a, b, c, d], [e, f, g, h], [i, j]) = (total.to_le_bytes(), last.to_le_bytes(), count.to_le_bytes());
    [a, b, c, d, e, f, g, h, i, j]
}

/// The encoding before a text, and how many of the bytes count.
fn text_head(len: u64) -> Result<([u8; 5], usize), Damage> {
    let len = u32::try_from(len).map_err(|_| TOO_LARGE)?;
    let [a, b, c, d] = len.to_be_bytes();
    Ok(match len {
        0..0x40 => ([d, 0, 0, 0, 0], 1),
        0x40..0x4000 => ([0x40 | c, d, 0, 0, 0], 2),
        _ => ([0x80, a, b, c, d], 5),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rdb::listpack::tests::INTEGERS;

    /// Reads a ziplist as texts, for tests; checks every back length and the header.
    pub fn read(blob: &[u8]) -> Vec<Vec<u8>> {
        let le = |at: usize, size: usize| {
            let mut bytes = [0; 8];
            bytes[..size].copy_from_slice(&blob[at..at + size]);
            let shift = 64 - 8 * size as u32;
            i64::from_le_bytes(bytes) << shift >> shift
        };
        let unsigned =
            |at: usize, size: usize| (le(at, size) as u64 & (u64::MAX >> (64 - 8 * size))) as usize;
        assert_eq!(unsigned(0, 4), blob.len());
        let (mut at, mut before, mut last, mut entries) = (10, 0, 10, Vec::new());
        while blob[at] != 0xff {
            let start = at;
            if blob[at] == 254 {
                assert_eq!(unsigned(at + 1, 4), before);
                assert!(before >= 254);
                at += 5;
            } else {
                assert_eq!(usize::from(blob[at]), before);
                at += 1;
            }
            let code = blob[at];
            let (skip, text) = match code >> 6 {
                0 => (1, Some(usize::from(code & 63))),
                1 => (2, Some(usize::from(code & 63) << 8 | usize::from(blob[at + 1]))),
                2 => (5, Some(u32::from_be_bytes(blob[at + 1..at + 5].try_into().unwrap()) as usize)),
                _ => (1, None),
            };
            at += skip;
            if let Some(len) = text {
                entries.push(blob[at..at + len].to_vec());
                at += len;
            } else {
                let size = match code {
                    0xfe => 1,
                    0xc0 => 2,
                    0xf0 => 3,
                    0xd0 => 4,
                    0xe0 => 8,
                    0xf1..=0xfd => 0,
                    _ => panic!("encoding {code:#x}"),
                };
                let value = if size == 0 { i64::from(code & 15) - 1 } else { le(at, size) };
                entries.push(value.to_string().into_bytes());
                at += size;
            }
            (before, last) = (at - start, start);
        }
        assert_eq!(at, blob.len() - 1);
        assert_eq!(unsigned(4, 4), last);
        assert_eq!(unsigned(8, 2), entries.len().min(65535));
        entries
    }

    #[test]
    fn every_encoding_round_trips() {
        let mut writer = Writer::default();
        for _ in 0..2 {
            writer.start();
            let mut expected = Vec::new();
            for len in [0, 1, 63, 64, 250, 251, 252, 253, 254, 16383, 16384, 70_000, 3] {
                writer.push_text(&vec![b'x'; len]).unwrap();
                expected.push(vec![b'x'; len]);
            }
            for value in INTEGERS {
                writer.push_integer(*value);
                expected.push(value.to_string().into_bytes());
            }
            assert_eq!(read(writer.finish().unwrap()), expected);
        }
    }

    #[test]
    fn a_single_entry_is_the_same_in_parts() {
        for len in [0, 63, 64, 16383, 16384, 100_000] {
            let text = vec![b'x'; len];
            let mut writer = Writer::default();
            writer.start();
            writer.push_text(&text).unwrap();
            let (front, back) = around_single(len as u64).unwrap();
            assert_eq!([&front[..], &text, &back].concat(), writer.finish().unwrap());
        }
        assert_eq!(around_single(1 << 32), Err(TOO_LARGE));
        assert_eq!(around_single((1 << 32) - 10), Err(TOO_LARGE));
    }

    #[test]
    fn an_empty_one_and_one_with_more_than_the_header_counts() {
        let mut writer = Writer::default();
        writer.start();
        assert_eq!(read(writer.finish().unwrap()), Vec::<Vec<u8>>::new());
        writer.start();
        (0..70_000).for_each(|n| writer.push_integer(n));
        assert_eq!(read(writer.finish().unwrap()).len(), 70_000);
    }
}
