//! `segue upgrade`: the upgrade of a whole cluster, by any one of its sidecars.
//!
//! | module | holds |
//! |---|---|
//! | here | what can be asked, and the commands that say one thing |
//! | `arguments` | the command line |
//! | `show` | status, plan and what blocks, as text |
//! | `watch` | until it is over: lines, or the screen |
//! | `screen` | the live view |

mod arguments;
mod screen;
mod show;
mod watch;

use serde_json::{Value, json};

pub use arguments::{ActArgs, RollbackArgs, ShowArgs, UpgradeArgs, UpgradeCommand, WishArgs};

use super::{Failure, Terminal, client, print, status::typed};
use crate::{
    config::StoreAddress,
    status::upgrade::{PlanStatus, UpgradeStatus},
};

/// Runs one of the commands. `user` is who asks, for the record; `terminal`, what stdout shows if it is one.
///
/// # Errors
/// No sidecar at that address, or the sidecar's own reason why it refused.
pub async fn run(args: &UpgradeArgs, user: Option<String>, terminal: Terminal) -> Result<(), Failure> {
    match &args.command {
        UpgradeCommand::Plan(wish) => plan(wish).await,
        UpgradeCommand::Start(wish) => start(wish, user, terminal).await,
        UpgradeCommand::Status(args) if args.watch => {
            watch::run(&args.admin.address()?, args.json, terminal).await
        }
        UpgradeCommand::Status(args) => status(args, show::status).await,
        UpgradeCommand::Explain(args) => status(args, show::explain).await,
        UpgradeCommand::Pause(args) => act(args, "pause", user, "paused: no further node is begun").await,
        UpgradeCommand::Resume(args) => act(args, "resume", user, "it goes on").await,
        UpgradeCommand::Abort(args) => act(args, "abort", user, "aborted; no node was touched").await,
        UpgradeCommand::Finalize(args) => {
            act(args, "finalize", user, "all links turn to the new release: segue upgrade status --watch")
                .await
        }
        UpgradeCommand::Rollback(args) => rollback(args, user).await,
    }
}

async fn plan(args: &WishArgs) -> Result<(), Failure> {
    let admin = args.admin.address()?;
    let body = serde_json::to_vec(&args.wish(None)).map_err(Failure::failed)?;
    let answer = client::post(&admin, "/v1/upgrade/plan", body).await?;
    if args.json {
        return print(&format!("{answer:#}\n"));
    }
    let plan: PlanStatus = typed(answer)?;
    print(&show::plan(&plan))
}

async fn start(args: &WishArgs, user: Option<String>, terminal: Terminal) -> Result<(), Failure> {
    let admin = args.admin.address()?;
    let body = serde_json::to_vec(&args.wish(user)).map_err(Failure::failed)?;
    let answer = client::post(&admin, "/v1/upgrade/start", body).await?;
    if args.watch {
        return watch::run(&admin, args.json, terminal).await;
    }
    said(&answer, args.json, &format!("the upgrade to {} has begun: segue upgrade status --watch", args.to))
}

async fn status(args: &ShowArgs, shown: impl Fn(&UpgradeStatus) -> String) -> Result<(), Failure> {
    let answer = client::get(&args.admin.address()?, "/v1/upgrade").await?;
    if args.json {
        return print(&format!("{answer:#}\n"));
    }
    print(&shown(&typed(answer)?))
}

async fn act(args: &ActArgs, name: &str, user: Option<String>, done: &str) -> Result<(), Failure> {
    let answer = tell(&args.admin.address()?, name, json!({ "who": user })).await?;
    said(&answer, args.json, done)
}

/// Says first what it costs.
async fn rollback(args: &RollbackArgs, user: Option<String>) -> Result<(), Failure> {
    let ActArgs { admin, json } = &args.act;
    let admin = admin.address()?;
    let status: UpgradeStatus = typed(client::get(&admin, "/v1/upgrade").await?)?;
    if let Some(cost) = show::cost(&status).filter(|_| !json) {
        print(&cost)?;
    }
    let body = json!({ "who": user, "accept_losses": args.accept_losses });
    let answer = tell(&admin, "rollback", body).await?;
    said(&answer, *json, "it goes back: segue upgrade status --watch")
}

async fn tell(admin: &StoreAddress, name: &str, body: Value) -> Result<Value, Failure> {
    client::post(admin, &format!("/v1/upgrade/{name}"), body.to_string().into_bytes()).await
}

fn said(answer: &Value, json: bool, text: &str) -> Result<(), Failure> {
    if json { print(&format!("{answer:#}\n")) } else { print(&format!("{text}\n")) }
}

#[cfg(test)]
mod tests;
