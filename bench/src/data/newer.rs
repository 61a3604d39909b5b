//! Content that older releases cannot hold, one kind at a time: for the tests of losses.

use anyhow::Result;
use redis::Connection;

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
}

impl Newer {
    pub const ALL: [Self; 3] = [Self::Functions, Self::FieldTtls, Self::VectorSets];

    /// The keys that [`fill_newer`] writes; a library is no key.
    #[must_use]
    pub const fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Functions => &[],
            Self::FieldTtls => &["newer:hash:small", "newer:hash:large"],
            Self::VectorSets => &["newer:vectors"],
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
        }
    }
    writer.finish().map(drop)
}

fn library() -> String {
    format!(
        "#!lua name={LIBRARY}\nredis.register_function('{LIBRARY}_echo', function(keys, args) return args[1] end)\n"
    )
}
