/// A line of stores with one numbering. Redict and Valkey left Redis' line at [`FORKED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Line {
    Redis,
    Redict,
    Valkey,
}

impl Line {
    pub const ALL: [Self; 3] = [Self::Redis, Self::Redict, Self::Valkey];

    /// The store's name, as in the name of a release.
    #[must_use]
    pub const fn store(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Redict => "redict",
            Self::Valkey => "valkey",
        }
    }
}

/// Major, minor, patch.
pub type Number = (u16, u16, u16);

/// What Redict and Valkey began with: Redis 7.2.4, whose wire is that of all 7.2.
pub const FORKED: Number = (7, 2, 0);

/// A point in the family's history: there is no order between Redis, Redict and Valkey after they parted.
///
/// Whether a release has a thing is for [`super::Since`] to say. The patch counts only where a patch
/// release changed the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Level {
    pub line: Line,
    pub major: u16,
    pub minor: u16,
    pub patch: u16,
}

impl Level {
    #[must_use]
    pub const fn number(self) -> Number {
        (self.major, self.minor, self.patch)
    }

    /// Whether this is the other or came out of it.
    #[must_use]
    pub fn descends_from(self, other: Self) -> bool {
        if self.line == other.line {
            return self.number() >= other.number();
        }
        other.line == Line::Redis && other.number() <= FORKED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forks_descend_from_what_they_left_and_from_nothing_else() {
        let level = |line, major, minor| Level { line, major, minor, patch: 0 };
        let valkey = level(Line::Valkey, 9, 1);
        assert!(valkey.descends_from(level(Line::Redis, 7, 2)));
        assert!(valkey.descends_from(level(Line::Valkey, 8, 0)));
        assert!(!valkey.descends_from(level(Line::Redis, 7, 4)));
        assert!(!valkey.descends_from(level(Line::Redict, 7, 3)));
        assert!(!level(Line::Redis, 8, 10).descends_from(level(Line::Valkey, 7, 2)));
        assert!(!level(Line::Redis, 7, 2).descends_from(level(Line::Redis, 7, 4)));
    }
}
