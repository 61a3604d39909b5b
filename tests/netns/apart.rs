//! Full syncs over two connections, of stores that know nothing of Segue: the kernel hands over both, and the
//! second one finds the first.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use segue_bench::{
    authority::Authority,
    child::wait_for,
    command,
    load::{Load, Options},
    netns::Host,
    server::Server,
    sidecar::Sidecar,
};
use serde_json::Value;

use crate::{lab, tls};

const STORE: &[&str] = &["--repl-diskless-sync", "yes", "--repl-backlog-size", "64mb"];
/// A machine that stands still for a while is no reason to begin anew.
const PATIENT: &str = "[limits]\npairing_timeout_ms = 60000\ntls_handshake_timeout_ms = 60000";
const TRANSLATE: &str = "[translation]\nsecond_connection = \"translate\"\n";

/// What a test is made of: `n1` has the master, `n2` the replica.
struct Plan {
    mode: &'static str,
    at: At,
    ipv6: bool,
    tls: bool,
    stores: [&'static str; 2],
}

/// Where sidecars stand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Master,
    Replica,
    Both,
}

/// A store's setting, and what its log says of a sync over two connections.
fn setting(release: &str) -> (&'static str, &'static str) {
    if release.starts_with("redis") {
        ("repl-rdb-channel", "initialize RDB channel")
    } else {
        ("dual-channel-replication-enabled", "Trying a partial resynchronization using main channel")
    }
}

impl Plan {
    const fn new(mode: &'static str, at: At, stores: [&'static str; 2]) -> Self {
        Self { mode, at, ipv6: false, tls: false, stores }
    }

    const fn port(&self) -> u16 {
        if self.tls { tls::TLS_PORT } else { lab::STORE_PORT }
    }

    fn address(&self, host: &Host) -> String {
        if self.ipv6 { host.ipv6() } else { host.ipv4() }
    }

    /// A store that would take or give the snapshot over a connection of its own.
    fn store(&self, host: &Host, release: &str, authority: &Authority) -> Result<Server> {
        let server = if self.tls {
            tls::store(host, release, &authority.issue(&lab::node_id(host))?, STORE)?
        } else {
            lab::store_with(host, release, Some(lab::STORE_USER), STORE)?
        };
        command!("CONFIG", "SET", setting(release).0, "yes").exec(&mut host.enter(|| server.client())?)?;
        Ok(server)
    }

    fn sidecar(&self, host: &Host, peer: &Host, authority: &Authority) -> Result<Sidecar> {
        let at: IpAddr = self.address(peer).parse()?;
        let text = lab::config(self.mode, "open", &SocketAddr::new(at, self.port()).to_string(), "")
            .replace("127.0.0.1:6379", &format!("127.0.0.1:{}", self.port()))
            .replace("\"n2\"", &format!("\"{}\"", lab::node_id(peer)))
            .replacen("\"n1\"", &format!("\"{}\"", lab::node_id(host)), 1);
        let tls = if self.tls { authority.issue("segue")?.sidecar_table() } else { String::new() };
        lab::sidecar(host, &format!("{text}\n{PATIENT}\n{tls}"))
    }

    fn start<'a>(&self, [n1, n2]: [&'a Host; 2]) -> Result<Cluster<'a>> {
        let authority = tls::authority()?;
        let [master, replica] = self.stores;
        let (master, replica) = (self.store(n1, master, &authority)?, self.store(n2, replica, &authority)?);
        lab::fill(n1, &master)?;
        // So that much is written while the snapshot is under way.
        command!("CONFIG", "SET", "rdb-key-save-delay", 300).exec(&mut n1.enter(|| master.client())?)?;
        let mut sidecars = Vec::new();
        if self.at != At::Replica {
            sidecars.push((n1, self.sidecar(n1, n2, &authority)?));
        }
        if self.at != At::Master {
            sidecars.push((n2, self.sidecar(n2, n1, &authority)?));
        }
        Ok(Cluster { master: (n1, master), replica: (n2, replica), sidecars, _authority: authority })
    }
}

