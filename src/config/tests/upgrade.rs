use std::time::Duration;

use super::{
    mesh::{folder_with_keys, parse_in},
    *,
};
use crate::config::{
    hook::Placeholder,
    rules::Rules,
    upgrade::{DriverKind, Hooks, Upgrade},
};

const FILE: &str = include_str!("../../../config/upgrade.toml");

const TABLES: &str = r#"[upgrade]
first = ["n2"]
[upgrade.hooks]
stop = ["stop"]
install = ["install", "{release}"]
start = ["start", "{master_host}", "{master_port}"]
set_aside = ["set-aside"]
"#;

const EXEC: &str = r#"[upgrade.exec]
see = ["see", "{store}"]
follow = ["follow"]
switch = ["switch"]
compare = ["compare"]
"#;

/// The example of all tests with these tables, from line 30 on.
fn with(tables: &str) -> String {
    format!("{EXAMPLE}{tables}")
}

/// [`TABLES`] with one part replaced, which must be there.
fn replaced(from: &str, to: &str) -> String {
    assert!(TABLES.contains(from), "the tables have no {from:?}");
    with(&TABLES.replacen(from, to, 1))
}

#[test]
fn the_example_loads_and_its_comments_are_the_defaults() {
    let folder = folder_with_keys();
    let parse_in = |text: &str| parse_in(&folder, text);
    let config = parse_in(FILE);
    let (dial, number) = (config.peers[0].dial.as_ref().unwrap(), config.node.number);
    assert_eq!((dial.to_string(), number), ("10.0.0.2:7401".to_owned(), Some(1)));
    let Upgrade { rules, hooks, data_dir, .. } = config.upgrade.as_ref().unwrap();
    assert_eq!(*rules, Rules { first: vec!["n2".into()], ..Rules::default() });
    assert!(hooks.start.names(Placeholder::MasterPort));
    assert_eq!(data_dir.as_deref(), Some(Path::new("/var/lib/redis")));

    let (defaults, exec) = FILE.split_once("#[upgrade.exec]").unwrap();
    assert_eq!(parse_in(&uncommented(defaults)), config);
    let defaults = uncommented(defaults).replace("driver = \"redis\"", "driver = \"exec\"");
    let exec = format!("{defaults}[upgrade.exec]{}", uncommented(exec));
    let DriverKind::Exec(commands) = parse_in(&exec).upgrade.unwrap().driver else {
        panic!("another driver");
    };
    assert_eq!((commands.time_max, commands.switch.len()), (Duration::from_secs(30), 9));
}

/// With every key that stands right behind a `#`.
fn uncommented(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(key) if !key.starts_with(' ') => format!("{key}\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

#[test]
fn hooks_are_complete_and_fill_in_what_there_is() {
    let Hooks { time_max, .. } = parse(&with(TABLES)).unwrap().upgrade.unwrap().hooks;
    assert_eq!(time_max, Duration::from_secs(300));
    assert_refused(
        &with("[upgrade]\n"),
        &[
            "segue.toml:30: [upgrade.hooks]: the table is missing; expected stop, install, start and set_aside",
        ],
    );
    let expected = "expected a program and its arguments, such as [\"systemctl\", \"stop\", \"redis\"]";
    assert_refused(
        &replaced("stop = [\"stop\"]\n", ""),
        &[&format!("segue.toml:32: [upgrade.hooks]: the key \"stop\" is missing; {expected}")],
    );
    assert_refused(
        &replaced("[\"stop\"]", "[]"),
        &[&format!("segue.toml:32: [upgrade.hooks] stop: there is no program; {expected}")],
    );
    assert_refused(
        &replaced("{release}", "{relase}"),
        &[
            "segue.toml:34: [upgrade.hooks] install = [\"install\", \"{relase}\"]: nothing is filled in for {relase}; \
           expected one of {node}, {release}, {from}, {to}, {data}, {store}, {store_host}, {store_port}, {master}, \
           {master_host}, {master_port}",
        ],
    );
}

#[test]
fn a_store_starts_as_a_secondary() {
    let message = "segue.toml:32: [upgrade.hooks] start: a store that starts as a master takes writes that get lost; \
                   expected {master_host} and {master_port} among its arguments, or start_as_secondary = true in \
                   [upgrade] if the store is told otherwise whom to follow";
    assert_refused(&replaced(", \"{master_host}\", \"{master_port}\"", ""), &[message]);
    assert_refused(&replaced(", \"{master_port}\"", ""), &[message]);
    parse(&replaced("\"{master_host}\", \"{master_port}\"", "\"{master}\"")).unwrap();
    let told = TABLES.replace(", \"{master_host}\", \"{master_port}\"", "");
    parse(&with(&told.replace("[upgrade]\n", "[upgrade]\nstart_as_secondary = true\n"))).unwrap();
}

#[test]
fn times_and_nodes_are_what_they_seem() {
    assert_refused(
        &replaced("first = [\"n2\"]", "soak = \"ten minutes\""),
        &[
            "segue.toml:31: [upgrade] soak = \"ten minutes\": expected a time, such as \"30s\", \"10m\" or \"24h\"",
        ],
    );
    assert_refused(
        &replaced("first = [\"n2\"]", "gate_time_max = \"367d\""),
        &[
            "segue.toml:31: [upgrade] gate_time_max = \"367d\": expected a time, such as \"30s\", \"10m\" or \"24h\", \
           and at most 366 days",
        ],
    );
    assert_refused(
        &replaced("first = [\"n2\"]", "finalize = \"after lunch\""),
        &[
            "segue.toml:31: [upgrade] finalize = \"after lunch\": expected a time, such as \"30s\", \"10m\" or \"24h\"",
        ],
    );
    assert_refused(
        &replaced("\"n2\"", "\"n1\", \"n22\""),
        &["segue.toml:30: [upgrade] first: no node is called \"n22\"; did you mean \"n2\"?"],
    );
}

#[test]
fn commands_and_their_driver_belong_together() {
    let exec = |tables: &str| replaced("first = [\"n2\"]", "driver = \"exec\"") + tables;
    assert!(matches!(parse(&exec(EXEC)).unwrap().upgrade.unwrap().driver, DriverKind::Exec(_)));
    assert_refused(
        &exec(""),
        &["segue.toml:30: [upgrade.exec]: the table is missing, and driver = \"exec\" needs it"],
    );
    assert_refused(
        &(with(TABLES) + EXEC),
        &["segue.toml:30: [upgrade.exec]: it is of no use without driver = \"exec\""],
    );
    assert_refused(
        &exec(&EXEC.replace("{store}", "{to}")),
        &["segue.toml:37: [upgrade.exec] see: {to} is not filled in there: it knows {store}"],
    );
    assert_refused(
        &exec(&EXEC.replace("follow = [\"follow\"]\n", "")),
        &[
            "segue.toml:37: [upgrade.exec]: the key \"follow\" is missing; expected a program and its arguments, such as \
           [\"/usr/local/bin/driver\", \"see\", \"{store}\"]",
        ],
    );
}
