//! Whether every replica has acknowledged what the master sent, by the master's own words.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use redis::cmd;
use segue_bench::child::wait_for;
use segue_bench::client::Info;
use segue_bench::server::Server;

use crate::cluster::Cluster;

const LEVEL_TIME_MAX: Duration = Duration::from_secs(20);
const WAIT_MS: u32 = 10_000;

/// A last write is acknowledged by all (WAIT), and all acknowledged offsets equal the master's.
pub fn wait_until_level(cluster: &Cluster) -> Result<()> {
    let expected = cluster.replicas.len();
    let mut client = cluster.master.client()?;
    cmd("SET").arg("demo:last").arg("write").exec(&mut client)?;
    let acknowledged: usize = cmd("WAIT").arg(expected).arg(WAIT_MS).query(&mut client)?;
    if acknowledged < expected {
        bail!("WAIT: {acknowledged} of {expected} replicas acknowledged the last write");
    }
    let mut seen = Vec::new();
    let level = wait_for(LEVEL_TIME_MAX, || {
        let info = Info::ask(&mut client, "replication")?;
        let of_master = info.number("master_repl_offset")?;
        seen = acknowledged_offsets(&info);
        let level = seen.len() == expected && seen.iter().all(|offset| *offset == of_master);
        Ok(level.then_some(()))
    })?;
    level.with_context(|| {
        format!("offsets {seen:?} are not the master's after {} s", LEVEL_TIME_MAX.as_secs())
    })
}

/// How far, in bytes, the slowest replica's acknowledgement is behind; none while one is missing.
pub fn behind_bytes(master: &Server, replicas: usize) -> Result<Option<u64>> {
    let info = master.info("replication")?;
    let of_master = info.number("master_repl_offset")?;
    let offsets = acknowledged_offsets(&info);
    let slowest = offsets.iter().min().filter(|_| offsets.len() == replicas);
    Ok(slowest.map(|slowest| of_master.saturating_sub(*slowest)))
}

/// From lines such as `slave0:ip=127.0.0.1,port=6402,state=online,offset=1234,lag=0`.
fn acknowledged_offsets(info: &Info) -> Vec<u64> {
    info.fields()
        .filter(|(name, value)| name.starts_with("slave") && value.contains("state=online"))
        .filter_map(|(_, value)| value.split(',').find_map(|part| part.strip_prefix("offset="))?.parse().ok())
        .collect()
}
