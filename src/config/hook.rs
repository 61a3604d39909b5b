//! A command of `[upgrade.hooks]`: words in which `{…}` is filled in.

use std::fmt;

/// What can be filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder {
    Node,
    /// That the node is to be on when the hook is through.
    Release,
    From,
    To,
    /// [`Self::KEEP`] or [`Self::MOVE`].
    Data,
    Store,
    StoreHost,
    StorePort,
    Master,
    MasterHost,
    MasterPort,
}

impl Placeholder {
    /// Of `{data}`: the release that the node is to be on reads what lies on its disk.
    pub const KEEP: &str = "keep";
    /// It can't.
    pub const MOVE: &str = "move";

    pub const ALL: [Self; 11] = [
        Self::Node,
        Self::Release,
        Self::From,
        Self::To,
        Self::Data,
        Self::Store,
        Self::StoreHost,
        Self::StorePort,
        Self::Master,
        Self::MasterHost,
        Self::MasterPort,
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Release => "release",
            Self::From => "from",
            Self::To => "to",
            Self::Data => "data",
            Self::Store => "store",
            Self::StoreHost => "store_host",
            Self::StorePort => "store_port",
            Self::Master => "master",
            Self::MasterHost => "master_host",
            Self::MasterPort => "master_port",
        }
    }

    /// It changes with the release: what it stands in need not be there before the release is installed.
    #[must_use]
    pub const fn is_release(self) -> bool {
        matches!(self, Self::Release | Self::From | Self::To)
    }
}

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    program: Word,
    arguments: Vec<Word>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Filled(Placeholder),
}

impl Hook {
    /// `None` of no words.
    pub(super) fn of(words: Vec<Word>) -> Option<Self> {
        let mut words = words.into_iter();
        Some(Self { program: words.next()?, arguments: words.collect() })
    }

    #[must_use]
    pub const fn program(&self) -> &Word {
        &self.program
    }

    pub fn arguments(&self) -> impl Iterator<Item = &Word> {
        self.arguments.iter()
    }

    #[must_use]
    pub fn names(&self, placeholder: Placeholder) -> bool {
        let mut words = std::iter::once(&self.program).chain(&self.arguments);
        words.any(|word| word.placeholders().any(|named| named == placeholder))
    }
}

impl Word {
    #[must_use]
    pub fn filled(&self, value: impl Fn(Placeholder) -> String) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Filled(placeholder) => value(*placeholder),
        };
        self.0.iter().map(part).collect()
    }

    pub fn placeholders(&self) -> impl Iterator<Item = Placeholder> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Filled(placeholder) => Some(*placeholder),
        })
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.filled(|placeholder| format!("{{{}}}", placeholder.name())))
    }
}

/// `{{` and `}}` are braces.
pub(super) fn word(text: &str) -> Result<Word, String> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, brace) = rest.split_at(at);
        plain.push_str(before);
        if let Some(after) = brace.strip_prefix("{{").or_else(|| brace.strip_prefix("}}")) {
            plain.extend(brace.chars().next());
            rest = after;
            continue;
        }
        let named = brace.strip_prefix('{').and_then(|brace| brace.split_once('}'));
        let Some((name, after)) = named else {
            return Err(format!("a brace stands alone in \"{text}\"; expected {{{{ or }}}} for one"));
        };
        let placeholder = Placeholder::ALL.into_iter().find(|placeholder| placeholder.name() == name);
        let placeholder = placeholder.ok_or_else(|| {
            let names = Placeholder::ALL.map(|placeholder| format!("{{{}}}", placeholder.name()));
            format!("nothing is filled in for {{{name}}}; expected one of {}", names.join(", "))
        })?;
        if !plain.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut plain)));
        }
        parts.push(Part::Filled(placeholder));
        rest = after;
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    Ok(Word(parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_in_and_braces_stay() {
        let word = word("/opt/{release}/x-{node}{{}}").unwrap();
        assert_eq!(word.filled(|placeholder| placeholder.name().to_uppercase()), "/opt/RELEASE/x-NODE{}");
        assert_eq!(word.to_string(), "/opt/{release}/x-{node}{}");
    }

    #[test]
    fn what_nothing_is_filled_in_for_is_refused() {
        assert!(
            word("{relase}")
                .unwrap_err()
                .starts_with("nothing is filled in for {relase}; expected one of {node}")
        );
        assert!(word("a}").unwrap_err().starts_with("a brace stands alone"));
    }
}
