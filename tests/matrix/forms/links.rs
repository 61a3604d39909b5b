//! One sidecar beside the master, and every replica on it.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    thread,
};

use anyhow::{Context, Result, anyhow, ensure};
use segue_bench::{
    child::wait_for,
    forms::Form,
    reader::{self, What},
    server::Server,
    sidecar::Sidecar,
};

use crate::cluster::{REJECTED, SYNC_TIME_MAX, follow, link_is_up, peer, sidecar_of};

/// Differing forms, and what differs first.
pub type Differing = BTreeMap<String, Found>;

#[derive(Clone, Debug)]
pub struct Found {
    pub what: String,
    /// Both keys expire, the replica's later by what may pass until it hears of it.
    pub is_later: bool,
}

/// How long a write may be on its way to a replica, on a slow machine.
const ON_ITS_WAY_MS_MAX: i64 = 20_000;
/// Differences that are no key's.
const FUNCTIONS: &str = "function_kept";

pub struct Links<'a> {
    pub replicas: &'a [Server],
    master: &'a Server,
    sidecar: Sidecar,
    /// It follows the master without Segue.
    direct: Option<&'a Server>,
    /// Full and partial syncs, once all links were up.
    syncs_at_start: (u64, u64),
    /// What each replica's log held before.
    logged_before_bytes: Vec<usize>,
    losses: RefCell<Losses>,
}

/// Data losses that the sidecar named.
#[derive(Default)]
struct Losses {
    seen_total: u64,
    /// Replica and form.
    forms: BTreeSet<(String, String)>,
}

impl<'a> Links<'a> {
    /// Links every replica to the empty master, and one more to it alone.
    pub fn start(master: &'a Server, replicas: &'a [Server], direct: Option<&'a Server>) -> Result<Self> {
        let (sidecar, link_port) = sidecar_of(master, replicas, "strip")?;
        let logged_before_bytes = replicas.iter().map(|replica| replica.log_text().len()).collect();
        let mut links = Self {
            replicas,
            master,
            sidecar,
            direct,
            syncs_at_start: (0, 0),
            logged_before_bytes,
            losses: RefCell::default(),
        };
        replicas.iter().try_for_each(|replica| follow(replica, link_port))?;
        direct.map(|direct| follow(direct, master.port())).transpose()?;
        links.await_links_up()?;
        links.syncs_at_start = links.syncs()?;
        Ok(links)
    }

    fn await_links_up(&self) -> Result<()> {
        for replica in self.replicas.iter().chain(self.direct) {
            let up = wait_for(SYNC_TIME_MAX, || {
                let acknowledged = self.acknowledged()?.contains_key(&replica.port());
                Ok((acknowledged && link_is_up(replica)?).then_some(()))
            })?;
            up.with_context(|| {
                let names = (self.master.store().name(), replica.store().name());
                format!("the link from {} to {} stays down: {}", names.0, names.1, self.sidecar.log_text())
            })?;
        }
        // FLUSHALL ends a child that still writes a snapshot, and the link of the replica that it writes to.
        let idle = || self.master.info("persistence")?.number("rdb_bgsave_in_progress");
        wait_for(SYNC_TIME_MAX, || Ok((idle()? == 0).then_some(())))?.context("a snapshot takes too long")
    }

    /// The offsets that the master knows of, by the port of the replica.
    fn acknowledged(&self) -> Result<BTreeMap<u16, u64>> {
        let info = self.master.info("replication")?;
        let replicas = info.fields().filter(|(name, _)| {
            name.strip_prefix("slave").is_some_and(|number| number.parse::<u32>().is_ok())
        });
        let offsets = replicas.filter_map(|(_, line)| {
            let field =
                |name: &str| line.split(',').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
            Some((field("port")?.parse().ok()?, field("offset")?.parse().ok()?))
        });
        Ok(offsets.collect())
    }

    /// Waits until the master knows that every replica has everything.
    pub fn await_equal_offsets(&self) -> Result<()> {
        let mut last = BTreeMap::new();
        let equal = wait_for(SYNC_TIME_MAX, || {
            let written = self.master.info("replication")?.number("master_repl_offset")?;
            last = self.acknowledged()?;
            let expected = self.replicas.iter().chain(self.direct).count();
            let all = last.len() == expected && last.values().all(|offset| *offset == written);
            Ok(all.then_some(()))
        })?;
        equal.with_context(|| format!("the acknowledged offsets do not reach the master's: {last:?}"))
    }

