//! `segue convert` on append-only files: what a real store has written, other releases start from.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use segue_bench::{
    child::wait_for,
    data::{self, Newer},
    load::{self, Load},
    reader,
    server::{Options, Server},
    stores::Store,
};
use tempfile::TempDir;

const REWRITE_TIME_MAX: Duration = Duration::from_secs(60);
/// Of the load that is behind the base, and so in the increments alone.
const COMMANDS_MIN: u64 = 3000;

/// A store that has written an AOF, and still holds the data.
struct Writer {
    server: Server,
    taken: TempDir,
}

impl Writer {
    fn start(store: &str, arguments: &[&str]) -> Result<Self> {
        let options = Options::new().arguments(&["--appendonly", "yes", "--appendfsync", "always"]);
        let server = Server::start(&Store::want(store)?, options.arguments(arguments))?;
        Ok(Self { server, taken: tempfile::tempdir()? })
    }

    /// A copy of the AOF as it is: the store goes on writing, if only because keys expire.
    fn take_aof(&self) -> Result<PathBuf> {
        let name = if self.server.folder().join("appendonlydir").exists() {
            "appendonlydir"
        } else {
            "appendonly.aof"
        };
        let (aof, copy) = (self.server.folder().join(name), self.taken.path().join(name));
        if aof.is_dir() {
            fs::create_dir(&copy)?;
        }
        for (file, bytes) in contents(&aof)? {
            fs::write(if file.is_empty() { copy.clone() } else { copy.join(file) }, bytes)?;
        }
        Ok(copy)
    }

    fn fill(&self) -> Result<()> {
        data::fill_core(&mut self.server.client()?, 1).map(drop)
    }

    /// A new base of all that is there.
    fn rewrite(&self) -> Result<()> {
        redis::cmd("BGREWRITEAOF").exec(&mut self.server.client()?)?;
        let done = wait_for(REWRITE_TIME_MAX, || Ok((!self.server.rewrites_aof()?).then_some(())))?;
        ensure!(done.is_some(), "BGREWRITEAOF does not end");
        Ok(())
    }

    fn write_on(&self) -> Result<()> {
        let load = Load::start(self.server.port(), load::Options::default())?;
        let written =
            wait_for(REWRITE_TIME_MAX, || Ok((load.counts().acknowledged > COMMANDS_MIN).then_some(())))?;
        let counts = load.stop()?;
        ensure!(written.is_some() && counts.errors == 0, "{counts:?}");
        Ok(())
    }
}

fn convert(from: &str, to: &str, loss: &str, input: &Path, output: &Path) -> Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_segue"));
    command.args(["convert", "--from", from, "--to", to, "--loss", loss]).arg(input).arg(output);
    Ok(command.output()?)
}

fn converted(from: &str, to: &str, input: &Path, output: &Path) -> Result<String> {
    let done = convert(from, to, "refuse", input, output)?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    ensure!(done.status.success(), "{from} to {to}: {said}");
    Ok(said)
}

/// The store's own checker has nothing against it.
fn is_valid(store: &Store, aof: &Path) -> Result<()> {
    let file = if aof.is_dir() { aof.join("appendonly.aof.manifest") } else { aof.to_owned() };
    let checked = Command::new(store.check_aof()?).arg(&file).output()?;
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    let valid =
        ["is valid\n", "All AOF files and manifest are valid\n"].iter().any(|valid| said.ends_with(valid));
    ensure!(checked.status.success() && valid, "{}: {said}", store.name());
    Ok(())
}

/// A store that has started from an AOF: nothing in it was an error.
fn started(store: &Store, aof: &Path) -> Result<Server> {
    let options = Options { aof: Some(aof.to_owned()), ..Options::new() };
    let server = Server::start(store, options)?;
    let log = server.log_text();
    ensure!(!log.contains("CRITICAL"), "{log}");
    Ok(server)
}

