//! `[upgrade.exec]`: the commands that drive a store of any other kind.

use std::time::Duration;

use super::{
    document::Section,
    problem::Problems,
    time::{TIME_EXPECTED, time},
};

const EXPECTED: &str =
    "a program and its arguments, such as [\"/usr/local/bin/driver\", \"see\", \"{store}\"]";

pub(super) fn read(mut section: Section<'_>, problems: &mut Problems) -> Option<Commands> {
    let line = section.line();
    let time_max = section.text("time_max", TIME_EXPECTED, time, problems);
    let mut command = |key: &'static str| {
        if !section.has(key) {
            problems.add(
                line,
                "[upgrade.exec]",
                format!("the key \"{key}\" is missing; expected {EXPECTED}"),
            );
        }
        section.texts(key, EXPECTED, |word| Ok::<_, String>(word.to_owned()), problems)
    };
    let (see, follow, switch, compare) =
        (command("see"), command("follow"), command("switch"), command("compare"));
    section.finish(problems);
    let time_max = time_max.map_or(TIME_MAX_DEFAULT, |time| time.value);
    match Commands::new(see?, follow?, switch?, compare?, time_max) {
        Ok(commands) => Some(commands),
        Err(error) => {
            problems.add(line, format!("[upgrade.exec] {}", error.key()), error.to_string());
            None
        }
    }
}

const TIME_MAX_DEFAULT: Duration = Duration::from_secs(30);

/// Each is a program and its arguments; no shell reads them. What stands in braces there is filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commands {
    pub see: Vec<String>,
    pub follow: Vec<String>,
    pub switch: Vec<String>,
    pub compare: Vec<String>,
    /// How long each may take; a switch in addition to the time for which it may hold writes.
    pub time_max: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandsError {
    #[error("there is no program; expected one and its arguments")]
    Empty(&'static str),
    #[error("{{{1}}} is not filled in there: it knows {2}")]
    Unknown(&'static str, String, String),
}

/// Addresses stand for three words each: `{to}`, `{to_host}`, `{to_port}`.
const SEE: &[&str] = &["store"];
const FOLLOW: &[&str] = &["store", "master"];
const SWITCH: &[&str] = &["store", "to", "dial", "pause_ms"];
const COMPARE: &[&str] = &["store", "master", "keys"];

impl CommandsError {
    /// Of the command that it is about.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Empty(key) | Self::Unknown(key, ..) => key,
        }
    }
}

impl Commands {
    /// # Errors
    /// One is empty, or has a word in braces that it does not know.
    pub fn new(
        see: Vec<String>,
        follow: Vec<String>,
        switch: Vec<String>,
        compare: Vec<String>,
        time_max: Duration,
    ) -> Result<Self, CommandsError> {
        check("see", &see, SEE)?;
        check("follow", &follow, FOLLOW)?;
        check("switch", &switch, SWITCH)?;
        check("compare", &compare, COMPARE)?;
        Ok(Self { see, follow, switch, compare, time_max })
    }
}

fn check(key: &'static str, command: &[String], known: &[&str]) -> Result<(), CommandsError> {
    if command.first().is_none_or(String::is_empty) {
        return Err(CommandsError::Empty(key));
    }
    for word in command.iter().flat_map(|argument| words(argument)) {
        let name = word.strip_suffix("_host").or_else(|| word.strip_suffix("_port")).unwrap_or(word);
        if !known.contains(&word) && !known.contains(&name) {
            let known = known.iter().map(|word| format!("{{{word}}}")).collect::<Vec<_>>().join(", ");
            return Err(CommandsError::Unknown(key, word.to_owned(), known));
        }
    }
    Ok(())
}

/// `{like_this}`; other braces are the command's own.
fn words(argument: &str) -> impl Iterator<Item = &str> {
    let is_word = |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    argument.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0)).filter(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_are_not_filled_in_are_refused() {
        let shell = |script: &str| ["sh", "-c", script].map(str::to_owned).to_vec();
        let new = |see: &[&str], switch: &str| {
            let see = see.iter().map(|&word| word.to_owned()).collect();
            let fine = shell("true");
            Commands::new(see, fine.clone(), shell(switch), fine, Duration::from_secs(1)).map(drop)
        };
        assert_eq!(new(&["see", "{store_host}"], "x {to} {dial_port} ${HOME}"), Ok(()));
        assert_eq!(new(&[], "x"), Err(CommandsError::Empty("see")));
        let unknown = CommandsError::Unknown("see", "to".to_owned(), "{store}".to_owned());
        assert_eq!(new(&["see", "{to}"], "x"), Err(unknown));
    }
}
