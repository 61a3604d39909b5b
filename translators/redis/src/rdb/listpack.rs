//! Reads a listpack (`listpack.c`).
//!
//! ```text
//! u32 LE total bytes, u16 LE count (65535: not known), entries, 0xff
//! entry: encoding and data, then their length once more, to be read backwards
//!   0nnnnnnn                       0..127
//!   10llllll                       text below 64 bytes
//!   110nnnnn nnnnnnnn              13-bit signed integer
//!   1110llll llllllll              text below 4096 bytes
//!   11110000 + u32 LE length       text
//!   11110001 + i16 LE, 11110010 + i24 LE, 11110011 + i32 LE, 11110100 + i64 LE
//! ```

use super::encoding::Damage;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    Integer(i64),
    Text(&'a [u8]),
}

/// A listpack whose frame has been checked.
#[derive(Clone, Copy, Debug)]
pub struct Listpack<'a> {
    entries: &'a [u8],
    /// `None`: more than the header can say.
    count: Option<u64>,
}

const COUNT_UNKNOWN: u16 = u16::MAX;
const SHORT: Damage = Damage("listpack: an entry goes on behind the end");

impl<'a> Listpack<'a> {
    pub fn parse(blob: &'a [u8]) -> Result<Self, Damage> {
        let Some((total, rest)) = blob.split_first_chunk() else { return Err(Damage("listpack: no header")) };
        let Some((count, rest)) = rest.split_first_chunk() else { return Err(Damage("listpack: no header")) };
        if usize::try_from(u32::from_le_bytes(*total)) != Ok(blob.len()) {
            return Err(Damage("listpack: its size is not the string's"));
        }
        let Some((0xff, entries)) = rest.split_last() else { return Err(Damage("listpack: no end mark")) };
        let count = u16::from_le_bytes(*count);
        Ok(Self { entries, count: (count != COUNT_UNKNOWN).then_some(u64::from(count)) })
    }

    /// How many entries there are.
    pub fn count(&self) -> Result<u64, Damage> {
        match self.count {
            Some(count) => Ok(count),
            None => self.entries().try_fold(0, |count: u64, entry| entry.map(|_| count + 1)),
        }
    }

    /// The entries; damage ends them.
    pub fn entries(&self) -> Entries<'a> {
        Entries { rest: self.entries, left: self.count }
    }
}

#[derive(Clone, Debug)]
pub struct Entries<'a> {
    rest: &'a [u8],
    /// How many more the header promised, where it did.
    left: Option<u64>,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, Damage>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return self
                .left
                .take()
                .filter(|left| *left > 0)
                .map(|_| Err(Damage("listpack: too few entries")));
        }
        let entry = match &mut self.left {
            Some(0) => Err(Damage("listpack: too many entries")),
            Some(left) => {
                *left -= 1;
                entry(self.rest)
            }
            None => entry(self.rest),
        };
        let parsed = entry.and_then(|(entry, size)| {
            let rest = self.rest.get(size + back_length_size(size)..).ok_or(SHORT)?;
            Ok((entry, rest))
        });
        match parsed {
            Ok((entry, rest)) => {
                self.rest = rest;
                Some(Ok(entry))
            }
            Err(damage) => {
                (self.rest, self.left) = (&[], None);
                Some(Err(damage))
            }
        }
    }
}

/// The entry at the front and the size of its encoding and data.
#[inline]
fn entry(bytes: &[u8]) -> Result<(Entry<'_>, usize), Damage> {
    let (&first, rest) = bytes.split_first().ok_or(SHORT)?;
    match first {
        0..=0x7f => Ok((Entry::Integer(i64::from(first)), 1)),
        0x80..=0xbf => text(rest, 0, usize::from(first & 0x3f)),
        _ => longer_entry(first, rest),
    }
}

fn longer_entry(first: u8, rest: &[u8]) -> Result<(Entry<'_>, usize), Damage> {
    let low = || rest.first().map(|&low| usize::from(low)).ok_or(SHORT);
    let bits = |mask: u8| usize::from(first & mask);
    match first {
        0xc0..=0xdf => {
            let unsigned = i64::from(first & 0x1f) << 8 | low()? as i64;
            Ok((Entry::Integer(if unsigned < 1 << 12 { unsigned } else { unsigned - (1 << 13) }), 2))
        }
        0xe0..=0xef => text(rest, 1, bits(0x0f) << 8 | low()?),
        0xf0 => {
            let len = u32::from_le_bytes(*rest.first_chunk().ok_or(SHORT)?);
            text(rest, 4, usize::try_from(len).map_err(|_| SHORT)?)
        }
        0xf1 => {
            rest.first_chunk().map(|le| (Entry::Integer(i64::from(i16::from_le_bytes(*le))), 3)).ok_or(SHORT)
        }
        0xf2 => rest
            .first_chunk()
            .map(|&[a, b, c]| (Entry::Integer(i64::from(i32::from_le_bytes([0, a, b, c]) >> 8)), 4))
            .ok_or(SHORT),
        0xf3 => {
            rest.first_chunk().map(|le| (Entry::Integer(i64::from(i32::from_le_bytes(*le))), 5)).ok_or(SHORT)
        }
        0xf4 => rest.first_chunk().map(|le| (Entry::Integer(i64::from_le_bytes(*le)), 9)).ok_or(SHORT),
        _ => Err(Damage("listpack: bad encoding")),
    }
}

