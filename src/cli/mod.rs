//! The command line: what can be asked, and the commands themselves except `run`.
//!
//! | module | holds |
//! |---|---|
//! | here | [`Cli`], [`Command`] and their arguments; [`Failure`] and its exit codes |
//! | [`check`] | `segue check` |
//! | [`status`], [`losses`], [`translate`] | commands that ask a running sidecar |
//! | [`upgrade`] | `segue upgrade`: the upgrade of a whole cluster |
//! | [`intercept`] | `segue intercept`: the kernel's rules |
//! | [`convert`] | `segue convert`: the translator on an RDB file or an AOF |
//! | [`verdicts`] | `segue verdicts`: what lies between releases |
//! | `client` | HTTP to the admin API |
//! | `show` | status and losses as text for a person; `table`, `advice`: parts of it |
//! | `terminal` | what a terminal can show |
//!
//! Nothing here reads the environment.

mod advice;
mod client;
mod show;
mod table;
mod terminal;

pub mod check;
pub mod convert;
pub mod intercept;
pub mod losses;
pub mod status;
pub mod translate;
pub mod upgrade;
pub mod verdicts;

use std::{
    fmt,
    io::{self, Write},
    ops::ControlFlow,
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use segue_wire::{LossPolicy, Mode, Release};

use crate::config::{Config, ConfigError, StoreAddress};
pub use terminal::Terminal;

/// Translates a storage cluster's inter-node link between releases, so that unmodified stores can be
/// upgraded and rolled back node by node.
#[derive(Clone, Debug, Parser)]
#[command(name = "segue", version, after_help = EXAMPLES, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  segue check --config /etc/segue/segue.toml    is this file right, and what would run?
  segue run --config /etc/segue/segue.toml      run the sidecar
  segue run --takeover --config /etc/…          take over from the one that runs: an upgrade of Segue
  segue status --watch                          what is it doing?
  segue translate redis-6.0 --reason 'rollback' speak no newer than redis-6.0 to anyone
  segue upgrade start --to redis-8.0 --watch    upgrade the whole cluster, node by node
  segue convert --to redis-6.0 dump.rdb dump.rdb
  segue verdicts redis --to redis-6.0           what can be sent to redis-6.0, and how?

Exit codes: 0 done; 1 failed or refused; 2 a wrong command line or config file.";

#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run the sidecar until SIGTERM or ctrl-c.
    Run(RunArgs),
    /// Check a config file, and show what would run.
    Check(ConfigArgs),
    /// Show the node, its links and what was refused.
    Status(StatusArgs),
    /// Show what was left out because an older release cannot represent it.
    Losses(LossesArgs),
    /// Change how a running sidecar translates.
    Translate(TranslateArgs),
    /// Upgrade the whole cluster, node by node, and back.
    Upgrade(upgrade::UpgradeArgs),
    /// Show, install, verify or remove the kernel's rules of interception.
    Intercept(intercept::InterceptArgs),
    /// Rewrite an RDB file or an AOF so that an older release loads it.
    Convert(ConvertArgs),
    /// Show what lies between releases: what passes, what is rewritten, what can be lost.
    Verdicts(VerdictsArgs),
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Signals:
  SIGTERM, SIGINT   end the links with their state saved, then exit
  SIGHUP            read the config file again
  SIGUSR2           start this program again with --takeover, and end when it is ready")]
pub struct RunArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Take the listening sockets of the sidecar that runs with the same [state] dir, and let it end.
    #[arg(long)]
    pub takeover: bool,
}

#[derive(Clone, Debug, Args)]
pub struct ConfigArgs {
    /// The config file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// Which sidecar to ask.
#[derive(Clone, Debug, Default, Args)]
pub struct AdminArgs {
    /// Where the sidecar's admin API listens [default: 127.0.0.1:9901].
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "config")]
    pub admin: Option<StoreAddress>,
    /// Take the address from this config file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Print the answer of `GET /v1/status` instead of a table; with --watch, one line each second.
    #[arg(long)]
    pub json: bool,
    /// Refresh every second until ctrl-c.
    #[arg(long)]
    pub watch: bool,
}