/// Every file of an AOF, by name.
fn contents(aof: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    if aof.is_file() {
        return Ok(vec![(String::new(), fs::read(aof)?)]);
    }
    let files = fs::read_dir(aof)?.map(|file| {
        let file = file?;
        Ok((file.file_name().to_string_lossy().into_owned(), fs::read(file.path())?))
    });
    let mut files = files.collect::<Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

fn is_equal(original: &Server, other: &Server) -> Result<()> {
    let comparison = reader::compare(original.port(), other.port())?;
    ensure!(comparison.is_equal() && comparison.keys > 500, "{}: {comparison:#?}", other.store().name());
    Ok(())
}

/// From this AOF of `original`, `to` starts with the same data; its checker takes the result, which stays what it is.
fn loads(original: &Server, aof: &Path, from: &str, to: &str, store: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let [once, again, twice] = ["once", "again", "twice"].map(|name| folder.path().join(name));
    let before = contents(aof)?;
    converted(from, to, aof, &once)?;
    converted(from, to, aof, &again)?;
    ensure!(contents(&once)? == contents(&again)?, "{to}: the same input gave something else");
    converted(to, to, &once, &twice)?;
    ensure!(contents(&once)? == contents(&twice)?, "{to}: the second pass changed something");
    ensure!(contents(aof)? == before, "{to}: the input was changed");

    let store = Store::want(store)?;
    // Valkey 9.1.2's checker knows no VALKEY080: it rejects the bases that its own server writes.
    if to != "valkey-9.1" {
        is_valid(&store, &once)?;
    }
    is_equal(original, &started(&store, &once)?)
}

#[test]
fn older_releases_start_from_a_folder_of_8_0() -> Result<()> {
    let writer = Writer::start("redis-8.0", &["--aof-timestamp-enabled", "yes"])?;
    writer.fill()?;
    writer.rewrite()?;
    writer.write_on()?;
    let aof = writer.take_aof()?;
    ensure!(contents(&aof)?.len() == 3, "no base, increment and manifest");
    for (to, store) in [
        ("redis-7.0", "redis-7.0"),
        ("redis-6.2.14", "redis-6.2.14"),
        ("redis-6.0", "redis-6.0"),
        ("redis-5.0", "redis-5.0"),
        ("valkey-8.1", "valkey-8.1"),
        ("valkey-9.1", "valkey-9.1"),
    ] {
        loads(&writer.server, &aof, "redis-8.0", to, store)?;
    }
    Ok(())
}

/// A base of commands, which a store writes with `aof-use-rdb-preamble no`.
#[test]
fn older_releases_start_from_a_base_without_a_snapshot() -> Result<()> {
    let writer = Writer::start("redis-8.0", &["--aof-use-rdb-preamble", "no"])?;
    writer.fill()?;
    writer.rewrite()?;
    writer.write_on()?;
    let aof = writer.take_aof()?;
    let base = contents(&aof)?.into_iter().find(|(name, _)| name.ends_with(".base.aof"));
    ensure!(base.is_some_and(|(_, bytes)| bytes.starts_with(b"*")), "no base of commands");
    // From such a base, 8.0 itself has no pending entries that were deleted from their stream.
    let original = started(writer.server.store(), &aof)?;
    loads(&original, &aof, "redis-8.0", "redis-7.0", "redis-7.0")?;
    loads(&original, &aof, "redis-8.0", "redis-6.0", "redis-6.0")
}

/// What the other families write: a base and, behind it, commands.
#[test]
fn redis_starts_from_a_folder_of_the_other_families() -> Result<()> {
    for (store, from, targets) in [
        ("valkey-9.1", "valkey-9.1", ["redis-8.0", "redis-6.0", "valkey-8.0"]),
        ("redict-7.3", "redict-7.3", ["redis-7.0", "redis-6.0", "valkey-8.1"]),
    ] {
        let writer = Writer::start(store, &[])?;
        writer.fill()?;
        writer.rewrite()?;
        let mut client = writer.server.client()?;
        for text in
            ["SET later 1 PX 7000000", "COPY later copied", "SPOP spopped 2", "LMPOP 1 list LEFT COUNT 2"]
        {
            let words: Vec<&str> = text.split(' ').collect();
            redis::cmd("SADD").arg(&["spopped", "a", "b", "c"]).exec(&mut client)?;
            redis::cmd("RPUSH").arg(&["list", "a", "b", "c"]).exec(&mut client)?;
            redis::cmd(words[0]).arg(&words[1..]).exec(&mut client)?;
        }
        let aof = writer.take_aof()?;
        for to in targets {
            loads(&writer.server, &aof, from, to, to).with_context(|| format!("{from} to {to}"))?;
        }
    }
    Ok(())
}

/// From 7.0 on, a store moves the file of an older one into a folder by itself.
#[test]
fn newer_releases_start_from_the_file_as_it_is() -> Result<()> {
    let writer = Writer::start("redis-6.2.14", &[])?;
    writer.fill()?;
    writer.rewrite()?;
    redis::cmd("SET").arg(&["behind the snapshot", "1"]).exec(&mut writer.server.client()?)?;
    let aof = writer.take_aof()?;
    let folder = tempfile::tempdir()?;
    for (to, store) in [("redis-7.0", "redis-7.0"), ("valkey-9.1", "valkey-9.1")] {
        let file = folder.path().join(to);
        let said = converted("redis-6.2", to, &aof, &file)?;
        ensure!(said.contains(&format!("a copy: {to} loads IN as it is")), "{said}");
        let store = Store::want(store)?;
        is_valid(&store, &file)?;
        let server = started(&store, &file)?;
        is_equal(&writer.server, &server)?;
        ensure!(server.folder().join("appendonlydir").is_dir(), "{to} did not take the file over");
    }
    Ok(())
}

/// What a crash leaves: the end of the last file is missing, here in the middle of a transaction.
#[test]
fn an_end_that_is_cut_off_is_kept_up_to_the_last_whole_transaction() -> Result<()> {
    let writer = Writer::start("redis-8.0", &[])?;
    let mut client = writer.server.client()?;
    writer.rewrite()?;
    redis::cmd("SET").arg(&["kept", "1", "EX", "3600"]).exec(&mut client)?;
    redis::pipe().atomic().cmd("SET").arg(&["a", "2"]).cmd("SET").arg(&["b", "2"]).exec(&mut client)?;
    let folder = tempfile::tempdir()?;
    let cut = folder.path().join("cut");
    fs::create_dir(&cut)?;
    for (name, bytes) in contents(&writer.take_aof()?)? {
        let len =
            bytes.len() - if name.ends_with(".incr.aof") { b"*1\r\n$4\r\nEXEC\r\n".len() + 5 } else { 0 };
        fs::write(cut.join(name), bytes.get(..len).unwrap_or_default())?;
    }
    for (to, store) in [("redis-7.0", "redis-7.0"), ("redis-6.2.14", "redis-6.2.14")] {
        let aof = folder.path().join(to);
        let said = converted("redis-8.0", to, &cut, &aof)?;
        ensure!(said.contains("incr.aof is cut off: its ") && said.contains(" was left out"), "{said}");
        let store = Store::want(store)?;
        is_valid(&store, &aof)?;
        let server = started(&store, &aof)?;
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut server.client()?)?;
        ensure!(keys == ["kept"], "{keys:?}");
    }
    Ok(())
}

