//! Compares a sample of the keys of two stores, by commands that every release knows.
//!
//! Compared: the type, whether the key expires, the length and, up to a size, the whole value. Not compared:
//! when it expires, what expires within it, and what a stream keeps beside its entries.

use std::{collections::BTreeSet, time::Duration};

use redis::{Cmd, Value, from_redis_value};

use super::{
    connection::{Connection, Failed, Way},
    driver::{connect, not_yet},
};
use crate::stores::driver::DriverError;

/// However many are asked for.
const KEYS_MAX: usize = 10_000;
/// A value that takes more memory is compared by its type and length alone.
const VALUE_BYTES_MAX: u64 = 1 << 20;
/// A key that differs is read so often before it counts: it may be on its way, or change all the time.
const READS_MAX: u32 = 6;
const READ_PERIOD: Duration = Duration::from_millis(250);

struct Key {
    db: u64,
    name: Vec<u8>,
}

#[derive(Debug, PartialEq)]
struct Read {
    kind: String,
    expires: bool,
    length: u64,
}

/// `content` is none where it is too large, or of a type that has no command for it.
struct Whole {
    read: Read,
    content: Option<Vec<Vec<u8>>>,
}

pub async fn compare(own: &Way, master: &Way, keys: usize) -> Result<Vec<String>, DriverError> {
    let mut pair = (connect(own).await?, connect(master).await?);
    let half = keys.min(KEYS_MAX).div_ceil(2);
    // From both: what only one of them has differs, too.
    let mut sampled = sample(&mut pair.0, half).await.map_err(not_yet(own))?;
    sampled.append(&mut sample(&mut pair.1, half).await.map_err(not_yet(master))?);
    let mut left: Vec<Key> = sampled.into_iter().map(|(db, name)| Key { db, name }).collect();
    for read in 1..=READS_MAX {
        let mut differ = Vec::new();
        for key in left {
            let before = whole(&mut pair.1, &key).await.map_err(not_yet(master))?;
            let own = whole(&mut pair.0, &key).await.map_err(not_yet(own))?;
            if own.equals(&before) {
                continue;
            }
            let after = whole(&mut pair.1, &key).await.map_err(not_yet(master))?;
            let holds_still = before.equals(&after);
            // One that changes at every look says nothing.
            if !own.equals(&after) && (holds_still || read < READS_MAX) {
                differ.push(key);
            }
        }
        left = differ;
        if left.is_empty() {
            break;
        }
        tokio::time::sleep(READ_PERIOD).await;
    }
    Ok(left.iter().map(Key::shown).collect())
}

/// Random keys, of each database in proportion to its size.
async fn sample(store: &mut Connection, keys: usize) -> Result<BTreeSet<(u64, Vec<u8>)>, Failed> {
    let databases = store.info().await?.databases();
    let total: u64 = databases.iter().map(|(_, size)| *size).fold(0, u64::saturating_add).max(1);
    let mut sampled = BTreeSet::new();
    for (db, size) in databases {
        let share = (keys as u64).saturating_mul(size).div_ceil(total).min(size);
        let mut random = redis::pipe();
        random.cmd("SELECT").arg(db).ignore();
        for _ in 0..share {
            random.cmd("RANDOMKEY");
        }
        let names: Vec<Option<Vec<u8>>> = store.ask_all(&random).await?;
        sampled.extend(names.into_iter().flatten().map(|name| (db, name)));
    }
    Ok(sampled)
}

async fn whole(store: &mut Connection, key: &Key) -> Result<Whole, Failed> {
    let mut look = redis::pipe();
    look.cmd("SELECT").arg(key.db).ignore().cmd("TYPE").arg(&key.name).cmd("PTTL").arg(&key.name);
    look.cmd("MEMORY").arg("USAGE").arg(&key.name);
    let (kind, ttl_ms, bytes): (String, i64, Option<u64>) = store.ask_all(&look).await?;
    let mut read = Read { kind, expires: ttl_ms >= 0, length: 0 };
    let command = |name: &str| redis::cmd(name).arg(&key.name).take();
    let (length, content): (&str, Cmd) = match read.kind.as_str() {
        "string" => ("STRLEN", command("GET")),
        "list" => ("LLEN", command("LRANGE").arg(0).arg(-1).take()),
        "set" => ("SCARD", command("SMEMBERS")),
        "hash" => ("HLEN", command("HGETALL")),
        "zset" => ("ZCARD", command("ZRANGE").arg(0).arg(-1).arg("WITHSCORES").take()),
        "stream" => ("XLEN", command("XRANGE").arg("-").arg("+").take()),
        _ => return Ok(Whole { read, content: None }),
    };
    // It may have become of another type meanwhile.
    let Some(counted) = unless_refused(store.ask(&command(length)).await)? else {
        return Ok(Whole { read, content: None });
    };
    read.length = counted;
    if bytes.is_none_or(|bytes| bytes > VALUE_BYTES_MAX) {
        return Ok(Whole { read, content: None });
    }
    let value: Option<Value> = unless_refused(store.ask(&content).await)?;
    let content = value.map(|value| in_order(&read.kind, value));
    Ok(Whole { read, content })
}

fn unless_refused<T>(answer: Result<T, Failed>) -> Result<Option<T>, Failed> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(Failed::Redis(error)) if error.code().is_some() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Releases order sets and hashes differently, and write scores differently.
fn in_order(kind: &str, value: Value) -> Vec<Vec<u8>> {
    let mut flat = Vec::new();
    flatten(value, &mut flat);
    let width = match kind {
        "set" => 1,
        "hash" | "zset" => 2,
        _ => return flat,
    };
    let mut items: Vec<Vec<Vec<u8>>> = flat.chunks(width).map(<[_]>::to_vec).collect();
    if kind == "zset" {
        items.iter_mut().filter_map(|item| item.get_mut(1)).for_each(as_number);
    }
    items.sort();
    items.concat()
}

fn as_number(score: &mut Vec<u8>) {
    let number = std::str::from_utf8(score).ok().and_then(|text| text.parse::<f64>().ok());
    if let Some(number) = number {
        *score = number.to_string().into_bytes();
    }
}

fn flatten(value: Value, flat: &mut Vec<Vec<u8>>) {
    match value {
        Value::Array(values) => values.into_iter().for_each(|value| flatten(value, flat)),
        value => flat.push(from_redis_value(value).unwrap_or_default()),
    }
}

impl Whole {
    fn equals(&self, other: &Self) -> bool {
        let contents = self.content.as_ref().zip(other.content.as_ref());
        self.read == other.read && contents.is_none_or(|(one, other)| one == other)
    }
}

impl Key {
    fn shown(&self) -> String {
        let name = String::from_utf8_lossy(&self.name);
        if self.db == 0 { name.into_owned() } else { format!("{name} (database {})", self.db) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn what_has_no_order_and_scores_of_any_spelling_are_equal() {
        let members = |one: [&str; 4]| in_order("zset", Value::Array(one.map(bulk).to_vec()));
        assert_eq!(members(["a", "0.10000000000000001", "b", "2"]), members(["b", "2", "a", "0.1"]));
        assert_ne!(members(["a", "1", "b", "2"]), members(["a", "2", "b", "1"]));
        let fields = |one: [&str; 4]| in_order("hash", Value::Array(one.map(bulk).to_vec()));
        assert_eq!(fields(["f", "1", "g", "2"]), fields(["g", "2", "f", "1"]));
        let list = |one: [&str; 2]| in_order("list", Value::Array(one.map(bulk).to_vec()));
        assert_ne!(list(["a", "b"]), list(["b", "a"]));
    }
}