    /// Keeps what was named since the last time: the sidecar keeps the newest ones only.
    pub fn note_losses(&self) -> Result<()> {
        let report = self.sidecar.losses()?;
        let total = report["total"].as_u64().context("no total of losses")?;
        let mut losses = self.losses.borrow_mut();
        let recent = report["recent"].as_array().context("no recent losses")?;
        let new = usize::try_from(total.saturating_sub(losses.seen_total))?;
        ensure!(new <= recent.len(), "{new} losses at once: the report keeps {}", recent.len());
        losses.seen_total = total;
        for loss in recent.iter().take(new).filter(|loss| loss["grade"] == "data") {
            let peer = loss["peer"].as_str().unwrap_or_default().to_owned();
            let form = loss["key"].as_str().and_then(|key| Form::of_key(key.as_bytes()));
            let form = if loss["kind"] == "function-library" { Some(FUNCTIONS) } else { form };
            losses.forms.extend(form.map(|form| (peer, form.to_owned())));
        }
        Ok(())
    }

    pub fn is_declared(&self, at: usize, form: &str) -> bool {
        self.losses.borrow().forms.contains(&(peer(at), form.to_owned()))
    }

    /// One map a replica.
    pub fn differing_forms(&self) -> Result<Vec<Differing>> {
        let master = self.master;
        thread::scope(|scope| {
            let threads: Vec<_> =
                self.replicas.iter().map(|replica| scope.spawn(|| compare(master, replica))).collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            joined.map(|joined| joined.map_err(|_| anyhow!("a comparison panicked"))?).collect()
        })
    }

    /// What differs where no Segue is between; nothing if nobody follows so.
    pub fn differing_without(&self) -> Result<Differing> {
        self.direct.map_or_else(|| Ok(Differing::new()), |direct| compare(self.master, direct))
    }

    pub fn rejected(&self, at: usize) -> Vec<String> {
        self.logged_since(at).lines().filter(|line| line.contains(REJECTED)).map(str::to_owned).collect()
    }

    /// What the replica has logged since it was linked to this master.
    fn logged_since(&self, at: usize) -> String {
        let log = self.replicas.get(at).map(Server::log_text).unwrap_or_default();
        let before = self.logged_before_bytes.get(at).copied().unwrap_or(0);
        log.get(before..).unwrap_or_default().to_owned()
    }

    pub fn assert_never_made_anew(&self) -> Result<()> {
        let (now, at_start) = (self.syncs()?, self.syncs_at_start);
        let logs = || {
            let own = [("sidecar", self.sidecar.log_text()), ("master", self.master.log_text())];
            let own = own.map(|(name, log)| (name.to_owned(), log)).into_iter();
            let replicas = self.replicas.iter().enumerate();
            let replicas = replicas.map(|(at, replica)| (replica.store().name(), self.logged_since(at)));
            let logs = own.chain(replicas.filter(|(_, log)| log.contains("Connection with master lost")));
            logs.map(|(name, log)| format!("\n--- {name}:\n{log}")).collect::<String>()
        };
        let master = self.master.store().name();
        // Where counts part, a replica dials once more, for an id of its own.
        let parted_max = self.replicas.len() as u64;
        let once_more = now.0 == at_start.0 && now.1 <= at_start.1 + parted_max;
        ensure!(once_more, "{master}: full and partial syncs {at_start:?} became {now:?}{}", logs());
        Ok(())
    }

    /// The master's counts of full and partial syncs.
    fn syncs(&self) -> Result<(u64, u64)> {
        let info = self.master.info("stats")?;
        Ok((info.number("sync_full")?, info.number("sync_partial_ok")?))
    }
}

fn compare(master: &Server, replica: &Server) -> Result<Differing> {
    let comparison =
        reader::compare_with(master.port(), replica.port(), reader::Options { field_ttls: true })?;
    ensure!(comparison.differences.len() as u64 == comparison.differences_total, "{comparison}");
    let mut differing = Differing::new();
    for difference in &comparison.differences {
        let form = Form::of_key(&difference.key).unwrap_or("no form").to_owned();
        let is_later = match &difference.what {
            What::Expiry { later_ms: Some(later_ms), .. } => (1..=ON_ITS_WAY_MS_MAX).contains(later_ms),
            _ => false,
        };
        let found = differing.entry(form).or_insert(Found { what: difference.to_string(), is_later });
        found.is_later &= is_later;
    }
    let (here, there) = (functions(master)?, functions(replica)?);
    if here != there {
        let what = format!("functions {here:?} against {there:?}");
        differing.insert(FUNCTIONS.to_owned(), Found { what, is_later: false });
    }
    Ok(differing)
}

/// The names of the libraries; none in a release without functions.
fn functions(store: &Server) -> Result<BTreeSet<String>> {
    let list: Result<Vec<BTreeMap<String, redis::Value>>, _> =
        redis::cmd("FUNCTION").arg("LIST").query(&mut store.client()?);
    let Ok(list) = list else { return Ok(BTreeSet::new()) };
    let names = list.iter().filter_map(|library| library.get("library_name"));
    names.map(|name| Ok(redis::from_redis_value(name.clone())?)).collect()
}
