//! Whole clusters upgraded, rolled back and finalized by their sidecars.

mod lab;

use anyhow::{Result, ensure};

use crate::switch::writers::Writers;
use lab::{Lab, NODES, Plan};

#[test]
fn up_and_back_and_up_again_and_nothing_is_lost() -> Result<()> {
    let lab = Lab::start(&Plan::new("redis-6.0", "redis-8.0"))?;
    let writers = Writers::start(lab.ports());
    let on = |version: &str| -> Result<()> {
        for number in 0..NODES.len() {
            let found = lab.version(number)?;
            ensure!(found.starts_with(version), "{} is on {found}", NODES[number]);
        }
        Ok(())
    };
    lab.begin(2, "redis-8.0")?;
    let second = lab.upgrade(0, &["start", "--to", "redis-8.0"])?.unwrap_err();
    ensure!(second.contains("transaction 1 runs already"), "{second}");
    lab.await_phase("upgraded")?;
    on("8.0.")?;
    lab.told(0, &["rollback"])?;
    lab.await_phase("rolled-back")?;
    on("6.0.")?;
    lab.await_registered("redis-6.0")?;
    lab.begin(1, "redis-8.0")?;
    lab.await_phase("upgraded")?;
    lab.told(1, &["finalize"])?;
    lab.await_phase("done")?;
    on("8.0.")?;
    let master = lab.await_in_sync()?;
    let written = writers.assert_nothing_lost(lab.ports()[master])?;
    println!("{written} acknowledged writes, none lost");
    Ok(())
}
