//! The command stream's rules: which form another release does not understand, and what says the same
//! to it.
//!
//! [`table`] is the list a reader checks against the documents; the other files hold the rewrites, by
//! family. Rules compose: what a rule gives is looked up again, so that each handles one form alone.

mod bits;
pub mod commands;
mod geo;
mod hashes;
mod keys;
mod lists;
pub mod options;
mod others;
mod rule;
mod scripts;
mod sorted_sets;
mod streams;
mod strings;
pub mod table;

use std::collections::HashMap;

use bytes::Bytes;
use segue_wire::{Grade, Limits, Loss, LossPolicy};

use crate::{releases::Pair, resp::Command};
use options::{OPTIONS, Options};
pub use rule::{Rule, Source};

/// Whether the replica understands every command and form that the master may send.
pub fn understands_all(pair: &Pair) -> bool {
    commands::COMMANDS.iter().all(|(_, since)| since.has(pair.to) || !since.has(pair.from))
        && table::RULES.iter().all(|rule| !rule.is_for(pair) || !rule.since.has(pair.from))
        && OPTIONS
            .iter()
            .flat_map(|options| options.words)
            .all(|word| word.since.has(pair.to) || !word.since.has(pair.from))
}

/// What a command has become.
#[derive(Debug, Default)]
pub struct Rewritten {
    pub commands: Vec<Command>,
    /// Names of the rules that took part; empty if the command passes unchanged.
    pub rules: Vec<&'static str>,
    pub losses: Vec<Lost>,
}

impl Rewritten {
    /// Leaves a whole command out, under a rule of the same name.
    fn lose(&mut self, kind: &'static str, command: &Command, why: &str) {
        let name = command.first().map(|name| name.escape_ascii().to_string()).unwrap_or_default();
        let what = format!("the command {name} {why}");
        self.rules.push(kind);
        self.losses.push(Lost { kind, grade: Grade::Data, what, key: command.get(1).cloned() });
    }
}

/// A loss without its place.
#[derive(Debug, PartialEq, Eq)]
pub struct Lost {
    pub kind: &'static str,
    pub grade: Grade,
    pub what: String,
    pub key: Option<Bytes>,
}

impl Lost {
    pub fn at(self, db: u64) -> Loss {
        let key = self.key.map(|key| key.iter().take(Loss::KEY_BYTES_MAX).copied().collect());
        Loss { kind: self.kind, grade: self.grade, what: self.what, key, db }
    }
}

/// What a rule works with.
pub struct Rewriting<'a> {
    pub pair: &'a Pair,
    pub limits: &'a Limits,
    commands: Vec<Said>,
    losses: Vec<Lost>,
}

enum Said {
    /// Other rules may look at it.
    Open(Command),
    /// It is as it has to be.
    Closed(Command),
}

impl Rewriting<'_> {
    /// Says this instead.
    pub fn say(&mut self, command: Command) {
        self.commands.push(Said::Open(command));
    }

    /// Says this instead, and no other rule looks at it.
    pub fn say_last(&mut self, command: Command) {
        self.commands.push(Said::Closed(command));
    }

    /// Leaves something out that a user would miss.
    pub fn lose(&mut self, kind: &'static str, what: impl Into<String>, key: Option<&Bytes>) {
        self.losses.push(Lost { kind, grade: Grade::Data, what: what.into(), key: key.cloned() });
    }

    /// Leaves out a counter that no command of the older release can show.
    pub fn forget(&mut self, kind: &'static str, what: impl Into<String>, key: Option<&Bytes>) {
        self.losses.push(Lost { kind, grade: Grade::Bookkeeping, what: what.into(), key: key.cloned() });
    }
}

/// How a command has to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// It passes unchanged, whatever its arguments.
    Pass,
    /// It must be seen whole.
    Collect,
}

/// The rules that matter between two releases.
pub struct Rules {
    pair: Pair,
    by_command: HashMap<&'static [u8], Entry>,
}

struct Entry {
    understood: bool,
    rules: Vec<&'static Rule>,
    /// Those with a word that the replica does not know.
    options: Vec<&'static Options>,
    /// Commands with fewer arguments have nothing to look at.
    arguments_min: u64,
}

/// Longest chain of rules on one command; a longer one would be a loop in the table.
const REWRITE_DEPTH_MAX: usize = 6;
/// Command names are compared in upper case, in a buffer of this size.
const NAME_BYTES_MAX: usize = 32;

