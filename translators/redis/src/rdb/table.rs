//! What becomes of a snapshot's items where they are not loaded, for a reader. What the rewriter follows is
//! the layout; a test keeps this table as complete.

use super::{items::ITEMS, modules::MODULES};
use crate::releases::{Level, Pair};

/// Items of which the same is to be said.
#[derive(Debug)]
pub struct Row {
    /// By their names, or those of modules that come with a store.
    items: &'static [&'static str],
    /// Where the receiver loads one of these, it says the same.
    alike: &'static [&'static str],
    pub form: &'static str,
    pub instead: &'static str,
    /// Kinds of losses that this can be.
    pub losses: &'static [&'static str],
}

#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    row(&["HASH_LISTPACK", "ZSET_LISTPACK"], "hash, sorted set as listpack", "the same as ziplist", &[]),
    row(&["LIST_QUICKLIST_2"], "list as quicklist of listpacks", "quicklist of ziplists, node by node", &[]),
    row(&["SET_LISTPACK"], "set as listpack", "plain set", &[]),
    row(&["STREAM_LISTPACKS_2"], "stream with counters", "stream without", &["stream-counters"]),
    row(&["STREAM_LISTPACKS_3"], "active time of a stream's consumers", LEFT_OUT, &["stream-consumer-active-time"]),
    row(&["STREAM_LISTPACKS_4"], "ids of a stream's producers", LEFT_OUT, &["stream-idempotence"]),
    row(&["STREAM_LISTPACKS_5"], "entries of a stream's group that wait for any consumer", "entries of a consumer `segue:nacked`", &["stream-nacked"]),
    Row { alike: &["HASH_2"], ..row(&["HASH_METADATA", "HASH_LISTPACK_EX"], FIELD_TTLS, "plain hash", &["hash-field-ttl"]) },
    Row { alike: &["HASH_METADATA"], ..row(&["HASH_2"], FIELD_TTLS, "plain hash", &["hash-field-ttl"]) },
    row(&["ARRAY"], "array", LEFT_OUT, &["array"]),
    row(&["HASH_TEMPLATE", "HASH_TEMPLATE_LISTPACK", "HASH_TEMPLATE_LISTPACK_REF", "HASH_TEMPLATE_ARRAY", "HASH_TEMPLATE_ARRAY_REF"],
        "hash made by HIMPORT", "plain hash", &[]),
    row(&["vectorset"], "vector set", LEFT_OUT, &["vector-set"]),
    row(&["FUNCTION2"], "function library", LEFT_OUT, &["function-library"]),
    row(&["SLOT_INFO"], "sizes of a cluster's slots", "left out: only a hint", &[]),
    row(&["SLOT_IMPORT"], "that slots are being imported", LEFT_OUT, &["slot-import"]),
];

/// What can be in a snapshot of any release.
pub const ANY: Row = row(
    &[],
    "values and data of modules that do not come with the store",
    LEFT_OUT,
    &["module-type", "module-aux", "key-metadata"],
);

const FIELD_TTLS: &str = "hash with field TTLs";
const LEFT_OUT: &str = "left out";
const OTHER_FORM: &str = "the same in the other store's form";

const fn row(
    items: &'static [&'static str],
    form: &'static str,
    instead: &'static str,
    losses: &'static [&'static str],
) -> Row {
    Row { items, alike: &[], form, instead, losses }
}

impl Row {
    /// What becomes of it between these two and the losses that this can be; `None` if it passes, or is never
    /// sent.
    #[must_use]
    pub fn between(&self, pair: &Pair) -> Option<(&'static str, &'static [&'static str])> {
        if !self.items.iter().any(|item| is_sent(item, pair.from) && !is_loaded(item, pair)) {
            return None;
        }
        let alike = self.alike.iter().any(|item| is_loaded(item, pair));
        Some(if alike { (OTHER_FORM, &[]) } else { (self.instead, self.losses) })
    }
}

fn is_sent(name: &str, from: Level) -> bool {
    ITEMS.iter().any(|item| item.name == name && item.since.has(from))
        || MODULES.iter().any(|module| module.name == name && module.written_by(from))
}

fn is_loaded(name: &str, pair: &Pair) -> bool {
    ITEMS.iter().any(|item| item.name == name && item.since.has(pair.to)) || pair.rdb.loads_module(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::releases::since;

    #[test]
    fn every_item_that_some_release_does_not_load_has_its_row() {
        let newer =
            |item: &&super::super::layout::Item| item.since != since::first() && item.since != since::never();
        let items = ITEMS.iter().filter(newer).map(|item| item.name);
        for name in items.chain(MODULES.iter().map(|module| module.name)) {
            assert_eq!(ROWS.iter().filter(|row| row.items.contains(&name)).count(), 1, "{name}");
        }
    }
}