#[derive(Clone, Debug, Args)]
pub struct LossesArgs {
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Print the answer of `GET /v1/losses` instead of a table.
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  segue translate auto                          to each peer what its release understands
  segue translate off --reason 'all upgraded'   pass bytes unchanged; refused under a live older peer
  segue translate redis-6.0 --loss degrade      leave out and count what redis-6.0 cannot represent
  segue translate auto --loss refuse --all      on all nodes of the mesh

Every change is recorded with who, when and why; see `segue status --json`.")]
pub struct TranslateArgs {
    /// auto, off, or the newest release to speak, such as redis-6.0.
    #[arg(value_name = "auto|off|RELEASE", value_parser = mode)]
    pub mode: Mode,
    /// What to do with content that the older release cannot represent [default: as it is].
    #[arg(long)]
    pub loss: Option<LossChoice>,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Do it even if a live link depends on the translation.
    #[arg(long)]
    pub force: bool,
    /// On all nodes of the mesh, also those that join or come back later.
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub admin: AdminArgs,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  segue convert --to redis-6.0 dump.rdb old.rdb       OUT appears only when it is whole
  segue convert --to redis-6.0 dump.rdb dump.rdb      in place, by rename
  ssh db2 cat dump.rdb | segue convert --to redis-7.0 --loss degrade - old.rdb
  segue convert --from redis-8.0 --to redis-6.2 appendonlydir appendonly.aof
  segue convert --from redis-8.0 --to redis-7.0 appendonlydir older/appendonlydir

Stop the store first: an AOF that grows is read up to where it ends now. An AOF folder is never replaced and
never changed: OUT must be a new one. With `-` as OUT, the bytes are good only if the exit code is 0.")]
pub struct ConvertArgs {
    /// The release that must load the result.
    #[arg(long, value_name = "RELEASE")]
    pub to: Release,
    /// The release that wrote IN; an AOF does not say it.
    #[arg(long, value_name = "RELEASE")]
    pub from: Option<Release>,
    /// What to do with content that the release of --to cannot represent.
    #[arg(long, default_value = "refuse")]
    pub loss: LossChoice,
    /// The RDB file, AOF or AOF folder (appendonlydir) to read, or `-`.
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// The file or folder to write, or `-`.
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  segue verdicts redis                                       every pair of releases
  segue verdicts redis --from redis-8.0                      what 8.0 sends, to each other release
  segue verdicts redis --from redis-8.0 --to redis-6.0       one pair: each rewrite, each possible loss")]
pub struct VerdictsArgs {
    /// A protocol, as node.protocol in the config.
    #[arg(value_name = "PROTOCOL")]
    pub protocol: String,
    /// The release that sends.
    #[arg(long, value_name = "RELEASE")]
    pub from: Option<Release>,
    /// The release that receives.
    #[arg(long, value_name = "RELEASE")]
    pub to: Option<Release>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LossChoice {
    /// Stop.
    Refuse,
    /// Leave it out, and count it.
    Degrade,
}

impl From<LossChoice> for LossPolicy {
    fn from(choice: LossChoice) -> Self {
        match choice {
            LossChoice::Refuse => Self::Refuse,
            LossChoice::Degrade => Self::Degrade,
        }
    }
}

fn mode(text: &str) -> Result<Mode, String> {
    text.parse().map_err(|e| format!("{e}; or auto, or off"))
}

impl AdminArgs {
    fn address(&self) -> Result<StoreAddress, Failure> {
        match (&self.admin, &self.config) {
            (Some(address), _) => Ok(address.clone()),
            (None, Some(file)) => Ok(client::reachable(Config::admin_of(file)?).into()),
            (None, None) => Ok(crate::config::ADMIN_DEFAULT.into()),
        }
    }
}

/// Why a command did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub exit: Exit,
    /// For stderr, as it is.
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 1: it failed, or was refused.
    Failed,
    /// 2: the command line or the config file is wrong.
    Usage,
}

impl Failure {
    pub fn failed(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Failed, message: format!("segue: {message}") }
    }

    /// Says it on stderr.
    #[must_use]
    pub fn report(&self) -> ExitCode {
        // With no stderr left, the exit code has to do.
        let _unwritable = writeln!(io::stderr(), "{}", self.message);
        match self.exit {
            Exit::Failed => ExitCode::from(1),
            Exit::Usage => ExitCode::from(2),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self { exit: Exit::Usage, message: error.to_string() }
    }
}

/// Prints to stdout. A reader that has gone (`segue status | head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    print_more(text).map(drop)
}

/// Prints to stdout; `Break` where no one reads it any more.
fn print_more(text: &str) -> Result<ControlFlow<()>, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(e) => Err(Failure::failed(format_args!("cannot write to stdout: {e}"))),
    }
}

#[cfg(test)]
mod tests;
