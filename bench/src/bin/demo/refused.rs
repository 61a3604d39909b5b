//! What happens without Segue.

use std::time::Duration;

use anyhow::{Context, Result};
use segue_bench::child::wait_for;
use segue_bench::server::{Options, Server};
use segue_bench::stores::Store;

const REFUSED_TIME_MAX: Duration = Duration::from_secs(15);
const WORDS: &str = "Can't handle RDB format version";

/// Points an old replica at the new master; the line of its log that says why it cannot.
pub fn log_line(old: &Store, master: &Server) -> Result<String> {
    let replica = Server::start(old, Options::new())?;
    replica.replicate_from(master.port())?;
    let line = wait_for(REFUSED_TIME_MAX, || {
        Ok(replica.log_text().lines().find(|line| line.contains(WORDS)).map(str::to_owned))
    })?;
    line.with_context(|| format!("{} did not say {WORDS:?}; its log:\n{}", old.name(), replica.log_text()))
}
