//! The releases that this translator knows, and what lies between them.
//!
//! Measured on real servers; see the README's table of what is translated.

use std::sync::LazyLock;

use segue_wire::{Refusal, Release, Verdict};

use crate::rdb;

pub const STORE: &str = "redis";

/// A point on Redis' own line of releases: major, minor, patch.
///
/// The patch counts only in lines where a patch release changed the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(pub u16, pub u16, pub u16);

pub const V5_0: Level = Level(5, 0, 0);
pub const V6_0: Level = Level(6, 0, 0);
pub const V6_2: Level = Level(6, 2, 0);
pub const V7_0: Level = Level(7, 0, 0);
pub const V7_2: Level = Level(7, 2, 0);
pub const V7_4: Level = Level(7, 4, 0);
pub const V8_0: Level = Level(8, 0, 0);
const VECTOR_SETS_SETTLED: Level = Level(8, 0, 6);

/// One minor line and the RDB version that its servers write and load at most.
struct Line {
    level: Level,
    rdb_version: u16,
    /// Did patch releases of this line change the wire?
    patches_differ: bool,
}

const LINES: &[Line] = &[
    Line { level: V5_0, rdb_version: 9, patches_differ: false },
    Line { level: V6_0, rdb_version: 9, patches_differ: false },
    Line { level: V6_2, rdb_version: 9, patches_differ: false },
    Line { level: V7_0, rdb_version: 10, patches_differ: false },
    Line { level: V7_2, rdb_version: 11, patches_differ: false },
    Line { level: V7_4, rdb_version: 12, patches_differ: false },
    // 8.0.6 sends HSETEX for HINCRBYFLOAT, and its vector sets kill 8.0.2.
    Line { level: V8_0, rdb_version: 12, patches_differ: true },
];

/// Every release known by name.
pub static RELEASES: LazyLock<Vec<Release>> = LazyLock::new(|| {
    LINES.iter().map(|line| Release::new(STORE, line.level.0, line.level.1, None)).collect()
});

/// The release that a running server means by `redis_version` (`8.0.6`).
pub fn recognize(store: &str, version: &str) -> Option<Release> {
    let mut numbers = version.split('.').map(str::parse::<u16>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return None;
    };
    let patch = numbers.next().and_then(Result::ok);
    let release = Release::new(store, major, minor, None);
    match line(&release) {
        Some(line) if line.patches_differ => Some(Release::new(store, major, minor, patch)),
        _ => Some(release),
    }
}

/// What lies between two releases, from the master's to the replica's.
pub fn verdict(from: &Release, to: &Release) -> Verdict {
    match Pair::new(from, to) {
        Some(pair) if pair.from <= pair.to => Verdict::Same,
        Some(_) if from == to && from.patch().is_some() => Verdict::Same,
        Some(_) => Verdict::Rewrite,
        None if from == to => Verdict::Same,
        None => Verdict::Refuse(Refusal::UnsupportedPair { from: from.clone(), to: to.clone() }),
    }
}

/// The more conservative of two releases to speak, if both are known.
pub fn older<'a>(a: &'a Release, b: &'a Release) -> Option<&'a Release> {
    Some(if lowest(a)? <= lowest(b)? { a } else { b })
}

/// What a file or snapshot for `to` may hold, whatever wrote it.
pub fn rdb_target(to: &Release) -> Option<rdb::Target> {
    let level = lowest(to)?;
    target(to, level, Level(u16::MAX, 0, 0))
}

/// An ordered pair of known releases, each taken at its most conservative member: as a sender the
/// highest, as a receiver the lowest.
#[derive(Clone, Debug)]
pub struct Pair {
    pub from: Level,
    pub to: Level,
    pub to_release: Release,
    pub rdb: rdb::Target,
}

impl Pair {
    pub fn new(from: &Release, to: &Release) -> Option<Self> {
        let (from_level, to_level) = (highest(from)?, lowest(to)?);
        let rdb = target(to, to_level, from_level)?;
        Some(Self { from: from_level, to: to_level, to_release: to.clone(), rdb })
    }
}

