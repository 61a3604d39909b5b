//! A cluster of etcd, whose releases understand each other: all its links pass through, unchanged.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::{fs::chown, process::CommandExt},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use segue_bench::{
    child::{ChildProcess, wait_for},
    netns::Host,
    peers::programs::Programs,
    sidecar::Sidecar,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::lab;

const MEMBERS: u8 = 3;
const START_TIME_MAX: Duration = Duration::from_secs(60);
const LINK_TIME_MAX: Duration = Duration::from_secs(30);
/// Of a machine that stalls for seconds no member is to think that another is gone.
const HEARTBEAT_MS: &str = "500";
const ELECTION_MS: &str = "10000";
/// In etcd's own default, a transaction has at most 128 operations.
const TRANSACTION_WRITES: u32 = 100;
const TRANSACTIONS: u32 = 12;
const VALUE_BYTES: usize = 200;

/// One member, its log and its data. It is ended when this value is dropped.
struct Member<'a> {
    host: &'a Host,
    programs: &'a Programs,
    _child: ChildProcess,
    folder: TempDir,
}

impl<'a> Member<'a> {
    fn start(programs: &'a Programs, hosts: &'a [Host], host: &'a Host) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("segue-etcd-").tempdir()?;
        chown(folder.path(), Some(lab::STORE_USER), None)?;
        let url = |host: &Host| format!("http://{}:2380", host.ipv4());
        let cluster: Vec<_> =
            hosts.iter().map(|host| format!("{}={}", lab::node_id(host), url(host))).collect();
        let log = File::create(folder.path().join("log"))?;
        let mut command = programs.command("etcd")?;
        command.args(["--name", &lab::node_id(host), "--initial-cluster", &cluster.join(",")]);
        command.args(["--listen-peer-urls", &url(host), "--initial-advertise-peer-urls", &url(host)]);
        for option in ["--listen-client-urls", "--advertise-client-urls"] {
            command.args([option, "http://127.0.0.1:2379"]);
        }
        command.args(["--heartbeat-interval", HEARTBEAT_MS, "--election-timeout", ELECTION_MS]);
        command.arg("--data-dir").arg(folder.path().join("data")).uid(lab::STORE_USER);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = host.enter(|| ChildProcess::spawn(&mut command))?;
        Ok(Self { host, programs, _child: child, folder })
    }

