//! A master that gave its role away dies before anybody knows of it, and comes back as what its config says it is:
//! a master.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::{
    await_cut, await_so, is_master,
    lab::{Lab, Plan},
};
use crate::switch::writers::{Second, Writers};

impl Lab {
    /// As a service manager does it that knows nothing of roles.
    fn starts_again(&self, store: usize) -> Result<Instant> {
        let from = Instant::now();
        self.stores[store].run("start", "", None)?;
        Ok(from)
    }

    fn await_second(&self, store: usize, from: Instant) -> Result<Second> {
        let mut loaded = None;
        await_so("the old master follows", || {
            if self.info(store, "persistence")?.get("loading") == Some("0") {
                loaded.get_or_insert_with(Instant::now);
            }
            Ok(!is_master(self, store)?)
        })?;
        let to = Instant::now();
        println!(
            "n{} was a master for {:?} since it had read its data",
            store + 1,
            to - loaded.unwrap_or(from)
        );
        Ok(Second { store, from, to })
    }

    /// How many writes the sidecar of this node says that its store took as the second master that it was once.
    fn told_writes(&self, node: usize) -> Result<f64> {
        let counted = |name: &str| {
            let name = format!("segue_upgrade_second_master{name}_total");
            self.sidecars[node].metric(&name)?.with_context(|| format!("no {name}"))
        };
        let times = counted("s")?;
        ensure!(times == 1.0, "it says that there were {times} second masters");
        ensure!(self.sidecars[node].log_text().contains("the own store was a second master"));
        counted("_writes")
    }
}

#[test]
fn a_master_that_comes_back_follows_the_one_that_has_its_role() -> Result<()> {
    let plan = Plan {
        gated: true,
        options: "--appendonly yes --appendfsync always",
        ..Plan::new("redis-6.0", "redis-8.0")
    };
    let mut lab = Lab::start(&plan)?;
    let writers = Writers::start(lab.ports());
    lab.begin(1, "redis-8.0")?;

    // The whole node dies; its store is back before its sidecar.
    let [old, new] = await_cut(&lab)?;
    lab.sidecars[old].kill9()?;
    lab.stores[old].kill()?;
    let from = lab.starts_again(old)?;
    await_so("the old master takes writes", || is_master(&lab, old))?;
    lab.sidecars[old].restart()?;
    let first = lab.await_second(old, from)?;
    ensure!(is_master(&lab, new)?, "the new master is none any more");
    lab.await_phase("upgraded")?;
    ensure!(lab.await_in_sync()? == new, "another node became master");
    let mut told = lab.told_writes(old)?;

    // Its store alone dies.
    lab.told(1, &["rollback"])?;
    let [old, new] = await_cut(&lab)?;
    lab.stores[old].kill()?;
    let from = lab.starts_again(old)?;
    let second = lab.await_second(old, from)?;
    ensure!(is_master(&lab, new)?, "the new master is none any more");
    lab.await_phase("rolled-back")?;
    ensure!(lab.await_in_sync()? == new, "another node became master");
    told += lab.told_writes(old)?;

    let (written, lost) = writers.assert_lost_by(&[first, second], lab.ports()[new])?;
    println!("{written} acknowledged writes; second masters took {lost}, which are lost, and told of {told}");
    ensure!(lost as f64 <= told, "{lost} writes are lost, of which {told} were told");
    Ok(())
}
