//! What a comparison found.

use std::fmt::{self, Write};

/// Differences kept with their keys; further ones are only counted.
pub const DIFFERENCES_KEPT_MAX: usize = 100;
/// Bytes of a key or value shown to a person.
const SHOWN_BYTES_MAX: usize = 60;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Live keys of the first store, all compared.
    pub keys: u64,
    /// All differences, kept or not.
    pub differences_total: u64,
    /// The first [`DIFFERENCES_KEPT_MAX`] ones.
    pub differences: Vec<Difference>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub db: u64,
    pub key: Vec<u8>,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    OnlyInFirst,
    OnlyInSecond,
    Type {
        first: String,
        second: String,
    },
    /// Absolute expiries, in words.
    Expiry {
        first: String,
        second: String,
        /// How much later the second is, in milliseconds, where both expire.
        later_ms: Option<i64>,
    },
    /// The first difference inside the value, in words.
    Value(String),
    /// The reader has no commands for this type, so nothing is known of the value.
    NotReadable {
        kind: String,
    },
}

impl Comparison {
    #[must_use]
    pub const fn is_equal(&self) -> bool {
        self.differences_total == 0
    }

    pub(super) fn add(&mut self, difference: Difference) {
        self.differences_total = self.differences_total.saturating_add(1);
        if self.differences.len() < DIFFERENCES_KEPT_MAX {
            self.differences.push(difference);
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys compared, {} differences", self.keys, self.differences_total)?;
        for difference in &self.differences {
            write!(f, "\n  {difference}")?;
        }
        let kept = u64::try_from(self.differences.len()).unwrap_or(u64::MAX);
        match self.differences_total.saturating_sub(kept) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "db {} key {}: {}", self.db, show(&self.key), self.what)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnlyInFirst => f.write_str("only in the first store"),
            Self::OnlyInSecond => f.write_str("only in the second store"),
            Self::Type { first, second } => write!(f, "type {first} against {second}"),
            Self::Expiry { first, second, .. } => write!(f, "expiry {first} against {second}"),
            Self::Value(what) => f.write_str(what),
            Self::NotReadable { kind } => write!(f, "the reader cannot read values of type {kind}"),
        }
    }
}

/// Bytes for a person: printable, cut off.
#[must_use]
pub fn show(bytes: &[u8]) -> String {
    let shown = bytes.get(..SHOWN_BYTES_MAX).unwrap_or(bytes);
    let mut text = format!("\"{}\"", shown.escape_ascii());
    if shown.len() < bytes.len() {
        // Writing to a String cannot fail.
        let _ = write!(text, "… ({} bytes)", bytes.len());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_cap_differences_are_counted_and_not_kept() {
        let mut comparison = Comparison::default();
        for number in 0..DIFFERENCES_KEPT_MAX + 7 {
            let key = number.to_string().into_bytes();
            comparison.add(Difference { db: 0, key, what: What::OnlyInFirst });
        }
        assert_eq!(comparison.differences.len(), DIFFERENCES_KEPT_MAX);
        assert_eq!(comparison.differences_total, 107);
        assert!(comparison.to_string().ends_with("and 7 more"), "{comparison}");
    }
}
