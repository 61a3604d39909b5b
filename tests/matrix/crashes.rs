//! An older master dies without a word; its newer replica takes over, and the others follow it through Segue.

use anyhow::{Context, Result, ensure};
use segue_bench::{
    child::wait_for,
    command, data, port, reader,
    server::{Options, Server},
    sidecar::Sidecar,
    stores::Store,
};

use crate::cluster::{
    NO_PINGS, SYNC_TIME_MAX, WAIT_MS, await_acknowledged_by, beside, follow, link_is_up, syncs,
};

struct Site {
    /// The master at first, and another replica of its release.
    old: Server,
    sibling: Server,
    new: Server,
    sidecar: Sidecar,
    /// Where the others find the new one.
    to_new: u16,
}

impl Site {
    /// Both follow the old one, the new one through its sidecar.
    fn start(release: &str) -> Result<Self> {
        let start = |release| Server::start(&Store::want(release)?, Options::new().arguments(NO_PINGS));
        let (old, sibling, new) = (start(release)?, start(release)?, start("redis-8.0")?);
        let to_old = port::free()?;
        let peer =
            |id, server: &Server| format!("[[peer]]\nid = \"{id}\"\nstore = \"{}\"\n", server.address());
        let link = format!("[[link]]\nlisten = \"127.0.0.1:{to_old}\"\nto = \"old\"\n");
        let more = peer("old", &old) + &peer("sibling", &sibling) + &link;
        let (sidecar, to_new) = beside(&new, &more)?;
        data::fill_core(&mut old.client()?, 1)?;
        let site = Self { old, sibling, new, sidecar, to_new };
        follow(&site.sibling, site.old.port())?;
        follow(&site.new, to_old)?;
        site.await_up(&site.sibling)?;
        site.await_up(&site.new)?;
        Ok(site)
    }

    fn await_up(&self, replica: &Server) -> Result<()> {
        wait_for(SYNC_TIME_MAX, || Ok(link_is_up(replica)?.then_some(())))?.with_context(|| {
            let logs = [self.sidecar.log_text(), replica.log_text(), self.new.log_text()];
            format!("a link does not come up\n{}", logs.join("\n\n"))
        })
    }

    /// From the file on its disk, to follow the new one.
    fn return_old(&mut self) -> Result<()> {
        let to_new = self.to_new.to_string();
        let options = Options {
            port: Some(self.old.port()),
            snapshot: Some(self.old.folder().join("dump.rdb")),
            ..Options::new().arguments(&["--replicaof", "127.0.0.1", &to_new])
        };
        self.old = Server::start(self.old.store(), options)?;
        self.await_up(&self.old)
    }

    /// All three have the same, and acknowledge it.
    fn assert_equal(&self) -> Result<()> {
        let mut client = self.new.client()?;
        command!("INCR", "compared").exec(&mut client)?;
        let replicas: u64 = command!("WAIT", 2, WAIT_MS).query(&mut client)?;
        ensure!(replicas == 2, "{replicas} of 2 replicas have all\n{}", self.sidecar.log_text());
        for replica in [&self.sibling, &self.old] {
            let comparison = reader::compare(self.new.port(), replica.port())?;
            ensure!(comparison.is_equal() && comparison.keys > 500, "{comparison:#?}");
        }
        Ok(())
    }
}

/// Nothing that expires: a master before 7.0 sends each replica the time that is left.
fn write(master: &Server, who: &str, count: u32) -> Result<()> {
    let mut client = master.client()?;
    for n in 0..count {
        command!("SET", format!("key:{n}"), format!("{who}:{n}")).exec(&mut client)?;
        command!("RPUSH", "list", format!("{who}:{n}")).exec(&mut client)?;
    }
    Ok(())
}

/// Forms that are rewritten for all before 8.0, and for some longer.
fn write_newer(master: &Server) -> Result<()> {
    let mut client = master.client()?;
    for n in 0..100 {
        command!("SET", format!("timed:{n}"), n, "EX", 10_000).exec(&mut client)?;
        command!("HSETEX", "hash", "KEEPTTL", "FIELDS", 1, n, n).exec(&mut client)?;
    }
    Ok(())
}

/// What the old master sent, all had. They go on; it comes back from an earlier state of the same stream.
fn nobody_is_ahead(release: &str) -> Result<()> {
    let mut site = Site::start(release)?;
    write(&site.old, "early", 50)?;
    command!("SAVE").exec(&mut site.old.client()?)?;
    let mut client = site.old.client()?;
    for n in 0..500 {
        command!("RPUSH", "list", n).exec(&mut client)?;
    }
    await_acknowledged_by(2, &site.old)?;

    site.old.kill9()?;
    command!("REPLICAOF", "NO", "ONE").exec(&mut site.new.client()?)?;
    follow(&site.sibling, site.to_new)?;
    site.await_up(&site.sibling)?;
    write_newer(&site.new)?;
    site.return_old()?;
    write_newer(&site.new)?;
    site.assert_equal()?;
    // The sibling went on; the old one can from its file, if that says how far it came.
    let (full, partial) = syncs(&site.new)?;
    ensure!(full <= 1 && partial >= 1, "full and partial syncs: {full}, {partial}\n{}", site.new.log_text());
    Ok(())
}

/// The old master and its other replica went on where the new one was promoted: what they have since is of no
/// stream that the new one knows, though its own has come as far meanwhile.
fn both_are_ahead(release: &str) -> Result<()> {
    let mut site = Site::start(release)?;
    write(&site.old, "early", 50)?;
    command!("REPLICAOF", "NO", "ONE").exec(&mut site.new.client()?)?;
    write(&site.old, "lost", 20)?;
    let mut client = site.old.client()?;
    command!("SET", "of the dead", "lost").exec(&mut client)?;
    let replicas: u64 = command!("WAIT", 1, WAIT_MS).query(&mut client)?;
    ensure!(replicas >= 1, "the sibling does not have all");
    command!("SAVE").exec(&mut client)?;
    write(&site.new, "kept", 40)?;
    write_newer(&site.new)?;

    site.old.kill9()?;
    let (full, _) = syncs(&site.new)?;
    follow(&site.sibling, site.to_new)?;
    site.await_up(&site.sibling)?;
    site.return_old()?;
    write_newer(&site.new)?;
    site.assert_equal()?;
    ensure!(syncs(&site.new)?.0 == full + 2, "{:?} after {full}\n{}", syncs(&site.new)?, site.new.log_text());
    for replica in [&site.sibling, &site.old] {
        let lost: bool = command!("EXISTS", "of the dead").query(&mut replica.client()?)?;
        ensure!(!lost, "a write of the dead master is still there");
    }
    Ok(())
}

#[test]
fn nobody_is_ahead_of_the_heir_of_a_6_0() -> Result<()> {
    nobody_is_ahead("redis-6.0")
}

#[test]
fn nobody_is_ahead_of_the_heir_of_a_7_0() -> Result<()> {
    nobody_is_ahead("redis-7.0")
}

#[test]
fn both_are_ahead_of_the_heir_of_a_6_0() -> Result<()> {
    both_are_ahead("redis-6.0")
}

#[test]
fn both_are_ahead_of_the_heir_of_a_7_0() -> Result<()> {
    both_are_ahead("redis-7.0")
}
