//! Listpacks to what other releases load.

use bytes::{BufMut, BytesMut};

use super::{
    encoding::{Damage, put_integer, put_number, put_string},
    layout::Packed,
    listpack::{Entry, Listpack},
    ziplist,
};

/// Puts the other form of a listpack that says itself what it holds.
pub fn convert(
    kind: Packed,
    blob: &[u8],
    ziplist: &mut ziplist::Writer,
    out: &mut BytesMut,
) -> Result<(), Damage> {
    let list = Listpack::parse(blob)?;
    match kind {
        Packed::Hash | Packed::SortedSet => groups(&list, 2)?,
        Packed::HashWithTtls => return put_hash(&list, out),
        Packed::HashAndTtls => return put_hash_2(&list, out),
        Packed::Set => return put_set(&list, out),
        Packed::ListNode => 0,
        Packed::TemplateValues | Packed::OwnTemplateValues => {
            return Err(Damage("values without their template"));
        }
    };
    put_ziplist(&list, kind == Packed::SortedSet, ziplist, out)
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

/// HASH: count, (field, value)…; from (field, value, TTL)….
fn put_hash(list: &Listpack<'_>, out: &mut BytesMut) -> Result<(), Damage> {
    put_number(groups(list, 3)?, out);
    for (place, entry) in list.entries().enumerate() {
        let entry = entry?;
        if place % 3 < 2 {
            put_entry(entry, out);
        }
    }
    Ok(())
}

/// HASH_2: count, (field, value, TTL as i64 LE; −1: none)…
fn put_hash_2(list: &Listpack<'_>, out: &mut BytesMut) -> Result<(), Damage> {
    put_number(groups(list, 3)?, out);
    for (place, entry) in list.entries().enumerate() {
        match (place % 3, entry?) {
            (2, Entry::Integer(0)) => out.put_i64_le(-1),
            (2, Entry::Integer(ttl)) => out.put_i64_le(ttl),
            (2, Entry::Text(_)) => return Err(Damage("listpack: a TTL that is no number")),
            (_, entry) => put_entry(entry, out),
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

/// The same elements as a ziplist, in a string; of a sorted set every other one is a score.
fn put_ziplist(
    list: &Listpack<'_>,
    scored: bool,
    ziplist: &mut ziplist::Writer,
    out: &mut BytesMut,
) -> Result<(), Damage> {
    ziplist.start();
    let mut is_score = false;
    for entry in list.entries() {
        let entry = entry?;
        if is_score {
            check_score(entry)?;
        }
        match entry {
            Entry::Integer(value) => ziplist.push_integer(value),
            Entry::Text(text) => ziplist.push_text(text)?,
        }
        is_score = scored && !is_score;
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

pub fn put_entry(entry: Entry<'_>, out: &mut BytesMut) {
    match entry {
        Entry::Integer(value) => put_integer(value, out),
        Entry::Text(text) => put_string(text, out),
    }
}

/// Older releases read a text score with `strtod`, from a buffer of this size with a zero at its end.
const SCORE_BUFFER_BYTES: usize = 128;

fn check_score(entry: Entry<'_>) -> Result<(), Damage> {
    let Entry::Text(text) = entry else { return Ok(()) };
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() < SCORE_BUFFER_BYTES);
    let is_number = |score: f64| !score.is_nan();
    if text.and_then(|text| text.parse().ok()).is_some_and(is_number) {
        Ok(())
    } else {
        Err(Damage("score is not a number"))
    }
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

    /// The elements of the ziplist that a listpack became.
    fn repacked(kind: Packed, entries: &[Entry<'_>]) -> Vec<Vec<u8>> {
        let out = converted(kind, entries).unwrap();
        let (len, size) = super::super::encoding::number(&out).unwrap().unwrap();
        assert_eq!(len as usize, out.len() - size);
        read(&out[size..])
    }

    #[test]
    fn hash() {
        let entries = [Entry::Text(b"f"), Entry::Integer(300), Entry::Integer(7), Entry::Text(b"")];
        assert_eq!(repacked(Packed::Hash, &entries), [&b"f"[..], b"300", b"7", b""]);
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
        let with_ttls = [
            &b"\x02\x01f\x01v"[..],
            &1_900_000_000_000_i64.to_le_bytes(),
            b"\x01g\x01w",
            &(-1_i64).to_le_bytes(),
        ]
        .concat();
        assert_eq!(converted(Packed::HashAndTtls, &entries).unwrap()[..], with_ttls);
        assert_eq!(has_field_ttl(&write(&entries)), Ok(true));
        assert_eq!(has_field_ttl(&write(&entries[3..])), Ok(false));
    }

    #[test]
    fn set() {
        let entries = [Entry::Text(b"one"), Entry::Integer(-1)];
        assert_eq!(&converted(Packed::Set, &entries).unwrap()[..], b"\x02\x03one\xc0\xff");
    }

    #[test]
    fn sorted_set_scores_are_the_same_texts() {
        let scores = ["0.1", "0.10000000000000001", "-0", "inf", "-inf", "1.7976931348623157e+308", "5e-324"];
        for score in scores {
            let entries = [Entry::Text(b"m"), Entry::Text(score.as_bytes())];
            assert_eq!(repacked(Packed::SortedSet, &entries), [b"m", score.as_bytes()]);
        }
        for score in [3, 9_007_199_254_740_993] {
            let entries = [Entry::Text(b"m"), Entry::Integer(score)];
            assert_eq!(repacked(Packed::SortedSet, &entries), [b"m", score.to_string().as_bytes()]);
        }
        let long = format!("0.{}", "1".repeat(SCORE_BUFFER_BYTES));
        for bad in [&b"nan"[..], b"", b"one", b"\xff", long.as_bytes()] {
            let entries = [Entry::Text(b"m"), Entry::Text(bad)];
            assert_eq!(converted(Packed::SortedSet, &entries), Err(Damage("score is not a number")));
        }
        // What is no score need not be a number.
        assert_eq!(
            repacked(Packed::SortedSet, &[Entry::Text(b"nan"), Entry::Integer(1)]),
            [&b"nan"[..], b"1"]
        );
    }

    #[test]
    fn list_node() {
        let long = vec![b'x'; 300];
        let entries = [Entry::Text(&long), Entry::Integer(5), Entry::Text(b"a")];
        assert_eq!(repacked(Packed::ListNode, &entries), [&long[..], b"5", b"a"]);
    }
}
