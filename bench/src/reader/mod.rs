//! The independent reader: compares all data of two stores through client commands alone.
//!
//! It shares no code with the translators and asks nothing that differs between releases by design (DUMP,
//! DEBUG DIGEST). Both stores must hold still while it reads. It walks the first store's keys and looks each
//! up in the second, then looks for keys that only the second has; of both it holds one page of keys and one
//! chunk of one value at a time.
//!
//! Compared: database, key, type, absolute expiry, and the whole value; for streams also the last id, the
//! groups, their consumers, and their pending entries with delivery counts. Not compared, because older
//! releases do not keep them: stream counters (`entries-added`, `entries-read`, `max-deleted-entry-id`), and
//! delivery times, which only show as idle times. A key that has logically expired counts as absent, although
//! a replica keeps it until its master says DEL.

mod collections;
mod difference;
mod expiry;
mod newer;
mod pair;
mod streams;

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use redis::{Connection, cmd};

pub use difference::{Comparison, DIFFERENCES_KEPT_MAX, Difference, What, show};

use crate::client;
use expiry::Expiry;
use pair::{Pair, Side, parse};

/// Keys asked for at a time.
const KEYS_PER_PAGE: usize = 200;

#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Compares the expiries of hash fields as well; a store that has none answers "no expiry".
    pub field_ttls: bool,
}

/// Compares the stores on two loopback ports.
///
/// # Errors
/// A store does not answer, or answers something that is not understood. A difference is no error.
pub fn compare(first_port: u16, second_port: u16) -> Result<Comparison> {
    compare_with(first_port, second_port, Options::default())
}

/// As [`compare`], with options.
///
/// # Errors
/// As [`compare`].
pub fn compare_with(first_port: u16, second_port: u16, options: Options) -> Result<Comparison> {
    compare_connected(client::connect(first_port)?, client::connect(second_port)?, options)
}

/// As [`compare_with`], over connections that the caller has, to stores that may be anywhere.
///
/// # Errors
/// As [`compare`].
pub fn compare_connected(first: Connection, second: Connection, options: Options) -> Result<Comparison> {
    let mut pair = Pair { first: Side::open(first)?, second: Side::open(second)? };
    let mut comparison = Comparison::default();
    let databases: BTreeSet<u64> =
        pair.first.databases()?.into_iter().chain(pair.second.databases()?).collect();
    for db in databases {
        pair.both(&[cmd("SELECT").arg(db).take()])?;
        compare_keys_of_first(&mut pair, db, options, &mut comparison)?;
        find_keys_of_second(&mut pair, db, &mut comparison)?;
    }
    Ok(comparison)
}

fn compare_keys_of_first(
    pair: &mut Pair,
    db: u64,
    options: Options,
    comparison: &mut Comparison,
) -> Result<()> {
    let mut cursor = Cursor::start();
    while let Some(keys) = cursor.next(&mut pair.first)? {
        let (first, second) = (heads(&mut pair.first, &keys)?, heads(&mut pair.second, &keys)?);
        for ((key, first), second) in keys.into_iter().zip(first).zip(second) {
            if first.kind == Kind::Absent {
                continue;
            }
            comparison.keys = comparison.keys.saturating_add(1);
            let found = compare_key(pair, &key, &first, &second, options);
            let expired =
                first.expiry.is_past() || (second.expiry.is_past() && second.expiry.agrees(first.expiry));
            if expired {
                // Perhaps between two questions: whatever was found, even an error, says nothing.
                continue;
            }
            let found =
                found.with_context(|| format!("reading key {} of database {db}", difference::show(&key)))?;
            for what in found {
                comparison.add(Difference { db, key: key.clone(), what });
            }
        }
    }
    Ok(())
}

fn find_keys_of_second(pair: &mut Pair, db: u64, comparison: &mut Comparison) -> Result<()> {
    let mut cursor = Cursor::start();
    while let Some(keys) = cursor.next(&mut pair.second)? {
        let (first, second) = (heads(&mut pair.first, &keys)?, heads(&mut pair.second, &keys)?);
        for ((key, first), second) in keys.into_iter().zip(first).zip(second) {
            let only_here = first.kind == Kind::Absent && second.kind != Kind::Absent;
            if only_here && !second.expiry.is_past() {
                comparison.add(Difference { db, key, what: What::OnlyInSecond });
            }
        }
    }
    Ok(())
}

