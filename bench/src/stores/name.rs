//! Names of stores: `redis-8.0` (a release) and `redis-8.0.2` (one exact version).

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, anyhow};

/// A line of stores that share a code base and a numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    Redis,
    Valkey,
    Redict,
}

impl Family {
    /// The first part of a store's name, of its packages and of its programs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Valkey => "valkey",
            Self::Redict => "redict",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl FromStr for Family {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        [Self::Redis, Self::Valkey, Self::Redict]
            .into_iter()
            .find(|family| family.label() == text)
            .ok_or_else(|| anyhow!("`{text}` is no store this lab knows; it knows redis, valkey and redict"))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

impl Version {
    #[must_use]
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// The number in what `<store>-server --version` prints, such as `Redis server v=8.0.2 sha=… `.
    #[must_use]
    pub fn in_banner(banner: &str) -> Option<Self> {
        banner.split_whitespace().find_map(|word| word.strip_prefix("v=")?.parse().ok())
    }

    /// The upstream number in a Debian package version, such as `5:8.0.6-3` or `8.1.1+dfsg1-3~bpo12+1`.
    #[must_use]
    pub fn in_debian(version: &str) -> Option<Self> {
        let upstream = version.split_once(':').map_or(version, |(_epoch, rest)| rest);
        upstream.split(['-', '+', '~']).next()?.parse().ok()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let numbers: Vec<u32> = text
            .split('.')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map_err(|_| anyhow!("`{text}` is no version: expected three numbers, such as 8.0.2"))?;
        match numbers[..] {
            [major, minor, patch] => Ok(Self { major, minor, patch }),
            _ => Err(anyhow!("`{text}` is no version: expected three numbers, such as 8.0.2")),
        }
    }
}

/// What a caller asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StoreName {
    pub family: Family,
    pub version: Wanted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    Exact(Version),
    /// The newest patch version of `major.minor` that a source still has.
    Release {
        major: u32,
        minor: u32,
    },
}

impl Wanted {
    #[must_use]
    pub fn admits(self, version: Version) -> bool {
        match self {
            Self::Exact(exact) => exact == version,
            Self::Release { major, minor } => (major, minor) == (version.major, version.minor),
        }
    }
}

impl fmt::Display for StoreName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Wanted::Exact(version) => write!(f, "{}-{version}", self.family),
            Wanted::Release { major, minor } => write!(f, "{}-{major}.{minor}", self.family),
        }
    }
}

impl FromStr for StoreName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let expected = || anyhow!("`{text}` is no store name: expected one such as redis-8.0 or redis-8.0.2");
        let (family, version) = text.split_once('-').ok_or_else(expected)?;
        let family = family.parse()?;
        if let Ok(exact) = version.parse() {
            return Ok(Self { family, version: Wanted::Exact(exact) });
        }
        let (major, minor) = version.split_once('.').ok_or_else(expected)?;
        let major = major.parse().map_err(|_| expected())?;
        let minor = minor.parse().map_err(|_| expected())?;
        Ok(Self { family, version: Wanted::Release { major, minor } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_release_or_an_exact_version() {
        let release: StoreName = "redis-8.0".parse().unwrap();
        assert_eq!(release.version, Wanted::Release { major: 8, minor: 0 });
        assert!(release.version.admits(Version::new(8, 0, 6)));
        assert!(!release.version.admits(Version::new(8, 2, 0)));
        let exact: StoreName = "valkey-9.1.2".parse().unwrap();
        assert_eq!(
            exact,
            StoreName { family: Family::Valkey, version: Wanted::Exact(Version::new(9, 1, 2)) }
        );
        assert_eq!(exact.to_string(), "valkey-9.1.2");
        assert_eq!(release.to_string(), "redis-8.0");
    }

    #[test]
    fn what_is_no_name_is_refused_with_what_was_expected() {
        for text in ["", "redis", "redis-", "redis-8", "redis-8.x", "redis-8.0.2.1", "redis-8.0.", "etcd-3.5"]
        {
            let error = text.parse::<StoreName>().unwrap_err().to_string();
            assert!(error.contains("expected") || error.contains("knows"), "{text}: {error}");
        }
    }

    #[test]
    fn versions_are_found_in_banners_and_package_versions() {
        let banner = "Redis server v=5.0.6 sha=c7e6b7bb:0 malloc=libc bits=64 build=3bc6f87122cb32f3";
        assert_eq!(Version::in_banner(banner), Some(Version::new(5, 0, 6)));
        assert_eq!(Version::in_banner("Redis server"), None);
        for (text, version) in [
            ("5:8.0.6-3", Version::new(8, 0, 6)),
            ("8.1.1+dfsg1-3~bpo12+1", Version::new(8, 1, 1)),
            ("5:6.0.16-1+deb11u4", Version::new(6, 0, 16)),
            ("7.3.6+ds-1", Version::new(7, 3, 6)),
        ] {
            assert_eq!(Version::in_debian(text), Some(version), "{text}");
        }
    }
}
