//! What the newest servers document of their commands, compared with the rules.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use redis::{Value, from_redis_value};
use segue_bench::{
    server::{Options, Server},
    stores::{Family, Store},
};
use segue_redis::{
    releases::{Level, Line, Since},
    rules::{
        commands::{self, COMMANDS},
        options::{self, OPTIONS},
        table::RULES,
    },
};

/// The oldest release with `COMMAND DOCS`; what it documents as newer than 5.0 says so.
const OLDEST: &str = "redis-7.0";
const NEWEST: [&str; 2] = ["redis-8.10", "valkey-9.1"];

type Number = (u16, u16, u16);
const OLDEST_SUPPORTED: Number = (5, 0, u16::MAX);
const FORKED: Number = (7, 2, u16::MAX);

#[test]
fn every_documented_form_is_known_to_the_rules() -> Result<()> {
    let oldest: BTreeMap<_, _> =
        documents(OLDEST)?.into_iter().map(|found| (found.name.clone(), found)).collect();
    let mut missing = Vec::new();
    for newest in NEWEST {
        for found in documents(newest)? {
            found.check(oldest.get(&found.name), &mut |what| missing.push(format!("{newest}: {what}")));
        }
    }
    ensure!(
        missing.is_empty(),
        "{} gaps in translators/redis/src/rules:\n{}",
        missing.len(),
        missing.join("\n")
    );
    Ok(())
}

/// A write command, or a subcommand of one (`XGROUP|CREATE`), as its server documents it.
struct Documented {
    line: Line,
    name: String,
    since: Number,
    arguments: Vec<Argument>,
}

struct Argument {
    name: String,
    token: Option<String>,
    /// Its own, or that of the arguments around it.
    since: Option<Number>,
    has_tokens_inside: bool,
}

impl Documented {
    fn command(&self) -> &str {
        self.name.split('|').next().unwrap_or_default()
    }

    fn check(&self, oldest: Option<&Self>, missing: &mut impl FnMut(String)) {
        let (name, command) = (&self.name, self.command());
        if commands::NEVER_SENT.iter().any(|(never, _)| never == name) {
            return;
        }
        let Some((_, since)) = COMMANDS.iter().find(|(known, _)| *known == command) else {
            return missing(format!(
                "{name} (since {:?}) is unknown: add it to COMMANDS with its rule, or to NEVER_SENT in commands.rs \
                 if masters send something else",
                self.since
            ));
        };
        let whole = name == command;
        if whole && !self.agrees(*since, self.since) {
            missing(format!("{name} is documented since {:?}, commands.rs says {since}", self.since));
        }
        if self.since > OLDEST_SUPPORTED && !RULES.iter().any(|rule| rule.command() == command) {
            missing(format!("{name} (since {:?}) has no rule: add one to table.rs", self.since));
        }
        for argument in &self.arguments {
            match &argument.token {
                Some(token) => self.check_token(argument, token, oldest, missing),
                None => self.check_argument(argument, missing),
            }
        }
    }

    fn check_token(
        &self,
        argument: &Argument,
        token: &str,
        oldest: Option<&Self>,
        missing: &mut impl FnMut(String),
    ) {
        let (name, command) = (&self.name, self.command());
        let newer = argument.since.filter(|since| *since > OLDEST_SUPPORTED.max(self.since));
        let was_there = oldest.is_some_and(|oldest| oldest.has_token(token));
        let never = options::NEVER_SENT.iter();
        let never =
            never.filter(|(never, _, _)| *never == command).any(|(_, words, _)| words.contains(&token));
        if (newer.is_none() && was_there) || never {
            return;
        }
        let places = || OPTIONS.iter().filter(|options| options.command == command);
        let ends = places().any(|options| options.end_word() == Some(token));
        let word = places()
            .flat_map(|options| options.words)
            .find(|word| word.text.split(' ').next_back() == Some(token));
        match word {
            None if !ends => missing(format!(
                "{name} has the option {token} (since {newer:?}), which options.rs does not: add it, and a rule to \
                 table.rs, or add it to NEVER_SENT if masters send something else"
            )),
            Some(word) if newer.is_some_and(|newer| !self.agrees(word.since, newer)) => {
                missing(format!(
                    "{name} {token} is documented since {newer:?}, options.rs says {}",
                    word.since
                ));
            }
            Some(word) if word.since.has(self.level(OLDEST_SUPPORTED)) => {}
            _ => {
                // A command that is new as a whole has a rule for all of it.
                let is_in = |form: &str| form.split([' ', '|', '[', ']']).any(|word| word == token);
                let of_all = self.since > OLDEST_SUPPORTED && newer.is_none();
                let has_rule =
                    RULES.iter().any(|rule| rule.command() == command && (of_all || is_in(rule.form)));
                if !has_rule {
                    missing(format!("{name} {token} has no rule: add one to table.rs whose form names it"));
                }
            }
        }
    }

