//! Since when each line of stores has a thing: a command, one of its forms, a type of the snapshot.
//!
//! ```
//! use segue_redis::releases::since;
//! since::common(6, 2); // Redis 6.2, so Redict and Valkey from their first release on
//! since::redis(8, 0).valkey(9, 0); // each by itself; Redict never
//! ```

use std::fmt;

use super::line::{FORKED, Level, Line, Number};

/// The first release of each line that has a thing, and so has every later one of that line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    redis: Option<Number>,
    redict: Option<Number>,
    valkey: Option<Number>,
}

/// In Redis by 7.2, and so in the forks from their first release on.
#[must_use]
pub const fn common(major: u16, minor: u16) -> Since {
    assert!(major < FORKED.0 || (major == FORKED.0 && minor <= FORKED.1), "newer than the forks");
    Since { redict: Some(FORKED), valkey: Some(FORKED), ..redis(major, minor) }
}

/// In every release there is.
#[must_use]
pub const fn first() -> Since {
    common(0, 0)
}

#[must_use]
pub const fn redis(major: u16, minor: u16) -> Since {
    redis_patch(major, minor, 0)
}

/// For what a patch release of Redis brought.
#[must_use]
pub const fn redis_patch(major: u16, minor: u16, patch: u16) -> Since {
    Since { redis: Some((major, minor, patch)), ..never() }
}

#[must_use]
pub const fn valkey(major: u16, minor: u16) -> Since {
    never().valkey(major, minor)
}

/// In no release.
#[must_use]
pub const fn never() -> Since {
    Since { redis: None, redict: None, valkey: None }
}

impl Since {
    /// … and in Redict from this release on.
    #[must_use]
    pub const fn redict(self, major: u16, minor: u16) -> Self {
        Self { redict: Some((major, minor, 0)), ..self }
    }

    /// … and in Valkey from this release on.
    #[must_use]
    pub const fn valkey(self, major: u16, minor: u16) -> Self {
        Self { valkey: Some((major, minor, 0)), ..self }
    }

    #[must_use]
    pub fn has(self, level: Level) -> bool {
        self.on(level.line).is_some_and(|first| first <= level.number())
    }

    /// Whether what has this always has the other too.
    #[must_use]
    pub fn implies(self, other: Self) -> bool {
        Line::ALL.into_iter().all(|line| match (self.on(line), other.on(line)) {
            (Some(this), Some(other)) => other <= this,
            (this, _) => this.is_none(),
        })
    }

    const fn on(self, line: Line) -> Option<Number> {
        match line {
            Line::Redis => self.redis,
            Line::Redict => self.redict,
            Line::Valkey => self.valkey,
        }
    }
}

/// For a reader: `6.2`, which goes for the forks too; `8.0, Valkey 9.0`, which leaves Redict out.
impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inherited = self.redis.is_some_and(|first| first <= FORKED);
        let lines = [("", self.redis), ("Redict ", self.redict), ("Valkey ", self.valkey)];
        let mut between = "";
        for (name, first) in lines {
            let Some((major, minor, patch)) = first else { continue };
            if inherited && !name.is_empty() {
                continue;
            }
            write!(f, "{between}{name}{major}.{minor}")?;
            if patch != 0 {
                write!(f, ".{patch}")?;
            }
            between = ", ";
        }
        if between.is_empty() { f.write_str("never") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(line: Line, number: Number) -> Level {
        Level { line, major: number.0, minor: number.1, patch: number.2 }
    }

    #[test]
    fn each_line_has_a_thing_since_its_own_release() {
        let both = redis(8, 0).valkey(9, 0);
        assert!(both.has(level(Line::Redis, (8, 0, 2))) && !both.has(level(Line::Redis, (7, 4, 0))));
        assert!(both.has(level(Line::Valkey, (9, 1, 0))) && !both.has(level(Line::Valkey, (8, 1, 0))));
        assert!(!both.has(level(Line::Redict, (9, 9, 0))));
        let settled = redis_patch(8, 0, 6);
        assert!(!settled.has(level(Line::Redis, (8, 0, 2))) && settled.has(level(Line::Redis, (8, 2, 0))));
        assert!(Line::ALL.iter().all(|line| !never().has(level(*line, (u16::MAX, 0, 0)))));
    }

    #[test]
    fn the_forks_have_what_redis_had_when_they_left() {
        for since in [first(), common(6, 2), common(7, 2)] {
            assert!(since.has(level(Line::Valkey, (7, 2, 0))) && since.has(level(Line::Redict, (7, 3, 0))));
        }
        assert!(!common(6, 2).has(level(Line::Redis, (6, 0, 0))));
    }

    #[test]
    fn what_implies_what() {
        assert!(redis(8, 0).valkey(9, 0).implies(redis(7, 4).valkey(9, 0)));
        assert!(!redis(8, 0).valkey(9, 0).implies(redis(7, 4)));
        assert!(redis(7, 4).implies(common(7, 2)) && never().implies(never()));
    }

    #[test]
    fn as_a_reader_sees_it() {
        assert_eq!(common(6, 2).to_string(), "6.2");
        assert_eq!(redis(8, 0).valkey(9, 0).to_string(), "8.0, Valkey 9.0");
        assert_eq!(redis(7, 4).redict(7, 3).valkey(9, 0).to_string(), "7.4, Redict 7.3, Valkey 9.0");
        assert_eq!(valkey(9, 0).to_string(), "Valkey 9.0");
        assert_eq!(redis_patch(8, 0, 6).to_string(), "8.0.6");
        assert_eq!(never().to_string(), "never");
    }
}
