use segue_wire::{Refusal, Release, Verdict};

use super::{
    known::{self, Measured},
    line::Level,
};
use crate::{rdb, rules};

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
        let (from, receiver) = (known::sender(from)?, known::receiver(to)?);
        let rdb = target(to, receiver, Some(from.level));
        Some(Self { from: from.level, to: receiver.level, to_release: to.clone(), rdb })
    }
}

/// What lies between two releases, from the master's to the replica's: read from the tables of what each
/// sends and knows.
pub fn verdict(from: &Release, to: &Release) -> Verdict {
    if is_one(from, to) {
        return Verdict::Same;
    }
    let refuse = || Verdict::Refuse(Refusal::UnsupportedPair { from: from.clone(), to: to.clone() });
    let (Some(sender), Some(pair)) = (known::sender(from), Pair::new(from, to)) else { return refuse() };
    let written = sender.headers.written();
    if pair.rdb.accepts(written) && pair.rdb.loads_all_of(pair.from) && rules::understands_all(&pair) {
        Verdict::Same
    } else if rdb::reads(written) {
        Verdict::Rewrite
    } else {
        refuse()
    }
}

/// What a file or snapshot for `to` may hold, whatever wrote it.
pub fn rdb_target(to: &Release) -> Option<rdb::Target> {
    Some(target(to, known::receiver(to)?, None))
}

fn target(release: &Release, receiver: Measured, from: Option<Level>) -> rdb::Target {
    rdb::Target::new(release.clone(), receiver.level, receiver.headers, from)
}

/// Whether both names mean one release, and leave no patch open that matters.
fn is_one(from: &Release, to: &Release) -> bool {
    match (known::find(from), known::find(to)) {
        (Some(known), Some(other)) => {
            let settled = !known.patches_differ || from.patch().is_some() && from.patch() == to.patch();
            std::ptr::eq(known, other) && settled
        }
        (None, None) => from == to,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::releases::RELEASES;

    fn release(name: &str) -> Release {
        name.parse().unwrap()
    }

    fn label(from: &str, to: &str) -> &'static str {
        verdict(&release(from), &release(to)).label()
    }

    #[test]
    fn older_to_newer_is_the_same_and_newer_to_older_is_rewritten() {
        for to in
            ["redis-5.0", "redis-6.0", "redis-6.2", "redis-7.0", "redis-7.2", "redis-7.4", "redis-8.0.2"]
        {
            assert_eq!(label("redis-8.0.6", to), "rewrite", "{to}");
            assert_eq!(label(to, "redis-8.0.6"), "same", "{to}");
        }
        assert_eq!(label("redis-8.0.4", "redis-8.0.4"), "same");
    }

    #[test]
    fn every_release_is_the_same_as_itself_and_as_newer_ones_of_its_line() {
        for from in RELEASES.iter().filter(|release| !known::find(release).unwrap().patches_differ) {
            for to in &*RELEASES {
                let (Some(old), Some(new)) = (known::level(from), known::level(to)) else { unreachable!() };
                // Of those in between it is not known which they are nearer to.
                let measured = known::sender(from).unwrap().level == old;
                if old == new || (measured && old.line == new.line && new.descends_from(old)) {
                    assert_eq!(verdict(from, to), Verdict::Same, "{from} to {to}");
                }
            }
        }
    }

    #[test]
    fn a_short_name_means_its_most_conservative_member() {
        assert_eq!(label("redis-8.0", "redis-8.0"), "rewrite");
        assert_eq!(label("redis-8.0.2", "redis-8.0"), "same");
        assert_eq!(label("redis-8.0", "redis-8.0.6"), "same");
        assert_eq!(label("redis-8.0", "redis-8.0.2"), "rewrite");
    }

    #[test]
    fn forks_take_what_redis_was_when_they_left() {
        for to in ["redict-7.3", "valkey-7.2", "valkey-8.0", "valkey-8.1", "valkey-9.0", "valkey-9.1"] {
            for from in ["redis-5.0", "redis-6.0", "redis-6.2", "redis-7.0", "redis-7.2"] {
                assert_eq!(label(from, to), "same", "{from} to {to}");
            }
            assert_eq!(label("redis-8.0", to), "rewrite", "{to}");
        }
    }

    #[test]
    fn one_header_does_not_make_one_content() {
        assert_eq!(label("redis-7.4", "redict-7.3"), "rewrite", "field TTLs");
        assert_eq!(label("redict-7.3", "redis-7.4"), "same");
        assert_eq!(label("redis-8.0", "redis-7.4"), "rewrite", "vector sets");
        assert_eq!(label("redis-8.2", "redis-8.0.6"), "rewrite", "XDELEX");
        assert_eq!(label("valkey-8.0", "redis-7.2"), "rewrite", "CLUSTER SETSLOT");
    }

    #[test]
    fn what_can_not_be_fetched_has_a_verdict_all_the_same() {
        for to in ["redis-5.0", "redis-6.0", "redis-6.2", "redis-7.0"] {
            assert_eq!((label("redis-7.2", to), label("redis-7.4", to)), ("rewrite", "rewrite"), "{to}");
            assert_eq!((label(to, "redis-7.2"), label(to, "redis-7.4")), ("same", "same"), "{to}");
        }
        for to in ["redis-8.0", "redis-8.2", "redis-8.6", "redis-8.10"] {
            assert_eq!((label("redis-7.2", to), label("redis-7.4", to)), ("same", "same"), "{to}");
            assert_eq!((label(to, "redis-7.2"), label(to, "redis-7.4")), ("rewrite", "rewrite"), "{to}");
        }
        for to in ["redict-7.3", "valkey-8.0", "valkey-8.1", "valkey-9.0", "valkey-9.1"] {
            assert_eq!((label("redis-7.2", to), label("redis-7.4", to)), ("same", "rewrite"), "{to}");
        }
        for from in ["valkey-9.0", "valkey-9.1"] {
            assert_eq!(
                (label(from, "redis-7.2"), label(from, "redis-7.4")),
                ("rewrite", "rewrite"),
                "{from}"
            );
        }
    }

    #[test]
    fn an_unknown_release_links_only_with_itself() {
        assert_eq!(label("redis-9.9", "redis-9.9"), "same");
        assert_eq!(label("redis-9.9", "redis-6.2"), "refuse");
        assert_eq!(label("redis-6.2", "other-6.2"), "refuse");
    }

    #[test]
    fn vector_sets_go_only_where_they_load() {
        let modules = |from: &str, to: &str| Pair::new(&release(from), &release(to)).unwrap().rdb.modules;
        assert_eq!(modules("redis-8.0.2", "redis-8.0.6"), ["vectorset"]);
        assert!(modules("redis-8.0.6", "redis-8.0.2").is_empty());
        assert_eq!(rdb_target(&release("redis-8.0.6")).unwrap().modules, ["vectorset"]);
        assert!(rdb_target(&release("redis-8.0")).unwrap().modules.is_empty());
        assert!(modules("redis-8.0.2", "redis-7.4").is_empty());
        assert!(modules("redis-8.0.2", "valkey-9.1").is_empty());
    }
}