struct Cluster<'a> {
    master: (&'a Host, Server),
    replica: (&'a Host, Server),
    /// The one that translates first.
    sidecars: Vec<(&'a Host, Sidecar)>,
    /// Its files are read again with a config.
    _authority: Authority,
}

impl Cluster<'_> {
    fn logs(&self) -> String {
        let sidecars = self.sidecars.iter().map(|(_, sidecar)| lab::tail(&sidecar.log_text()));
        format!("{}\n{}", sidecars.collect::<Vec<_>>().join("\n"), lab::tail(&self.replica.1.log_text()))
    }

    /// All sidecars let stores take the snapshot over a second connection.
    fn translate(&self) -> Result<()> {
        for (host, sidecar) in &self.sidecars {
            let file = sidecar.folder().join("segue.toml");
            let text = fs::read_to_string(&file)?.replacen(PATIENT, &format!("{TRANSLATE}{PATIENT}"), 1);
            fs::write(&file, text)?;
            kill_process(Pid::from_raw(sidecar.pid().cast_signed()).context("no pid")?, Signal::HUP)?;
            let reloads = "segue_config_reloads_total{outcome=\"loaded\"}";
            let loaded = || host.enter(|| Ok((sidecar.metric(reloads)? == Some(1.0)).then_some(())));
            wait_for(lab::SYNC_TIME_MAX, loaded)?.with_context(|| sidecar.log_text())?;
        }
        Ok(())
    }

    /// A full sync under load; the link of the stream, once it is the only one, at each sidecar.
    fn sync(&self, address: &str, port: u16) -> Result<Vec<Value>> {
        let ((master_at, master), (replica_at, replica)) = (&self.master, &self.replica);
        let mut client = replica_at.enter(|| replica.client())?;
        // What no master ever had, so that it needs all.
        command!("REPLICAOF", "NO", "ONE").exec(&mut client)?;
        command!("SET", "own", 1).exec(&mut client)?;
        let options = Options { seed: 71, rate_per_s: Some(500), ..Options::default() };
        let load = master_at.enter(|| Load::start(lab::STORE_PORT, options))?;
        command!("REPLICAOF", address, port).exec(&mut client)?;
        lab::await_link_up(replica_at, replica, || self.logs())?;
        load.stop()?;
        lab::assert_equal((master_at, master), (replica_at, replica)).with_context(|| self.logs())?;
        let mut found = Vec::new();
        for (host, sidecar) in &self.sidecars {
            let alone = || Ok(lab::replication_link(host, sidecar).ok());
            let link = wait_for(lab::SYNC_TIME_MAX, alone)?;
            found.push(link.with_context(|| format!("not one link alone\n{}", self.logs()))?);
        }
        Ok(found)
    }

    fn syncs_apart(&self) -> usize {
        self.replica.1.log_text().matches(setting(&self.replica.1.store().name()).1).count()
    }

    /// How many snapshots the sidecar that translates has rewritten.
    fn snapshots(&self) -> Result<f64> {
        let (host, sidecar) = self.sidecars.first().context("no sidecar")?;
        let sample = "segue_messages_translated_total{rule=\"snapshot\"}";
        Ok(host.enter(|| sidecar.metric(sample))?.unwrap_or(0.0))
    }
}

/// `REPLICAOF` the master's real address, by default and where the operator wants second connections.
fn both_are_intercepted(plan: &Plan) -> Result<()> {
    let Some(network) = lab::network(2)? else { return Ok(()) };
    let [n1, n2] = &network.hosts[..] else { unreachable!("two hosts were asked for") };
    let cluster = plan.start([n1, n2])?;
    let sync = || -> Result<f64> {
        let links = cluster.sync(&plan.address(n1), plan.port())?;
        let mut verdicts = links.iter().map(|link| &link["verdict"]);
        ensure!(verdicts.next().is_some_and(|first| first == "rewrite"), "{links:#?}");
        ensure!(verdicts.all(|second| second == "same"), "{links:#?}");
        ensure!(links.iter().all(|link| link["dialer"]["tls"].is_string() == plan.tls), "{links:#?}");
        cluster.snapshots()
    };
    let snapshots = sync()?;
    ensure!(snapshots > 0.0, "no snapshot was rewritten");
    ensure!(cluster.syncs_apart() == 0, "by default:\n{}", cluster.logs());
    cluster.translate()?;
    ensure!(sync()? > snapshots, "no snapshot was rewritten");
    ensure!(cluster.syncs_apart() > 0, "over one connection:\n{}", cluster.logs());
    Ok(())
}

#[test]
fn a_redirect_at_the_master() -> Result<()> {
    both_are_intercepted(&Plan::new("redirect", At::Master, ["redis-8.10", "redis-8.0.2"]))
}

#[test]
fn a_tproxy_at_the_master() -> Result<()> {
    let plan = Plan::new("tproxy", At::Master, ["valkey-9.1", "valkey-8.0"]);
    both_are_intercepted(&Plan { ipv6: true, ..plan })
}

#[test]
fn a_redirect_at_the_replica() -> Result<()> {
    both_are_intercepted(&Plan::new("redirect", At::Replica, ["valkey-9.1", "valkey-8.1"]))
}

#[test]
fn a_tproxy_at_both_ends() -> Result<()> {
    both_are_intercepted(&Plan::new("tproxy", At::Both, ["redis-8.10", "redis-8.6"]))
}

/// Of the newer ones that can be fetched none was built with TLS.
#[test]
fn a_redirect_at_both_ends_of_tls() -> Result<()> {
    let plan = Plan::new("redirect", At::Both, ["redis-8.0.6", "redis-8.0.2"]);
    both_are_intercepted(&Plan { tls: true, ..plan })
}
