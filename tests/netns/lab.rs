//! Stores and sidecars on hosts of their own.

use std::{env, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use segue_bench::{
    child::wait_for,
    data,
    netns::{self, Host, Network},
    reader,
    server::{Options, Server},
    sidecar::Sidecar,
    stores::Store,
};
use serde_json::Value;

pub const SYNC_TIME_MAX: Duration = Duration::from_secs(60);
/// What every store listens on, as it would on hosts of its own.
pub const STORE_PORT: u16 = 6379;
/// Any user but root, whose the sidecar's own connections are.
pub const STORE_USER: u32 = 64_321;

const SEGUE: &str = env!("CARGO_BIN_EXE_segue");

/// Hosts; `None`, and why, on a machine that can't have them.
pub fn network(hosts: u8) -> Result<Option<Network>> {
    let missing = netns::missing();
    if missing.is_empty() {
        return Network::new(hosts).map(Some);
    }
    let missing = missing.join(", ");
    ensure!(
        env::var_os("CI").is_none_or(|ci| ci != "true"),
        "interception can't be tested without {missing}"
    );
    println!("interception is not tested here: it needs {missing}");
    Ok(None)
}

/// A store that listens on every address of its host.
pub fn store(host: &Host, release: &str) -> Result<Server> {
    store_with(host, release, Some(STORE_USER), &[])
}

/// As [`store`], with another user; without one that of this process.
pub fn store_as(host: &Host, release: &str, user: Option<u32>) -> Result<Server> {
    store_with(host, release, user, &[])
}

/// As [`store_as`], with more words for its command line.
pub fn store_with(host: &Host, release: &str, user: Option<u32>, arguments: &[&str]) -> Result<Server> {
    let store = Store::want(release)?;
    let mut options = Options::new().arguments(&["--bind", "0.0.0.0", "::", "--protected-mode", "no"]);
    options = options.arguments(arguments);
    options.port = Some(STORE_PORT);
    options.user = user;
    host.enter(|| Server::start(&store, options))
}

/// The config of a sidecar; `intercept` are more lines of its table.
pub fn config(mode: &str, on_failure: &str, peer: &str, intercept: &str) -> String {
    format!(
        r#"
[node]
id = "n1"
protocol = "redis"
store = "127.0.0.1:{STORE_PORT}"

[[peer]]
id = "n2"
store = "{peer}"

[intercept]
mode = "{mode}"
on_failure = "{on_failure}"
store_user = "{STORE_USER}"
{intercept}

[admin]
listen = "127.0.0.1:9901"

[metrics]
listen = "127.0.0.1:9464"
"#
    )
}

/// `n1`, `n2`, …: the host's number.
pub fn node_id(host: &Host) -> String {
    format!("n{}", host.ipv4().rsplit('.').next().unwrap_or_default())
}

/// A running sidecar, and its rules in place.
pub fn sidecar(host: &Host, config: &str) -> Result<Sidecar> {
    let sidecar = host.enter(|| Sidecar::start(Path::new(SEGUE), config))?;
    segue(host, &sidecar, "install")?;
    Ok(sidecar)
}

/// Standard output of `segue intercept <command>` with the sidecar's own config.
pub fn segue(host: &Host, sidecar: &Sidecar, command: &str) -> Result<String> {
    let file = sidecar.folder().join("segue.toml");
    let mut words = command.split(' ');
    let command = words.next().unwrap_or_default();
    host.output(Command::new(SEGUE).args(["intercept", command, "--config"]).arg(file).args(words))
}

/// What `segue intercept verify` says, and whether it is content.
pub fn verify(host: &Host, sidecar: &Sidecar) -> Result<(bool, String)> {
    let file = sidecar.folder().join("segue.toml");
    let output = host
        .enter(|| Ok(Command::new(SEGUE).args(["intercept", "verify", "--config"]).arg(file).output()?))?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

/// All that interception could leave behind: rules, routing rules, routes and links.
pub fn traces(host: &Host) -> Result<String> {
    let mut all = String::new();
    for command in [
        "nft list ruleset",
        "ip -4 rule",
        "ip -6 rule",
        "ip -4 route show table all",
        "ip -6 route show table all",
        "ip -brief link",
    ] {
        let mut words = command.split(' ');
        let mut program = Command::new(words.next().unwrap_or_default());
        all.push_str(&format!("# {command}\n{}\n", host.output(program.args(words))?));
    }
    Ok(all)
}

pub fn fill(host: &Host, master: &Server) -> Result<()> {
    let mut client = host.enter(|| master.client())?;
    data::fill_core(&mut client, 1)?;
    Ok(())
}

/// `REPLICAOF` the master's real address, as without Segue.
pub fn follow(host: &Host, replica: &Server, address: &str) -> Result<()> {
    let mut client = host.enter(|| replica.client())?;
    Ok(redis::cmd("REPLICAOF").arg(address).arg(STORE_PORT).exec(&mut client)?)
}

pub fn await_link_up(host: &Host, replica: &Server, logs: impl Fn() -> String) -> Result<()> {
    let up = wait_for(SYNC_TIME_MAX, || {
        // Whoever makes it a replica may cut its clients.
        let info = host.enter(|| replica.info("replication"));
        Ok(info.is_ok_and(|info| info.get("master_link_status") == Some("up")).then_some(()))
    })?;
    up.with_context(|| format!("no link comes up\nreplica:\n{}\n{}", tail(&replica.log_text()), logs()))
}

pub fn tail(text: &str) -> String {
    const LINES: usize = 20;
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join("\n")
}

/// Waits until the replica has all, then compares all.
pub fn assert_equal(master: (&Host, &Server), replica: (&Host, &Server)) -> Result<()> {
    let offset = |(host, server): (&Host, &Server), field: &str| {
        host.enter(|| server.info("replication")?.number(field))
    };
    let written = offset(master, "master_repl_offset")?;
    wait_for(SYNC_TIME_MAX, || {
        let info = master.0.enter(|| master.1.info("replication"))?;
        let acknowledged = info.get("slave0").and_then(|replica| {
            let offset = replica.split(',').find_map(|field| field.strip_prefix("offset="))?;
            offset.parse::<u64>().ok()
        });
        Ok((acknowledged >= Some(written)).then_some(()))
    })?
    .context("the replica does not reach the master's offset")?;
    let connection = |(host, server): (&Host, &Server)| {
        let connection = host.enter(|| server.client())?;
        // A read with a time-out is not begun again by the kernel after a stop or a freeze (signal(7)): it
        // fails with EINTR, which was seen here. Both stores have just answered.
        connection.set_read_timeout(None)?;
        Ok::<_, anyhow::Error>(connection)
    };
    let compared =
        reader::compare_connected(connection(master)?, connection(replica)?, reader::Options::default())?;
    ensure!(compared.keys > 100, "only {} keys", compared.keys);
    ensure!(compared.is_equal(), "{:#?}", compared.differences);
    Ok(())
}

/// The links of a sidecar's status.
pub fn links(host: &Host, sidecar: &Sidecar) -> Result<Vec<Value>> {
    let status = host.enter(|| sidecar.status())?;
    Ok(status["links"].as_array().cloned().unwrap_or_default())
}

/// The only link that is no client's, once those that end are gone.
pub fn replication_link(host: &Host, sidecar: &Sidecar) -> Result<Value> {
    let mut all = Vec::new();
    let only = wait_for(SYNC_TIME_MAX, || {
        all = links(host, sidecar)?;
        let mut replication = all.iter().filter(|link| link["verdict"] != "client");
        Ok(replication.next().filter(|_| replication.next().is_none()).cloned())
    })?;
    only.with_context(|| format!("not one link: {all:#?}\n{}", tail(&sidecar.log_text())))
}
