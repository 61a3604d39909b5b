//! What lies between two releases, for a reader: from the same tables that the rewriters follow.

use segue_wire::{Change, Grade, LossKind, Part, Release, Verdict};

use crate::{
    rdb::table::{self as snapshot, ANY},
    releases::{Pair, since, verdict},
    rules::{Rule, table::RULES},
};

/// Kinds of losses that no command of the other release can show.
const BOOKKEEPING: &[&str] = &["stream-counters", "stream-consumer-active-time", "stream-idempotence"];

pub fn changes(from: &Release, to: &Release) -> Vec<Change> {
    match (verdict(from, to), Pair::new(from, to)) {
        (Verdict::Downshift | Verdict::Rewrite, Some(pair)) => {
            let mut changes = vec![change(Part::Snapshot, HEADER, NEW_HEADER, &[])];
            changes.extend(in_snapshot(&pair));
            changes.push(change(Part::Snapshot, ANY.form, ANY.instead, ANY.losses));
            changes.extend(in_stream(&pair));
            changes.push(change(Part::Stream, UNKNOWN, "nothing", &["unknown-command"]));
            changes.push(change(Part::Stream, UNKNOWN_OPTION, "nothing", &["unknown-form"]));
            changes
        }
        _ => Vec::new(),
    }
}

const HEADER: &str = "header and checksum";
const NEW_HEADER: &str = "the newest header that is accepted, a new checksum";
const UNKNOWN: &str = "a command that Segue does not know, such as a module's";
const UNKNOWN_OPTION: &str = "a command with an option that neither Segue nor the replica knows";

fn in_snapshot(pair: &Pair) -> impl Iterator<Item = Change> {
    snapshot::ROWS.iter().filter_map(|row| {
        let (instead, losses) = row.between(pair)?;
        Some(change(Part::Snapshot, row.form, instead, losses))
    })
}

fn in_stream(pair: &Pair) -> impl Iterator<Item = Change> {
    let is_between = |rule: &&Rule| {
        let of_content = rule.since == since::never();
        (of_content || rule.since.has(pair.from)) && rule.is_for(pair)
    };
    RULES.iter().filter(is_between).map(|rule| change(Part::Stream, rule.form, rule.instead, rule.losses))
}

fn change(part: Part, form: &str, instead: &str, losses: &[&'static str]) -> Change {
    let kind = |name: &&'static str| LossKind { name, grade: grade(name) };
    Change {
        part,
        form: form.to_owned(),
        instead: instead.to_owned(),
        losses: losses.iter().map(kind).collect(),
    }
}

fn grade(kind: &str) -> Grade {
    if BOOKKEEPING.contains(&kind) { Grade::Bookkeeping } else { Grade::Data }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::releases::RELEASES;

    fn between(from: &str, to: &str) -> Vec<Change> {
        changes(&from.parse().unwrap(), &to.parse().unwrap())
    }

    fn losses_of(from: &str, to: &str, form: &str) -> Option<Vec<&'static str>> {
        let changes = between(from, to);
        let change = changes.iter().find(|change| change.form.starts_with(form))?;
        Some(change.losses.iter().map(|loss| loss.name).collect())
    }

    #[test]
    fn there_are_changes_exactly_where_links_are_rewritten() {
        for from in RELEASES.iter() {
            for to in RELEASES.iter() {
                let pair = Pair::new(from, to).unwrap();
                let of_release = |rule: &&Rule| rule.since != since::never();
                let stream = RULES.iter().filter(of_release);
                let stream = stream.filter(|rule| rule.since.has(pair.from) && !rule.since.has(pair.to));
                let count = in_snapshot(&pair).count() + stream.count();
                match verdict(from, to) {
                    Verdict::Same => {
                        assert!(count == 0 || from == to, "{from} to {to}");
                        assert_eq!(changes(from, to), []);
                    }
                    Verdict::Downshift | Verdict::Rewrite => assert!(!changes(from, to).is_empty()),
                    Verdict::Refuse(_) => assert_eq!(changes(from, to), []),
                }
            }
        }
    }

    #[test]
    fn what_is_new_between_two_releases_is_told_with_what_it_loses() {
        assert_eq!(losses_of("redis-8.0", "redis-6.0", "HPEXPIREAT "), Some(vec!["hash-field-ttl"]));
        assert_eq!(losses_of("redis-8.0", "redis-6.0", "hash with field TTLs"), Some(vec!["hash-field-ttl"]));
        assert_eq!(losses_of("redis-8.0", "redis-6.0", "LPOP key count"), Some(vec![]));
        assert_eq!(losses_of("redis-8.0", "redis-6.0", "vector set"), Some(vec!["vector-set"]));
        assert_eq!(losses_of("redis-7.2", "redis-7.0", "HPEXPIREAT "), None);
        assert_eq!(losses_of("redis-7.2", "redis-7.0", "function library"), None);
        let counters = LossKind { name: "stream-counters", grade: Grade::Bookkeeping };
        let changes = between("redis-7.0", "redis-6.2");
        let stream = changes.iter().filter(|change| change.losses == [counters]);
        assert!(stream.clone().any(|change| change.part == Part::Snapshot), "{changes:?}");
        assert!(stream.clone().any(|change| change.part == Part::Stream), "{changes:?}");
    }
}