    /// An argument without a word of its own, such as the count of LPOP.
    fn check_argument(&self, argument: &Argument, missing: &mut impl FnMut(String)) {
        let Some(since) = argument.since.filter(|since| *since > OLDEST_SUPPORTED.max(self.since)) else {
            return;
        };
        let of_command = || RULES.iter().filter(|rule| rule.command() == self.command());
        if !argument.has_tokens_inside && !of_command().any(|rule| self.agrees(rule.since, since)) {
            let (name, argument) = (&self.name, &argument.name);
            missing(format!("{name} has the argument {argument} since {since:?}: add a rule to table.rs"));
        }
    }

    fn has_token(&self, token: &str) -> bool {
        self.arguments.iter().any(|argument| argument.token.as_deref() == Some(token))
    }

    /// Whether the tables say the same as the documents, which tell major and minor.
    fn agrees(&self, since: Since, documented: Number) -> bool {
        if documented <= OLDEST_SUPPORTED {
            return since.has(self.level(OLDEST_SUPPORTED));
        }
        let before = match documented {
            (major, 0, 0) => (major - 1, u16::MAX, u16::MAX),
            (major, minor, 0) => (major, minor - 1, u16::MAX),
            (major, minor, patch) => (major, minor, patch - 1),
        };
        since.has(self.level(documented)) && !since.has(self.level(before))
    }

    /// The forks document what they inherited by the numbers of Redis.
    fn level(&self, number: Number) -> Level {
        let line = if number <= FORKED { Line::Redis } else { self.line };
        Level { line, major: number.0, minor: number.1, patch: number.2 }
    }
}

/// All commands that write, or that may be replicated for another reason.
fn documents(store: &str) -> Result<Vec<Documented>> {
    let store = Store::want(store)?;
    let line = if store.family == Family::Valkey { Line::Valkey } else { Line::Redis };
    let server = Server::start(&store, Options::new())?;
    let mut client = server.client()?;
    let commands: Vec<Value> = redis::cmd("COMMAND").query(&mut client)?;
    let mut replicated = BTreeSet::new();
    commands.into_iter().try_for_each(|command| note_replicated(command, &mut replicated))?;
    let mut found = Vec::new();
    collect(redis::cmd("COMMAND").arg("DOCS").query(&mut client)?, line, &replicated, &mut found)?;
    ensure!(found.len() > 80, "{} documents only {} write commands", store.name(), found.len());
    Ok(found)
}

/// Of COMMAND's entries: the name first, flags third, subcommands tenth.
fn note_replicated(command: Value, names: &mut BTreeSet<String>) -> Result<()> {
    let mut parts = from_redis_value::<Vec<Value>>(command)?.into_iter();
    let name: String = from_redis_value(parts.next().context("a command without a name")?)?;
    let flags: Vec<String> = from_redis_value(parts.nth(1).context("a command without flags")?)?;
    if flags.iter().any(|flag| flag == "write" || flag == "may_replicate") {
        names.insert(name.to_uppercase());
    }
    let subcommands: Vec<Value> = parts.nth(6).map(from_redis_value).transpose()?.unwrap_or_default();
    subcommands.into_iter().try_for_each(|subcommand| note_replicated(subcommand, names))
}

fn collect(
    documents: BTreeMap<String, Value>,
    line: Line,
    replicated: &BTreeSet<String>,
    found: &mut Vec<Documented>,
) -> Result<()> {
    for (name, document) in documents {
        let mut fields: BTreeMap<String, Value> = from_redis_value(document)?;
        if let Some(subcommands) = fields.remove("subcommands") {
            collect(from_redis_value(subcommands)?, line, replicated, found)?;
        }
        let name = name.to_uppercase();
        if replicated.contains(&name) {
            let since = number(fields.remove("since").context("no since")?)?;
            let mut arguments = Vec::new();
            if let Some(documented) = fields.remove("arguments") {
                flatten(documented, None, &mut arguments)?;
            }
            found.push(Documented { line, name, since, arguments });
        }
    }
    Ok(())
}

/// Arguments inside of others follow them; whether there were words among these.
fn flatten(documented: Value, around: Option<Number>, arguments: &mut Vec<Argument>) -> Result<bool> {
    let mut any_token = false;
    for argument in from_redis_value::<Vec<BTreeMap<String, Value>>>(documented)? {
        let text = |field: &str| argument.get(field).cloned().map(from_redis_value::<String>).transpose();
        let own = argument.get("since").cloned().map(number).transpose()?;
        let (token, since) = (text("token")?, own.or(around));
        let at = arguments.len();
        any_token |= token.is_some();
        let name = text("name")?.unwrap_or_default();
        arguments.push(Argument { name, token, since, has_tokens_inside: false });
        if let Some(inside) = argument.get("arguments") {
            let has_tokens_inside = flatten(inside.clone(), since, arguments)?;
            any_token |= has_tokens_inside;
            if let Some(outer) = arguments.get_mut(at) {
                outer.has_tokens_inside = has_tokens_inside;
            }
        }
    }
    Ok(any_token)
}

/// `7.0.0`
fn number(since: Value) -> Result<Number> {
    let text: String = from_redis_value(since)?;
    let mut numbers = text.split('.').map(str::parse);
    let mut next = || numbers.next().transpose().map(Option::unwrap_or_default);
    Ok((next()?, next()?, next()?))
}
