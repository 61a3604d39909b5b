//! A master, a sidecar beside it, and replicas that reach the master through it.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use segue_bench::{
    child::wait_for,
    port,
    reader::{self, Comparison},
    server::{Options, Server},
    sidecar::Sidecar,
    stores::Store,
};
use serde_json::Value;

/// A full sync of the tests' data takes a second or two; a machine under load takes its time.
pub const SYNC_TIME_MAX: Duration = Duration::from_secs(120);
/// For a `WAIT`, in milliseconds: a replica that is busy elsewhere takes its time.
pub const WAIT_MS: u32 = 60_000;
/// What a replica logs when it rejects what its master sends.
pub const REJECTED: &str = "sending an error to its master";

/// Of a master whose replicas are to have all that it wrote, when it dies: else one of them may be a ping ahead.
pub const NO_PINGS: &[&str] = &["--repl-ping-replica-period", "3600"];

pub struct Cluster {
    pub master: Server,
    pub sidecar: Sidecar,
    pub replica: Server,
    pub link_port: u16,
}

/// What a cluster is made of.
pub struct Plan<'a> {
    pub master: &'a str,
    pub replica: &'a str,
    pub loss: &'a str,
    pub mode: &'a str,
    pub second_connection: &'a str,
    pub master_arguments: &'a [&'a str],
    pub replica_arguments: &'a [&'a str],
    /// Lines for the config's `[node]` and `[limits]` tables.
    pub node: &'a str,
    pub limits: &'a str,
}

impl Plan<'_> {
    pub fn new<'a>(master: &'a str, replica: &'a str) -> Plan<'a> {
        Plan {
            master,
            replica,
            loss: "refuse",
            mode: "auto",
            second_connection: "strip",
            master_arguments: &[],
            replica_arguments: &[],
            node: "",
            limits: "",
        }
    }

    /// Starts all three; the replica is not linked yet.
    pub fn start(&self) -> Result<Cluster> {
        let master =
            Server::start(&Store::want(self.master)?, Options::new().arguments(self.master_arguments))?;
        let replica =
            Server::start(&Store::want(self.replica)?, Options::new().arguments(self.replica_arguments))?;
        let [link_port, admin, metrics] = port::free_ports()?;
        let config = format!(
            r#"
[node]
id = "n1"
protocol = "redis"
store = "{master}"
release = "auto"
{node}

[[peer]]
id = "n2"
store = "{replica}"
release = "auto"

[[link]]
listen = "127.0.0.1:{link_port}"
to = "store"

[translation]
mode = "{mode}"
loss = "{loss}"
second_connection = "{second_connection}"

[limits]
pairing_timeout_ms = 30000
{limits}

[admin]
listen = "127.0.0.1:{admin}"

[metrics]
listen = "127.0.0.1:{metrics}"
"#,
            master = master.address(),
            replica = replica.address(),
            node = self.node,
            limits = self.limits,
            loss = self.loss,
            mode = self.mode,
            second_connection = self.second_connection,
        );
        let sidecar = Sidecar::start(Path::new(env!("CARGO_BIN_EXE_segue")), &config)?;
        Ok(Cluster { master, sidecar, replica, link_port })
    }

    /// Starts all three and links the replica.
    pub fn link(&self) -> Result<Cluster> {
        let cluster = self.start()?;
        cluster.replicate()?;
        cluster.await_link_up()?;
        Ok(cluster)
    }
}

impl Cluster {
    pub fn replicate(&self) -> Result<()> {
        follow(&self.replica, self.link_port)
    }

    pub fn await_link_up(&self) -> Result<()> {
        wait_for(SYNC_TIME_MAX, || Ok(link_is_up(&self.replica)?.then_some(())))?
            .with_context(|| self.logs("the replica's link does not come up"))
    }

    /// Waits until the master knows that the replica has everything it ever wrote.
    pub fn await_equal_offsets(&self) -> Result<()> {
        wait_for(SYNC_TIME_MAX, || {
            let info = self.master.info("replication")?;
            let written = info.number("master_repl_offset")?;
            let acknowledged = info.get("slave0").and_then(|replica| field(replica, "offset")?.parse().ok());
            Ok((acknowledged == Some(written)).then_some(()))
        })?
        .with_context(|| self.logs("the acknowledged offset does not reach the master's"))
    }

    /// Waits for equal offsets, then compares all data and looks for rejected commands.
    pub fn assert_equal(&self) -> Result<Comparison> {
        self.await_equal_offsets()?;
        let comparison = reader::compare(self.master.port(), self.replica.port())?;
        ensure!(
            comparison.is_equal(),
            "{} of {} keys differ: {:#?}",
            comparison.differences_total,
            comparison.keys,
            comparison.differences
        );
        self.assert_nothing_rejected()?;
        Ok(comparison)
    }

    pub fn assert_nothing_rejected(&self) -> Result<()> {
        let log = self.replica.log_text();
        let rejected: Vec<_> = log.lines().filter(|line| line.contains(REJECTED)).collect();
        ensure!(rejected.is_empty(), "the replica rejected commands: {rejected:#?}");
        Ok(())
    }

