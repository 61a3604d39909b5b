//! Whose connections are caught: the store's, known by its user or its cgroup, and never the sidecar's own.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use segue_bench::{netns::Host, sidecar::Sidecar};

use crate::lab;

/// How many packets a rule has seen.
fn counted(host: &Host, rule: &str) -> Result<u64> {
    let rules = host.output(Command::new("nft").args(["list", "ruleset"]))?;
    let comment = format!("comment \"{rule}\"");
    let line = rules.lines().find(|line| line.contains(&comment)).with_context(|| rules.clone())?;
    let packets = line.split("packets ").nth(1).and_then(|rest| rest.split(' ').next());
    Ok(packets.with_context(|| line.to_owned())?.parse()?)
}

/// The store's user is the sidecar's own: only the mark tells their connections apart.
#[test]
fn what_the_sidecar_asks_is_not_caught() -> Result<()> {
    for (mode, ipv6) in [("redirect", false), ("tproxy", true)] {
        let Some(network) = lab::network(2)? else { return Ok(()) };
        let [n1, n2] = &network.hosts[..] else { unreachable!("two hosts were asked for") };
        let (master, replica) = (lab::store(n1, "redis-8.0")?, lab::store(n2, "redis-6.0")?);
        lab::fill(n1, &master)?;
        let peer = if ipv6 { format!("[{}]:6379", n2.ipv6()) } else { format!("{}:6379", n2.ipv4()) };
        let config = lab::config(mode, "open", &peer, "");
        let config = config.replace(&format!("\"{}\"", lab::STORE_USER), "\"0\"");
        let sidecar = lab::sidecar(n1, &config)?;
        lab::follow(n2, &replica, &if ipv6 { n1.ipv6() } else { n1.ipv4() })?;
        lab::await_link_up(n2, &replica, || lab::tail(&sidecar.log_text()))?;

        // No one announced its release: the sidecar has asked, its own store as well.
        let link = lab::replication_link(n1, &sidecar)?;
        ensure!(link["dialer"]["release"]["learned"] == "probe", "{mode}: {link:#}");
        ensure!(link["listener"]["release"]["learned"] == "probe", "{mode}: {link:#}");
        for family in ["ipv4", "ipv6"] {
            let caught = counted(n1, &format!("outbound {family}"))?;
            ensure!(caught == 0, "{mode}: {caught} connections of the sidecar's own were caught");
        }
        ensure!(counted(n1, "outbound ours")? > 0, "{mode}: nothing was asked");
        ensure!(lab::links(n1, &sidecar)?.len() == 1, "{mode}: a probe became a link");
    }
    Ok(())
}

/// A cgroup v2, removed when it is dropped; its processes must be gone by then.
struct Cgroup {
    name: String,
    folder: PathBuf,
}

impl Cgroup {
    /// Or why this machine has none for us.
    fn make(name: &str) -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/self/mounts").map_err(|error| error.to_string())?;
        let mounted = mounts.lines().find_map(|line| {
            let mut words = line.split(' ').skip(1);
            let (at, kind) = (words.next()?, words.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(at))
        });
        let folder = mounted.ok_or("no cgroup v2 is mounted")?.join(name);
        fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self { name: name.to_owned(), folder })
    }

    fn take_in(&self, pid: u32) -> Result<()> {
        let file = self.folder.join("cgroup.procs");
        fs::write(&file, pid.to_string()).with_context(|| file.display().to_string())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

/// nft looks for cgroups below `/sys/fs/cgroup`, where a machine that still has version 1 keeps others: the
/// rules are installed from where version 2 is mounted there.
fn install_with_cgroups(host: &Host, sidecar: &Sidecar) -> Result<String> {
    let script = "mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_segue"), "intercept", "install"]);
    host.output(command.arg("--config").arg(sidecar.folder().join("segue.toml")))
}

#[test]
fn a_store_is_known_by_its_cgroup() -> Result<()> {
    let Some(network) = lab::network(3)? else { return Ok(()) };
    let [n1, n2, n3] = &network.hosts[..] else { unreachable!("three hosts were asked for") };
    let cgroup = match Cgroup::make(&format!("segue-test-{}", std::process::id())) {
        Ok(cgroup) => cgroup,
        Err(why) => {
            ensure!(env::var_os("CI").is_none_or(|ci| ci != "true"), "store_cgroup can't be tested: {why}");
            println!("store_cgroup is not tested here: {why}");
            return Ok(());
        }
    };
    let (master, stranger) = (lab::store(n2, "redis-8.0")?, lab::store(n3, "redis-8.0")?);
    lab::fill(n2, &master)?;
    // Of the sidecar's own user, and of this test's: nothing but the cgroup tells them apart.
    let store = lab::store_as(n1, "redis-8.0", None)?;
    cgroup.take_in(store.pid())?;
    let config = lab::config("redirect", "open", &format!("{}:6379", n2.ipv4()), "").replace(
        &format!("store_user = \"{}\"", lab::STORE_USER),
        &format!("store_cgroup = \"{}\"", cgroup.name),
    );
    let sidecar = n1.enter(|| Sidecar::start(Path::new(env!("CARGO_BIN_EXE_segue")), &config))?;
    install_with_cgroups(n1, &sidecar)?;

    lab::follow(n1, &store, &n2.ipv4())?;
    lab::await_link_up(n1, &store, || lab::tail(&sidecar.log_text()))?;
    let link = lab::replication_link(n1, &sidecar)?;
    ensure!(link["listen"] == "127.0.0.1:15002" && link["listener"]["peer"] == "n2", "{link:#}");
    lab::assert_equal((n2, &master), (n1, &store))?;

    let caught = counted(n1, "outbound ipv4")?;
    let answer: String = n1.enter(|| {
        let client = redis::Client::open(format!("redis://{}:6379/", n3.ipv4()))?;
        Ok(redis::cmd("PING").query(&mut client.get_connection()?)?)
    })?;
    ensure!(answer == "PONG" && counted(n1, "outbound ipv4")? == caught, "a stranger was caught");
    drop((store, stranger));
    Ok(())
}
