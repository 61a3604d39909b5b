use segue_wire::Release;

use super::{
    items::ITEMS,
    layout::{self, Role},
    modules::MODULES,
    versions::Headers,
};
use crate::releases::Level;

/// What a receiving release loads.
#[derive(Clone, Debug)]
pub struct Target {
    pub release: Release,
    /// What it is taken for; tells which types and opcodes it loads.
    pub level: Level,
    /// Which headers it accepts. A header tells nothing of the content.
    pub headers: Headers,
    /// Module type names it loads, such as `vectorset`.
    pub modules: Vec<&'static str>,
}

impl Target {
    /// `from` wrote what is to be loaded; `None`: whoever.
    pub fn new(release: Release, level: Level, headers: Headers, from: Option<Level>) -> Self {
        let loaded = MODULES.iter().filter(|module| module.loads(from, level));
        let modules = loaded.map(|module| module.name).collect();
        Self { release, level, headers, modules }
    }

    /// Whether an RDB or a DUMP payload of this version gets past its header or footer.
    #[must_use]
    pub fn accepts(&self, version: u16) -> bool {
        self.headers.accept(version)
    }

    /// The version to put on what was sent with this one.
    #[must_use]
    pub fn version_for(&self, sent: u16) -> u16 {
        if self.accepts(sent) { sent } else { self.headers.written() }
    }

    /// Whether a value of this type byte loads as it is, in a snapshot of its own line. A module's value also
    /// needs the module.
    #[must_use]
    pub fn loads_type(&self, ty: u8) -> bool {
        layout::find(self.headers.codes(), ty)
            .is_some_and(|item| item.role == Role::Value && item.since.has(self.level))
    }

    /// Whether an item of this opcode loads as it is. A module's data (247) also needs the module.
    #[must_use]
    pub fn loads_opcode(&self, opcode: u8) -> bool {
        layout::find(self.headers.codes(), opcode)
            .is_some_and(|item| item.role != Role::Value && item.since.has(self.level))
    }

    #[must_use]
    pub fn loads_module(&self, name: &str) -> bool {
        self.modules.contains(&name)
    }

    /// Whether everything loads as it is that a release puts into its snapshots.
    #[must_use]
    pub fn loads_all_of(&self, from: Level) -> bool {
        ITEMS.iter().all(|item| item.since.has(self.level) || !item.since.has(from))
            && MODULES.iter().all(|module| !module.written_by(from) || self.loads_module(module.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::releases::rdb_target;

    fn target(release: &str) -> Target {
        rdb_target(&release.parse().unwrap()).unwrap()
    }

    #[test]
    fn types_and_opcodes_load_from_a_release_on() {
        let old = target("redis-6.2");
        assert!(old.loads_type(15) && !old.loads_type(16) && !old.loads_type(250));
        assert!(old.loads_opcode(250) && !old.loads_opcode(245) && !old.loads_opcode(15));
        let new = target("redis-8.0.6");
        assert!(new.loads_type(25) && new.loads_opcode(244) && !new.loads_type(26));
        assert!(new.loads_module("vectorset") && !new.loads_module("bf"));
        let fork = target("redict-7.3");
        assert!(fork.loads_type(21) && fork.loads_opcode(244) && !fork.loads_type(25));
        let valkey = target("valkey-9.0");
        assert!(valkey.loads_type(22) && valkey.loads_opcode(243) && !valkey.loads_type(25));
        assert!(!target("redis-8.10").loads_type(22) && target("redis-8.10").loads_type(32));
    }

    #[test]
    fn a_header_that_is_not_accepted_becomes_the_newest_that_is() {
        let redis = target("redis-8.0");
        assert_eq!([9, 12, 15, 80].map(|sent| redis.version_for(sent)), [9, 12, 12, 12]);
        let valkey = target("valkey-9.1");
        assert_eq!([9, 11, 12, 15, 80].map(|sent| valkey.version_for(sent)), [9, 11, 80, 80, 80]);
    }
}
