//! The two stores under comparison.

use anyhow::{Context, Result, bail};
use redis::{Cmd, Connection, ConnectionLike, FromRedisValue, Value};

use crate::client::Info;

pub struct Pair {
    pub first: Side,
    pub second: Side,
}

/// A connection to one store, and what its release can be asked.
pub struct Side {
    connection: Connection,
    /// Redis 7.0, and every fork of it, answers PEXPIRETIME.
    pub knows_expiretime: bool,
    /// Redis 7.4 and Valkey 9.0 answer HPEXPIRETIME.
    pub knows_field_expiretime: bool,
}

impl Pair {
    /// The same commands to both; the answers of the first and of the second.
    pub fn both(&mut self, commands: &[Cmd]) -> Result<(Vec<Value>, Vec<Value>)> {
        Ok((self.first.ask(commands)?, self.second.ask(commands)?))
    }

    pub fn both_one<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<(T, T)> {
        Ok((self.first.ask_one(command.clone())?, self.second.ask_one(command.clone())?))
    }
}

impl Side {
    pub fn open(mut connection: Connection) -> Result<Self> {
        let knows = |connection: &mut Connection, command: &str| -> Result<bool> {
            // One entry a command; nil for one that the release does not have.
            let known: Vec<Value> = redis::cmd("COMMAND").arg("INFO").arg(command).query(connection)?;
            Ok(known.iter().any(|entry| matches!(entry, Value::Array(parts) if !parts.is_empty())))
        };
        let knows_expiretime = knows(&mut connection, "PEXPIRETIME")?;
        let knows_field_expiretime = knows(&mut connection, "HPEXPIRETIME")?;
        Ok(Self { connection, knows_expiretime, knows_field_expiretime })
    }

    /// The databases that hold keys.
    pub fn databases(&mut self) -> Result<Vec<u64>> {
        let info = Info::ask(&mut self.connection, "keyspace")?;
        Ok(info.fields().filter_map(|(name, _)| name.strip_prefix("db")?.parse().ok()).collect())
    }

    /// One answer a command, in order.
    ///
    /// # Errors
    /// The store does not answer, or answers any of them with an error.
    pub fn ask(&mut self, commands: &[Cmd]) -> Result<Vec<Value>> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let mut packed = Vec::new();
        for command in commands {
            command.write_packed_command(&mut packed);
        }
        let answers = self.connection.req_packed_commands(&packed, 0, commands.len())?;
        for (answer, command) in answers.iter().zip(commands) {
            if let Value::ServerError(error) = answer {
                let shown = command.get_packed_command();
                bail!("the store answered {error} to {}", super::difference::show(&shown));
            }
        }
        Ok(answers)
    }

    pub fn ask_one<T: FromRedisValue>(&mut self, command: Cmd) -> Result<T> {
        let answer = self.ask(std::slice::from_ref(&command))?.pop().context("no answer")?;
        parse(answer)
    }
}

/// An answer in the shape that the command documents.
pub fn parse<T: FromRedisValue>(answer: Value) -> Result<T> {
    Ok(redis::from_redis_value(answer)?)
}
