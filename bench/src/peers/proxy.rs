//! One way from a client to its server: direct, or through a proxy started for it.

use std::fmt;
use std::fs::{self, File};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::programs::Programs;
use super::usage;
use crate::child::{ChildProcess, wait_for};
use crate::port;
use crate::sidecar::Sidecar;

const START_TIME_MAX: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rival {
    Direct,
    Segue,
    Haproxy,
    Nginx,
}

impl Rival {
    pub const ALL: [Self; 4] = [Self::Direct, Self::Segue, Self::Haproxy, Self::Nginx];

    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Segue => "segue",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }
}

impl fmt::Display for Rival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.label())
    }
}

/// Where the bytes go: ports on loopback.
#[derive(Clone, Copy, Debug)]
pub struct Targets {
    pub redis: u16,
    /// The benchmark's own server.
    pub tool: u16,
}

/// A running proxy, ended when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    pub rival: Rival,
    /// Ports that lead to the targets.
    pub ports: Targets,
    running: Running,
    _folder: Option<TempDir>,
}

#[derive(Debug)]
enum Running {
    Nothing,
    Sidecar(Box<Sidecar>),
    Program(ChildProcess),
}

impl Proxy {
    /// `links_max` is how many connections it must bear at one time.
    ///
    /// # Errors
    /// The program does not start.
    pub fn start(
        rival: Rival,
        targets: Targets,
        links_max: u64,
        segue: &Path,
        programs: &Programs,
    ) -> Result<Self> {
        let [redis, tool, admin, metrics] = port::free_ports()?;
        let ports = Targets { redis, tool };
        let folder = tempfile::Builder::new().prefix(&format!("segue-{rival}-")).tempdir()?;
        let (running, ports) = match rival {
            Rival::Direct => (Running::Nothing, targets),
            Rival::Segue => {
                let config = segue_config(ports, targets, links_max, [admin, metrics]);
                (Running::Sidecar(Box::new(Sidecar::start(segue, &config)?)), ports)
            }
            Rival::Haproxy => {
                let file = folder.path().join("haproxy.cfg");
                fs::write(&file, haproxy_config(ports, targets, links_max))?;
                let mut command = programs.command("haproxy")?;
                command.arg("-db").arg("-f").arg(&file);
                (Running::Program(launch(&mut command, folder.path(), ports)?), ports)
            }
            Rival::Nginx => {
                let file = folder.path().join("nginx.conf");
                fs::write(&file, nginx_config(programs, folder.path(), ports, targets, links_max)?)?;
                let mut command = programs.command("nginx")?;
                command.arg("-p").arg(folder.path()).arg("-e").arg("stderr").arg("-c").arg(&file);
                (Running::Program(launch(&mut command, folder.path(), ports)?), ports)
            }
        };
        Ok(Self { rival, ports, running, _folder: Some(folder) })
    }

    /// None where there is no proxy.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match &self.running {
            Running::Nothing => None,
            Running::Sidecar(sidecar) => Some(sidecar.pid()),
            Running::Program(child) => Some(child.pid()),
        }
    }

    /// Processor time so far, 0 where there is no proxy.
    ///
    /// # Errors
    /// It has ended.
    pub fn cpu_s(&self) -> Result<f64> {
        self.pid().map_or(Ok(0.0), usage::cpu_s)
    }

    /// # Errors
    /// It has ended.
    pub fn resident_bytes(&self) -> Result<u64> {
        match &self.running {
            Running::Nothing => Ok(0),
            Running::Sidecar(sidecar) => Ok(sidecar.rss_bytes()?.resident_bytes),
            Running::Program(child) => Ok(child.memory()?.resident_bytes),
        }
    }
}

fn launch(command: &mut Command, folder: &Path, ports: Targets) -> Result<ChildProcess> {
    let log = File::create(folder.join("log"))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let mut child = ChildProcess::spawn(command)?;
    let said = || fs::read_to_string(folder.join("log")).unwrap_or_default();
    let ready = wait_for(START_TIME_MAX, || {
        if let Some(status) = child.exited()? {
            bail!("it ended at once, {status}: {}", said());
        }
        Ok(TcpStream::connect(("127.0.0.1", ports.redis)).ok().map(drop))
    })?;
    ready.with_context(|| format!("it does not listen: {}", said()))?;
    Ok(child)
}

fn segue_config(ports: Targets, targets: Targets, links_max: u64, [admin, metrics]: [u16; 2]) -> String {
    format!(
        r#"
[node]
id = "n1"
protocol = "redis"
store = "127.0.0.1:{}"
[[peer]]
id = "tool"
store = "127.0.0.1:{}"
[[link]]
listen = "127.0.0.1:{}"
to = "store"
[[link]]
listen = "127.0.0.1:{}"
to = "tool"
[limits]
links_max = {links_max}
[log]
level = "error"
[admin]
listen = "127.0.0.1:{admin}"
[metrics]
listen = "127.0.0.1:{metrics}"
"#,
        targets.redis, targets.tool, ports.redis, ports.tool
    )
}

/// Forced splicing: `splice-auto` never splices here.
fn haproxy_config(ports: Targets, targets: Targets, links_max: u64) -> String {
    let listen = |name: &str, from: u16, to: u16| {
        format!("listen {name}\n  bind 127.0.0.1:{from}\n  server s 127.0.0.1:{to}\n")
    };
    format!(
        "global\n  maxconn {links_max}\n  maxpipes 256\ndefaults\n  mode tcp\n  option splice-request\n  option splice-response\n  \
         timeout connect 5s\n  timeout client 10m\n  timeout server 10m\n{}{}",
        listen("redis", ports.redis, targets.redis),
        listen("tool", ports.tool, targets.tool)
    )
}

fn nginx_config(
    programs: &Programs,
    folder: &Path,
    ports: Targets,
    targets: Targets,
    links_max: u64,
) -> Result<String> {
    let module = programs.find(&["usr/lib/nginx/modules"], "ngx_stream_module.so")?;
    let server = |from: u16, to: u16| {
        format!("  server {{ listen 127.0.0.1:{from}; proxy_pass 127.0.0.1:{to}; proxy_timeout 10m; }}\n")
    };
    Ok(format!(
        "load_module {};\ndaemon off;\nmaster_process off;\npid {}/pid;\nworker_rlimit_nofile {};\n\
         events {{ worker_connections {}; }}\nstream {{\n  tcp_nodelay on;\n{}{}}}\n",
        module.display(),
        folder.display(),
        links_max.saturating_mul(2),
        links_max.saturating_mul(2),
        server(ports.redis, targets.redis),
        server(ports.tool, targets.tool)
    ))
}
