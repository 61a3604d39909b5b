//! An etcd on loopback, of one member or of three, and sidecars that agree by it.

use std::{
    fs::{self, File},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use segue::{
    cluster::{etcd, raft::Metrics},
    config::{Credentials, Etcd, Secret},
    tls::ClientFiles,
};
use segue_bench::{
    authority::Certificate,
    child::{ChildProcess, wait_for},
    peers::programs::Programs,
    port,
};
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::contract::{Joined, PATIENCE};

/// Members of etcd; ended when this value is dropped.
pub struct Server {
    programs: Programs,
    folder: TempDir,
    members: Vec<Member>,
    tls: Option<Certificate>,
    login: Option<&'static str>,
    /// Of the sidecars: longer than any of them stands still on a slow machine.
    pub lease: Duration,
}

struct Member {
    name: String,
    client_port: u16,
    peer_port: u16,
    child: Option<ChildProcess>,
}

impl Server {
    pub fn start(count: usize, tls: Option<Certificate>) -> Result<Self> {
        let programs = Programs::etcd()?;
        let folder = tempfile::Builder::new().prefix("segue-etcd-").tempdir()?;
        let ports: [u16; 6] = port::free_ports()?;
        let members = ports.chunks(2).take(count).enumerate();
        let members = members
            .map(|(number, ports)| Member {
                name: format!("m{number}"),
                client_port: ports[0],
                peer_port: ports[1],
                child: None,
            })
            .collect();
        let mut server = Self { programs, folder, members, tls, login: None, lease: Duration::from_secs(15) };
        for at in 0..count {
            server.spawn(at)?;
        }
        server.healthy()?;
        Ok(server)
    }

    /// With the data that it had.
    pub fn start_again(&mut self, at: usize) -> Result<()> {
        self.spawn(at)?;
        self.healthy()
    }

    pub fn kill(&mut self, at: usize) -> Result<()> {
        self.members[at].child.take().context("it does not run")?.kill()?;
        Ok(())
    }

    pub fn pid(&self, at: usize) -> u32 {
        self.members[at].child.as_ref().unwrap().pid()
    }

    fn spawn(&mut self, at: usize) -> Result<()> {
        let Member { name, client_port, peer_port, .. } = &self.members[at];
        let peer = |port: u16| format!("http://127.0.0.1:{port}");
        let cluster: Vec<_> =
            self.members.iter().map(|member| format!("{}={}", member.name, peer(member.peer_port))).collect();
        let mut command = self.programs.command("etcd")?;
        command.args(["--name", name, "--initial-cluster", &cluster.join(",")]);
        command.args(["--listen-peer-urls", &peer(*peer_port)]);
        command.args(["--initial-advertise-peer-urls", &peer(*peer_port)]);
        for option in ["--listen-client-urls", "--advertise-client-urls"] {
            command.args([option, &self.url(*client_port)]);
        }
        // What a killed process has written stays; a slow disk would be waited for at every write.
        command.arg("--unsafe-no-fsync");
        if let Some(Certificate { certificate, key, ca }) = &self.tls {
            command.arg("--cert-file").arg(certificate).arg("--key-file").arg(key);
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(ca);
        }
        let log = File::options().create(true).append(true).open(self.folder.path().join("log"))?;
        command.arg("--data-dir").arg(self.folder.path().join(name));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.members[at].child = Some(ChildProcess::spawn(&mut command)?);
        Ok(())
    }

    fn healthy(&self) -> Result<()> {
        let mut said = String::new();
        let healthy = wait_for(PATIENCE, || match self.ctl(&["endpoint", "health"]) {
            Ok(_) => Ok(Some(())),
            Err(error) => {
                said = error.to_string();
                Ok(None)
            }
        })?;
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        healthy.with_context(|| format!("etcd is not healthy: {said}\n{log}"))
    }

    fn url(&self, port: u16) -> String {
        format!("{}://127.0.0.1:{port}", if self.tls.is_some() { "https" } else { "http" })
    }

    pub fn endpoints(&self) -> impl Iterator<Item = String> {
        self.members.iter().map(|member| self.url(member.client_port))
    }

    /// Standard output of etcdctl, of the members that run.
    pub fn ctl(&self, arguments: &[&str]) -> Result<String> {
        let running: Vec<_> = self
            .members
            .iter()
            .filter(|member| member.child.is_some())
            .map(|member| self.url(member.client_port))
            .collect();
        let mut command = self.programs.command("etcdctl")?;
        command.env("ETCDCTL_API", "3").args(["--endpoints", &running.join(",")]);
        command.args(["--dial-timeout", "30s", "--command-timeout", "30s"]);
        if let Some(Certificate { certificate, key, ca }) = &self.tls {
            command.arg("--cert").arg(certificate).arg("--key").arg(key).arg("--cacert").arg(ca);
        }
        if let Some(login) = self.login {
            command.args(["--user", login]);
        }
        let output = command.args(arguments).stdin(Stdio::null()).output()?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        ensure!(output.status.success(), "etcdctl {}: {said}", arguments.join(" "));
        Ok(said)
    }

    /// From now on users have to log in: `segue` with `the password`, for the keys below `/segue/`.
    pub fn ask_for_passwords(&mut self) -> Result<()> {
        for arguments in [
            &["user", "add", "root:the root"][..],
            &["user", "grant-role", "root", "root"],
            &["user", "add", "segue:the password"],
            &["role", "add", "segue"],
            &["role", "grant-permission", "segue", "--prefix=true", "readwrite", "/segue/"],
            &["user", "grant-role", "segue", "segue"],
            &["auth", "enable"],
        ] {
            self.ctl(arguments)?;
        }
        self.login = Some("root:the root");
        Ok(())
    }

    /// As a sidecar's config would say it.
    pub fn settings(&self, node: &str) -> etcd::Settings {
        let tls = self.tls.clone();
        etcd::Settings {
            node: node.into(),
            etcd: Etcd {
                endpoints: self.endpoints().map(|endpoint| endpoint.parse().unwrap()).collect(),
                prefix: "/segue/".to_owned(),
                cluster: "lab".to_owned(),
                members: ["n1", "n2", "n3"].map(Into::into).to_vec(),
                login: None,
                tls: tls.map(|Certificate { certificate, key, ca }| ClientFiles {
                    ca,
                    certificate: Some((certificate, key)),
                }),
                lease: self.lease,
                propose_timeout: Duration::from_secs(30),
            },
            metrics: Metrics::new().unwrap(),
        }
    }

    pub fn join(&self, node: &str) -> Joined {
        etcd::start(self.settings(node), &Handle::current()).unwrap()
    }

    pub fn join_all(&self) -> Vec<Joined> {
        ["n1", "n2", "n3"].map(|node| self.join(node)).to_vec()
    }
}

pub fn login(password: &str) -> Credentials {
    Credentials {
        username: Some("segue".to_owned()),
        password_file: "password".into(),
        password: Secret::new(password.to_owned()),
    }
}
