//! A master gives its role to a secondary and gets it back, by the driver, while clients write.

mod commands;
mod crashes;
pub mod proxy;
pub mod writers;

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use async_trait::async_trait;
use segue::{
    config::Config,
    peers::Peers,
    stores::{
        driver::{Driver, DriverError, StillWanted, Switch},
        redis::RedisDriver,
    },
    tls,
};
use segue_bench::{
    child::wait_for,
    command, data, port,
    server::{Options, Server},
    sidecar::Sidecar,
    stores::Store,
};
use segue_redis::Redis;
use segue_wire::Protocol;
use tokio::runtime::{self, Runtime};

use crate::cluster::{SYNC_TIME_MAX, follow, link_is_up, syncs};
use writers::Writers;

const PAUSE_TIME_MAX: Duration = Duration::from_secs(5);
const KEYS_COMPARED: usize = 200;
/// A driver that says "not yet" is asked again.
const RETRY_PERIOD: Duration = Duration::from_millis(100);
const TRIES_MAX: u32 = 100;

struct Wanted(bool);

#[async_trait]
impl StillWanted for Wanted {
    async fn still_wanted(&self) -> bool {
        self.0
    }
}

/// Two stores, and a sidecar through which each follows the other.
struct Site {
    runtime: Runtime,
    drivers: [RedisDriver; 2],
    /// Where the drivers reach the stores, and where the stores reach each other.
    seen_at: [u16; 2],
    dials: [u16; 2],
    sidecar: Sidecar,
    stores: [Server; 2],
}

impl Site {
    /// The first is master. With `announced`, each announces the link that leads to it.
    fn start(stores: [&str; 2], announced: bool) -> Result<Self> {
        Self::start_with(stores, announced, &[])
    }

    fn start_with(stores: [&str; 2], announced: bool, options: &[&str]) -> Result<Self> {
        let dials = port::free_ports::<2>()?;
        let start = |at: usize| {
            let dial = dials[at].to_string();
            let announce = ["--replica-announce-port", dial.as_str()];
            let arguments: &[&str] = if announced { &announce } else { &[] };
            Server::start(&Store::want(stores[at])?, Options::new().arguments(arguments).arguments(options))
        };
        let stores = [start(0)?, start(1)?];
        let sidecar = sidecar(&stores, dials)?;
        data::fill_core(&mut stores[0].client()?, 1)?;
        follow(&stores[1], dials[0])?;
        let seen_at = [stores[0].port(), stores[1].port()];
        let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let site = Self { runtime, drivers: drivers(seen_at)?, seen_at, dials, sidecar, stores };
        site.await_follows(1)?;
        Ok(site)
    }

    fn ports(&self) -> [u16; 2] {
        [self.stores[0].port(), self.stores[1].port()]
    }

    fn to(&self, to: usize) -> Switch {
        let address = |port: u16| std::net::SocketAddr::from(([127, 0, 0, 1], port)).into();
        Switch {
            to: address(self.seen_at[to]),
            dial: address(self.dials[to]),
            pause_time_max: PAUSE_TIME_MAX,
        }
    }

    /// Calls it as often as it takes.
    fn switch_to(&self, to: usize) -> Result<()> {
        let mut last = None;
        for _ in 0..TRIES_MAX {
            match self.runtime.block_on(self.drivers[1 - to].switch(&self.to(to), &Wanted(true))) {
                Ok(()) => return Ok(()),
                Err(DriverError::NotYet(why)) => last = Some(why),
                Err(error) => bail!("{error}, after {last:?}\n{}", self.logs()),
            }
            std::thread::sleep(RETRY_PERIOD);
        }
        bail!("not in {TRIES_MAX} tries, at last: {last:?}\n{}", self.logs())
    }

    fn await_follows(&self, replica: usize) -> Result<()> {
        wait_for(SYNC_TIME_MAX, || Ok(link_is_up(&self.stores[replica])?.then_some(())))?
            .with_context(|| format!("the link does not come up\n{}", self.logs()))
    }

    fn logs(&self) -> String {
        let tail = |text: String| text.lines().rev().take(25).map(|line| format!("{line}\n")).collect();
        let logs: [String; 3] =
            [tail(self.sidecar.log_text()), tail(self.stores[0].log_text()), tail(self.stores[1].log_text())];
        format!("newest first: sidecar, first, second\n{}", logs.join("\n"))
    }
}

fn sidecar(stores: &[Server; 2], dials: [u16; 2]) -> Result<Sidecar> {
    let [admin, metrics] = port::free_ports()?;
    let config = format!(
        r#"
[node]
id = "first"
protocol = "redis"
store = "{first}"
[[peer]]
id = "second"
store = "{second}"
[[link]]
listen = "127.0.0.1:{to_first}"
to = "store"
peer = "second"
[[link]]
listen = "127.0.0.1:{to_second}"
to = "second"
[translation]
loss = "degrade"
[admin]
listen = "127.0.0.1:{admin}"
[metrics]
listen = "127.0.0.1:{metrics}"
"#,
        first = stores[0].address(),
        second = stores[1].address(),
        to_first = dials[0],
        to_second = dials[1],
    );
    Sidecar::start(Path::new(env!("CARGO_BIN_EXE_segue")), &config)
}

/// Of each store its own.
fn drivers(seen_at: [u16; 2]) -> Result<[RedisDriver; 2]> {
    Ok(peers(seen_at)?.map(|peers| RedisDriver::new(Arc::new(peers))))
}

