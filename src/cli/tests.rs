use std::net::SocketAddr;

use clap::{CommandFactory, error::ErrorKind};
use segue_bench::port;

use super::*;
use crate::admin::{
    Routes,
    tests::{Fake, start},
};

pub(super) const DUMB: Terminal = Terminal { draws: false, colors: false };

fn parse(line: &str) -> Result<Command, clap::Error> {
    Cli::try_parse_from(line.split(' ')).map(|cli| cli.command)
}

fn translate(line: &str) -> TranslateArgs {
    let Command::Translate(args) = parse(line).unwrap() else { panic!("{line} is not translate") };
    args
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_is_understood() {
    let Command::Run(args) = parse("segue run --config /etc/segue.toml").unwrap() else { panic!() };
    assert_eq!(args.config.config, PathBuf::from("/etc/segue.toml"));
    assert!(!args.takeover);
    let Command::Run(args) = parse("segue run --takeover --config a").unwrap() else { panic!() };
    assert!(args.takeover);
    let Command::Check(args) = parse("segue check --config a").unwrap() else { panic!() };
    assert_eq!(args.config, PathBuf::from("a"));
    let Command::Status(args) = parse("segue status --json --watch --admin [::1]:99").unwrap() else {
        panic!()
    };
    assert!(args.json && args.watch);
    assert_eq!(args.admin.admin, Some("[::1]:99".parse().unwrap()));
    let Command::Losses(args) = parse("segue losses").unwrap() else { panic!() };
    assert!(!args.json);

    let args = translate("segue translate redis-6.0 --loss degrade --reason trial --force");
    assert_eq!(args.mode, Mode::Pin("redis-6.0".parse().unwrap()));
    assert_eq!(
        (args.loss, args.reason.as_deref(), args.force),
        (Some(LossChoice::Degrade), Some("trial"), true)
    );
    assert_eq!(translate("segue translate auto").mode, Mode::Auto);
    assert_eq!(translate("segue translate off").mode, Mode::Off);

    let Command::Convert(args) = parse("segue convert --to redis-6.0 - out.rdb").unwrap() else { panic!() };
    assert_eq!((args.to.to_string().as_str(), args.loss), ("redis-6.0", LossChoice::Refuse));
    assert_eq!((args.input, args.output), ("-".into(), "out.rdb".into()));
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    for (line, kind) in [
        ("segue run", ErrorKind::MissingRequiredArgument),
        ("segue stop", ErrorKind::InvalidSubcommand),
        ("segue translate sideways", ErrorKind::ValueValidation),
        ("segue convert --to redis8 a b", ErrorKind::ValueValidation),
        ("segue status --admin localhost", ErrorKind::ValueValidation),
        ("segue status --admin a:1 --config b", ErrorKind::ArgumentConflict),
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!((error.kind(), error.exit_code()), (kind, 2), "{line}");
    }
}

#[test]
fn the_version_is_the_packages() {
    let error = parse("segue --version").unwrap_err();
    assert_eq!(error.to_string(), concat!("segue ", env!("CARGO_PKG_VERSION"), "\n"));
    assert_eq!(error.exit_code(), 0);
}

#[test]
fn the_admin_address_comes_from_a_flag_a_file_or_the_default() {
    let address = |args: AdminArgs| args.address().unwrap().to_string();
    assert_eq!(address(AdminArgs::default()), "127.0.0.1:9901");
    assert_eq!(address(AdminArgs { admin: Some("b:1".parse().unwrap()), config: None }), "b:1");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[admin]\nlisten = \"0.0.0.0:99\"\n").unwrap();
    let from_file = AdminArgs { admin: None, config: Some(file.path().to_owned()) };
    assert_eq!(address(from_file.clone()), "127.0.0.1:99");
    std::fs::write(file.path(), "[admin]\nlisten = 99\n").unwrap();
    assert_eq!(from_file.address().unwrap_err().exit, Exit::Usage);
}

#[tokio::test]
async fn a_change_is_asked_for_and_a_refusal_is_told() {
    let sidecar = start(Routes::Admin, Fake::default()).await;
    let admin = format!("--admin {}", sidecar.address);
    let pin = translate(&format!("segue translate redis-6.0 --loss degrade --reason trial {admin}"));
    translate::run(&pin, Some("ana".to_owned())).await.unwrap();
    let change = sidecar.last_change();
    assert_eq!(
        (change.mode.as_deref(), change.loss.as_deref(), change.who.as_deref(), change.reason.as_deref()),
        (Some("redis-6.0"), Some("degrade"), Some("ana"), Some("trial"))
    );

    let off = translate(&format!("segue translate off {admin}"));
    let refused = translate::run(&off, None).await.unwrap_err();
    assert_eq!(refused, Failure { exit: Exit::Failed, message: "segue: n2 depends on it".to_owned() });
    let forced = translate(&format!("segue translate off --force {admin}"));
    translate::run(&forced, None).await.unwrap();
    assert!(sidecar.last_change().force);
}

#[tokio::test]
async fn snapshots_are_fetched() {
    let sidecar = start(Routes::Admin, Fake::default()).await;
    let admin = AdminArgs { admin: Some(sidecar.address.into()), config: None };
    for json in [false, true] {
        losses::run(&LossesArgs { admin: admin.clone(), json }).await.unwrap();
        status::run(&StatusArgs { admin: admin.clone(), json, watch: false }, DUMB).await.unwrap();
    }
}

#[tokio::test]
async fn no_sidecar_is_said_with_what_to_do() {
    let free = SocketAddr::from(([127, 0, 0, 1], port::free().unwrap()));
    let admin = AdminArgs { admin: Some(free.into()), config: None };
    let failure = losses::run(&LossesArgs { admin, json: false }).await.unwrap_err();
    assert_eq!(
        failure.message,
        format!(
            "segue: cannot reach the sidecar at {free}: Connection refused (os error 111); is it running, and is \
             this the address under [admin] in its config? (--admin HOST:PORT or --config FILE)"
        )
    );
}

#[tokio::test]
async fn another_kind_of_server_is_told_apart() {
    let metrics = start(Routes::Metrics, Fake::default()).await;
    let admin = AdminArgs { admin: Some(metrics.address.into()), config: None };
    let failure = losses::run(&LossesArgs { admin, json: false }).await.unwrap_err();
    assert_eq!(failure.message, "segue: no such page; there are /metrics, /livez and /readyz");
}
