//! The releases that this translator knows, and what lies between them.
//!
//! Measured on real servers; see the README's table of what is translated.
//!
//! | module | holds |
//! |---|---|
//! | here | names as servers and operators say them |
//! | `line` | the family: lines of stores, and points on them |
//! | [`since`] | since when each line has a thing |
//! | `known` | the releases by name |
//! | `pair` | two of them: the verdict, and what each is taken for |

mod known;
mod line;
mod pair;
pub mod since;

use segue_wire::Release;

pub use self::{
    known::RELEASES,
    line::{Level, Line},
    pair::{Pair, rdb_target, verdict},
    since::Since,
};

/// The release that a running server means by its own version (`8.0.6`).
pub fn recognize(store: &str, version: &str) -> Option<Release> {
    let mut numbers = version.split('.').map(str::parse::<u16>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return None;
    };
    let patch = numbers.next().and_then(Result::ok);
    let release = Release::new(store, major, minor, None);
    match known::find(&release) {
        Some(known) if known.patches_differ => Some(Release::new(store, major, minor, patch)),
        _ => Some(release),
    }
}

/// The more conservative of two releases to speak: the one that the other came out of. There is none
/// where a release is not known, or where they parted.
pub fn older<'a>(a: &'a Release, b: &'a Release) -> Option<&'a Release> {
    let (level_a, level_b) = (known::level(a)?, known::level(b)?);
    if level_b.descends_from(level_a) { Some(a) } else { level_a.descends_from(level_b).then_some(b) }
}

#[cfg(test)]
mod tests {
    use segue_wire::Verdict;

    use super::*;

    fn release(name: &str) -> Release {
        name.parse().unwrap()
    }

    #[test]
    fn a_patch_is_part_of_the_name_only_where_patches_differ() {
        assert_eq!(recognize("redis", "6.0.16"), Some(release("redis-6.0")));
        assert_eq!(recognize("redis", "6.2.14"), Some(release("redis-6.2.14")));
        assert_eq!(recognize("redis", "8.0.6"), Some(release("redis-8.0.6")));
        assert_eq!(recognize("valkey", "9.1.2"), Some(release("valkey-9.1")));
        assert_eq!(recognize("valkey", "8.0.1"), Some(release("valkey-8.0")));
        assert_eq!(recognize("redict", "7.3.6"), Some(release("redict-7.3")));
        assert_eq!(recognize("redis", "unstable"), None);
    }

    #[test]
    fn the_older_of_two_is_the_one_that_the_other_came_out_of() {
        let older = |a: &str, b: &str| older(&release(a), &release(b)).map(ToString::to_string);
        assert_eq!(older("redis-6.0", "redis-8.0").as_deref(), Some("redis-6.0"));
        assert_eq!(older("valkey-9.1", "redis-6.0").as_deref(), Some("redis-6.0"));
        assert_eq!(older("valkey-9.1", "valkey-8.0").as_deref(), Some("valkey-8.0"));
        assert_eq!(older("valkey-9.1", "redis-8.0"), None);
        assert_eq!(older("redis-6.0", "other-1.0"), None);
    }

    #[test]
    fn both_read_what_the_older_of_two_writes() {
        for a in &*RELEASES {
            for b in &*RELEASES {
                let Some(older) = older(a, b) else { continue };
                // A name that leaves its patch open may mean another one as a sender than as a receiver.
                for reader in [a, b].into_iter().filter(|reader| *reader != older) {
                    assert_eq!(verdict(older, reader), Verdict::Same, "{a} and {b}");
                }
            }
        }
    }
}
