//! `segue status`

use std::{
    io::{self, IsTerminal},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use super::{Failure, StatusArgs, Terminal, client, print, print_more, show};
use crate::{config::StoreAddress, status::Status};

const REFRESH: Duration = Duration::from_secs(1);

/// Cursor to the top left, and everything below cleared (ECMA-48 CUP and ED): no flicker.
const CLEAR_SCREEN: &str = "\x1b[H\x1b[J";

/// Prints the status once, or every second until ctrl-c.
///
/// # Errors
/// No sidecar at that address, or an answer that makes no sense. A watched table shows that, and asks
/// again.
pub async fn run(args: &StatusArgs, terminal: Terminal) -> Result<(), Failure> {
    let admin = args.admin.address()?;
    if !args.watch {
        return print(&page(&admin, args.json).await?);
    }
    tokio::select! {
        printed = watch(&admin, args.json, terminal) => printed,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

async fn watch(admin: &StoreAddress, json: bool, terminal: Terminal) -> Result<(), Failure> {
    let clears = !json && terminal.draws && io::stdout().is_terminal();
    let clear = if clears { CLEAR_SCREEN } else { "" };
    let mut ticks = tokio::time::interval(REFRESH);
    loop {
        ticks.tick().await;
        let text = if json {
            client::get(admin, "/v1/status").await.map(|answer| format!("{answer}\n"))?
        } else {
            let page = page(admin, false).await.unwrap_or_else(|failure| failure.message + "\n");
            format!("{clear}{page}")
        };
        if print_more(&text)?.is_break() {
            return Ok(());
        }
    }
}

async fn page(admin: &StoreAddress, json: bool) -> Result<String, Failure> {
    let answer = client::get(admin, "/v1/status").await?;
    if json {
        return Ok(format!("{answer:#}\n"));
    }
    let status: Status = typed(answer)?;
    Ok(show::status(&status, now_unix_s()))
}

/// The answer as this version of segue knows it.
pub(super) fn typed<T: serde::de::DeserializeOwned>(answer: Value) -> Result<T, Failure> {
    serde_json::from_value(answer).map_err(|e| {
        Failure::failed(format_args!(
            "the sidecar's answer is not what this version of segue knows ({e}); --json shows it as it is"
        ))
    })
}

pub(super) fn now_unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