/// As the sidecar of each store knows them.
fn peers(seen_at: [u16; 2]) -> Result<[Peers; 2]> {
    let peers = |own: usize| -> Result<Peers> {
        let text = format!(
            "[node]\nid = \"own\"\nprotocol = \"redis\"\nstore = \"127.0.0.1:{}\"\n\
             [[peer]]\nid = \"other\"\nstore = \"127.0.0.1:{}\"\n\
             [[link]]\nlisten = \"127.0.0.1:1\"\nto = \"store\"\n",
            seen_at[own],
            seen_at[1 - own]
        );
        let redis: &dyn Protocol = &Redis;
        let config = Config::parse(Path::new("segue.toml"), &text, &[redis.into()])?;
        let renewals = prometheus::IntCounterVec::new(prometheus::Opts::new("renewals", "x"), &["outcome"])?;
        let keys = Arc::new(tls::Current::new(None, renewals));
        Ok(Peers::new(&config, Arc::new(Redis), keys))
    };
    Ok([peers(0)?, peers(1)?])
}

/// There and back, twice, under load.
fn switches(stores: [&str; 2], announced: bool) -> Result<Site> {
    let site = Site::start(stores, announced)?;
    let mut writers = Writers::start(site.ports());
    for to in [1, 0, 1, 0] {
        let from = 1 - to;
        await_written(&writers, from)?;
        site.switch_to(to)?;
        await_written(&writers, to)?;
        let longest = writers.assert_never_two_masters(from, to)?;
        println!("{} -> {}: a client was held for {longest:?}", stores[from], stores[to]);
        site.await_follows(from)?;
    }
    // Under load: what changes meanwhile is no difference.
    let differ = compare(&site)?;
    ensure!(differ.is_empty(), "{differ:?}");
    let written = writers.assert_nothing_lost(site.stores[0].port())?;
    println!("{written} writes were acknowledged, and all are there");
    assert_a_difference_is_found(&site)?;
    Ok(site)
}

/// Of a replica that has a key of its own.
fn assert_a_difference_is_found(site: &Site) -> Result<()> {
    let mut replica = site.stores[1].client()?;
    command!("CONFIG", "SET", "slave-read-only", "no").exec(&mut replica)?;
    command!("SELECT", 15).exec(&mut replica)?;
    command!("FLUSHDB").exec(&mut replica)?;
    command!("SET", "only here", 1).exec(&mut replica)?;
    let differ = compare(site)?;
    ensure!(differ.iter().any(|key| key == "only here (database 15)"), "{differ:?}");
    Ok(())
}

fn compare(site: &Site) -> Result<Vec<String>> {
    Ok(site.runtime.block_on(site.drivers[1].compare(&site.to(0).to, KEYS_COMPARED))?)
}

fn await_written(writers: &Writers, store: usize) -> Result<()> {
    wait_for(SYNC_TIME_MAX, || Ok(writers.have_written(store).then_some(())))?.context("not all can write")
}

#[test]
fn redis_6_0_and_8_0_take_turns() -> Result<()> {
    switches(["redis-6.0.16", "redis-8.0.6"], false).map(drop)
}

#[test]
fn redis_5_0_and_7_0_take_turns() -> Result<()> {
    switches(["redis-5.0.6", "redis-7.0.15"], true).map(drop)
}

#[test]
fn redis_7_0_and_valkey_8_1_take_turns() -> Result<()> {
    switches(["redis-7.0.15", "valkey-8.1.1"], false).map(drop)
}

#[test]
fn redis_8_0_and_valkey_9_1_take_turns() -> Result<()> {
    switches(["redis-8.0.6", "valkey-9.1.2"], false).map(drop)
}

/// Only its master knows how far it is.
#[test]
fn redis_8_0_gives_its_role_to_a_6_0_with_offsets_of_its_own() -> Result<()> {
    let site = Site::start(["redis-8.0.6", "redis-6.0.16"], false)?;
    let mut writers = Writers::start(site.ports());
    let mut client = site.stores[0].client()?;
    let history = |store: usize| -> Result<String> {
        Ok(site.stores[store].info("replication")?.get("master_replid").context("no id")?.to_owned())
    };
    wait_for(SYNC_TIME_MAX, || {
        // Said to 6.0 by a script.
        command!("SET", "source", "s").exec(&mut client)?;
        command!("COPY", "source", "copied", "REPLACE").exec(&mut client)?;
        Ok((history(0)? != history(1)?).then_some(()))
    })?
    .context("it has the history of its master")?;
    site.await_follows(1)?;
    await_written(&writers, 0)?;
    site.switch_to(1)?;
    await_written(&writers, 1)?;
    println!("a client was held for {:?}", writers.assert_never_two_masters(0, 1)?);
    site.await_follows(0)?;
    writers.assert_nothing_lost(site.stores[1].port()).map(drop)
}

#[test]
fn equal_stores_that_know_each_other_use_failover() -> Result<()> {
    let site = switches(["redis-8.0.6", "redis-8.0.6"], true)?;
    let log = site.stores[0].log_text();
    ensure!(log.contains("FAILOVER requested to"), "{log}");
    for store in &site.stores {
        ensure!(syncs(store)?.0 <= 1, "a handover cost a full sync: {:?}", syncs(store)?);
    }
    Ok(())
}

#[test]
fn a_node_of_a_redis_cluster_is_told_to_take_another_driver() -> Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let suits = |options: &[&str]| -> Result<Result<(), DriverError>> {
        let store = Server::start(&Store::want("redis-8.0")?, Options::new().arguments(options))?;
        let [driver, _] = drivers([store.port(), store.port()])?;
        Ok(runtime.block_on(driver.suits()))
    };
    ensure!(suits(&[])? == Ok(()));
    let refused = suits(&["--cluster-enabled", "yes"])?.unwrap_err();
    let expected = "is a node of a Redis Cluster, where REPLICAOF moves no role: use driver = \"exec\"";
    ensure!(refused.to_string().contains(expected), "{refused}");
    Ok(())
}
