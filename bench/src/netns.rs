//! Hosts in one network, made of the kernel's network namespaces: each has its own addresses, rules and
//! loopback, and all traffic stays inside. Needs root, `ip` and, for what runs in there, `nft`.
//!
//! A thread can be in a host ([`Host::enter`]): whatever it connects to and whichever process it starts is
//! there too. So servers, sidecars and clients of the lab are used in hosts as they are anywhere.

use std::{
    fs::File,
    os::fd::AsFd,
    path::PathBuf,
    process::{self, Command},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::child::wait_for;

/// Hosts of one network; their addresses end in 1, 2, …
pub const HOSTS_MAX: u8 = 9;
/// The kernel joins links on its own time.
const JOIN_TIME_MAX: Duration = Duration::from_secs(20);
/// The rules by which a host blocks a port.
const BLOCKED: &str = "segue_lab_blocked";

/// Hosts joined by a bridge. It goes away with all that is in it when it is dropped.
#[derive(Debug)]
pub struct Network {
    /// The bridge is in a namespace as well.
    bridge: String,
    pub hosts: Vec<Host>,
}

#[derive(Clone, Debug)]
pub struct Host {
    namespace: String,
    /// From 1.
    number: u8,
}

/// What the machine lacks for a [`Network`]; empty where nothing does.
#[must_use]
pub fn missing() -> Vec<&'static str> {
    let mut missing = Vec::new();
    if !rustix::process::geteuid().is_root() {
        missing.push("root");
    }
    for (program, flag) in [("ip", "-V"), ("nft", "--version")] {
        if !Command::new(program).arg(flag).output().is_ok_and(|output| output.status.success()) {
            missing.push(program);
        }
    }
    missing
}

impl Network {
    /// # Errors
    /// One of [`missing`], or the kernel has no namespaces, bridges or veth pairs.
    pub fn new(hosts: u8) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        ensure!(hosts <= HOSTS_MAX, "at most {HOSTS_MAX} hosts in a network");
        let name = format!("segue-{}-{}", process::id(), NEXT.fetch_add(1, Relaxed));
        let bridge = format!("{name}-bridge");
        let mut network = Self { bridge: bridge.clone(), hosts: Vec::new() };
        add(&bridge)?;
        ip(&format!("-n {bridge} link add bridge type bridge"))?;
        ip(&format!("-n {bridge} link set bridge up"))?;
        for number in 1..=hosts {
            let host = Host { namespace: format!("{name}-{number}"), number };
            add(&host.namespace)?;
            network.hosts.push(host.clone());
            host.join(&bridge)?;
        }
        for host in &network.hosts {
            let joined = wait_for(JOIN_TIME_MAX, || Ok(host.is_joined()?.then_some(())))?;
            joined.with_context(|| format!("host {} is not joined to its network", host.number))?;
        }
        Ok(network)
    }

    /// Cuts a host off from all others: what it sends is lost, and what is sent to it.
    ///
    /// # Errors
    /// The kernel's own.
    pub fn cut_off(&self, host: &Host) -> Result<()> {
        ip(&format!("-n {} link set host{} down", self.bridge, host.number))
    }

    /// Joins it again.
    ///
    /// # Errors
    /// The kernel's own.
    pub fn rejoin(&self, host: &Host) -> Result<()> {
        ip(&format!("-n {} link set host{} up", self.bridge, host.number))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let namespaces = self.hosts.iter().map(|host| &host.namespace).chain([&self.bridge]);
        for namespace in namespaces {
            // Nothing is left to tell an error to; the next run has other names.
            drop(ip(&format!("netns delete {namespace}")));
        }
    }
}

impl Host {
    /// `10.77.0.<number>`, of a network of 24 bits.
    #[must_use]
    pub fn ipv4(&self) -> String {
        format!("10.77.0.{}", self.number)
    }

    /// `fd77::<number>`, of a network of 64 bits.
    #[must_use]
    pub fn ipv6(&self) -> String {
        format!("fd77::{}", self.number)
    }

    /// From now on nothing gets through to this TCP port here, nor from here to that of another host.
    ///
    /// # Errors
    /// The kernel's own.
    pub fn block(&self, port: u16) -> Result<()> {
        let ends = format!("tcp sport {port} drop; tcp dport {port} drop");
        let rules = ["input", "output"]
            .map(|hook| format!("chain {hook} {{ type filter hook {hook} priority 0; {ends}; }};"))
            .concat();
        self.output(Command::new("nft").arg(format!("table inet {BLOCKED} {{ {rules} }}"))).map(drop)
    }

    /// All that was blocked gets through again.
    ///
    /// # Errors
    /// The kernel's own.
    pub fn unblock(&self) -> Result<()> {
        self.output(Command::new("nft").args(["delete", "table", "inet", BLOCKED])).map(drop)
    }

    /// Does something in this host, in a thread of its own.
    ///
    /// # Errors
    /// The host can't be entered; whatever the work's are.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let entered = || {
            let path = PathBuf::from("/run/netns").join(&self.namespace);
            let namespace = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            work()
        };
        let done = thread::scope(|scope| scope.spawn(entered).join());
        done.unwrap_or_else(|_| Err(anyhow!("the work in host {} panicked", self.number)))
    }

    /// Standard output of a command that is run in this host.
    ///
    /// # Errors
    /// It can't be run, or fails; with what it says.
    pub fn output(&self, command: &mut Command) -> Result<String> {
        self.enter(|| output(command))
    }

    fn join(&self, bridge: &str) -> Result<()> {
        let Self { namespace, number } = self;
        ip(&format!("link add eth0 netns {namespace} type veth peer name host{number} netns {bridge}"))?;
        ip(&format!("-n {bridge} link set host{number} master bridge up"))?;
        ip(&format!("-n {namespace} address add {}/24 dev eth0", self.ipv4()))?;
        ip(&format!("-n {namespace} address add {}/64 dev eth0 nodad", self.ipv6()))?;
        // No addresses but these: the kernel's own would come when they like.
        ip(&format!("-n {namespace} link set eth0 addrgenmode none"))?;
        ip(&format!("-n {namespace} link set lo up"))?;
        ip(&format!("-n {namespace} link set eth0 up"))
    }

    fn is_joined(&self) -> Result<bool> {
        let shown =
            output(Command::new("ip").args(["-n", &self.namespace, "-brief", "link", "show", "eth0"]))?;
        Ok(shown.split_whitespace().nth(1) == Some("UP"))
    }
}

/// The first one makes the folder of all: one at a time.
fn add(namespace: &str) -> Result<()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    ip(&format!("netns add {namespace}"))
}

fn ip(arguments: &str) -> Result<()> {
    output(Command::new("ip").args(arguments.split(' '))).map(drop)
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if !output.status.success() {
        bail!("{command:?}, {}: {}", output.status, text(&output.stderr));
    }
    Ok(text(&output.stdout))
}
