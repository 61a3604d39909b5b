//! The command line of `segue upgrade`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use segue_wire::Release;

use super::super::AdminArgs;
use crate::{
    config::time::time,
    upgrade::{
        rules::{OnFailure, Order},
        wish::{FinalizeWish, RulesWish, Wish},
    },
};

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  segue upgrade plan --to redis-8.0            every step of every node, before anything moves
  segue upgrade start --to redis-8.0 --watch   begin, and look on until it is over
  segue upgrade explain                        what does it wait for, and what can I do?
  segue upgrade rollback                       all nodes back to where they were, newest writes kept
  segue upgrade finalize                       from here on there is no way back

Any sidecar of the mesh may be asked. Every command is recorded with who and when.")]
pub struct UpgradeArgs {
    #[command(subcommand)]
    pub command: UpgradeCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub enum UpgradeCommand {
    /// Print every step for every node, in order; nothing moves.
    Plan(WishArgs),
    /// Begin.
    Start(WishArgs),
    /// Show nodes, steps, what is waited for and what comes next.
    Status(ShowArgs),
    /// Begin no further node; one that is on its way goes on to its end.
    Pause(ActArgs),
    /// Go on after a pause.
    Resume(ActArgs),
    /// End it, as long as no node was touched.
    Abort(ActArgs),
    /// Bring every node back to the release before.
    Rollback(RollbackArgs),
    /// Turn all links to the new release. It ends the transaction, and the way back.
    Finalize(ActArgs),
    /// Say what is in the way, and what to do.
    Explain(ShowArgs),
}

/// What is not given is as [upgrade] in the config says.
#[derive(Clone, Debug, Args)]
pub struct WishArgs {
    /// The release that all nodes are to run.
    #[arg(long, value_name = "RELEASE")]
    pub to: Release,
    /// The release that they run [default: what the stores say].
    #[arg(long, value_name = "RELEASE")]
    pub from: Option<Release>,
    /// Who goes first.
    #[arg(long)]
    pub order: Option<OrderChoice>,
    /// These secondaries first, in this order.
    #[arg(long, value_name = "NODE,…", value_delimiter = ',')]
    pub first: Option<Vec<String>>,
    /// How many secondaries at one time.
    #[arg(long, value_name = "NODES")]
    pub batch: Option<usize>,
    /// After how many nodes to rest.
    #[arg(long, value_name = "NODES")]
    pub canary: Option<usize>,
    /// How long.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub canary_soak: Option<Duration>,
    /// Wait for `segue upgrade resume` before the master is touched.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub hold_before_master: Option<bool>,
    /// How long all nodes run on the new release before it may be finalized.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub soak: Option<Duration>,
    /// manual, or after how long by itself, such as 24h.
    #[arg(long, value_name = "manual|TIME", value_parser = finalize)]
    pub finalize: Option<FinalizeWish>,
    /// What to do once a node had to be taken back.
    #[arg(long)]
    pub on_failure: Option<OnFailureChoice>,
    /// How often a step is tried in all.
    #[arg(long, value_name = "TIMES")]
    pub attempts_max: Option<u32>,
    /// How long a step may take.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub step_time_max: Option<Duration>,
    /// How long a gate may stay shut; then the transaction pauses.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub gate_time_max: Option<Duration>,
    /// Of start: look on until it is over.
    #[arg(long)]
    pub watch: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub admin: AdminArgs,
}

#[derive(Clone, Debug, Args)]
pub struct ShowArgs {
    /// Print the answer of `GET /v1/upgrade`; with --watch, one line each second.
    #[arg(long)]
    pub json: bool,
    /// Look on until it is over.
    #[arg(long)]
    pub watch: bool,
    #[command(flatten)]
    pub admin: AdminArgs,
}

#[derive(Clone, Debug, Args)]
pub struct ActArgs {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub admin: AdminArgs,
}

#[derive(Clone, Debug, Args)]
pub struct RollbackArgs {
    /// Go back although content was left out since the start: it stays left out.
    #[arg(long)]
    pub accept_losses: bool,
    #[command(flatten)]
    pub act: ActArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OrderChoice {
    SecondariesFirst,
    MasterFirst,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnFailureChoice {
    Pause,
    Rollback,
}

impl WishArgs {
    pub fn wish(&self, who: Option<String>) -> Wish {
        let rules = RulesWish {
            order: self.order.map(|order| match order {
                OrderChoice::SecondariesFirst => Order::SecondariesFirst,
                OrderChoice::MasterFirst => Order::MasterFirst,
            }),
            first: self.first.as_ref().map(|first| first.iter().map(|node| node.as_str().into()).collect()),
            batch: self.batch,
            canary: self.canary,
            canary_soak_ms: self.canary_soak.map(ms),
            hold_before_master: self.hold_before_master,
            soak_ms: self.soak.map(ms),
            finalize: self.finalize,
            on_failure: self.on_failure.map(|on_failure| match on_failure {
                OnFailureChoice::Pause => OnFailure::Pause,
                OnFailureChoice::Rollback => OnFailure::Rollback,
            }),
            attempts_max: self.attempts_max,
            step_time_max_ms: self.step_time_max.map(ms),
            gate_time_max_ms: self.gate_time_max.map(ms),
        };
        Wish { to: self.to.to_string(), from: self.from.as_ref().map(ToString::to_string), who, rules }
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn finalize(text: &str) -> Result<FinalizeWish, String> {
    if text == "manual" {
        return Ok(FinalizeWish::Manual);
    }
    let after = time(text.strip_prefix("after ").unwrap_or(text)).map_err(|e| format!("{e}; or manual"))?;
    Ok(FinalizeWish::AfterMs(ms(after)))
}
