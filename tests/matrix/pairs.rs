//! Every ordered pair of the stores that can be fetched, with an empty and with a full master.
//!
//! A master and one sidecar at a time; all stores follow through it at once, as replicas that stay.

use std::{
    collections::BTreeSet,
    fmt::Write,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use segue_bench::{
    child::wait_for,
    data::{self, LIBRARY, Newer},
    load::{self, Load},
    reader::{self, Difference, What},
    server::{Options, Server},
    sidecar::Sidecar,
    stores::Store,
};
use serde_json::Value;

use crate::cluster::{follow, link_is_up, peer, sidecar_of};

const STORES: [&str; 15] = [
    "redis-5.0.6",
    "redis-6.0.16",
    "redis-6.2.5",
    "redis-6.2.14",
    "redis-7.0.15",
    "redis-8.0.2",
    "redis-8.0.6",
    "redis-8.2.3",
    "redis-8.6.2",
    "redis-8.10.2",
    "redict-7.3.6",
    "valkey-8.0.1",
    "valkey-8.1.1",
    "valkey-9.0.0",
    "valkey-9.1.2",
];

/// All replicas of one master, on a machine under load.
const SYNC_TIME_MAX: Duration = Duration::from_secs(90);
const LOAD_TIME: Duration = Duration::from_secs(1);
const LOAD_COMMANDS_PER_S: u32 = 1500;
/// Replicas that are compared at a time.
const COMPARED_AT_ONCE: usize = 2;
/// What a replica logs when it rejects what its master sends.
const REJECTED: &str = "sending an error to its master";

#[test]
fn every_ordered_pair() -> Result<()> {
    let masters = std::env::var("SEGUE_PAIRS_FROM").unwrap_or_default();
    let mut replicas = STORES.iter().map(|store| start(store)).collect::<Result<Vec<_>>>()?;
    let mut table = format!("{:14}", "master");
    for store in STORES {
        write!(table, "{:>13}", short(store))?;
    }
    let mut wrong = Vec::new();
    for master in STORES.iter().filter(|master| master.contains(&masters)) {
        let row = Row::of(master, &mut replicas).unwrap_or_else(|error| Row::failed(&error));
        write!(table, "\n{:14}", short(master))?;
        for cell in &row.cells {
            write!(table, "{cell:>13}")?;
        }
        wrong.extend(row.wrong.into_iter().map(|what| format!("{master} to {what}")));
    }
    println!("verdict, and kinds of data and of bookkeeping that were lost:\n{table}");
    let how = "SEGUE_PAIRS_FROM=<store> cargo test --test matrix every_ordered_pair runs one master alone";
    ensure!(wrong.is_empty(), "{wrong:#?}\n{how}");
    Ok(())
}

fn short(store: &str) -> String {
    store.replace("redis-", "").replace("redict-", "rd").replace("valkey-", "v")
}

fn start(store: &str) -> Result<Server> {
    let quickly = ["--repl-diskless-sync-delay", "0", "--repl-timeout", "300", "--save", ""];
    Server::start(&Store::want(store)?, Options::new().arguments(&quickly))
}

/// One master, all replicas.
#[derive(Default)]
struct Row {
    cells: Vec<String>,
    wrong: Vec<String>,
}

struct Lab<'a> {
    master: Server,
    sidecar: Sidecar,
    link_port: u16,
    replicas: &'a [Server],
    /// Of every replica by its number, what its link lost: kind, grade, database, key.
    lost: BTreeSet<(usize, String, String, u64, Option<String>)>,
}

impl Row {
    fn failed(error: &anyhow::Error) -> Self {
        Self { cells: Vec::new(), wrong: vec![format!("all: {error:#}")] }
    }

