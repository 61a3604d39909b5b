//! One step of a form, and what runs it.

use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use redis::{Cmd, Connection, ConnectionLike, Value};

use crate::child::wait_for;
use crate::client::{self, Info};

/// How long a blocked command may take until it blocks, and what expires until it is gone.
const WAIT_TIME_MAX: Duration = Duration::from_secs(20);

#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Run(Vec<Word>),
    /// Until it blocks, or answers.
    Beside(Vec<Word>),
    Join,
    Wait(Duration),
    /// Until the command answers 0 or nil.
    Gone(Vec<Word>),
}

#[derive(Debug, PartialEq, Eq)]
pub enum Word {
    Text(String),
    Dump(String),
    Functions,
}

impl Step {
    /// `form` names the form, for its keys.
    pub fn parse(text: &str, form: &str) -> Result<Self> {
        let words = words(text)?;
        let parse = |words: &[String]| words.iter().map(|word| Word::parse(word, form)).collect();
        Ok(match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            [] => bail!("an empty step"),
            ["&", "join"] => Self::Join,
            ["&", ..] => Self::Beside(parse(words.get(1..).unwrap_or_default())),
            ["~", ms] => Self::Wait(Duration::from_millis(ms.parse()?)),
            ["gone", ..] => Self::Gone(parse(words.get(1..).unwrap_or_default())),
            _ => Self::Run(parse(&words)),
        })
    }
}

impl Word {
    fn parse(word: &str, form: &str) -> Self {
        let key = |word: &str| word.strip_prefix('@').map(|rest| format!("f:{form}:{rest}"));
        let dumped = word.strip_prefix("dump(").and_then(|rest| key(rest.strip_suffix(')')?));
        match dumped {
            Some(dumped) => Self::Dump(dumped),
            None if word == "functions()" => Self::Functions,
            None => Self::Text(key(word).unwrap_or_else(|| word.to_owned())),
        }
    }
}

/// Parted at blanks outside of double quotes, which begin and end a word.
fn words(text: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').context("a quote without its end")?,
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        words.push(word.replace("\\n", "\n"));
        rest = after.trim_start();
    }
    Ok(words)
}

pub struct Runner {
    connection: Connection,
    port: u16,
    beside: Option<JoinHandle<Result<Option<String>>>>,
}

impl Runner {
    pub const fn new(connection: Connection, port: u16) -> Self {
        Self { connection, port, beside: None }
    }

    /// What the store refused it with, if it did.
    pub fn run(&mut self, step: &Step) -> Result<Option<String>> {
        match step {
            Step::Run(words) => {
                let command = self.command(words)?;
                ask(&mut self.connection, &command).map(|answer| answer.err())
            }
            Step::Beside(words) => self.run_beside(words),
            Step::Join => {
                let beside = self.beside.take().context("nothing runs beside")?;
                beside.join().map_err(|_| anyhow!("the command beside panicked"))?
            }
            Step::Wait(time) => {
                thread::sleep(*time);
                Ok(None)
            }
            Step::Gone(words) => {
                let command = self.command(words)?;
                let gone = wait_for(WAIT_TIME_MAX, || {
                    let answer = ask(&mut self.connection, &command)?.map_err(|error| anyhow!(error))?;
                    Ok(matches!(answer, Value::Nil | Value::Int(0)).then_some(()))
                })?;
                ensure!(gone.is_some(), "still there: {words:?}");
                Ok(None)
            }
        }
    }

    fn run_beside(&mut self, words: &[Word]) -> Result<Option<String>> {
        let command = self.command(words)?;
        let mut connection = client::connect(self.port)?;
        let beside = thread::spawn(move || ask(&mut connection, &command).map(|answer| answer.err()));
        wait_for(WAIT_TIME_MAX, || {
            let blocked = Info::ask(&mut self.connection, "clients")?.number("blocked_clients")? > 0;
            Ok((blocked || beside.is_finished()).then_some(()))
        })?
        .context("the command beside does not block")?;
        // One that the store does not know has answered already.
        if beside.is_finished() {
            return beside.join().map_err(|_| anyhow!("the command beside panicked"))?;
        }
        self.beside = Some(beside);
        Ok(None)
    }

    fn command(&mut self, words: &[Word]) -> Result<Cmd> {
        let mut command = Cmd::new();
        for word in words {
            match word {
                Word::Text(text) => command.arg(text),
                Word::Dump(key) => {
                    let dump: Vec<u8> = redis::cmd("DUMP").arg(key).query(&mut self.connection)?;
                    command.arg(dump)
                }
                // A store without functions will refuse the command itself.
                Word::Functions => {
                    let dump = ask(&mut self.connection, redis::cmd("FUNCTION").arg("DUMP"))?;
                    command.arg(match dump {
                        Ok(Value::BulkString(dump)) => dump,
                        _ => Vec::new(),
                    })
                }
            };
        }
        Ok(command)
    }
}

/// The answer, or the error that the store answered, also inside a transaction's answer.
fn ask(connection: &mut Connection, command: &Cmd) -> Result<Result<Value, String>> {
    let answers = connection.req_packed_commands(&command.get_packed_command(), 0, 1)?;
    let answer = answers.into_iter().next().context("no answer")?;
    Ok(match refusal(&answer) {
        Some(refused) => Err(refused),
        None => Ok(answer),
    })
}

fn refusal(answer: &Value) -> Option<String> {
    match answer {
        Value::ServerError(error) => Some(error.to_string()),
        Value::Array(answers) => answers.iter().find_map(refusal),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_keys_dumps_and_texts() {
        let step = Step::parse("RESTORE @1 0 dump(@) \"a b\\nc\" functions()", "form").unwrap();
        let text = |text: &str| Word::Text(text.to_owned());
        assert_eq!(
            step,
            Step::Run(vec![
                text("RESTORE"),
                text("f:form:1"),
                text("0"),
                Word::Dump("f:form:".to_owned()),
                text("a b\nc"),
                Word::Functions,
            ])
        );
    }

    #[test]
    fn steps_run_beside_wait_and_join() {
        assert_eq!(Step::parse("& join", "form").unwrap(), Step::Join);
        assert!(
            matches!(Step::parse("& BLPOP @ 5", "form").unwrap(), Step::Beside(words) if words.len() == 3)
        );
        assert_eq!(Step::parse("~ 30", "form").unwrap(), Step::Wait(Duration::from_millis(30)));
        assert!(Step::parse("SET \"a", "form").is_err());
    }
}
