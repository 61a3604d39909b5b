//! Streams: entries, last id, groups, consumers, pending entries. Gives the first difference in words.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result};
use redis::{Value, cmd};

use super::difference::show;
use super::pair::{Pair, Side, parse};

/// Entries asked for at a time, of the stream or pending.
const ENTRIES_PER_CHUNK: usize = 256;

pub fn compare(pair: &mut Pair, key: &[u8]) -> Result<Option<String>> {
    let (first, second) = (state(&mut pair.first, key)?, state(&mut pair.second, key)?);
    if first != second {
        return Ok(Some(format!("stream has {first} against {second}")));
    }
    if let Some(difference) = entries(pair, key)? {
        return Ok(Some(difference));
    }
    let (first, second) = (groups(&mut pair.first, key)?, groups(&mut pair.second, key)?);
    if let Some(difference) = first_unequal("group", &first, &second) {
        return Ok(Some(difference));
    }
    for group in first.keys() {
        let (a, b) = (consumers(&mut pair.first, key, group)?, consumers(&mut pair.second, key, group)?);
        if let Some(difference) = first_unequal("consumer", &a, &b) {
            return Ok(Some(format!("group {}: {difference}", show(group))));
        }
        if let Some(difference) = pending(pair, key, group)? {
            return Ok(Some(format!("group {}: {difference}", show(group))));
        }
    }
    Ok(None)
}

/// The part of XINFO STREAM that every release has.
fn state(side: &mut Side, key: &[u8]) -> Result<String> {
    let info = Fields::parse(side.ask_one(cmd("XINFO").arg("STREAM").arg(key).take())?)?;
    let (length, last_id) = (info.number("length")?, info.text("last-generated-id")?);
    Ok(format!("{length} entries and last id {last_id}"))
}

fn entries(pair: &mut Pair, key: &[u8]) -> Result<Option<String>> {
    type Entry = (String, Vec<Vec<u8>>);
    let mut from = Id::START;
    loop {
        let range =
            cmd("XRANGE").arg(key).arg(from.to_string()).arg("+").arg("COUNT").arg(ENTRIES_PER_CHUNK).take();
        let (first, second): (Vec<Entry>, Vec<Entry>) = pair.both_one(&range)?;
        for (a, b) in first.iter().zip(&second) {
            if a.0 != b.0 {
                return Ok(Some(format!("stream entry {} against {}", a.0, b.0)));
            }
            if a.1 != b.1 {
                return Ok(Some(format!("stream entry {} has other fields", a.0)));
            }
        }
        if first.len() != second.len() {
            return Ok(Some(format!(
                "stream has {} against {} entries from {from} on",
                first.len(),
                second.len()
            )));
        }
        match first.last() {
            Some((last, _)) => from = last.parse::<Id>()?.next(),
            None => return Ok(None),
        }
    }
}

/// What must be equal of a group or a consumer, by its name.
type Named = BTreeMap<Vec<u8>, String>;

fn groups(side: &mut Side, key: &[u8]) -> Result<Named> {
    let groups: Vec<Value> = side.ask_one(cmd("XINFO").arg("GROUPS").arg(key).take())?;
    let named = groups.into_iter().map(|group| {
        let group = Fields::parse(group)?;
        let (pending, last) = (group.number("pending")?, group.text("last-delivered-id")?);
        Ok((group.bytes("name")?, format!("{pending} pending, last delivered {last}")))
    });
    named.collect()
}

fn consumers(side: &mut Side, key: &[u8], group: &[u8]) -> Result<Named> {
    let consumers: Vec<Value> = side.ask_one(cmd("XINFO").arg("CONSUMERS").arg(key).arg(group).take())?;
    let named = consumers.into_iter().map(|consumer| {
        let consumer = Fields::parse(consumer)?;
        Ok((consumer.bytes("name")?, format!("{} pending", consumer.number("pending")?)))
    });
    named.collect()
}

fn first_unequal(what: &str, first: &Named, second: &Named) -> Option<String> {
    for (name, a) in first {
        match second.get(name) {
            None => return Some(format!("{what} {} only in the first store", show(name))),
            Some(b) if a != b => return Some(format!("{what} {}: {a} against {b}", show(name))),
            Some(_) => {}
        }
    }
    let extra = second.keys().find(|name| !first.contains_key(*name))?;
    Some(format!("{what} {} only in the second store", show(extra)))
}

fn pending(pair: &mut Pair, key: &[u8], group: &[u8]) -> Result<Option<String>> {
    /// Id, consumer, idle milliseconds, delivery count.
    type Entry = (String, Vec<u8>, i64, i64);
    let mut from = Id::START;
    loop {
        let range =
            cmd("XPENDING").arg(key).arg(group).arg(from.to_string()).arg("+").arg(ENTRIES_PER_CHUNK).take();
        let (first, second): (Vec<Entry>, Vec<Entry>) = pair.both_one(&range)?;
        for ((a_id, a_consumer, _, a_count), (b_id, b_consumer, _, b_count)) in first.iter().zip(&second) {
            if (a_id, a_consumer, a_count) != (b_id, b_consumer, b_count) {
                let (a, b) = (show(a_consumer), show(b_consumer));
                return Ok(Some(format!(
                    "pending {a_id} of {a}, delivered {a_count} times, against {b_id} of {b}, {b_count} times"
                )));
            }
        }
        if first.len() != second.len() {
            return Ok(Some(format!("{} against {} pending from {from} on", first.len(), second.len())));
        }
        match first.last() {
            Some((last, ..)) => from = last.parse::<Id>()?.next(),
            None => return Ok(None),
        }
    }
}

/// An id such as `1526985054069-0`: milliseconds and a sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Id {
    ms: u64,
    seq: u64,
}

impl Id {
    const START: Self = Self { ms: 0, seq: 0 };

    /// The least id above this one: 5.0 knows no exclusive ranges.
    const fn next(self) -> Self {
        match self.seq.checked_add(1) {
            Some(seq) => Self { ms: self.ms, seq },
            None => Self { ms: self.ms.saturating_add(1), seq: 0 },
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

impl FromStr for Id {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (ms, seq) = text.split_once('-').with_context(|| format!("`{text}` is no stream id"))?;
        Ok(Self { ms: ms.parse()?, seq: seq.parse()? })
    }
}

/// The name-value list that XINFO answers with.
struct Fields {
    fields: BTreeMap<String, Value>,
}

impl Fields {
    fn parse(answer: Value) -> Result<Self> {
        Ok(Self { fields: parse(answer)? })
    }

    fn get<T: redis::FromRedisValue>(&self, name: &str) -> Result<T> {
        let value = self.fields.get(name).with_context(|| format!("XINFO answers no {name}"))?;
        parse(value.clone())
    }

    fn number(&self, name: &str) -> Result<u64> {
        self.get(name)
    }

    fn text(&self, name: &str) -> Result<String> {
        self.get(name)
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        self.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_id_carries_into_the_milliseconds() {
        let id: Id = "7-18446744073709551615".parse().unwrap();
        assert_eq!(id.next().to_string(), "8-0");
        assert_eq!("7-1".parse::<Id>().unwrap().next().to_string(), "7-2");
        assert!("7".parse::<Id>().is_err());
    }
}
