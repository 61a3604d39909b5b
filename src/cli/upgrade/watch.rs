//! `segue upgrade status --watch`: until the transaction is over.

use std::{
    io::{self, IsTerminal},
    ops::ControlFlow,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    super::{Failure, Terminal, client, print_more, status::typed},
    screen::Screen,
    show,
};
use crate::{
    config::StoreAddress,
    status::upgrade::{JournalLine, UpgradeStatus},
};

const REFRESH: Duration = Duration::from_secs(1);
/// All nodes are known to be in sync again a little after it is over; the last picture waits for that.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(10);

/// Shows it on a terminal that draws as a screen, elsewhere line by line as things happen.
///
/// # Errors
/// No sidecar at that address, or the transaction failed. While one is watched, a sidecar that does not answer
/// is asked again: it may be restarting.
pub(super) async fn run(admin: &StoreAddress, json: bool, terminal: Terminal) -> Result<(), Failure> {
    let first = client::get(admin, "/v1/upgrade").await?;
    let watched = async {
        if json {
            return as_json(admin, first).await;
        }
        let first: UpgradeStatus = typed(first)?;
        let draws = terminal.draws && io::stdout().is_terminal();
        let screen = if draws { Screen::open(terminal.colors).ok() } else { None };
        match screen {
            Some(screen) => on_screen(screen, admin, first).await,
            None => in_lines(admin, first).await,
        }
    };
    // A screen that is dropped leaves the terminal as it was.
    tokio::select! {
        shown = watched => shown,
        ended = told_to_end() => ended.map_err(Failure::failed),
    }
}

async fn told_to_end() -> io::Result<()> {
    let [mut interrupt, mut terminate, mut hang_up] =
        [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?];
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
    Ok(())
}

/// A sidecar that does not answer is a line `{"error": …}`, once.
async fn as_json(admin: &StoreAddress, mut answer: Value) -> Result<(), Failure> {
    let mut is_away = false;
    loop {
        if print_more(&format!("{answer}\n"))?.is_break() {
            return Ok(());
        }
        if let Some(outcome) = outcome(&typed(answer)?) {
            return outcome;
        }
        answer = loop {
            tokio::time::sleep(REFRESH).await;
            match client::get(admin, "/v1/upgrade").await {
                Ok(answer) => break answer,
                Err(failure) if !std::mem::replace(&mut is_away, true) => {
                    if print_more(&format!("{}\n", json!({ "error": failure.message })))?.is_break() {
                        return Ok(());
                    }
                }
                Err(_) => {}
            }
        };
        is_away = false;
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

async fn on_screen(
    mut screen: Screen,
    admin: &StoreAddress,
    mut status: UpgradeStatus,
) -> Result<(), Failure> {
    let (mut trouble, mut over_since): (Option<String>, Option<Instant>) = (None, None);
    let outcome = loop {
        screen.draw(&status, trouble.as_deref()).map_err(Failure::failed)?;
        if let Some(outcome) = outcome(&status) {
            let since = *over_since.get_or_insert_with(Instant::now);
            if status.nodes.iter().all(|node| node.in_sync) || since.elapsed() >= SETTLE_TIME_MAX {
                break Some(outcome);
            }
        } else {
            over_since = None;
        }
        if screen.pause(REFRESH).await.map_err(Failure::failed)?.is_break() {
            break None;
        }
        match fetch(admin).await {
            Ok(newer) => (status, trouble) = (newer, None),
            Err(failure) => trouble = Some(failure.message),
        }
    };
    drop(screen);
    // What stays on the terminal.
    let mut text = show::summary(&status);
    if outcome.is_none() {
        text += "\nleft; the upgrade goes on: segue upgrade status --watch\n";
    }
    let _read: ControlFlow<()> = print_more(&text)?;
    outcome.unwrap_or(Ok(()))
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
        let line = |line: &&JournalLine| format!("{} {}\n", show::clock(line.at_ms), show::journal(line));
        text.extend(unseen.iter().rev().map(line));
        self.newest = status.journal.first().cloned().or(self.newest.take());
        self.is_away = false;
        let now = show::headline(status);
        if now != self.said {
            let clock = show::clock(status.at_ms);
            let notes = show::notes(status).into_iter().chain(show::end(status));
            text += &format!("{clock} {now}\n");
            text.extend(notes.map(|note| format!("{clock} {note}\n")));
            self.said = now;
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
