//! What a rule is.

use super::Rewriting;
use crate::{
    releases::{Pair, Since, since},
    resp::Command,
};

/// One form that some release does not understand.
pub struct Rule {
    /// Stable name, used as a metric label.
    pub name: &'static str,
    /// The form, as the documents write it; its first word is the command.
    pub form: &'static str,
    /// The first releases that understand it; never, where the rule looks at the content instead.
    pub since: Since,
    /// What says so.
    pub source: Source,
    /// Masters before these releases mean something else by the form, and the rule is off for them.
    pub sent_from: Option<Since>,
    /// No command with fewer arguments can have this form; the name counts.
    pub arguments_min: u64,
    /// Only where keys may have been left out before.
    pub degraded_only: bool,
    /// What is said instead, for a reader.
    pub instead: &'static str,
    /// Kinds of losses that the rule may name.
    pub losses: &'static [&'static str],
    pub matches: fn(&Command, &Pair) -> bool,
    pub rewrite: fn(&Command, &mut Rewriting<'_>),
}

/// What says since when a form is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `COMMAND DOCS` of the newest servers; tests/matrix/documents.rs compares them.
    Documents,
    /// Real servers, which were asked: the documents don't tell.
    Measured,
}

/// A rule for every command of this name, until it is narrowed.
pub(super) const fn rule(name: &'static str, form: &'static str, since: Since) -> Rule {
    Rule {
        name,
        form,
        since,
        source: Source::Documents,
        sent_from: None,
        arguments_min: 1,
        degraded_only: false,
        instead: "",
        losses: &[],
        matches: |_, _| true,
        rewrite: |_, _| {},
    }
}

impl Rule {
    /// Only commands of so many arguments, the name among them.
    pub(super) const fn arguments(self, min: u64) -> Self {
        Self { arguments_min: min, ..self }
    }

    /// Only commands like this.
    pub(super) const fn when(self, matches: fn(&Command, &Pair) -> bool) -> Self {
        Self { matches, ..self }
    }

    pub(super) const fn measured(self) -> Self {
        Self { source: Source::Measured, ..self }
    }

    pub(super) const fn sent_from(self, sent_from: Since) -> Self {
        Self { sent_from: Some(sent_from), ..self }
    }

    pub(super) const fn degraded_only(self) -> Self {
        Self { degraded_only: true, ..self }
    }

    pub(super) const fn losing(self, losses: &'static [&'static str]) -> Self {
        Self { losses, ..self }
    }

    pub(super) const fn say(self, instead: &'static str, rewrite: fn(&Command, &mut Rewriting<'_>)) -> Self {
        Self { instead, rewrite, ..self }
    }

    /// The command's name, in upper case.
    pub fn command(&self) -> &'static str {
        self.form.split_once(' ').map_or(self.form, |(command, _)| command)
    }

    /// The first releases that understand the form, for a reader.
    pub fn since_text(&self) -> String {
        if self.since == since::never() { "its own release".to_owned() } else { self.since.to_string() }
    }

    /// Whether the rule is for this pair.
    pub(crate) fn is_for(&self, pair: &Pair) -> bool {
        !self.since.has(pair.to) && self.sent_from.is_none_or(|from| from.has(pair.from))
    }
}
