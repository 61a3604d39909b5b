//! What an upgrade holds the links to, and how they are turned when it is finalized.
//!
//! The relay runs in this process: what is spoken is the upgrade's to say, and no request's.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use segue::{
    config::Config,
    net::Listeners,
    relay::{Relay, Replication, Shared},
    status::{LinkStatus, TranslationChange},
};
use segue_bench::{
    child::wait_for,
    data, port,
    reader::compare,
    server::{Options, Server},
    stores::Store,
};
use segue_redis::Redis;
use segue_wire::{Protocol, Release, Verdict};
use tempfile::TempDir;
use tokio::{runtime::Runtime, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::cluster::{REJECTED, SYNC_TIME_MAX, field, follow, link_is_up, syncs};

const WHO: &str = "upgrade transaction 7";

/// A master, a replica, and a relay between them.
struct Held {
    master: Server,
    replica: Server,
    state: TempDir,
    link_port: u16,
    relay: Option<Running>,
}

struct Running {
    shared: Arc<Shared>,
    stop: CancellationToken,
    relay: JoinHandle<()>,
    /// Dropped after what runs on it.
    runtime: Runtime,
}

impl Running {
    fn start(config: &str) -> Result<Self> {
        let redis: &dyn Protocol = &Redis;
        let config = Config::parse(Path::new("/segue.toml"), config, &[redis.into()])?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let sockets = Arc::new(Listeners::new(Vec::new())?);
        let relay = {
            let _on = runtime.enter();
            Relay::bind(config, Arc::new(Redis), sockets)?
        };
        let (shared, stop) = (relay.shared(), CancellationToken::new());
        let relay = runtime.spawn(relay.run(stop.clone()));
        Ok(Self { shared, stop, relay, runtime })
    }

    fn stop(self) -> Result<()> {
        self.stop.cancel();
        self.runtime.block_on(self.relay)?;
        Ok(())
    }
}

impl Held {
    fn start(master: &str, replica: &str) -> Result<Self> {
        let start = |store| Server::start(&Store::want(store)?, Options::new());
        let [link_port] = port::free_ports()?;
        let (master, replica) = (start(master)?, start(replica)?);
        let mut held = Self { master, replica, state: tempfile::tempdir()?, link_port, relay: None };
        held.start_relay()?;
        Ok(held)
    }

    fn start_relay(&mut self) -> Result<()> {
        let config = format!(
            r#"
[node]
id = "n1"
protocol = "redis"
store = "{}"
[[peer]]
id = "n2"
store = "{}"
[[link]]
listen = "{}"
to = "store"
[state]
dir = "{}"
"#,
            self.master.address(),
            self.replica.address(),
            SocketAddr::from((Ipv4Addr::LOCALHOST, self.link_port)),
            self.state.path().display(),
        );
        self.relay = Some(Running::start(&config)?);
        Ok(())
    }

    fn shared(&self) -> Result<&Arc<Shared>> {
        Ok(&self.relay.as_ref().context("no relay runs")?.shared)
    }

    fn speak(&self, release: Option<&str>) -> Result<()> {
        let release = release.map(str::parse::<Release>).transpose()?;
        self.shared()?.speak(release, WHO);
        Ok(())
    }

    fn set_loss(&self, loss: &str) -> Result<()> {
        let change = TranslationChange { loss: Some(loss.to_owned()), ..TranslationChange::default() };
        match self.shared()?.set_translation(change) {
            Ok(_) => Ok(()),
            Err(error) => bail!("{error:?}"),
        }
    }

    fn write(&self, command: &str) -> Result<()> {
        let mut words = command.split(' ');
        let mut written = redis::cmd(words.next().context("no command")?);
        words.for_each(|word| {
            written.arg(word);
        });
        Ok(written.exec(&mut self.master.client()?)?)
    }

    /// Waits until the replica's link has been decided like this, is up, and none of another kind is left.
    fn await_link(&self, verdict: Verdict, target: &str) -> Result<LinkStatus> {
        let is_as_wanted = |link: &LinkStatus| {
            link.verdict == verdict.label()
                && (verdict == Verdict::Same || link.target.as_deref() == Some(target))
        };
        wait_for(SYNC_TIME_MAX, || {
            let shared = self.shared()?;
            let links = shared.status().links;
            let of_replica = |link: &&LinkStatus| link.dialer.peer.as_deref() == Some("n2");
            let mut links = links.iter().filter(of_replica);
            let found = links.next().filter(|link| is_as_wanted(link)).cloned();
            let is_settled = links.all(is_as_wanted) && shared.glance().outdated == 0;
            Ok(found.filter(|_| is_settled).filter(|_| link_is_up(&self.replica).unwrap_or(false)))
        })?
        .with_context(|| {
            let links = self.shared().map(|shared| format!("{:#?}", shared.status()));
            format!(
                "the link does not become {} to {target}: {links:?}\n{}",
                verdict.label(),
                self.replica.log_text()
            )
        })
    }

    fn assert_equal(&self) -> Result<()> {
        wait_for(SYNC_TIME_MAX, || {
            let info = self.master.info("replication")?;
            let written = info.number("master_repl_offset")?;
            let acknowledged = info.get("slave0").and_then(|replica| field(replica, "offset")?.parse().ok());
            Ok((acknowledged == Some(written)).then_some(()))
        })?
        .with_context(|| format!("the replica does not get all\n{}", self.replica.log_text()))?;
        let comparison = compare(self.master.port(), self.replica.port())?;
        ensure!(comparison.is_equal(), "{:#?}", comparison.differences);
        let log = self.replica.log_text();
        ensure!(!log.contains(REJECTED), "{log}");
        Ok(())
    }

    /// What a restart would change.
    fn processes(&self) -> Result<[String; 2]> {
        let run_id = |server: &Server| {
            Ok::<_, anyhow::Error>(server.info("server")?.get("run_id").context("no run_id")?.to_owned())
        };
        Ok([run_id(&self.master)?, run_id(&self.replica)?])
    }
}

#[test]
fn two_upgraded_stores_speak_the_old_release_until_it_is_finalized() -> Result<()> {
    let held = Held::start("redis-8.0", "redis-8.0")?;
    let processes = held.processes()?;
    data::fill_core(&mut held.master.client()?, 1)?;
    held.speak(Some("redis-6.0"))?;
    follow(&held.replica, held.link_port)?;
    held.await_link(Verdict::Rewrite, "redis-6.0")?;
    held.write("SET k v EX 1000")?;
    held.assert_equal()?;
    let spoken = held.shared()?.translation().spoken.context("nothing is spoken")?;
    ensure!((&*spoken.release, &*spoken.who, spoken.in_force) == ("redis-6.0", WHO, true), "{spoken:?}");

    held.write("HSETEX h EX 1000 FIELDS 1 f v")?;
    let lately = Duration::from_secs(600);
    let refused = wait_for(SYNC_TIME_MAX, || {
        Ok(held.shared()?.refused_peers(lately).into_iter().find(|refused| refused.reason == "loss"))
    })?;
    let refused = refused.context("field TTLs pass")?;
    ensure!(refused.peer.as_deref() == Some("n2"), "{refused:?}");
    ensure!(refused.detail.contains("redis-6.0 cannot represent"), "{refused:?}");

    held.set_loss("degrade")?;
    held.await_link(Verdict::Rewrite, "redis-6.0")?;
    wait_for(SYNC_TIME_MAX, || Ok((held.shared()?.data_losses() == 1).then_some(())))?
        .context("the loss is not counted")?;
    held.write("DEL h")?;
    held.assert_equal()?;

    held.set_loss("refuse")?;
    held.speak(None)?;
    held.await_link(Verdict::Same, "redis-8.0")?;
    held.write("HSETEX h EX 1000 FIELDS 1 f v")?;
    held.assert_equal()?;
    // Under 6.0, which takes more words for an expiry, the replica counts by an id of its own.
    ensure!(syncs(&held.master)?.0 == 2, "{:?}", syncs(&held.master)?);
    let changes = held.shared()?.translation().changes;
    ensure!(changes.iter().filter(|change| change.who == WHO).count() == 2, "{changes:#?}");

    // Where it counts as its master does, it goes on both ways.
    held.write("DEL h")?;
    held.speak(Some("redis-6.2.14"))?;
    held.await_link(Verdict::Rewrite, "redis-6.2.14")?;
    held.write("HSETEX h FIELDS 1 f v")?;
    held.assert_equal()?;
    held.speak(None)?;
    held.await_link(Verdict::Same, "redis-8.0")?;
    held.write("HSETEX h EX 1000 FIELDS 1 f v")?;
    held.assert_equal()?;
    ensure!(syncs(&held.master)?.0 == 2, "a full sync to turn the link: {:?}", syncs(&held.master)?);
    ensure!(held.processes()? == processes, "a store restarted");
    Ok(())
}

#[test]
fn two_upgraded_valkeys_speak_redis_and_so_does_the_next_sidecar() -> Result<()> {
    let mut held = Held::start("valkey-8.1", "valkey-8.1")?;
    let processes = held.processes()?;
    data::fill_core(&mut held.master.client()?, 1)?;
    held.speak(Some("redis-7.0"))?;
    follow(&held.replica, held.link_port)?;
    held.await_link(Verdict::Rewrite, "redis-7.0")?;
    held.write("SET k v")?;
    held.write("SET k w IFEQ v")?;
    held.assert_equal()?;

    held.relay.take().context("no relay runs")?.stop()?;
    held.start_relay()?;
    held.await_link(Verdict::Rewrite, "redis-7.0")?;
    held.speak(None)?;
    held.await_link(Verdict::Same, "valkey-8.1")?;
    held.write("SET k x IFEQ w")?;
    held.assert_equal()?;
    ensure!(syncs(&held.master)?.0 == 1, "a full sync to turn the link: {:?}", syncs(&held.master)?);
    ensure!(held.processes()? == processes, "a store restarted");

    held.relay.take().context("no relay runs")?.stop()?;
    held.start_relay()?;
    ensure!(held.shared()?.translation().spoken.is_none(), "it is spoken again after the upgrade");
    Ok(())
}

#[test]
fn stores_that_parted_are_linked_as_without_an_upgrade_and_named() -> Result<()> {
    let held = Held::start("redis-8.0", "valkey-9.1")?;
    data::fill_core(&mut held.master.client()?, 1)?;
    held.speak(Some("redis-8.0"))?;
    follow(&held.replica, held.link_port)?;
    let link = held.await_link(Verdict::Rewrite, "valkey-9.1")?;
    ensure!(link.unspoken.as_deref() == Some("redis-8.0"), "{link:?}");
    let unspoken = |link: &Replication| link.unspoken.as_ref().map(ToString::to_string);
    let glance = held.shared()?.glance();
    ensure!(glance.links.iter().filter_map(unspoken).collect::<Vec<_>>() == ["redis-8.0"], "{glance:?}");
    held.assert_equal()?;

    // It makes no difference to this link: it stays.
    held.speak(None)?;
    held.write("SET k v EX 1000")?;
    held.assert_equal()?;
    let after = held.await_link(Verdict::Rewrite, "valkey-9.1")?;
    ensure!(after.id == link.id && after.unspoken.is_none(), "{after:?}");
    Ok(())
}
