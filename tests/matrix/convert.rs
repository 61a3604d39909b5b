//! `segue convert`: a newer snapshot file becomes one that the older binary starts from.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Result, ensure};
use segue_bench::{
    data::{self, Newer},
    reader,
    server::{Options, Server},
    stores::Store,
};

struct Newest {
    server: Server,
    file: PathBuf,
}

fn newest(with: &[Newer]) -> Result<Newest> {
    let server = Server::start(&Store::want("redis-8.0")?, Options::new())?;
    let mut client = server.client()?;
    data::fill_core(&mut client, 1)?;
    with.iter().try_for_each(|newer| data::fill_newer(&mut client, *newer))?;
    redis::cmd("SAVE").exec(&mut client)?;
    let file = server.folder().join("dump.rdb");
    Ok(Newest { server, file })
}

fn convert(to: &str, loss: &str, from: &Path, into: &Path) -> Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_segue"));
    command.args(["convert", "--to", to, "--loss", loss]).arg(from).arg(into);
    Ok(command.output()?)
}

fn loads(release: &str, store: &str) -> Result<()> {
    let newest = newest(&[])?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("older.rdb");
    let output = convert(release, "refuse", &newest.file, &file)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let store = Store::want(store)?;
    let checked = Command::new(&store.check_rdb).arg(&file).output()?;
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    ensure!(checked.status.success() && said.contains("RDB looks OK"), "redis-check-rdb: {said}");
    let older = Server::start(&store, Options { snapshot: Some(file), ..Options::new() })?;
    let comparison = reader::compare(newest.server.port(), older.port())?;
    ensure!(comparison.is_equal() && comparison.keys > 500, "{comparison:#?}");
    Ok(())
}

#[test]
fn redis_7_0_starts_from_it() -> Result<()> {
    loads("redis-7.0", "redis-7.0")
}

#[test]
fn redis_6_2_starts_from_it() -> Result<()> {
    loads("redis-6.2", "redis-6.2.14")
}

#[test]
fn redis_6_0_starts_from_it() -> Result<()> {
    loads("redis-6.0", "redis-6.0")
}

#[test]
fn redis_5_0_starts_from_it() -> Result<()> {
    loads("redis-5.0", "redis-5.0")
}

#[test]
fn what_it_can_not_hold_is_refused_by_name_or_left_out_and_told() -> Result<()> {
    let newest = newest(&[Newer::Functions, Newer::FieldTtls, Newer::VectorSets])?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("older.rdb");
    let refused = convert("redis-6.0", "refuse", &newest.file, &file)?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(1), "{:?}", refused.status);
    ensure!(
        said.contains("function-library") || said.contains("hash-field-ttl") || said.contains("vector-set"),
        "{said}"
    );
    ensure!(!file.exists(), "a half file was left");

    let degraded = convert("redis-6.0", "degrade", &newest.file, &file)?;
    let said = String::from_utf8_lossy(&degraded.stderr).into_owned();
    ensure!(degraded.status.success(), "{said}");
    for kind in ["function-library", "hash-field-ttl", "vector-set"] {
        ensure!(said.contains(kind), "{kind} is not told: {said}");
    }
    let older =
        Server::start(&Store::want("redis-6.0")?, Options { snapshot: Some(file), ..Options::new() })?;
    let comparison = reader::compare(newest.server.port(), older.port())?;
    let declared =
        |key: &[u8]| Newer::ALL.iter().any(|newer| newer.keys().iter().any(|k| k.as_bytes() == key));
    ensure!(comparison.differences.iter().all(|difference| declared(&difference.key)), "{comparison:#?}");
    Ok(())
}

#[test]
fn converting_twice_changes_nothing_more() -> Result<()> {
    let newest = newest(&[])?;
    let folder = tempfile::tempdir()?;
    let (once, twice) = (folder.path().join("once.rdb"), folder.path().join("twice.rdb"));
    ensure!(convert("redis-6.0", "refuse", &newest.file, &once)?.status.success());
    ensure!(convert("redis-6.0", "refuse", &once, &twice)?.status.success());
    ensure!(std::fs::read(once)? == std::fs::read(twice)?, "the second pass changed the file");
    Ok(())
}

/// Releases that can't be fetched: what each wrote, converted, against what 8.0 makes of the same file.
fn golden_loads(file: &str, targets: &[(&str, &str)]) -> Result<()> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("translators/redis/tests/golden").join(file);
    let from = |store: &str, file: &Path| {
        Server::start(&Store::want(store)?, Options { snapshot: Some(file.to_owned()), ..Options::new() })
    };
    let newest = from("redis-8.0", &golden)?;
    let folder = tempfile::tempdir()?;
    for (release, store) in targets {
        let converted = folder.path().join(release);
        let output = convert(release, "degrade", &golden, &converted)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{release}: {said}");
        let comparison = reader::compare(newest.port(), from(store, &converted)?.port())?;
        // 8.0 drops fields whose time is over when it loads; a release without field TTLs has them still.
        let declared = |key: &[u8]| key.starts_with(b"hf:") && said.contains("hash-field-ttl");
        let all_declared = comparison.differences.iter().all(|difference| declared(&difference.key));
        ensure!(all_declared && comparison.keys > 20, "{release}: {comparison:#?}");
    }
    Ok(())
}

#[test]
fn what_7_2_wrote_starts_its_neighbours() -> Result<()> {
    golden_loads("redis-7.2.6.rdb", &[("redis-7.0", "redis-7.0"), ("redis-5.0", "redis-5.0")])
}

#[test]
fn what_7_4_wrote_starts_its_neighbours() -> Result<()> {
    let targets = [("redict-7.3", "redict-7.3"), ("valkey-9.1", "valkey-9.1"), ("redis-6.2", "redis-6.2.14")];
    golden_loads("redis-7.4.1.rdb", &targets)
}
