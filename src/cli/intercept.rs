//! `segue intercept`

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ConfigArgs, Exit, Failure, print};
use crate::{
    config::{Config, KnownProtocol, OnFailure},
    intercept::{
        self, InterceptError, Plan, guard,
        verify::{Outcome, Proof},
    },
};

#[derive(Clone, Debug, Args)]
pub struct InterceptArgs {
    #[command(subcommand)]
    pub command: InterceptCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub enum InterceptCommand {
    /// Print the rules and routes, and change nothing.
    Show(ConfigArgs),
    /// Put rules and routes in place; again is fine.
    Install(ConfigArgs),
    /// Prove each rule in place with a connection.
    Verify(ConfigArgs),
    /// Take rules and routes away, all that there are, after a crash too; again is fine.
    Remove(RemoveArgs),
    /// Wait until the sidecar is gone; then take rules and routes away if on_failure is "open".
    Guard(ConfigArgs),
}

#[derive(Clone, Debug, Args)]
pub struct RemoveArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Only if on_failure is "open" and no sidecar runs: for the service manager's stop hook.
    #[arg(long)]
    pub if_open: bool,
}

impl InterceptArgs {
    fn config(&self) -> &PathBuf {
        match &self.command {
            InterceptCommand::Show(args)
            | InterceptCommand::Install(args)
            | InterceptCommand::Verify(args)
            | InterceptCommand::Guard(args) => &args.config,
            InterceptCommand::Remove(args) => &args.config.config,
        }
    }
}

/// # Errors
/// A wrong config, or one without `[intercept]`; `nft` or `ip` missing, or their refusal; a rule that is not
/// proved.
pub fn run(args: &InterceptArgs, protocols: &[KnownProtocol<'_>]) -> Result<(), Failure> {
    let config = Config::load(args.config(), protocols)?;
    let (Some(plan), Some(settings)) = (Plan::of(&config), &config.intercept) else {
        let message = format!("segue: {} has no [intercept] table", args.config().display());
        return Err(Failure { exit: Exit::Usage, message });
    };
    match &args.command {
        InterceptCommand::Show(_) => print(&shown(&plan)),
        InterceptCommand::Install(_) => Ok(intercept::install(&plan)?),
        InterceptCommand::Verify(_) => verified(intercept::verify::verify(&plan, &config)?),
        InterceptCommand::Remove(args) => {
            let keep = args.if_open
                && (settings.on_failure == OnFailure::Closed || guard::is_running(&config.state.dir)?);
            if keep { Ok(()) } else { Ok(intercept::remove(&plan)?) }
        }
        InterceptCommand::Guard(_) if settings.on_failure == OnFailure::Closed => Ok(()),
        InterceptCommand::Guard(_) => Ok(guard::guard(&plan, &config.state.dir)?),
    }
}

/// What `install` does, as a script.
fn shown(plan: &Plan) -> String {
    let mut text = String::new();
    for arguments in plan.routes() {
        text.push_str(&format!("ip {}\n", arguments.join(" ")));
    }
    text + "nft -f - <<'END'\n" + &plan.ruleset() + "END\n"
}

fn verified(proofs: Vec<Proof>) -> Result<(), Failure> {
    let text: String = proofs.iter().map(|proof| format!("{proof}\n")).collect();
    print(&text)?;
    let failed = proofs.iter().filter(|proof| matches!(proof.outcome, Outcome::NotProved(_))).count();
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::failed(format_args!("{failed} of {} rules are not proved", proofs.len())))
}

impl From<InterceptError> for Failure {
    fn from(error: InterceptError) -> Self {
        Self::failed(error)
    }
}
