//! Intercepted links of stores that speak TLS: the kernel hands them over as any other.

use std::{fs, os::unix::fs::PermissionsExt};

use anyhow::{Result, ensure};
use segue_bench::{
    authority::{Authority, Certificate},
    netns::Host,
    server::{Options, Server},
    stores::Store,
};

use crate::lab;

/// Beside the plain port, which only the tests use.
pub const TLS_PORT: u16 = 6380;

/// The stores run as a user of their own, who must read their keys.
pub fn authority() -> Result<Authority> {
    let authority = Authority::new("the lab")?;
    fs::set_permissions(authority.folder(), fs::Permissions::from_mode(0o755))?;
    Ok(authority)
}

pub fn store(host: &Host, release: &str, certificate: &Certificate, arguments: &[&str]) -> Result<Server> {
    let port = TLS_PORT.to_string();
    let files = certificate.store_arguments();
    let mut all = vec!["--bind", "0.0.0.0", "--protected-mode", "no", "--tls-port", &port];
    all.extend(["--tls-replication", "yes"]);
    all.extend(files.iter().map(String::as_str));
    all.extend(arguments);
    let mut options = Options::new().arguments(&all);
    options.port = Some(lab::STORE_PORT);
    options.user = Some(lab::STORE_USER);
    let store = Store::want(release)?;
    host.enter(|| Server::start(&store, options))
}

/// `REPLICAOF` the master's real address; the sidecar at one of the two hosts translates.
fn is_intercepted(mode: &str, at_master: bool) -> Result<()> {
    let Some(network) = lab::network(2)? else { return Ok(()) };
    let [n1, n2] = &network.hosts[..] else { unreachable!("two hosts were asked for") };
    let (of_master, of_replica) = if at_master { (n1, n2) } else { (n2, n1) };
    let authority = authority()?;
    let master = store(of_master, "redis-8.0", &authority.issue("master")?, &[])?;
    let replica = store(of_replica, "redis-6.0", &authority.issue("replica")?, &[])?;
    lab::fill(of_master, &master)?;
    let config = lab::config(mode, "open", &format!("{}:{TLS_PORT}", n2.ipv4()), "")
        .replace("store = \"127.0.0.1:6379\"", &format!("store = \"127.0.0.1:{TLS_PORT}\""));
    let config = config + &authority.issue("segue")?.sidecar_table();
    let sidecar = lab::sidecar(n1, &config)?;

    let mut client = of_replica.enter(|| replica.client())?;
    redis::cmd("REPLICAOF").arg(of_master.ipv4()).arg(TLS_PORT).exec(&mut client)?;
    lab::await_link_up(of_replica, &replica, || lab::tail(&sidecar.log_text()))?;
    lab::assert_equal((of_master, &master), (of_replica, &replica))?;
    let link = lab::replication_link(n1, &sidecar)?;
    ensure!(link["verdict"] == "rewrite", "{link:#}");
    ensure!(link["dialer"]["tls"].is_string() && link["listener"]["tls"].is_string(), "{link:#}");
    let peer = if at_master { "dialer" } else { "listener" };
    ensure!(link[peer]["peer"] == "n2" && link[peer]["release"]["learned"] == "probe", "{link:#}");
    Ok(())
}

#[test]
fn a_tls_master_is_intercepted() -> Result<()> {
    is_intercepted("tproxy", true)
}

#[test]
fn a_tls_replica_is_intercepted() -> Result<()> {
    is_intercepted("redirect", false)
}
