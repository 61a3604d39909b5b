//! `segue upgrade status --watch`: until the transaction is over.

use std::{
    io::{self, IsTerminal},
    ops::ControlFlow,
    time::Duration,
};

use serde_json::Value;

use super::{
    super::{Failure, client, print_more, status::typed},
    screen::Screen,
    show,
};
use crate::{
    config::StoreAddress,
    status::upgrade::{JournalLine, UpgradeStatus},
};

const REFRESH: Duration = Duration::from_secs(1);

/// Shows it on a terminal as a screen, elsewhere line by line as things happen.
///
/// # Errors
/// No sidecar at that address, or the transaction failed. While one is watched, a sidecar that does not answer
/// is asked again: it may be restarting.
pub(super) async fn run(admin: &StoreAddress, json: bool) -> Result<(), Failure> {
    let first = client::get(admin, "/v1/upgrade").await?;
    let watched = async {
        if json {
            return as_json(admin, first).await;
        }
        let first: UpgradeStatus = typed(first)?;
        if io::stdout().is_terminal() { on_screen(admin, first).await } else { in_lines(admin, first).await }
    };
    tokio::select! {
        shown = watched => shown,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

async fn as_json(admin: &StoreAddress, mut answer: Value) -> Result<(), Failure> {
    loop {
        if print_more(&format!("{answer}\n"))?.is_break() {
            return Ok(());
        }
        if let Some(outcome) = outcome(&typed(answer)?) {
            return outcome;
        }
        tokio::time::sleep(REFRESH).await;
        answer = client::get(admin, "/v1/upgrade").await?;
    }
}

async fn in_lines(admin: &StoreAddress, mut status: UpgradeStatus) -> Result<(), Failure> {
    let mut lines = Lines::default();
    loop {
        if print_more(&lines.of(&status))?.is_break() {
            return Ok(());
        }
        if let Some(outcome) = outcome(&status) {
            return outcome;
        }
        status = loop {
            tokio::time::sleep(REFRESH).await;
            match fetch(admin).await {
                Ok(status) => break status,
                Err(failure) if print_more(&lines.away(&failure))?.is_break() => return Ok(()),
                Err(_) => {}
            }
        };
    }
}

async fn on_screen(admin: &StoreAddress, mut status: UpgradeStatus) -> Result<(), Failure> {
    let mut screen = Screen::open().map_err(Failure::failed)?;
    let outcome = loop {
        screen.draw(&status, None).map_err(Failure::failed)?;
        if let Some(outcome) = outcome(&status) {
            break outcome;
        }
        if screen.pause(REFRESH).await.map_err(Failure::failed)?.is_break() {
            break Ok(());
        }
        match fetch(admin).await {
            Ok(newer) => status = newer,
            Err(failure) => screen.draw(&status, Some(&failure.message)).map_err(Failure::failed)?,
        }
    };
    drop(screen);
    // What stays on the terminal.
    let _read: ControlFlow<()> = print_more(&show::status(&status))?;
    outcome
}

async fn fetch(admin: &StoreAddress) -> Result<UpgradeStatus, Failure> {
    typed(client::get(admin, "/v1/upgrade").await?)
}

/// Once it is over, whether that is a failure.
fn outcome(status: &UpgradeStatus) -> Option<Result<(), Failure>> {
    let transaction = match &status.transaction {
        None => return Some(Ok(())),
        Some(transaction) if !transaction.over => return None,
        Some(transaction) => transaction,
    };
    Some(match (&*transaction.phase, &transaction.reason) {
        ("failed", Some(reason)) => Err(Failure::failed(reason)),
        _ => Ok(()),
    })
}

/// What has happened since the last look, as lines.
#[derive(Default)]
struct Lines {
    newest: Option<JournalLine>,
    said: String,
    is_away: bool,
}

impl Lines {
    fn of(&mut self, status: &UpgradeStatus) -> String {
        let mut text = String::new();
        let unseen = status.journal.iter().take_while(|line| Some(*line) != self.newest.as_ref());
        // Of a first look, only what goes on now.
        let unseen: Vec<_> = unseen.take_while(|_| self.newest.is_some()).collect();
        text.extend(unseen.iter().rev().map(|line| format!("{}\n", show::journal(line))));
        self.newest = status.journal.first().cloned().or(self.newest.take());
        self.is_away = false;
        let mut now = show::headline(status);
        if let Some(next) = status.transaction.as_ref().and_then(|transaction| transaction.next.as_ref()) {
            now += &format!("; next: {next}");
        }
        if now != self.said {
            text += &format!("{now}\n");
            self.said = now;
        }
        if let Some(end) = status.transaction.as_ref().and_then(show::end) {
            text += &format!("{end}\n");
        }
        text
    }

    fn away(&mut self, failure: &Failure) -> String {
        if std::mem::replace(&mut self.is_away, true) {
            return String::new();
        }
        format!("{}\n", failure.message)
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