    fn log_text(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Standard output of etcdctl.
    fn ctl(&self, arguments: &str, input: &str) -> Result<String> {
        let mut command = self.programs.command("etcdctl")?;
        command.env("ETCDCTL_API", "3").args(arguments.split(' '));
        command.args(["--dial-timeout", "20s", "--command-timeout", "30s"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.host.enter(|| {
            let mut child = command.spawn().context("cannot start etcdctl")?;
            child.stdin.take().context("no input")?.write_all(input.as_bytes())?;
            let output = child.wait_with_output()?;
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said).into_owned();
            ensure!(output.status.success(), "etcdctl {arguments}: {said}");
            Ok(said)
        })
    }

    /// Writes some keys in one transaction.
    fn write(&self, transaction: u32) -> Result<()> {
        let value = "v".repeat(VALUE_BYTES);
        let puts: String = (0..TRANSACTION_WRITES)
            .map(|n| format!("put key/{}/{transaction}/{n} {value}\n", lab::node_id(self.host)))
            .collect();
        // No condition; the writes; nothing else.
        let said = self.ctl("txn", &format!("\n{puts}\n\n"))?;
        ensure!(said.contains("SUCCESS"), "{said}");
        Ok(())
    }
}

fn config(mode: &str, hosts: &[Host], own: &Host) -> String {
    let id = lab::node_id(own);
    let mut text = format!(
        "[node]\nid = \"{id}\"\nprotocol = \"passthrough\"\nstore = \"{}:2380\"\n\
         [intercept]\nmode = \"{mode}\"\non_failure = \"closed\"\nstore_user = \"{}\"\n\
         [admin]\nlisten = \"127.0.0.1:9901\"\n[metrics]\nlisten = \"127.0.0.1:9464\"\n",
        own.ipv4(),
        lab::STORE_USER
    );
    for host in hosts.iter().filter(|host| lab::node_id(host) != id) {
        text += &format!("[[peer]]\nid = \"{}\"\nstore = \"{}:2380\"\n", lab::node_id(host), host.ipv4());
    }
    text
}

fn cluster_passes_through(mode: &str) -> Result<()> {
    let Some(network) = lab::network(MEMBERS)? else { return Ok(()) };
    let hosts = &network.hosts[..];
    let programs = Programs::etcd()?;
    // Before the first link: every one is caught.
    let sidecars: Vec<Sidecar> =
        hosts.iter().map(|host| lab::sidecar(host, &config(mode, hosts, host))).collect::<Result<_>>()?;
    let members: Vec<Member<'_>> =
        hosts.iter().map(|host| Member::start(&programs, hosts, host)).collect::<Result<_>>()?;
    let logs =
        || members.iter().map(|member| lab::tail(&member.log_text())).collect::<Vec<_>>().join("\n--\n");
    for member in &members {
        let healthy = wait_for(START_TIME_MAX, || Ok(member.ctl("endpoint health", "").ok()))?;
        healthy.with_context(|| format!("{mode}: a member is not healthy\n{}", logs()))?;
    }
    let begun: Vec<usize> = members.iter().map(|member| member.log_text().len()).collect();

    for transaction in 0..TRANSACTIONS {
        for member in &members {
            member.write(transaction).with_context(logs)?;
        }
    }
    let writes = u64::from(MEMBERS) * u64::from(TRANSACTIONS * TRANSACTION_WRITES);
    for (member, begun) in members.iter().zip(begun) {
        let healthy = member.ctl("endpoint health", "")?;
        ensure!(healthy.contains("is healthy"), "{mode}: {healthy}");
        let keys = member.ctl("get key/ --prefix --keys-only", "")?;
        let keys = keys.lines().filter(|line| line.starts_with("key/")).count();
        ensure!(keys as u64 == writes, "{mode}: {keys} keys of {writes}");
        let log = member.log_text();
        let lines = log.get(begun..).unwrap_or_default().lines();
        let errors: Vec<_> = lines.filter(|line| line.contains(" E | ") && !is_late(line)).collect();
        ensure!(errors.is_empty(), "{mode}: {errors:#?}");
    }

    for (host, sidecar) in hosts.iter().zip(&sidecars) {
        let mut not_yet = String::new();
        let linked = wait_for(LINK_TIME_MAX, || {
            not_yet = lacks_links(&lab::links(host, sidecar)?, hosts, host).unwrap_or_default();
            Ok(not_yet.is_empty().then_some(()))
        })?;
        linked.with_context(|| format!("{mode}: {not_yet}"))?;
        for counter in ["segue_refusals_total", "segue_faults_total"] {
            let metrics = host.enter(|| sidecar.metrics())?;
            ensure!(!metrics.contains(&format!("\n{counter}{{")), "{mode}: {metrics}");
        }
    }
    // What was written on one member came to both others through a sidecar at either end.
    let written_bytes = 4 * writes * VALUE_BYTES as u64;
    let mut passed_bytes = 0.0;
    let passed = wait_for(LINK_TIME_MAX, || {
        passed_bytes = 0.0;
        for (host, sidecar) in hosts.iter().zip(&sidecars) {
            let metrics = host.enter(|| sidecar.metrics())?;
            let values = metrics.lines().filter(|line| line.starts_with("segue_link_bytes_total{"));
            let values = values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            passed_bytes += values.sum::<f64>();
        }
        Ok((passed_bytes > written_bytes as f64).then_some(()))
    })?;
    passed.with_context(|| format!("{mode}: {passed_bytes} of {written_bytes} bytes passed"))
}

/// A machine that is busy with something else; no link broke anything.
fn is_late(line: &str) -> bool {
    ["timeout", "timed out", "deadline exceeded"].iter().any(|late| line.contains(late))
}

/// There is to be one from and to every other member, and none that is not passed through.
fn lacks_links(links: &[Value], hosts: &[Host], own: &Host) -> Option<String> {
    if links.iter().any(|link| link["verdict"] != "same") {
        return Some(format!("a link is not passed through: {links:#?}"));
    }
    let is_linked = |peer: &Host| {
        let (id, from) = (lab::node_id(peer), format!("{}:", peer.ipv4()));
        let is_from =
            |link: &Value| link["dialer"]["address"].as_str().is_some_and(|at| at.starts_with(&from));
        links.iter().any(|link| link["listener"]["peer"] == id.as_str()) && links.iter().any(is_from)
    };
    let mut others = hosts.iter().filter(|host| host.ipv4() != own.ipv4());
    let missing = others.find(|host| !is_linked(host))?;
    Some(format!("no link with {}: {links:#?}", lab::node_id(missing)))
}

#[test]
fn etcd_passes_through_a_redirect() -> Result<()> {
    cluster_passes_through("redirect")
}

#[test]
fn etcd_passes_through_a_tproxy() -> Result<()> {
    cluster_passes_through("tproxy")
}
