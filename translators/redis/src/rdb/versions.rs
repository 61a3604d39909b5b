//! RDB versions: whose they are, and the header that says them.
//!
//! | version | header | written by |
//! |---|---|---|
//! | 9 | `REDIS0009` | Redis 5.0, 6.0, 6.2 |
//! | 10 | `REDIS0010` | Redis 7.0 |
//! | 11 | `REDIS0011` | Redis 7.2, Valkey 7.2 to 8.1 |
//! | 12 | `REDIS0012` | Redis 7.4, 8.0, 8.2, Redict 7.3 |
//! | 13 | `REDIS0013` | Redis 8.6 |
//! | 15 | `REDIS0015` | Redis 8.10 |
//! | 80 | `VALKEY080` | Valkey 9.0, 9.1 |
//!
//! The version is only the header's: which items a release loads is told by the release. A DUMP payload has
//! the number alone.

use std::ops::RangeInclusive;

/// Whose codes a snapshot has: from Valkey 9.0 on some mean other items than in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codes {
    Redis,
    Valkey,
}

struct Header {
    codes: Codes,
    magic: &'static str,
    digits: usize,
    /// Those that the table of items covers.
    versions: RangeInclusive<u16>,
}

/// From version 5 on an RDB ends in a checksum.
const HEADERS: [Header; 2] = [
    Header { codes: Codes::Redis, magic: "REDIS", digits: 4, versions: 6..=15 },
    Header { codes: Codes::Valkey, magic: "VALKEY", digits: 3, versions: 80..=80 },
];

/// A magic and the version in digits.
pub const HEADER_BYTES: usize = 9;

/// Whether an RDB or a DUMP payload of this version can be read.
#[must_use]
pub fn reads(version: u16) -> bool {
    codes(version).is_some()
}

/// Whose codes a version has, if it can be read.
pub fn codes(version: u16) -> Option<Codes> {
    HEADERS.iter().find(|header| header.versions.contains(&version)).map(|header| header.codes)
}

/// The version that a header says; what is wrong with it in words.
pub fn parse(header: &[u8; HEADER_BYTES]) -> Result<u16, String> {
    let form = HEADERS.iter().find_map(|form| Some((form, header.strip_prefix(form.magic.as_bytes())?)));
    let form =
        form.filter(|(form, digits)| digits.len() == form.digits && digits.iter().all(u8::is_ascii_digit));
    let Some((form, digits)) = form else {
        return Err(format!("\"{}\" is not an RDB's", header.escape_ascii()));
    };
    // Digits alone always are a number.
    let version = digits.iter().fold(0, |version, digit| 10 * version + u16::from(digit - b'0'));
    if form.versions.contains(&version) {
        return Ok(version);
    }
    let (first, last) = (form.versions.start(), form.versions.end());
    Err(format!("version {version} of {}; versions {first} to {last} are known", form.magic))
}

/// The header that says a version.
pub fn write(version: u16) -> String {
    let [redis, valkey] = &HEADERS;
    let form = if codes(version) == Some(Codes::Valkey) { valkey } else { redis };
    format!("{}{version:0digits$}", form.magic, digits = form.digits)
}

/// The RDB versions whose header a release accepts. Redis counts up to 79, Valkey from 80 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    redis_newest: u16,
    valkey_newest: Option<u16>,
}

impl Headers {
    /// Valkey's own versions start here, and have a magic of their own.
    const VALKEY_FIRST: u16 = 80;

    pub const fn redis(newest: u16) -> Self {
        Self { redis_newest: newest, valkey_newest: None }
    }

    pub const fn valkey(redis_newest: u16, newest: u16) -> Self {
        Self { redis_newest, valkey_newest: Some(newest) }
    }

    /// What the release itself writes.
    pub fn written(self) -> u16 {
        self.valkey_newest.unwrap_or(self.redis_newest)
    }

    /// Whose codes it loads.
    pub fn codes(self) -> Codes {
        if self.valkey_newest.is_some() { Codes::Valkey } else { Codes::Redis }
    }

    pub fn accept(self, version: u16) -> bool {
        version <= self.redis_newest
            || self.valkey_newest.is_some_and(|newest| (Self::VALKEY_FIRST..=newest).contains(&version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip() {
        for (version, header) in
            [(6, b"REDIS0006"), (9, b"REDIS0009"), (15, b"REDIS0015"), (80, b"VALKEY080")]
        {
            assert_eq!(parse(header), Ok(version));
            assert_eq!(write(version).as_bytes(), header);
        }
        assert_eq!((codes(15), codes(80)), (Some(Codes::Redis), Some(Codes::Valkey)));
        for other in [5, 16, 79, 81] {
            assert!(!reads(other), "{other}");
        }
    }
}