    fn of(master: &str, replicas: &mut [Server]) -> Result<Self> {
        for replica in replicas.iter() {
            redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut replica.client()?)?;
        }
        let mut row = Self::default();
        {
            let mut lab = Lab::start(master, replicas)?;
            // Where only the header differs.
            lab.full_sync()?;
            for replica in replicas.iter() {
                redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut replica.client()?)?;
            }
            let mut client = lab.master.client()?;
            data::fill_core(&mut client, 1)?;
            let known = Newer::known_to(&mut client)?;
            known.iter().try_for_each(|newer| data::fill_newer(&mut client, *newer))?;
            lab.full_sync()?;
            lab.load()?;
            let compared = lab.compare()?;
            let status = lab.sidecar.status()?;
            for (number, differences) in compared.into_iter().enumerate() {
                row.judge(&lab, number, differences, &known, &status)?;
            }
        }
        for replica in replicas.iter_mut().filter_map(|replica| match replica.is_running() {
            Ok(true) => None,
            _ => Some(replica),
        }) {
            row.wrong.push(format!("{}: it exited\n{}", replica.store().name(), tail(&replica.log_text())));
            replica.restart()?;
        }
        Ok(row)
    }

    fn judge(
        &mut self,
        lab: &Lab<'_>,
        number: usize,
        differences: Result<Vec<Difference>>,
        known: &[Newer],
        status: &Value,
    ) -> Result<()> {
        let replica = &lab.replicas[number];
        let name = replica.store().name();
        let links = status["links"].as_array().into_iter().flatten();
        let link = links.into_iter().find(|link| link["dialer"]["peer"] == peer(number));
        let verdict = link.and_then(|link| link["verdict"].as_str()).unwrap_or("no link");
        let lost = lab.lost.iter().filter(|(of, ..)| *of == number);
        let kinds = |grade: &str| -> usize {
            lost.clone().filter(|loss| loss.2 == grade).map(|loss| &loss.1).collect::<BTreeSet<_>>().len()
        };
        self.cells.push(format!("{verdict} {}+{}", kinds("data"), kinds("bookkeeping")));
        let mut wrong = |what: String| self.wrong.push(format!("{name}: {what}"));
        match differences {
            Err(error) => wrong(format!("{error:#}\n{}", tail(&replica.log_text()))),
            Ok(differences) => {
                for difference in differences {
                    let key = String::from_utf8_lossy(&difference.key);
                    let declared = is_the_stores_own(&lab.master.store().name(), &name, &difference)
                        || lost.clone().any(|(_, _, _, db, lost)| {
                            *db == difference.db && lost.as_deref() == Some(&*key)
                        });
                    if !declared {
                        wrong(format!("undeclared difference: {difference:?}"));
                    }
                }
            }
        }
        let log = replica.log_text();
        if let Some(line) = log.lines().find(|line| line.contains(REJECTED)) {
            wrong(format!("it rejected something, if only from an earlier master: {line}"));
        }
        if known.contains(&Newer::Functions) && !lost.clone().any(|loss| loss.1 == "function-library") {
            let listed: redis::Value = redis::cmd("FUNCTION").arg("LIST").query(&mut replica.client()?)?;
            if !format!("{listed:?}").contains(LIBRARY) {
                wrong(format!("the library is missing: {listed:?}"));
            }
        }
        Ok(())
    }
}

/// What the load makes differ between two stores without Segue, too.
fn is_the_stores_own(master: &str, replica: &str, difference: &Difference) -> bool {
    let is_old = |releases: &[&str]| releases.iter().any(|release| master.starts_with(release));
    let of = |prefix: &[u8]| difference.key.starts_with(prefix);
    match &difference.what {
        // Sent as the time that is left.
        What::Expiry { .. } => of(b"l:") && is_old(&["redis-5.", "redis-6."]),
        // One that found nothing to read is not sent.
        What::Value(what) => {
            of(b"l:x:") && what.contains("only in the first store") && is_old(&["redis-5.", "redis-6.0"])
        }
        // From 6.2.6 on the destination of a geo search goes where its source is gone.
        What::OnlyInSecond => of(b"l:g:") && replica == "redis-6.2.5",
        _ => false,
    }
}

fn tail(log: &str) -> String {
    // Without verbose lines.
    let told = |line: &&str| !line.contains(" - ") && !line.contains("INFO");
    let lines: Vec<_> = log.lines().rev().filter(told).take(12).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n  ")
}

impl<'a> Lab<'a> {
    fn start(master: &str, replicas: &'a [Server]) -> Result<Self> {
        let master = start(master)?;
        let (sidecar, link_port) = sidecar_of(&master, replicas, "strip")?;
        Ok(Self { master, sidecar, link_port, replicas, lost: BTreeSet::new() })
    }