fn target(release: &Release, level: Level, from: Level) -> Option<rdb::Target> {
    // A vector set written by a later patch of 8.0 kills an earlier one, up to 8.0.6.
    let vector_sets = level >= V8_0 && (from <= level || level >= VECTOR_SETS_SETTLED);
    Some(rdb::Target {
        release: release.clone(),
        version: line(release)?.rdb_version,
        modules: if vector_sets { &["vectorset"] } else { &[] },
    })
}

fn lowest(release: &Release) -> Option<Level> {
    level(release, 0)
}

fn highest(release: &Release) -> Option<Level> {
    level(release, u16::MAX)
}

/// `any_patch` stands for a patch that the name leaves open.
fn level(release: &Release, any_patch: u16) -> Option<Level> {
    let line = line(release)?;
    let patch = if line.patches_differ { release.patch().unwrap_or(any_patch) } else { 0 };
    Some(Level(line.level.0, line.level.1, patch))
}

fn line(release: &Release) -> Option<&'static Line> {
    if release.store() != STORE {
        return None;
    }
    LINES.iter().find(|line| (line.level.0, line.level.1) == (release.major(), release.minor()))
}

#[cfg(test)]
pub const LINE_LEVELS: &[Level] = &[V5_0, V6_0, V6_2, V7_0, V7_2, V7_4, V8_0];

#[cfg(test)]
mod tests {
    use super::*;

    fn release(name: &str) -> Release {
        name.parse().unwrap()
    }

    #[test]
    fn a_patch_is_part_of_the_name_only_where_patches_differ() {
        assert_eq!(recognize("redis", "6.2.14"), Some(release("redis-6.2")));
        assert_eq!(recognize("redis", "8.0.6"), Some(release("redis-8.0.6")));
        assert_eq!(recognize("valkey", "9.1.2"), Some(release("valkey-9.1")));
        assert_eq!(recognize("redis", "unstable"), None);
    }

    #[test]
    fn older_to_newer_is_the_same_and_newer_to_older_is_rewritten() {
        for to in
            ["redis-5.0", "redis-6.0", "redis-6.2", "redis-7.0", "redis-7.2", "redis-7.4", "redis-8.0.2"]
        {
            assert_eq!(verdict(&release("redis-8.0.6"), &release(to)), Verdict::Rewrite, "{to}");
            assert_eq!(verdict(&release(to), &release("redis-8.0.6")), Verdict::Same, "{to}");
        }
        assert_eq!(verdict(&release("redis-8.0.4"), &release("redis-8.0.4")), Verdict::Same);
        assert_eq!(verdict(&release("redis-6.2"), &release("redis-6.2")), Verdict::Same);
    }

    #[test]
    fn a_short_name_means_its_most_conservative_member() {
        assert_eq!(verdict(&release("redis-8.0"), &release("redis-8.0")), Verdict::Rewrite);
        assert_eq!(verdict(&release("redis-8.0.2"), &release("redis-8.0")), Verdict::Rewrite);
        assert_eq!(verdict(&release("redis-8.0"), &release("redis-8.0.6")), Verdict::Rewrite);
    }

    #[test]
    fn an_unknown_release_links_only_with_itself() {
        assert_eq!(verdict(&release("valkey-9.1"), &release("valkey-9.1")), Verdict::Same);
        assert!(matches!(verdict(&release("redis-9.9"), &release("redis-6.2")), Verdict::Refuse(_)));
    }

    #[test]
    fn vector_sets_go_only_where_they_load() {
        let modules = |from: &str, to: &str| Pair::new(&release(from), &release(to)).unwrap().rdb.modules;
        assert_eq!(modules("redis-8.0.2", "redis-8.0.6"), ["vectorset"]);
        assert!(modules("redis-8.0.6", "redis-8.0.2").is_empty());
        assert_eq!(rdb_target(&release("redis-8.0.6")).unwrap().modules, ["vectorset"]);
        assert!(rdb_target(&release("redis-8.0")).unwrap().modules.is_empty());
        assert!(modules("redis-8.0.2", "redis-7.4").is_empty());
    }
}
