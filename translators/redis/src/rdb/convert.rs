//! Listpacks to what older releases load.

use bytes::{BufMut, BytesMut};

use super::{
    encoding::{Damage, put_integer, put_number, put_string},
    layout::Packed,
    listpack::{Entry, Listpack},
    ziplist,
};

/// Puts the older form of a listpack.
pub fn convert(
    kind: Packed,
    blob: &[u8],
    ziplist: &mut ziplist::Writer,
    out: &mut BytesMut,
) -> Result<(), Damage> {
    let list = Listpack::parse(blob)?;
    match kind {
        Packed::Hash => put_hash(&list, 2, out),
        Packed::HashWithTtls => put_hash(&list, 3, out),
        Packed::Set => put_set(&list, out),
        Packed::SortedSet => put_sorted_set(&list, out),
        Packed::ListNode => put_node(&list, ziplist, out),
    }
}

/// Whether a field of a hash in (field, value, TTL) triples has a TTL.
pub fn has_field_ttl(blob: &[u8]) -> Result<bool, Damage> {
    for ttl in Listpack::parse(blob)?.entries().skip(2).step_by(3) {
        if ttl? != Entry::Integer(0) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// HASH: count, (field, value)…; from groups of `width` entries that start with field and value.
fn put_hash(list: &Listpack<'_>, width: usize, out: &mut BytesMut) -> Result<(), Damage> {
    put_number(groups(list, width as u64)?, out);
    for (place, entry) in list.entries().enumerate() {
        let entry = entry?;
        if place % width < 2 {
            put_entry(entry, out);
        }
    }
    Ok(())
}

/// SET: count, member…
fn put_set(list: &Listpack<'_>, out: &mut BytesMut) -> Result<(), Damage> {
    put_number(list.count()?, out);
    for entry in list.entries() {
        put_entry(entry?, out);
    }
    Ok(())
}

/// ZSET_2: count, (member, score as f64 LE)…
fn put_sorted_set(list: &Listpack<'_>, out: &mut BytesMut) -> Result<(), Damage> {
    put_number(groups(list, 2)?, out);
    for (place, entry) in list.entries().enumerate() {
        let entry = entry?;
        if place % 2 == 0 { put_entry(entry, out) } else { out.put_f64_le(score(entry)?) }
    }
    Ok(())
}

/// The same elements as a ziplist, in a string.
fn put_node(list: &Listpack<'_>, ziplist: &mut ziplist::Writer, out: &mut BytesMut) -> Result<(), Damage> {
    ziplist.start();
    for entry in list.entries() {
        match entry? {
            Entry::Integer(value) => ziplist.push_integer(value),
            Entry::Text(text) => ziplist.push_text(text)?,
        }
    }
    put_string(ziplist.finish()?, out);
    ziplist.shrink(KEPT_BYTES_MAX);
    Ok(())
}

/// A larger ziplist's memory is given back.
const KEPT_BYTES_MAX: usize = 1 << 20;

fn groups(list: &Listpack<'_>, width: u64) -> Result<u64, Damage> {
    let count = list.count()?;
    if count.is_multiple_of(width) { Ok(count / width) } else { Err(Damage("listpack: an incomplete group")) }
}

fn put_entry(entry: Entry<'_>, out: &mut BytesMut) {
    match entry {
        Entry::Integer(value) => put_integer(value, out),
        Entry::Text(text) => put_string(text, out),
    }
}

/// The double nearest to the decimal text, as `strtod` reads it.
fn score(entry: Entry<'_>) -> Result<f64, Damage> {
    let parsed = match entry {
        Entry::Integer(value) => Some(value as f64),
        Entry::Text(text) => std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()),
    };
    parsed.filter(|score: &f64| !score.is_nan()).ok_or(Damage("score is not a number"))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{listpack::tests::write, ziplist::tests::read},
        *,
    };

    fn converted(kind: Packed, entries: &[Entry<'_>]) -> Result<BytesMut, Damage> {
        let mut out = BytesMut::new();
        convert(kind, &write(entries), &mut ziplist::Writer::default(), &mut out).map(|()| out)
    }

    #[test]
    fn hash() {
        let entries = [Entry::Text(b"f"), Entry::Integer(300), Entry::Integer(7), Entry::Text(b"")];
        assert_eq!(&converted(Packed::Hash, &entries).unwrap()[..], b"\x02\x01f\xc1\x2c\x01\xc0\x07\x00");
        assert_eq!(converted(Packed::Hash, &entries[..3]), Err(Damage("listpack: an incomplete group")));
    }

    #[test]
    fn hash_with_ttls() {
        let entries = [
            [Entry::Text(b"f"), Entry::Text(b"v"), Entry::Integer(1_900_000_000_000)],
            [Entry::Text(b"g"), Entry::Text(b"w"), Entry::Integer(0)],
        ]
        .concat();
        assert_eq!(&converted(Packed::HashWithTtls, &entries).unwrap()[..], b"\x02\x01f\x01v\x01g\x01w");
        assert_eq!(has_field_ttl(&write(&entries)), Ok(true));
        assert_eq!(has_field_ttl(&write(&entries[3..])), Ok(false));
    }

    #[test]
    fn set() {
        let entries = [Entry::Text(b"one"), Entry::Integer(-1)];
        assert_eq!(&converted(Packed::Set, &entries).unwrap()[..], b"\x02\x03one\xc0\xff");
    }

    #[test]
    fn sorted_set_scores_are_the_same_doubles() {
        let cases: &[(Entry<'_>, f64)] = &[
            (Entry::Integer(3), 3.0),
            (Entry::Integer(9_007_199_254_740_993), 9_007_199_254_740_992.0),
            (Entry::Text(b"0.1"), 0.1),
            (Entry::Text(b"0.10000000000000001"), 0.1),
            (Entry::Text(b"-0"), -0.0),
            (Entry::Text(b"inf"), f64::INFINITY),
            (Entry::Text(b"-inf"), f64::NEG_INFINITY),
            (Entry::Text(b"1.7976931348623157e+308"), f64::MAX),
            (Entry::Text(b"5e-324"), 5e-324),
        ];
        for (text, score) in cases {
            let out = converted(Packed::SortedSet, &[Entry::Text(b"m"), *text]).unwrap();
            assert_eq!(out[..3], *b"\x01\x01m");
            assert_eq!(out[3..], score.to_le_bytes(), "{text:?}");
        }
        for bad in [&b"nan"[..], b"", b"one", b"\xff"] {
            let entries = [Entry::Text(b"m"), Entry::Text(bad)];
            assert_eq!(converted(Packed::SortedSet, &entries), Err(Damage("score is not a number")));
        }
    }

    #[test]
    fn list_node() {
        let long = vec![b'x'; 300];
        let entries = [Entry::Text(&long), Entry::Integer(5), Entry::Text(b"a")];
        let out = converted(Packed::ListNode, &entries).unwrap();
        let (len, size) = super::super::encoding::number(&out).unwrap().unwrap();
        assert_eq!(len as usize, out.len() - size);
        assert_eq!(read(&out[size..]), [&long[..], b"5", b"a"]);
    }
}