/// A text of `len` bytes, `skip` bytes of length behind the encoding byte.
#[inline]
fn text(rest: &[u8], skip: usize, len: usize) -> Result<(Entry<'_>, usize), Damage> {
    let end = skip.checked_add(len).ok_or(SHORT)?;
    Ok((Entry::Text(rest.get(skip..end).ok_or(SHORT)?), 1 + end))
}

/// The backward length holds 7 bits a byte.
#[inline]
const fn back_length_size(size: usize) -> usize {
    match size {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        0x20_0000..0x1000_0000 => 4,
        _ => 5,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Writes a listpack as Redis does, for tests.
    pub fn write(entries: &[Entry<'_>]) -> Vec<u8> {
        let mut out = vec![0; 6];
        for entry in entries {
            let start = out.len();
            match *entry {
                Entry::Integer(n @ 0..=127) => out.push(n as u8),
                Entry::Integer(n @ -4096..=4095) => {
                    out.extend_from_slice(&(0xc000 | (n as u16 & 0x1fff)).to_be_bytes())
                }
                Entry::Integer(n @ -32768..=32767) => {
                    out.push(0xf1);
                    out.extend_from_slice(&(n as i16).to_le_bytes());
                }
                Entry::Integer(n @ -8_388_608..=8_388_607) => {
                    out.push(0xf2);
                    out.extend_from_slice(&(n as i32).to_le_bytes()[..3]);
                }
                Entry::Integer(n) => match i32::try_from(n) {
                    Ok(n) => {
                        out.push(0xf3);
                        out.extend_from_slice(&n.to_le_bytes());
                    }
                    Err(_) => {
                        out.push(0xf4);
                        out.extend_from_slice(&n.to_le_bytes());
                    }
                },
                Entry::Text(text) => {
                    match text.len() {
                        len @ 0..64 => out.push(0x80 | len as u8),
                        len @ 64..4096 => out.extend_from_slice(&(0xe000 | len as u16).to_be_bytes()),
                        len => {
                            out.push(0xf0);
                            out.extend_from_slice(&(len as u32).to_le_bytes());
                        }
                    }
                    out.extend_from_slice(text);
                }
            }
            let size = out.len() - start;
            for place in (0..back_length_size(size)).rev() {
                let last = place == back_length_size(size) - 1;
                out.push((size >> (7 * place)) as u8 & 0x7f | if last { 0 } else { 0x80 });
            }
        }
        out.push(0xff);
        let total = (out.len() as u32).to_le_bytes();
        out[..4].copy_from_slice(&total);
        out[4..6].copy_from_slice(&u16::try_from(entries.len()).unwrap_or(u16::MAX).to_le_bytes());
        out
    }

    pub const INTEGERS: &[i64] = &[
        0,
        1,
        12,
        13,
        127,
        128,
        -1,
        -128,
        -129,
        4095,
        4096,
        -4096,
        -4097,
        32767,
        32768,
        -32768,
        -32769,
        8_388_607,
        8_388_608,
        -8_388_608,
        -8_388_609,
        2_147_483_647,
        2_147_483_648,
        -2_147_483_648,
        i64::MAX,
        i64::MIN,
    ];

    fn read(blob: &[u8]) -> Result<Vec<Entry<'_>>, Damage> {
        Listpack::parse(blob)?.entries().collect()
    }

    #[test]
    fn every_encoding_round_trips() {
        let texts = [0, 1, 63, 64, 125, 126, 4095, 4096, 20_000].map(|len| vec![b't'; len]);
        let mut entries: Vec<_> = INTEGERS.iter().map(|n| Entry::Integer(*n)).collect();
        entries.extend(texts.iter().map(|text| Entry::Text(text)));
        let blob = write(&entries);
        assert_eq!(read(&blob).unwrap(), entries);
    }

    #[test]
    fn a_count_too_large_for_the_header_is_counted() {
        let entries = vec![Entry::Integer(1); 70_000];
        let blob = write(&entries);
        assert_eq!(Listpack::parse(&blob).unwrap().count(), Ok(70_000));
        assert_eq!(read(&blob).unwrap().len(), 70_000);
    }

    #[test]
    fn damage_is_named() {
        let good = write(&[Entry::Text(b"abc"), Entry::Integer(5)]);
        let with = |at: usize, byte: u8| {
            let mut bad = good.clone();
            bad[at] = byte;
            read(&bad).unwrap_err()
        };
        assert_eq!(with(0, 1), Damage("listpack: its size is not the string's"));
        assert_eq!(with(4, 1), Damage("listpack: too many entries"));
        assert_eq!(with(4, 3), Damage("listpack: too few entries"));
        assert_eq!(with(6, 0xbf), SHORT);
        assert_eq!(with(6, 0xff), Damage("listpack: bad encoding"));
        assert_eq!(with(good.len() - 1, 0), Damage("listpack: no end mark"));
        assert_eq!(read(&good[..5]).unwrap_err(), Damage("listpack: no header"));
    }
}