fn compare_key(
    pair: &mut Pair,
    key: &[u8],
    first: &Head,
    second: &Head,
    options: Options,
) -> Result<Vec<What>> {
    if second.kind == Kind::Absent {
        return Ok(vec![What::OnlyInFirst]);
    }
    if first.kind != second.kind {
        let (first, second) = (first.kind.label().to_owned(), second.kind.label().to_owned());
        return Ok(vec![What::Type { first, second }]);
    }
    let mut found = Vec::new();
    if !first.expiry.agrees(second.expiry) {
        // The bounds of a whole page can be wide or, rarely, off by the page's own time: ask once more, alone.
        let (first, second) = (pair.first.expiry(key)?, pair.second.expiry(key)?);
        if !first.agrees(second) {
            let later_ms = second.later_ms(first);
            found.push(What::Expiry { first: first.to_string(), second: second.to_string(), later_ms });
        }
    }
    let value = match &first.kind {
        Kind::String => collections::strings(pair, key)?,
        Kind::List => collections::lists(pair, key)?,
        Kind::Set => collections::sets(pair, key)?,
        Kind::Hash => collections::hashes(pair, key, options.field_ttls)?,
        Kind::SortedSet => collections::sorted_sets(pair, key)?,
        Kind::Stream => streams::compare(pair, key)?,
        Kind::VectorSet => newer::vector_sets(pair, key)?,
        Kind::Array => newer::arrays(pair, key)?,
        Kind::Other(name) => {
            found.push(What::NotReadable { kind: name.clone() });
            None
        }
        Kind::Absent => None,
    };
    found.extend(value.map(What::Value));
    Ok(found)
}

/// What is asked of every key before its value.
struct Head {
    kind: Kind,
    expiry: Expiry,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Absent,
    String,
    List,
    Set,
    Hash,
    SortedSet,
    Stream,
    VectorSet,
    Array,
    /// A type that the reader has no commands for; never passed over silently.
    Other(String),
}

impl Kind {
    fn from_label(label: String) -> Self {
        match label.as_str() {
            "none" => Self::Absent,
            "string" => Self::String,
            "list" => Self::List,
            "set" => Self::Set,
            "hash" => Self::Hash,
            "zset" => Self::SortedSet,
            "stream" => Self::Stream,
            "vectorset" => Self::VectorSet,
            "array" => Self::Array,
            _ => Self::Other(label),
        }
    }

    fn label(&self) -> &str {
        match self {
            Self::Absent => "none",
            Self::String => "string",
            Self::List => "list",
            Self::Set => "set",
            Self::Hash => "hash",
            Self::SortedSet => "zset",
            Self::Stream => "stream",
            Self::VectorSet => "vectorset",
            Self::Array => "array",
            Self::Other(label) => label,
        }
    }
}

fn heads(side: &mut Side, keys: &[Vec<u8>]) -> Result<Vec<Head>> {
    let expiries = side.expiries(keys)?;
    let commands: Vec<_> = keys.iter().map(|key| cmd("TYPE").arg(key).take()).collect();
    let types = side.ask(&commands)?;
    types
        .into_iter()
        .zip(expiries)
        .map(|(kind, expiry)| Ok(Head { kind: Kind::from_label(parse(kind)?), expiry }))
        .collect()
}

/// A walk over all keys of the selected database. SCAN may give a key twice while the store's table is being
/// resized; such a key is compared, and counted, twice.
struct Cursor {
    position: Option<String>,
}

impl Cursor {
    fn start() -> Self {
        Self { position: Some("0".to_owned()) }
    }

    /// The next page, which may be empty before the end.
    fn next(&mut self, side: &mut Side) -> Result<Option<Vec<Vec<u8>>>> {
        let Some(position) = self.position.take() else { return Ok(None) };
        let scan = cmd("SCAN").arg(&position).arg("COUNT").arg(KEYS_PER_PAGE).take();
        let (next, keys): (String, Vec<Vec<u8>>) = side.ask_one(scan)?;
        self.position = (next != "0").then_some(next);
        Ok(Some(keys))
    }
}
