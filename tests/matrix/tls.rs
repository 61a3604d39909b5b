//! Links of stores that speak TLS: opened and sealed again on both sides of the sidecar.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use segue_bench::{
    authority::{Authority, Certificate},
    child::wait_for,
    data, port,
    server::{Options, Server},
    sidecar::Sidecar,
    stores::Store,
};

use crate::{
    cluster::{Cluster, SYNC_TIME_MAX, WAIT_MS, link_is_up},
    resync::{await_syncs, cut_by_replica},
};

/// A store with a plain port for the lab, and one where it speaks TLS.
struct TlsStore {
    server: Server,
    tls_port: u16,
}

impl TlsStore {
    fn start(name: &str, certificate: &Certificate, arguments: &[&str]) -> Result<Self> {
        let tls_port = port::free()?;
        let port_text = tls_port.to_string();
        let files = certificate.store_arguments();
        let mut all = vec!["--tls-port", &port_text, "--tls-replication", "yes"];
        all.extend(files.iter().map(String::as_str));
        all.extend(arguments);
        let server = Server::start(&Store::want(name)?, Options::new().arguments(&all))?;
        Ok(Self { server, tls_port })
    }
}

/// A sidecar of `n1`, whose store is at one port; `n2` is at another, and dials the link.
fn sidecar(store: u16, peer: u16, certificate: &Certificate, more: &str) -> Result<(Sidecar, u16)> {
    let [link, admin, metrics] = port::free_ports()?;
    let config = format!(
        r#"
[node]
id = "n1"
protocol = "redis"
store = "127.0.0.1:{store}"

[[peer]]
id = "n2"
store = "127.0.0.1:{peer}"

[[link]]
listen = "127.0.0.1:{link}"
to = "store"

[admin]
listen = "127.0.0.1:{admin}"

[metrics]
listen = "127.0.0.1:{metrics}"

[log]
level = "trace"

{tls}
{more}
"#,
        tls = certificate.sidecar_table(),
    );
    Ok((Sidecar::start(Path::new(env!("CARGO_BIN_EXE_segue")), &config)?, link))
}

/// Both stores and the sidecar between them, all with certificates of one authority; not linked yet.
fn cluster(authority: &Authority, master: &str, replica: &str) -> Result<Cluster> {
    cluster_with(authority, (master, &[]), (replica, &[]), "")
}

/// Likewise, with more words for each store's command line and more lines of config.
pub fn cluster_with(
    authority: &Authority,
    (master, of_master): (&str, &[&str]),
    (replica, of_replica): (&str, &[&str]),
    more: &str,
) -> Result<Cluster> {
    let master = TlsStore::start(master, &authority.issue("n1")?, of_master)?;
    let replica = TlsStore::start(replica, &authority.issue("n2")?, of_replica)?;
    let (sidecar, link_port) = sidecar(master.tls_port, replica.tls_port, &authority.issue("segue")?, more)?;
    Ok(Cluster { master: master.server, sidecar, replica: replica.server, link_port })
}

fn reload(sidecar: &Sidecar, reloads: f64) -> Result<()> {
    kill_process(Pid::from_raw(sidecar.pid().cast_signed()).context("no pid")?, Signal::HUP)?;
    let sample = "segue_config_reloads_total{outcome=\"loaded\"}";
    wait_for(SYNC_TIME_MAX, || Ok((sidecar.metric(sample)? == Some(reloads)).then_some(())))?
        .with_context(|| sidecar.log_text())
}

#[test]
fn an_older_replica_is_fed_over_tls_and_certificates_are_renewed_meanwhile() -> Result<()> {
    let authority = Authority::new("the lab")?;
    let cluster = cluster(&authority, "redis-8.0", "redis-6.0")?;
    data::fill_core(&mut cluster.master.client()?, 1)?;
    cluster.replicate()?;
    cluster.await_link_up()?;
    cluster.assert_equal()?;
    let link = cluster.link_status()?;
    ensure!(link["verdict"] == "rewrite", "{link:#}");
    let spoken = |end: &str| link[end]["tls"].as_str().is_some_and(|version| version.starts_with("TLSv1."));
    ensure!(spoken("dialer") && spoken("listener"), "{link:#}");
    ensure!(link["listener"]["release"]["learned"] == "probe", "not asked over TLS: {link:#}");

    // Renewed: a link that is up does not notice.
    authority.issue("segue")?;
    reload(&cluster.sidecar, 1.0)?;
    redis::cmd("SET").arg("k").arg("v").arg("EX").arg(1000).exec(&mut cluster.master.client()?)?;
    cluster.assert_equal()?;
    ensure!(cluster.link_status()?["id"] == link["id"] && cluster.syncs()? == (1, 0), "the link was cut");

    // The next one has the new certificate, and goes on where the cut one was.
    cut_by_replica(&cluster)?;
    await_syncs(&cluster, |(_, partial)| partial == 1)?;
    redis::cmd("SET").arg("k2").arg("v").arg("EX").arg(1000).exec(&mut cluster.master.client()?)?;
    cluster.assert_equal()?;
    ensure!(cluster.syncs()? == (1, 1), "{:?}", cluster.syncs()?);
    Ok(())
}

