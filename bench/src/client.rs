//! Client connections to stores on loopback.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use redis::Connection;

/// The first answers count in: a store under load forks, or is not run for a while.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(30);

/// A connection to the store on this port, database 0.
///
/// Its answers have no time limit: Linux does not begin a read anew that has one, once the process stood still for a
/// moment (signal(7), `EINTR`), and this client would lose its place. A test that hangs is named by the harness.
///
/// # Errors
/// Nothing listens there, or it does not answer.
pub fn connect(port: u16) -> Result<Connection> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/"))?;
    client
        .get_connection_with_timeout(CONNECT_TIME_MAX)
        .with_context(|| format!("cannot connect to the store on port {port}"))
}

/// The `field:value` lines of INFO.
#[derive(Clone, Debug)]
pub struct Info {
    text: String,
}

impl Info {
    /// # Errors
    /// The store does not answer.
    pub fn ask(connection: &mut Connection, section: &str) -> Result<Self> {
        Ok(Self { text: redis::cmd("INFO").arg(section).query(connection)? })
    }

    #[must_use]
    pub fn get(&self, field: &str) -> Option<&str> {
        self.fields().find_map(|(name, value)| (name == field).then_some(value))
    }

    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text.lines().filter_map(|line| line.trim_end().split_once(':'))
    }

    /// Whether the store writes its append-only file anew, or is going to.
    ///
    /// # Errors
    /// The fields are absent.
    pub fn rewrites_aof(&self) -> Result<bool> {
        Ok(self.number("aof_rewrite_in_progress")? > 0 || self.number("aof_rewrite_scheduled")? > 0)
    }

    /// # Errors
    /// The field is absent or no number.
    pub fn number(&self, field: &str) -> Result<u64> {
        let value = self.get(field).ok_or_else(|| anyhow!("INFO has no {field}"))?;
        value.parse().with_context(|| format!("INFO's {field} is {value:?}"))
    }
}
