//! The `segue` command: reads the command line and the environment, and hands over.

use std::{env, io, io::IsTerminal, process::ExitCode};

use clap::Parser;
use listenfd::ListenFd;
use segue::{
    cli::{self, Cli, Command, Exit, Failure, RunArgs, Terminal, VerdictsArgs},
    config::{Config, KnownProtocol, Log, LogFormat},
    net::inherit,
    registry,
    sidecar::{self, Notifier, Program, SetLogLevel, Start},
};
use tracing_subscriber::{
    Layer, Registry,
    filter::{FilterExt, LevelFilter, dynamic_filter_fn},
    fmt,
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
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
        Command::Run(args) => run(args, &known),
        Command::Check(args) => cli::check::run(&args.config, &known),
        Command::Status(args) => wait(cli::status::run(&args, terminal())),
        Command::Losses(args) => wait(cli::losses::run(&args)),
        Command::Translate(args) => wait(cli::translate::run(&args, env::var("USER").ok())),
        Command::Upgrade(args) => wait(cli::upgrade::run(&args, env::var("USER").ok(), terminal())),
        Command::Intercept(args) => cli::intercept::run(&args, &known),
        Command::Convert(args) => wait(cli::convert::run(&args)),
        Command::Verdicts(args) => verdicts(&args),
    }
}

fn terminal() -> Terminal {
    Terminal::of(env::var_os("TERM").as_deref(), env::var_os("NO_COLOR").as_deref())
}

fn verdicts(args: &VerdictsArgs) -> Result<(), Failure> {
    let Some(protocol) = registry::protocol(&args.protocol) else {
        let message = format!("segue: {} is no protocol that segue knows", args.protocol);
        return Err(Failure { exit: Exit::Usage, message });
    };
    cli::verdicts::run(args, &*protocol)
}

fn run(args: RunArgs, known: &[KnownProtocol<'_>]) -> Result<(), Failure> {
    let config_file = args.config.config;
    let config = Config::load(&config_file, known)?;
    let set_log_level = log_to_stderr(&config.log);
    let protocol = registry::protocol(&config.node.protocol)
        .ok_or_else(|| Failure::failed("the config names no known protocol"))?;
    let passed = inherit::from_service_manager(ListenFd::from_env())
        .map_err(|error| Failure::failed(format_args!("the service manager's sockets: {error}")))?;
    // Asked now: after an upgrade the file at this path is another one.
    let program = env::current_exe()
        .map_err(|error| Failure::failed(format_args!("where is this program? {error}")))
        .map(|path| Program { path, arguments: env::args_os().skip(1).collect() })?;
    sidecar::run(Start {
        config,
        config_file,
        protocol,
        takeover: args.takeover,
        passed,
        notifier: Notifier::new(env::var_os("NOTIFY_SOCKET")),
        program,
        search_path: env::var_os("PATH"),
        set_log_level,
    })
}

fn wait(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::failed(format_args!("no runtime: {error}")))?.block_on(command)
}

/// Its level can be changed later.
fn log_to_stderr(log: &Log) -> SetLogLevel {
    let lines = fmt::layer::<Registry>().with_writer(io::stderr).with_target(false);
    let lines = match log.format {
        LogFormat::Text => lines.with_ansi(terminal().colors && io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let (level, handle) = reload::Layer::new(LevelFilter::from_level(log.level));
    // The raft's own lines come with every member that is away; what an operator needs the mesh says itself.
    let is_wanted = dynamic_filter_fn(|line, _| {
        !line.target().starts_with("openraft") || LevelFilter::current() >= LevelFilter::DEBUG
    });
    tracing_subscriber::registry().with(lines.with_filter(level.and(is_wanted))).init();
    Box::new(move |level| {
        if let Err(error) = handle.reload(LevelFilter::from_level(level)) {
            tracing::error!(%error, "the log's level stays");
        }
    })
}