    /// All replicas follow: exactly one full sync each, and none is tried again.
    fn full_sync(&mut self) -> Result<()> {
        let before = self.full_syncs()?;
        for replica in self.replicas {
            follow(replica, self.link_port)?;
        }
        let mut down = Vec::new();
        let up = wait_for(SYNC_TIME_MAX, || {
            self.take_losses()?;
            down = Vec::new();
            for replica in self.replicas {
                // One that exited does not answer.
                if !link_is_up(replica).unwrap_or(false) {
                    down.push(replica.store().name());
                }
            }
            Ok(down.is_empty().then_some(()))
        })?;
        up.with_context(|| {
            let first = self.replicas.iter().find(|replica| down.contains(&replica.store().name()));
            let replica = first.map(|replica| tail(&replica.log_text())).unwrap_or_default();
            let (sidecar, master) = (tail(&self.sidecar.log_text()), tail(&self.master.log_text()));
            format!("no link: {down:?}\nsidecar: {sidecar}\nthe first of them: {replica}\nmaster: {master}")
        })?;
        self.await_equal_offsets()?;
        let syncs = self.full_syncs()? - before;
        ensure!(
            syncs == self.replicas.len() as u64,
            "{syncs} full syncs for {} replicas",
            self.replicas.len()
        );
        Ok(())
    }

    fn full_syncs(&self) -> Result<u64> {
        self.master.info("stats")?.number("sync_full")
    }

    fn await_equal_offsets(&mut self) -> Result<()> {
        let behind = wait_for(SYNC_TIME_MAX, || {
            self.take_losses()?;
            let info = self.master.info("replication")?;
            let written = format!("offset={},", info.number("master_repl_offset")?);
            let equal =
                info.fields().filter(|(name, value)| name.starts_with("slave") && value.contains(&written));
            Ok((equal.count() == self.replicas.len()).then_some(()))
        })?;
        behind
            .with_context(|| format!("not all acknowledge everything: {:?}", self.master.info("replication")))
    }

    /// The report keeps the newest ones only.
    fn take_losses(&mut self) -> Result<()> {
        let report = self.sidecar.losses()?;
        for loss in report["recent"].as_array().into_iter().flatten() {
            let text = |field: &str| loss[field].as_str().unwrap_or_default().to_owned();
            let number = text("peer").strip_prefix("replica-").and_then(|number| number.parse().ok());
            let number = number.ok_or_else(|| anyhow!("a loss of nobody's: {loss}"))?;
            let (db, key) = (loss["db"].as_u64().unwrap_or(0), loss["key"].as_str().map(str::to_owned));
            self.lost.insert((number, text("kind"), text("grade"), db, key));
        }
        Ok(())
    }

    fn load(&mut self) -> Result<()> {
        let options = load::Options { rate_per_s: Some(LOAD_COMMANDS_PER_S), ..load::Options::default() };
        let load = Load::start(self.master.port(), options)?;
        thread::sleep(LOAD_TIME);
        let counts = load.stop()?;
        ensure!(counts.acknowledged > 100, "hardly any load: {counts:?}");
        self.await_equal_offsets()
    }

    /// What differs at each replica.
    fn compare(&self) -> Result<Vec<Result<Vec<Difference>>>> {
        let next = AtomicUsize::new(0);
        let mut all: Vec<_> = thread::scope(|scope| {
            let workers: Vec<_> = (0..COMPARED_AT_ONCE)
                .map(|_| {
                    scope.spawn(|| {
                        let mut done = Vec::new();
                        while let Some((number, replica)) = {
                            let number = next.fetch_add(1, Relaxed);
                            self.replicas.get(number).map(|replica| (number, replica))
                        } {
                            done.push((number, self.compare_one(replica)));
                        }
                        done
                    })
                })
                .collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
        });
        ensure!(all.len() == self.replicas.len(), "a comparison panicked");
        all.sort_by_key(|(number, _)| *number);
        Ok(all.into_iter().map(|(_, differences)| differences).collect())
    }

    fn compare_one(&self, replica: &Server) -> Result<Vec<Difference>> {
        let options = reader::Options { field_ttls: true };
        let comparison = reader::compare_with(self.master.port(), replica.port(), options)?;
        ensure!(comparison.keys > 500, "only {} keys", comparison.keys);
        let (kept, all) = (comparison.differences.len() as u64, comparison.differences_total);
        ensure!(
            kept == all,
            "{all} differences: {:#?}",
            comparison.differences.iter().take(5).collect::<Vec<_>>()
        );
        Ok(comparison.differences)
    }
}
