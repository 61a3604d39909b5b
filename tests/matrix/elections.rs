//! `CLUSTER FAILOVER`, by which an operator makes a replica the master of its slots.

use std::time::{Duration, Instant};

use crate::{
    cluster::syncs,
    nodes::{self, Node},
};
use anyhow::{Result, ensure};

/// A replica gives up after 5 s, and votes twice only after some time.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Again and again: on a machine under load one may take too long.
fn fail_over(to: &Node, words: &[&str]) -> Result<()> {
    let mut asked: Option<Instant> = None;
    let words = [&["FAILOVER"], words].concat();
    to.await_so("it takes over", || {
        if to.role()? == "master" {
            return Ok(true);
        }
        let is_due = asked.is_none_or(|asked| asked.elapsed() > AGAIN_AFTER);
        // One that has not heard of its master for a while refuses.
        if is_due && to.cluster::<()>(&words).is_ok() {
            asked = Some(Instant::now());
        }
        Ok(false)
    })
}

/// As long as the replica's count is its master's, as without Segue.
#[test]
fn a_7_0_takes_over_from_an_8_0_and_hands_back() -> Result<()> {
    let nodes = nodes::start(["redis-8.0", "redis-7.0"], None)?;
    nodes::join_as_shard(&nodes)?;
    let [new, old] = &nodes;
    new.write("first", 50)?;
    for (from, to, who) in [(new, old, "second"), (old, new, "third")] {
        // Else it does not hear of it.
        let id: String = from.cluster(&["MYID"])?;
        from.await_so("the master knows its replica", || {
            Ok(from.cluster::<String>(&["NODES"])?.contains(&format!("slave {id}")))
        })?;
        fail_over(to, &[])?;
        from.await_so("the other follows", || {
            Ok(from.role()? == "slave" && crate::cluster::link_is_up(&from.server)?)
        })?;
        to.write(who, 50)?;
    }
    ensure!(new.values()? == old.values()? && new.values()?.len() == 150, "the data differ");
    ensure!(syncs(&old.server)?.0 == 0, "a full sync was needed: {:?}", syncs(&old.server)?);
    Ok(())
}

/// Where it is not, equal counts would mean nothing: the replica is not handed the slots.
#[test]
fn a_6_0_with_an_offset_of_its_own_is_refused() -> Result<()> {
    let nodes = nodes::start(["redis-8.0", "redis-6.0"], None)?;
    nodes::join_as_shard(&nodes)?;
    let [new, old] = &nodes;
    new.write("first", 50)?;
    old.cluster::<()>(&["FAILOVER"])?;
    old.await_so("it gives up", || Ok(old.server.log_text().contains("Manual failover timed out")))?;
    ensure!(old.role()? == "slave" && new.role()? == "master", "it was handed over");
    let refused = new.sidecar.metric("segue_refusals_total{reason=\"shifted-offsets\"}")?;
    ensure!(refused >= Some(1.0), "{refused:?}\n{}", new.sidecar.log_text());
    ensure!(!new.server.log_text().contains("Manual failover requested"), "the master paused its clients");
    new.write("second", 50)?;
    ensure!(new.values()? == old.values()?, "the data differ");

    // What the operator does: it has all, and is told not to ask for its master's count.
    fail_over(old, &["FORCE"])?;
    new.await_so("the other follows", || {
        Ok(new.role()? == "slave" && crate::cluster::link_is_up(&new.server)?)
    })?;
    old.write("third", 50)?;
    ensure!(new.values()? == old.values()? && new.values()?.len() == 150, "the data differ");
    ensure!(syncs(&old.server)? == (1, 0), "no full sync: {:?}", syncs(&old.server)?);
    Ok(())
}
