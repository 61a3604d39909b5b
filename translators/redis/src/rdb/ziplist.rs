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

/// Builds one ziplist after the other in the same memory.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    /// Where the last entry starts.
    last: usize,
    count: u64,
}

impl Writer {
    pub fn start(&mut self) {
        self.bytes.clear();
        self.bytes.extend_from_slice(&[0; HEAD_BYTES]);
        (self.last, self.count) = (HEAD_BYTES, 0);
    }

    pub fn push_text(&mut self, text: &[u8]) -> Result<(), Damage> {
        self.start_entry();
        let (head, size) = text_head(text.len() as u64)?;
        self.bytes.extend_from_slice(head.get(..size).unwrap_or_default());
        self.bytes.extend_from_slice(text);
        Ok(())
    }

    pub fn push_integer(&mut self, value: i64) {
        self.start_entry();
        let le = value.to_le_bytes();
        let (encoding, size) = match value {
            0..=12 => (0xf1 + le[0], 0),
            -0x80..=0x7f => (0xfe, 1),
            -0x8000..=0x7fff => (0xc0, 2),
            -0x80_0000..=0x7f_ffff => (0xf0, 3),
            -0x8000_0000..=0x7fff_ffff => (0xd0, 4),
            _ => (0xe0, 8),
        };
        self.bytes.push(encoding);
        self.bytes.extend_from_slice(le.get(..size).unwrap_or_default());
    }

    /// The ziplist.
    pub fn finish(&mut self) -> Result<&[u8], Damage> {
        self.bytes.push(END);
        let total = u32::try_from(self.bytes.len()).map_err(|_| TOO_LARGE)?;
        let last = u32::try_from(self.last).map_err(|_| TOO_LARGE)?;
        let count = u16::try_from(self.count).unwrap_or(u16::MAX);
        if let Some(head) = self.bytes.first_chunk_mut() {
            *head = list_head(total, last, count);
        }
        Ok(&self.bytes)
    }

    /// Gives memory back that is over `bytes_max`.
    pub fn shrink(&mut self, bytes_max: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(bytes_max);
    }

    fn start_entry(&mut self) {
        let before = if self.count == 0 { 0 } else { self.bytes.len() - self.last };
        self.last = self.bytes.len();
        self.count += 1;
        match u8::try_from(before) {
            Ok(small) if small < 254 => self.bytes.push(small),
            _ => {
                self.bytes.push(254);
                // Over 4 GiB the total is too, and `finish` says so.
                self.bytes.extend_from_slice(&u32::try_from(before).unwrap_or(u32::MAX).to_le_bytes());
            }
        }
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