#[test]
fn what_an_older_release_can_not_hold_is_refused_by_name_or_left_out_and_told() -> Result<()> {
    let writer = Writer::start("redis-8.0", &[])?;
    let mut client = writer.server.client()?;
    data::fill_newer(&mut client, Newer::VectorSets)?;
    data::fill_newer(&mut client, Newer::Functions)?;
    writer.rewrite()?;
    data::fill_newer(&mut client, Newer::FieldTtls)?;
    redis::cmd("SET").arg(&["plain", "1"]).exec(&mut client)?;
    let written = writer.take_aof()?;
    let folder = tempfile::tempdir()?;
    for (to, store) in [("redis-7.0", "redis-7.0"), ("redis-6.0", "redis-6.0")] {
        let aof = folder.path().join(to);
        let refused = convert("redis-8.0", to, "refuse", &written, &aof)?;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        ensure!(refused.status.code() == Some(1) && said.contains("refused: "), "{said}");
        ensure!(
            fs::read_dir(folder.path())?.count() == usize::from(to != "redis-7.0"),
            "half of it was left"
        );

        let degraded = convert("redis-8.0", to, "degrade", &written, &aof)?;
        let said = String::from_utf8_lossy(&degraded.stderr).into_owned();
        ensure!(degraded.status.success() && said.contains("hash-field-ttl"), "{said}");
        ensure!(said.contains("vector-set (data): \"newer:vectors\" in database 0"), "{said}");
        ensure!(said.contains("function-library") == (to == "redis-6.0"), "{said}");
        let server = started(&Store::want(store)?, &aof)?;
        let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut server.client()?)?;
        keys.sort();
        ensure!(keys == ["newer:hash:large", "newer:hash:small", "plain"], "{keys:?}");
    }
    Ok(())
}
