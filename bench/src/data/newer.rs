//! Content that older releases cannot hold, one kind at a time: for the tests of losses.

use anyhow::Result;
use redis::{Connection, Value};

use super::writer::Writer;
use crate::command;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newer {
    /// A function library (7.0).
    Functions,
    /// Fields with expiries of their own, in a small hash (a listpack) and in a large one (7.4).
    FieldTtls,
    /// Vector sets (8.0).
    VectorSets,
    /// Streams that remember the ids of their producers (8.6).
    Producers,
    /// Pending entries that wait for any consumer (8.8).
    Nacked,
    /// Arrays, dense, sparse and with a cursor (8.8).
    Arrays,
    /// Hashes whose fields' names stand in a template, in a listpack and in an array (8.10).
    Imported,
}

impl Newer {
    pub const ALL: [Self; 7] = [
        Self::Functions,
        Self::FieldTtls,
        Self::VectorSets,
        Self::Producers,
        Self::Nacked,
        Self::Arrays,
        Self::Imported,
    ];

    /// The kinds that this store can hold.
    ///
    /// # Errors
    /// The store does not answer.
    pub fn known_to(connection: &mut Connection) -> Result<Vec<Self>> {
        let mut known = Vec::new();
        for newer in Self::ALL {
            let entries: Vec<Value> =
                redis::cmd("COMMAND").arg("INFO").arg(newer.command()).query(connection)?;
            if entries.iter().any(|entry| matches!(entry, Value::Array(parts) if !parts.is_empty())) {
                known.push(newer);
            }
        }
        Ok(known)
    }

    /// A command that came with it.
    const fn command(self) -> &'static str {
        match self {
            Self::Functions => "FUNCTION",
            Self::FieldTtls => "HPEXPIRE",
            Self::VectorSets => "VADD",
            Self::Producers => "XCFGSET",
            Self::Nacked => "XNACK",
            Self::Arrays => "ARSET",
            Self::Imported => "HIMPORT",
        }
    }

    /// The keys that [`fill_newer`] writes; a library is no key.
    #[must_use]
    pub const fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Functions => &[],
            Self::FieldTtls => &["newer:hash:small", "newer:hash:large"],
            Self::VectorSets => &["newer:vectors"],
            Self::Producers => &["newer:producers"],
            Self::Nacked => &["newer:nacked"],
            Self::Arrays => &["newer:array", "newer:array:cursor"],
            Self::Imported => &["newer:imported:small", "newer:imported:large"],
        }
    }
}

/// The name of the library that [`fill_newer`] loads.
pub const LIBRARY: &str = "segue_lab";

/// Adds content of one newer kind to database 0.
///
/// # Errors
/// The store does not answer, or is too old for it.
pub fn fill_newer(connection: &mut Connection, what: Newer) -> Result<()> {
    let mut writer = Writer::new(connection);
    match what {
        Newer::Functions => writer.send(command!("FUNCTION", "LOAD", library()))?,
        Newer::FieldTtls => {
            for (key, fields) in [("newer:hash:small", 5), ("newer:hash:large", 1000)] {
                for field in 0..fields {
                    writer.send(command!("HSET", key, format!("field-{field}"), field))?;
                }
                for field in (0..fields).step_by(2) {
                    let name = format!("field-{field}");
                    writer.send(command!("HPEXPIRE", key, 3_600_000 + field, "FIELDS", 1, name))?;
                }
            }
        }
        Newer::VectorSets => {
            for n in 0..20 {
                let name = format!("vector-{n}");
                writer.send(command!("VADD", "newer:vectors", "VALUES", 3, n, 2 * n + 1, -n, name))?;
            }
            writer.send(command!("VSETATTR", "newer:vectors", "vector-3", "{\"three\": 3}"))?;
        }
        Newer::Producers => {
            for n in 0..5 {
                let id = format!("id-{n}");
                writer.send(command!("XADD", "newer:producers", "IDMP", "producer", id, "*", "f", n))?;
            }
            writer.send(command!("XCFGSET", "newer:producers", "IDMP-DURATION", 77))?;
        }
        Newer::Nacked => nacked(&mut writer)?,
        Newer::Arrays => {
            writer.send(command!("ARSET", "newer:array", 0, "text", 7, 1.5, -12_345_678_901_i64))?;
            writer.send(command!("ARMSET", "newer:array", 1000, "x", 5_000_000, "y".repeat(300)))?;
            writer.send(command!("ARINSERT", "newer:array:cursor", "a", "b", "c"))?;
        }
        Newer::Imported => {
            writer.send(command!("HIMPORT", "PREPARE", "fields", "one", 2, "three"))?;
            writer.send(command!("HIMPORT", "SET", "newer:imported:small", "fields", "v", 7, "w"))?;
            let long = "long ".repeat(50);
            writer.send(command!("HIMPORT", "SET", "newer:imported:large", "fields", "v", long, 7))?;
        }
    }
    writer.finish().map(drop)
}

/// In one group two consumers keep an entry each; in the other the only consumer is gone.
fn nacked(writer: &mut Writer<'_>) -> Result<()> {
    let key = "newer:nacked";
    for n in 1..=6 {
        writer.send(command!("XADD", key, format!("{n}-0"), "f", n))?;
    }
    for (group, consumer) in [("kept", "anna"), ("kept", "bert"), ("left", "carl")] {
        if consumer != "bert" {
            writer.send(command!("XGROUP", "CREATE", key, group, "0"))?;
        }
        writer.send(command!("XREADGROUP", "GROUP", group, consumer, "COUNT", 2, "STREAMS", key, ">"))?;
    }
    writer.send(command!("XNACK", key, "kept", "FAIL", "IDS", 2, "1-0", "3-0"))?;
    writer.send(command!("XNACK", key, "left", "FAIL", "IDS", 2, "1-0", "2-0"))?;
    writer.send(command!("XGROUP", "DELCONSUMER", key, "left", "carl"))
}

fn library() -> String {
    format!(
        "#!lua name={LIBRARY}\nredis.register_function('{LIBRARY}_echo', function(keys, args) return args[1] end)\n"
    )
}