    /// Waits until the link of this id is no more.
    pub fn await_end_of(&self, id: &Value) -> Result<()> {
        let has_ended = || -> Result<bool> {
            let status = self.sidecar.status()?;
            Ok(status["links"].as_array().into_iter().flatten().all(|link| link["id"] != *id))
        };
        wait_for(SYNC_TIME_MAX, || Ok(has_ended()?.then_some(())))?
            .with_context(|| self.logs(&format!("link {id} does not end")))
    }

    /// The only link of the status.
    pub fn link_status(&self) -> Result<Value> {
        let status = self.sidecar.status()?;
        let links = status["links"].as_array().context("no links in the status")?;
        let rewritten = links.iter().find(|link| link["dialer"]["peer"] == "n2");
        rewritten.cloned().with_context(|| format!("no link of n2 in {status:#}"))
    }

    pub fn data_losses(&self) -> Result<Vec<Value>> {
        let losses = self.sidecar.losses()?;
        let recent = losses["recent"].as_array().context("no recent losses")?;
        Ok(recent.iter().filter(|loss| loss["grade"] == "data").cloned().collect())
    }

    /// Those that the master gave.
    pub fn syncs(&self) -> Result<(u64, u64)> {
        syncs(&self.master)
    }

    fn logs(&self, what: &str) -> String {
        let tail = |text: String| {
            let lines: Vec<_> = text.lines().rev().take(15).map(str::to_owned).collect();
            lines.into_iter().rev().collect::<Vec<_>>().join("\n  ")
        };
        format!(
            "{what}\nsidecar:\n  {}\nreplica:\n  {}\nmaster:\n  {}",
            tail(self.sidecar.log_text()),
            tail(self.replica.log_text()),
            tail(self.master.log_text())
        )
    }
}

/// A sidecar beside a store, with an inbound link and with more lines of config.
pub fn beside(store: &Server, more: &str) -> Result<(Sidecar, u16)> {
    let [link_port, admin, metrics] = port::free_ports()?;
    let config = format!(
        r#"
[node]
id = "n1"
protocol = "redis"
store = "{}"
[[link]]
listen = "127.0.0.1:{link_port}"
to = "store"
{more}
[admin]
listen = "127.0.0.1:{admin}"
[metrics]
listen = "127.0.0.1:{metrics}"
"#,
        store.address(),
    );
    Ok((Sidecar::start(Path::new(env!("CARGO_BIN_EXE_segue")), &config)?, link_port))
}

/// A sidecar beside a master that many are to follow, and the port to follow it at; each replica is the peer
/// of its place.
pub fn sidecar_of(master: &Server, replicas: &[Server], second_connection: &str) -> Result<(Sidecar, u16)> {
    let [link_port, admin, metrics] = port::free_ports()?;
    let mut config = format!(
        r#"
[node]
id = "master"
protocol = "redis"
store = "{master}"
release = "auto"

[[link]]
listen = "127.0.0.1:{link_port}"
to = "store"

[translation]
mode = "auto"
loss = "degrade"
second_connection = "{second_connection}"

[admin]
listen = "127.0.0.1:{admin}"

[metrics]
listen = "127.0.0.1:{metrics}"
"#,
        master = master.address(),
    );
    for (at, replica) in replicas.iter().enumerate() {
        let (id, store) = (peer(at), replica.address());
        config += &format!("\n[[peer]]\nid = \"{id}\"\nstore = \"{store}\"\nrelease = \"auto\"\n");
    }
    Ok((Sidecar::start(Path::new(env!("CARGO_BIN_EXE_segue")), &config)?, link_port))
}

/// The name of the replica of this place.
pub fn peer(at: usize) -> String {
    format!("replica-{at}")
}

pub fn follow(replica: &Server, port: u16) -> Result<()> {
    redis::cmd("REPLICAOF").arg("127.0.0.1").arg(port).exec(&mut replica.client()?)?;
    Ok(())
}

pub fn link_is_up(replica: &Server) -> Result<bool> {
    Ok(replica.info("replication")?.get("master_link_status") == Some("up"))
}

/// Waits until so many replicas have acknowledged all that their master ever wrote.
pub fn await_acknowledged_by(replicas: usize, master: &Server) -> Result<()> {
    wait_for(SYNC_TIME_MAX, || {
        let info = master.info("replication")?;
        let offset = info.number("master_repl_offset")?.to_string();
        let lines = info.fields().filter(|(name, _)| name.starts_with("slave"));
        let told = lines.filter(|(_, replica)| field(replica, "offset") == Some(&offset)).count();
        Ok((told == replicas).then_some(()))
    })?
    .with_context(|| {
        format!("not all of {replicas} replicas acknowledge all: {:?}", master.info("replication"))
    })
}

/// Full and partial syncs that a server gave.
pub fn syncs(server: &Server) -> Result<(u64, u64)> {
    let info = server.info("stats")?;
    Ok((info.number("sync_full")?, info.number("sync_partial_ok")?))
}

/// A field of `slave0:ip=…,port=…,offset=…`.
pub fn field<'a>(replica: &'a str, name: &str) -> Option<&'a str> {
    replica.split(',').find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
}