#[test]
fn equal_releases_pass_over_tls() -> Result<()> {
    let authority = Authority::new("the lab")?;
    let cluster = cluster(&authority, "redis-7.0", "redis-7.0")?;
    let mut master = cluster.master.client()?;
    data::fill_core(&mut master, 1)?;
    // Larger than all buffers on the way.
    redis::cmd("SETRANGE").arg("big").arg(16 << 20).arg("end").exec(&mut master)?;
    cluster.replicate()?;
    cluster.await_link_up()?;
    redis::cmd("SETRANGE").arg("big").arg(24 << 20).arg("end").exec(&mut master)?;
    redis::cmd("SET").arg("bulk").arg(vec![b'x'; 24 << 20]).exec(&mut master)?;
    cluster.assert_equal()?;
    let link = cluster.link_status()?;
    ensure!(link["verdict"] == "same" && link["held_bytes"] == 0, "{link:#}");
    redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("REPLICA").exec(&mut master)?;
    await_syncs(&cluster, |(_, partial)| partial == 1)?;
    cluster.assert_equal()?;
    Ok(())
}

/// Releases before 6.0 know no TLS: to them the link is plain, to the master it is not.
#[test]
fn a_store_without_tls_is_linked_with_one_that_has_it() -> Result<()> {
    let authority = Authority::new("the lab")?;
    let master = TlsStore::start("redis-8.0", &authority.issue("n1")?, &[])?;
    let replica = Server::start(&Store::want("redis-5.0")?, Options::new())?;
    data::fill_core(&mut master.server.client()?, 1)?;
    let (sidecar, link_port) = sidecar(master.tls_port, replica.port(), &authority.issue("segue")?, "")?;
    let file = sidecar.folder().join("segue.toml");
    let plain = fs::read_to_string(&file)?
        .replace("to = \"store\"", "to = \"store\"\ntls = false")
        .replace("id = \"n2\"", "id = \"n2\"\ntls = false");
    fs::write(&file, plain)?;
    reload(&sidecar, 1.0)?;
    let cluster = Cluster { master: master.server, sidecar, replica, link_port };
    cluster.replicate()?;
    cluster.await_link_up()?;
    cluster.assert_equal()?;
    let link = cluster.link_status()?;
    ensure!(link["dialer"]["tls"].is_null() && link["listener"]["tls"].is_string(), "{link:#}");
    Ok(())
}

#[test]
fn of_two_sidecars_on_a_tls_link_exactly_one_translates() -> Result<()> {
    let authority = Authority::new("the lab")?;
    let mut cluster = cluster(&authority, "redis-8.0", "redis-6.0")?;
    data::fill_core(&mut cluster.master.client()?, 1)?;
    // The older node's own sidecar, which takes the newer one's for its master.
    let (_, own): (String, u16) =
        redis::cmd("CONFIG").arg("GET").arg("tls-port").query(&mut cluster.replica.client()?)?;
    let [link, admin, metrics] = port::free_ports()?;
    let config = format!(
        r#"
[node]
id = "n2"
protocol = "redis"
store = "127.0.0.1:{own}"
[[peer]]
id = "n1"
store = "127.0.0.1:{newer}"
[[link]]
listen = "127.0.0.1:{link}"
to = "n1"
[admin]
listen = "127.0.0.1:{admin}"
[metrics]
listen = "127.0.0.1:{metrics}"
{tls}
"#,
        newer = cluster.link_port,
        tls = authority.issue("segue-2")?.sidecar_table(),
    );
    let older_end = Sidecar::start(Path::new(env!("CARGO_BIN_EXE_segue")), &config)?;
    cluster.link_port = link;
    cluster.replicate()?;
    cluster.await_link_up()?;
    redis::cmd("SET").arg("k").arg("v").arg("EX").arg(1000).exec(&mut cluster.master.client()?)?;
    cluster.assert_equal()?;
    let newer = cluster.link_status()?;
    ensure!(newer["verdict"] == "rewrite" && newer["messages_rewritten"].as_u64() > Some(0), "{newer:#}");
    let older = older_end.status()?["links"][0].clone();
    ensure!(older["verdict"] == "same" && older["messages_rewritten"] == 0, "{older:#}");
    ensure!(older["dialer"]["tls"].is_string() && older["listener"]["tls"].is_string(), "{older:#}");
    Ok(())
}

