use segue_wire::Release;

use super::layout::{self, Role};

/// What a receiving release loads.
#[derive(Clone, Debug)]
pub struct Target {
    pub release: Release,
    /// The newest RDB version whose header it accepts.
    pub version: u16,
    /// Module type names it loads, such as `vectorset`.
    pub modules: &'static [&'static str],
}

impl Target {
    /// Whether a value of this type byte loads as it is. A module's value also needs the module.
    #[must_use]
    pub fn loads_type(&self, ty: u8) -> bool {
        layout::find(ty).is_some_and(|item| item.role == Role::Value && item.since <= self.version)
    }

    /// Whether an item of this opcode loads as it is. A module's data (247) also needs the module.
    #[must_use]
    pub fn loads_opcode(&self, opcode: u8) -> bool {
        layout::find(opcode).is_some_and(|item| item.role != Role::Value && item.since <= self.version)
    }

    #[must_use]
    pub fn loads_module(&self, name: &str) -> bool {
        self.modules.contains(&name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_opcodes_load_from_their_version_on() {
        let target =
            |version| Target { release: Release::new("redis", 0, 0, None), version, modules: &["vectorset"] };
        let old = target(9);
        assert!(old.loads_type(15) && !old.loads_type(16) && !old.loads_type(250));
        assert!(old.loads_opcode(250) && !old.loads_opcode(245) && !old.loads_opcode(15));
        let new = target(12);
        assert!(new.loads_type(25) && new.loads_opcode(244) && !new.loads_type(26));
        assert!(new.loads_module("vectorset") && !new.loads_module("bf"));
    }
}
