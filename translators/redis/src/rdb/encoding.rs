//! How an RDB writes numbers and strings (`rdbSaveLen`, `rdbSaveRawString` in `rdb.c`).
//!
//! ```text
//! 00nnnnnn                         number below 64
//! 01nnnnnn nnnnnnnn                number below 16384
//! 10000000 + u32 BE, 10000001 + u64 BE
//! 11000000 + i8, 11000001 + i16 LE, 11000010 + i32 LE    string that is an integer's text
//! 11000011 + number (packed length) + number (length) + LZF bytes
//! ```
//!
//! A string that is neither an integer nor packed is a number (its length) and its bytes.

use bytes::{BufMut, BytesMut};

/// What is wrong with bytes; where they stand is for the caller to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage(pub &'static str);

/// What stands before the bytes of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StringHead {
    Raw {
        len: u64,
    },
    Lzf {
        packed_len: u64,
        len: u64,
    },
    /// The whole string: nothing follows.
    Integer(i32),
}

const BAD_LENGTH: Damage = Damage("bad length byte");

/// The number at the front and its size in bytes; `None`: it goes on behind the end.
pub fn number(bytes: &[u8]) -> Result<Option<(u64, usize)>, Damage> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    Ok(match first {
        0..=0x3f => Some((u64::from(first), 1)),
        0x40..=0x7f => rest.first().map(|&low| (u64::from(first & 0x3f) << 8 | u64::from(low), 2)),
        0x80 => rest.first_chunk().map(|be| (u64::from(u32::from_be_bytes(*be)), 5)),
        0x81 => rest.first_chunk().map(|be| (u64::from_be_bytes(*be), 9)),
        _ => return Err(BAD_LENGTH),
    })
}

/// The head of the string at the front and the head's size in bytes; `None`: it goes on behind the end.
pub fn string_head(bytes: &[u8]) -> Result<Option<(StringHead, usize)>, Damage> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    let integer = |value: Option<i32>, size| value.map(|value| (StringHead::Integer(value), size));
    Ok(match first {
        0..=0xbf => number(bytes)?.map(|(len, size)| (StringHead::Raw { len }, size)),
        0xc0 => integer(rest.first_chunk().map(|le| i32::from(i8::from_le_bytes(*le))), 2),
        0xc1 => integer(rest.first_chunk().map(|le| i32::from(i16::from_le_bytes(*le))), 3),
        0xc2 => integer(rest.first_chunk().map(|le| i32::from_le_bytes(*le)), 5),
        0xc3 => lzf_head(rest)?,
        _ => return Err(Damage("bad string encoding")),
    })
}

fn lzf_head(rest: &[u8]) -> Result<Option<(StringHead, usize)>, Damage> {
    let Some((packed_len, first)) = number(rest)? else { return Ok(None) };
    let Some((len, second)) = number(rest.get(first..).unwrap_or_default())? else { return Ok(None) };
    Ok(Some((StringHead::Lzf { packed_len, len }, 1 + first + second)))
}

pub fn put_number(value: u64, out: &mut BytesMut) {
    match (u8::try_from(value), u16::try_from(value), u32::try_from(value)) {
        (Ok(small), ..) if small < 0x40 => out.put_u8(small),
        (_, Ok(medium), _) if medium < 0x4000 => out.put_u16(0x4000 | medium),
        (.., Ok(large)) => {
            out.put_u8(0x80);
            out.put_u32(large);
        }
        _ => {
            out.put_u8(0x81);
            out.put_u64(value);
        }
    }
}

pub fn put_string(text: &[u8], out: &mut BytesMut) {
    put_number(text.len() as u64, out);
    out.extend_from_slice(text);
}

/// Puts a string that is the text of an integer.
pub fn put_integer(value: i64, out: &mut BytesMut) {
    match (i8::try_from(value), i16::try_from(value), i32::try_from(value)) {
        (Ok(small), ..) => out.extend_from_slice(&[0xc0, small.cast_unsigned()]),
        (_, Ok(medium), _) => {
            out.put_u8(0xc1);
            out.put_i16_le(medium);
        }
        (.., Ok(large)) => {
            out.put_u8(0xc2);
            out.put_i32_le(large);
        }
        _ => put_string(value.to_string().as_bytes(), out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_at_every_size() {
        for value in [0, 63, 64, 16383, 16384, u64::from(u32::MAX), u64::from(u32::MAX) + 1, u64::MAX] {
            let mut out = BytesMut::new();
            put_number(value, &mut out);
            assert_eq!(number(&out), Ok(Some((value, out.len()))));
            for cut in 0..out.len() {
                assert_eq!(number(&out[..cut]), Ok(None), "{value} cut to {cut}");
            }
        }
        assert_eq!(number(&[0x82]), Err(BAD_LENGTH));
        assert_eq!(number(&[0xc0, 1]), Err(BAD_LENGTH), "an encoded string is not a number");
    }

    #[test]
    fn integers_take_the_smallest_form() {
        for (value, size) in
            [(-128, 2), (127, 2), (128, 3), (-32768, 3), (32768, 5), (i64::from(i32::MIN), 5)]
        {
            let mut out = BytesMut::new();
            put_integer(value, &mut out);
            let expected = StringHead::Integer(i32::try_from(value).unwrap());
            assert_eq!(string_head(&out), Ok(Some((expected, size))));
        }
        let mut out = BytesMut::new();
        put_integer(1 << 31, &mut out);
        assert_eq!(&out[..], b"\x0a2147483648");
    }

    #[test]
    fn string_heads() {
        assert_eq!(string_head(b"\x03abc"), Ok(Some((StringHead::Raw { len: 3 }, 1))));
        let lzf = StringHead::Lzf { packed_len: 5, len: 300 };
        assert_eq!(string_head(&[0xc3, 5, 0x41, 0x2c]), Ok(Some((lzf, 4))));
        assert_eq!(string_head(&[0xc3, 5, 0x41]), Ok(None));
        assert_eq!(string_head(&[0xc4]), Err(Damage("bad string encoding")));
    }
}