/// Waits until the newest refusal has this reason, and is counted; what it says.
fn await_refusal(sidecar: &Sidecar, reason: &str) -> Result<String> {
    let newest = || -> Result<serde_json::Value> { Ok(sidecar.status()?["refusals"][0].clone()) };
    let found = wait_for(SYNC_TIME_MAX, || Ok(Some(newest()?).filter(|newest| newest["reason"] == reason)))?;
    let found = found.with_context(|| {
        format!("no refusal for {reason}, but {:#}\n{}", newest().unwrap_or_default(), sidecar.log_text())
    })?;
    let metric = sidecar.metric(&format!("segue_refusals_total{{reason=\"{reason}\"}}"))?;
    ensure!(metric > Some(0.0), "{reason} is not counted");
    Ok(found["detail"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn what_is_not_agreed_upon_is_refused_with_its_reason() -> Result<()> {
    let (authority, other) = (Authority::new("the lab")?, Authority::new("another lab")?);
    let cluster = cluster(&authority, "redis-7.0", "redis-7.0")?;
    let set = |settings: &[(&str, &str)]| -> Result<()> {
        let mut command = redis::cmd("CONFIG");
        command.arg("SET");
        for (key, value) in settings {
            command.arg(*key).arg(*value);
        }
        Ok(command.exec(&mut cluster.replica.client()?)?)
    };
    let show = |certificate: &Certificate| {
        let text = |path: &Path| path.display().to_string();
        let (certificate, key) = (text(&certificate.certificate), text(&certificate.key));
        set(&[("tls-cert-file", &certificate), ("tls-key-file", &key)])
    };

    set(&[("tls-replication", "no")])?;
    cluster.replicate()?;
    let detail = await_refusal(&cluster.sidecar, "plain-on-tls")?;
    ensure!(detail.starts_with("dialer 127.0.0.1:"), "{detail}");
    set(&[("tls-replication", "yes")])?;
    cluster.await_link_up()?;

    // Of one that was refused there is none to cut.
    let cut = || -> Result<()> {
        let mut replica = cluster.replica.client()?;
        Ok(redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("MASTER").exec(&mut replica)?)
    };
    let foreign = other.issue("n2")?;
    for (certificate, reason) in
        [(&foreign, "tls-unknown-ca"), (&authority.issue_expired("n2-expired")?, "tls-certificate-expired")]
    {
        show(certificate)?;
        cut()?;
        await_refusal(&cluster.sidecar, reason)?;
    }
    show(&authority.issue("n2")?)?;
    cluster.await_link_up()?;

    // It is the replica that does not accept the sidecar's.
    set(&[("tls-ca-cert-file", &foreign.ca.display().to_string())])?;
    cut()?;
    let detail = await_refusal(&cluster.sidecar, "tls-alert")?;
    ensure!(detail.contains("UnknownCA"), "{detail}");
    set(&[("tls-ca-cert-file", &authority.folder().join("ca.crt").display().to_string())])?;
    cluster.await_link_up()?;

    // It is the master that does not.
    let files = ["segue.crt", "segue.key"];
    let before = files.map(|file| fs::read(authority.folder().join(file)));
    let ours = other.issue("segue")?;
    for (from, to) in [&ours.certificate, &ours.key].into_iter().zip(files) {
        fs::copy(from, authority.folder().join(to))?;
    }
    reload(&cluster.sidecar, 1.0)?;
    // The replica is to accept it, or it would be the first to refuse.
    let both = authority.folder().join("both.crt");
    let read = |path: &Path| fs::read_to_string(path);
    fs::write(&both, read(&foreign.ca)? + &read(&authority.folder().join("ca.crt"))?)?;
    set(&[("tls-ca-cert-file", &both.display().to_string())])?;
    cut()?;
    let refused_by_master = wait_for(SYNC_TIME_MAX, || {
        let refusal = cluster.sidecar.status()?["refusals"][0].clone();
        let detail = refusal["detail"].as_str().unwrap_or_default();
        Ok((refusal["reason"] == "tls-alert" && detail.starts_with("listener ")).then_some(()))
    })?;
    refused_by_master.with_context(|| cluster.sidecar.log_text())?;
    for (bytes, to) in before.into_iter().zip(files) {
        fs::write(authority.folder().join(to), bytes?)?;
    }

    // TLS where the config says plain.
    let file = cluster.sidecar.folder().join("segue.toml");
    fs::write(&file, fs::read_to_string(&file)?.replace("to = \"store\"", "to = \"store\"\ntls = false"))?;
    reload(&cluster.sidecar, 2.0)?;
    await_refusal(&cluster.sidecar, "tls-on-plain")?;
    ensure!(!link_is_up(&cluster.replica)?, "the link came up all the same");
    if !cluster.sidecar.log_text().contains("TLS came where the config says plain bytes") {
        bail!("the log does not say it: {}", cluster.sidecar.log_text());
    }
    Ok(())
}

#[test]
fn users_and_passwords_pass_and_are_told_to_nobody() -> Result<()> {
    const SECRETS: [&str; 2] = ["s3cret-of-the-user", "s3cret-of-the-default"];
    let authority = Authority::new("the lab")?;
    let [user_secret, default_secret] = SECRETS;
    let rule = format!(">{user_secret}");
    let master_arguments =
        ["--user", "follower", "on", &rule, "+psync", "+replconf", "+ping", "--requirepass", default_secret];
    let master = TlsStore::start("redis-8.0", &authority.issue("n1")?, &master_arguments)?;
    let replica_arguments = ["--masteruser", "follower", "--masterauth", user_secret];
    let replica = TlsStore::start("redis-6.0", &authority.issue("n2")?, &replica_arguments)?;
    let password_file = authority.folder().join("password");
    fs::write(&password_file, default_secret)?;
    let (sidecar, link_port) = sidecar(master.tls_port, replica.tls_port, &authority.issue("segue")?, "")?;
    let file = sidecar.folder().join("segue.toml");
    let asked = format!("id = \"n1\"\npassword_file = {password_file:?}");
    fs::write(&file, fs::read_to_string(&file)?.replace("id = \"n1\"", &asked))?;
    reload(&sidecar, 1.0)?;
    let cluster = Cluster { master: master.server, sidecar, replica: replica.server, link_port };
    let login = format!("redis://:{default_secret}@127.0.0.1:{}", cluster.master.port());
    let mut client = redis::Client::open(login)?.get_connection()?;
    redis::cmd("SET").arg("k").arg("v").arg("EX").arg(1000).exec(&mut client)?;
    cluster.replicate()?;
    cluster.await_link_up()?;
    redis::cmd("SET").arg("k2").arg("v").arg("EX").arg(1000).exec(&mut client)?;
    let acknowledged: u64 = redis::cmd("WAIT").arg(1).arg(WAIT_MS).query(&mut client)?;
    ensure!(acknowledged == 1);
    let value: Option<String> = redis::cmd("GET").arg("k2").query(&mut cluster.replica.client()?)?;
    ensure!(value.as_deref() == Some("v"));
    let link = cluster.link_status()?;
    ensure!(link["verdict"] == "rewrite" && link["listener"]["release"]["learned"] == "probe", "{link:#}");

    // A login that fails is no reason to tell it, either.
    redis::cmd("CONFIG")
        .arg("SET")
        .arg("masterauth")
        .arg("s3cret-wrong")
        .exec(&mut cluster.replica.client()?)?;
    redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("MASTER").exec(&mut cluster.replica.client()?)?;
    wait_for(SYNC_TIME_MAX, || Ok(cluster.replica.log_text().contains("WRONGPASS").then_some(())))?
        .context("the wrong password was not refused")?;
    let log = cluster.sidecar.log_text();
    ensure!(log.contains("DEBUG"), "the level of the log is not as the config says");
    let told = [
        ("log", log),
        ("status", cluster.sidecar.status()?.to_string()),
        ("losses", cluster.sidecar.losses()?.to_string()),
        ("metrics", cluster.sidecar.metrics()?),
    ];
    for (place, text) in told {
        ensure!(!text.contains("s3cret"), "a password is in the {place}: {text}");
    }
    Ok(())
}
