//! The command itself: what it prints where, and how it exits.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use segue_bench::authority::Authority;

const CONFIG: &str = r#"[node]
id = "n1"
protocol = "redis"
store = "127.0.0.1:6401"

[[link]]
listen = "127.0.0.1:7401"
to = "store"
"#;

fn segue(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_segue"));
    command.args(arguments);
    command
}

fn check(config: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("segue.toml"), config).unwrap();
    segue(&["check", "--config", "segue.toml"]).current_dir(folder.path()).output().unwrap()
}

#[test]
fn a_good_config_is_summed_up() {
    let checked = check(CONFIG);
    assert_eq!(checked.status.code(), Some(0));
    assert!(checked.stderr.is_empty());
    assert!(checked.stdout.ends_with(b"\nok\n"), "{}", checked.stdout.escape_ascii());
}

#[test]
fn a_mesh_and_a_witness_are_summed_up() {
    let witness = "[node]\nid = \"w\"\nwitness = true\n[[peer]]\nid = \"n1\"\nstore = \"127.0.0.1:6401\"\n\
                   mesh = \"127.0.0.1:9902\"\n[mesh]\nlisten = \"127.0.0.1:9922\"\n";
    let checked = check(witness);
    let said = String::from_utf8(checked.stdout).unwrap();
    assert_eq!(checked.status.code(), Some(0), "{}", checked.stderr.escape_ascii());
    assert!(said.starts_with("node w: a witness, without a store\n"), "{said}");
    assert!(said.contains("mesh 127.0.0.1:9922: plain, on loopback, with n1 at 127.0.0.1:9902\n"), "{said}");
}

#[test]
fn a_certificate_out_of_its_time_is_told_on_stderr() {
    let authority = Authority::new("the lab").unwrap();
    let tls = authority.issue_expired("segue").unwrap().sidecar_table();
    let checked = check(&format!("{CONFIG}{tls}"));
    assert_eq!(checked.status.code(), Some(0));
    assert!(checked.stdout.ends_with(b"\nok\n"), "{}", checked.stdout.escape_ascii());
    let warned = String::from_utf8(checked.stderr).unwrap();
    assert!(warned.starts_with("warning: segue.toml:10: [tls] certificate_file = "), "{warned}");
    assert!(warned.contains("expired on 2001-01-01"), "{warned}");
}

#[test]
fn a_bad_config_is_told_on_stderr_with_exit_2() {
    let checked = check(&CONFIG.replace("\"store\"", "\"n2\"").replace("id =", "name ="));
    assert_eq!(checked.status.code(), Some(2));
    assert!(checked.stdout.is_empty());
    assert_eq!(
        String::from_utf8(checked.stderr).unwrap(),
        "segue.toml:1: [node]: the key \"id\" is missing; expected a name, such as \"n1\"\n\
         segue.toml:2: [node] name: unknown key; did you mean \"number\"?\n\
         segue.toml:8: [[link]] to = \"n2\": no [[peer]] has this id; expected \"store\" or the id of a \
         [[peer]], and there is none\n"
    );
}

#[test]
fn run_does_not_start_on_a_bad_config() {
    let run = segue(&["run", "--config", "/no/such/segue.toml"]).output().unwrap();
    assert_eq!(run.status.code(), Some(2));
    assert_eq!(
        String::from_utf8(run.stderr).unwrap(),
        "/no/such/segue.toml: cannot read the config file: No such file or directory (os error 2)\n"
    );
}

/// An RDB file arrives through a pipe that stays open, and SIGTERM comes in the middle of it.
#[test]
fn an_interrupted_conversion_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut convert = segue(&["convert", "--to", "redis-6.0", "-", "out.rdb"])
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = convert.stdin.take().unwrap();
    pipe.write_all(b"REDIS0012\xfe\x00\x00\x01k\x01v").unwrap();
    wait_for("the temporary file", || files_in(folder.path()).len() == 1);
    let kill = Command::new("kill").args(["-TERM", &convert.id().to_string()]).status().unwrap();
    assert!(kill.success());
    wait_for("the end", || convert.try_wait().unwrap().is_some());
    let ended = convert.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(String::from_utf8(ended.stderr).unwrap(), "segue: interrupted\nsegue: OUT is as it was\n");
    assert_eq!(files_in(folder.path()), Vec::<String>::new());
    drop(pipe);
}

fn files_in(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

#[track_caller]
fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let start = Instant::now();
    while !there() {
        assert!(start.elapsed() < Duration::from_secs(60), "still waiting for {what} after 60 s");
        thread::sleep(Duration::from_millis(10));
    }
}
