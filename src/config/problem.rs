//! What is wrong with a config file.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// One thing that is wrong, where, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// From 1.
    pub line: usize,
    /// The table, key and value as written: `[[link]] listen = "127.0.0.1:7401"`.
    pub place: String,
    pub message: String,
}

/// Shown as `<line>: <place>: <message>`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, place, message } = self;
        write!(f, "{line}: {place}: {message}")
    }
}

/// Everything that is wrong with one file. Shown as one line each: `<file>:<line>: <place>: <message>`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    pub file: PathBuf,
    pub why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The file could not be had at all.
    Unreadable(String),
    /// By line; never empty.
    Problems(Vec<Problem>),
}

impl ConfigError {
    pub(super) fn unreadable(file: &Path, why: String) -> Self {
        Self { file: file.to_owned(), why: Why::Unreadable(why) }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match &self.why {
            Why::Unreadable(why) => write!(f, "{file}: cannot read the config file: {why}"),
            Why::Problems(problems) => {
                for (nth, problem) in problems.iter().enumerate() {
                    let newline = if nth == 0 { "" } else { "\n" };
                    write!(f, "{newline}{file}:{problem}")?;
                }
                Ok(())
            }
        }
    }
}

/// Problems as they are found.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Problems {
    pub(super) fn add(&mut self, line: usize, place: impl Into<String>, message: impl Into<String>) {
        self.found.push(Problem { line, place: place.into(), message: message.into() });
    }

    pub(super) fn warn(&mut self, line: usize, place: impl Into<String>, message: impl Into<String>) {
        self.warnings.push(Problem { line, place: place.into(), message: message.into() });
    }

    pub(super) fn take_warnings(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.warnings)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub(super) fn into_error(mut self, file: &Path) -> ConfigError {
        self.found.sort_by_key(|problem| problem.line);
        ConfigError { file: file.to_owned(), why: Why::Problems(self.found) }
    }
}

/// `; did you mean "n2"?` where one of the names is close, else the text of `otherwise`.
pub(super) fn did_you_mean<'a>(
    found: &str,
    names: impl Iterator<Item = &'a str>,
    otherwise: impl FnOnce() -> String,
) -> String {
    /// Below it, a suggestion confuses more often than it helps.
    const LIKENESS_MIN: f64 = 0.75;
    names
        .map(|name| (strsim::jaro_winkler(found, name), name))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map_or_else(otherwise, |(_, name)| format!("did you mean \"{name}\"?"))
}