impl Rules {
    pub fn new(pair: Pair, policy: LossPolicy) -> Self {
        let matters =
            |rule: &&Rule| rule.is_for(&pair) && (policy == LossPolicy::Degrade || !rule.degraded_only);
        let mut by_command = HashMap::new();
        for &(name, since) in commands::COMMANDS {
            let rules: Vec<_> =
                table::RULES.iter().filter(|rule| rule.command() == name).filter(matters).collect();
            let knows_all = |options: &&Options| options.words.iter().all(|word| word.since.has(pair.to));
            let options: Vec<_> =
                OPTIONS.iter().filter(|options| options.command == name && !knows_all(options)).collect();
            let shortest = rules.iter().map(|rule| rule.arguments_min);
            let shortest = shortest.chain(options.iter().map(|options| options.arguments_min())).min();
            let understood = since.has(pair.to);
            let arguments_min = shortest.unwrap_or(u64::MAX);
            by_command.insert(name.as_bytes(), Entry { understood, rules, options, arguments_min });
        }
        Self { pair, by_command }
    }

    pub const fn pair(&self) -> &Pair {
        &self.pair
    }

    pub fn handling(&self, name: &[u8], argc: u64) -> Handling {
        match self.entry(name) {
            Some(entry) if entry.understood && argc < entry.arguments_min => Handling::Pass,
            _ => Handling::Collect,
        }
    }

    pub fn rewrite(&self, command: Command, limits: &Limits) -> Rewritten {
        let mut done = Rewritten::default();
        self.apply(command, limits, 0, &mut done);
        done
    }

    fn apply(&self, command: Command, limits: &Limits, depth: usize, done: &mut Rewritten) {
        let name = command.first().cloned().unwrap_or_default();
        let Some(entry) = self.entry(&name).filter(|_| depth < REWRITE_DEPTH_MAX) else {
            return done.lose("unknown-command", &command, "is not known to this translator");
        };
        let Some(rule) = entry
            .rules
            .iter()
            .find(|rule| command.len() as u64 >= rule.arguments_min && (rule.matches)(&command, &self.pair))
        else {
            let unknown = entry.options.iter().find_map(|options| options.unknown(&command, self.pair.to));
            match unknown.and_then(|at| command.get(at)) {
                Some(word) => {
                    let word = word.escape_ascii().to_string();
                    done.lose(
                        "unknown-form",
                        &command,
                        &format!("has the option {word}, which is not known there"),
                    );
                }
                None if entry.understood => done.commands.push(command),
                None => done.lose("unknown-form", &command, "has no other form"),
            }
            return;
        };
        done.rules.push(rule.name);
        let mut rewriting = Rewriting { pair: &self.pair, limits, commands: Vec::new(), losses: Vec::new() };
        (rule.rewrite)(&command, &mut rewriting);
        done.losses.append(&mut rewriting.losses);
        for next in rewriting.commands {
            match next {
                Said::Open(command) => self.apply(command, limits, depth + 1, done),
                Said::Closed(command) => done.commands.push(command),
            }
        }
    }

    fn entry(&self, name: &[u8]) -> Option<&Entry> {
        let mut upper = [0; NAME_BYTES_MAX];
        let upper = upper.get_mut(..name.len())?;
        upper.copy_from_slice(name);
        upper.make_ascii_uppercase();
        self.by_command.get(&*upper)
    }
}

// === helpers that every family uses ===

/// The argument as an upper-case word, empty where there is none.
fn word(command: &Command, at: usize) -> Vec<u8> {
    command.get(at).map(|argument| argument.to_ascii_uppercase()).unwrap_or_default()
}

fn is_word(command: &Command, at: usize, expected: &str) -> bool {
    command.get(at).is_some_and(|argument| argument.eq_ignore_ascii_case(expected.as_bytes()))
}

/// Where the word stands, at `from` or later.
fn find_word(command: &Command, from: usize, expected: &str) -> Option<usize> {
    (from..command.len()).find(|&at| is_word(command, at, expected))
}

/// The command without `count` arguments at `at`.
fn without(command: &Command, at: usize, count: usize) -> Command {
    let mut shorter = command.clone();
    shorter.drain(at.min(command.len())..(at + count).min(command.len()));
    shorter
}

/// A command of these words and arguments.
fn command<const N: usize>(arguments: [Argument; N]) -> Command {
    arguments.into_iter().map(|argument| argument.0).collect()
}

/// What a command can be made of: words, and arguments of the command it replaces.
struct Argument(Bytes);

impl From<&'static str> for Argument {
    fn from(word: &'static str) -> Self {
        Self(Bytes::from_static(word.as_bytes()))
    }
}

impl From<&Bytes> for Argument {
    fn from(argument: &Bytes) -> Self {
        Self(argument.clone())
    }
}

impl From<String> for Argument {
    fn from(text: String) -> Self {
        Self(Bytes::from(text))
    }
}

/// `EVAL script <number of keys> key… argument…`.
fn eval(script: &'static str, keys: &[Bytes], arguments: impl IntoIterator<Item = Bytes>) -> Command {
    let mut command = command(["EVAL".into(), script.into(), keys.len().to_string().into()]);
    command.extend(keys.iter().cloned());
    command.extend(arguments);
    command
}

#[cfg(test)]
mod tests;
