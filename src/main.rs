//! The `segue` command: reads the command line and the environment, and hands over.

use std::{env, io, io::IsTerminal, process::ExitCode};

use clap::Parser;
use segue::{
    cli::{self, Cli, Command, Failure},
    config::{Config, KnownProtocol, LogFormat},
    registry, sidecar,
};

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    let protocols = registry::protocols();
    let known: Vec<KnownProtocol<'_>> = protocols.iter().map(|protocol| (&**protocol).into()).collect();
    match command {
        Command::Run(args) => {
            let config = Config::load(&args.config, &known)?;
            log_to_stderr(&config);
            let protocol = registry::protocol(&config.node.protocol)
                .ok_or_else(|| Failure::failed("the config names no known protocol"))?;
            sidecar::run(config, protocol)
        }
        Command::Check(args) => cli::check::run(&args.config, &known),
        Command::Status(args) => wait(cli::status::run(&args)),
        Command::Losses(args) => wait(cli::losses::run(&args)),
        Command::Translate(args) => wait(cli::translate::run(&args, env::var("USER").ok())),
        Command::Convert(args) => wait(cli::convert::run(&args)),
    }
}

fn wait(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::failed(format_args!("no runtime: {error}")))?.block_on(command)
}

fn log_to_stderr(config: &Config) {
    let log =
        tracing_subscriber::fmt().with_writer(io::stderr).with_max_level(config.log.level).with_target(false);
    match config.log.format {
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().init(),
    }
}
