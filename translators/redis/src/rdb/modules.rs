//! The modules that come with a store, and whose values are in its snapshots.

use crate::releases::{
    Level, Since,
    since::{redis, redis_patch},
};

pub const MODULES: &[Module] = &[Module {
    name: "vectorset",
    since: redis(8, 0),
    // 8.0.2 dies of what 8.0.6 writes; those in between were not measured.
    changed: &[Changed { written: redis_patch(8, 0, 3), loaded: redis_patch(8, 0, 6) }],
}];

/// A module that comes with a store, and whose values are in its snapshots.
#[derive(Debug)]
pub struct Module {
    pub name: &'static str,
    since: Since,
    changed: &'static [Changed],
}

/// A module began to write in another form.
#[derive(Debug)]
struct Changed {
    written: Since,
    loaded: Since,
}

impl Module {
    pub fn written_by(&self, from: Level) -> bool {
        self.since.has(from)
    }

    /// Whether `to` loads what `from` wrote; `None`: whoever wrote it.
    pub fn loads(&self, from: Option<Level>, to: Level) -> bool {
        let is_older = from.is_some_and(|from| to.descends_from(from));
        let writes = |change: &Changed| from.is_none_or(|from| change.written.has(from));
        self.since.has(to)
            && (is_older || self.changed.iter().all(|change| change.loaded.has(to) || !writes(change)))
    }
}
