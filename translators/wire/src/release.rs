use std::{fmt, str::FromStr};

use crate::Refusal;

/// A named protocol release of a store: `redis-6.2`, `valkey-9.1`, `redis-8.0.6`.
///
/// An identity, not an ordered number: Redis and Valkey both claimed RDB 12 and later, incompatibly.
/// `patch` is there only where a patch release changed the wire; without it the name means the most
/// conservative member.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Release {
    store: String,
    major: u16,
    minor: u16,
    patch: Option<u16>,
}

impl Release {
    #[must_use]
    pub fn new(store: &str, major: u16, minor: u16, patch: Option<u16>) -> Self {
        Self { store: store.to_owned(), major, minor, patch }
    }

    #[must_use]
    pub fn store(&self) -> &str {
        &self.store
    }

    #[must_use]
    pub const fn major(&self) -> u16 {
        self.major
    }

    #[must_use]
    pub const fn minor(&self) -> u16 {
        self.minor
    }

    #[must_use]
    pub const fn patch(&self) -> Option<u16> {
        self.patch
    }

    /// The same release without its patch number.
    #[must_use]
    pub fn short(&self) -> Self {
        Self { patch: None, ..self.clone() }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}.{}", self.store, self.major, self.minor)?;
        match self.patch {
            Some(patch) => write!(f, ".{patch}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Release {
    type Err = ParseReleaseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseReleaseError { text: text.to_owned() };
        let (store, version) = text.rsplit_once('-').ok_or_else(error)?;
        let store_ok = store.starts_with(|c: char| c.is_ascii_lowercase())
            && store.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !store_ok {
            return Err(error());
        }
        let mut numbers = version.split('.').map(number);
        let (Some(Some(major)), Some(Some(minor))) = (numbers.next(), numbers.next()) else {
            return Err(error());
        };
        let patch = match numbers.next() {
            None => None,
            Some(Some(patch)) => Some(patch),
            Some(None) => return Err(error()),
        };
        if numbers.next().is_some() {
            return Err(error());
        }
        Ok(Self { store: store.to_owned(), major, minor, patch })
    }
}

/// Digits only: `u16::from_str` alone would also take `+8`.
fn number(text: &str) -> Option<u16> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a release name: expected <store>-<major>.<minor>, such as \"redis-6.2\"")]
pub struct ParseReleaseError {
    text: String,
}

/// What lies between an ordered pair of releases, from the one that sends to the one that receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing to do: bytes pass unchanged.
    Same,
    /// Touch only the negotiation, so that the newer end itself emits the older form.
    Downshift,
    /// Rewrite what is sent.
    Rewrite,
    /// There is no way; the reason says why.
    Refuse(Refusal),
}

impl Verdict {
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Downshift => "downshift",
            Self::Rewrite => "rewrite",
            Self::Refuse(_) => "refuse",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in ["redis-6.2", "valkey-9.1", "redis-8.0.6", "my-store-4.0"] {
            assert_eq!(name.parse::<Release>().unwrap().to_string(), name);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for name in [
            "redis",
            "redis-6",
            "redis-6.",
            "Redis-6.2",
            "redis-6.2.1.0",
            "-6.2",
            "redis-+6.2",
            "redis-6.99999",
        ] {
            assert!(name.parse::<Release>().is_err(), "{name} was accepted");
        }
    }

    #[test]
    fn short_drops_the_patch() {
        assert_eq!("redis-8.0.6".parse::<Release>().unwrap().short().to_string(), "redis-8.0");
    }
}
