//! The example of commands that drive a store, `config/driver.sh`, on real stores.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use segue::{
    config::exec::Commands,
    stores::{driver::Driver, exec::ExecDriver},
};
use segue_bench::{child::wait_for, command, workspace};

use super::{Site, Wanted, peers};
use crate::cluster::{SYNC_TIME_MAX, await_acknowledged_by};

#[test]
fn the_example_commands_drive_a_store() -> Result<()> {
    let site = Site::start(["redis-8.0.6", "redis-8.0.6"], true)?;
    let cli = site.stores[0].store().cli.as_ref().context("no redis-cli")?;
    let script = workspace().join("config/driver.sh");
    let run = |does: &str, words: &[&str]| -> Vec<String> {
        let cli = format!("REDIS_CLI={}", cli.display());
        let command = ["env", &cli, &script.display().to_string(), does].map(str::to_owned);
        command.into_iter().chain(words.iter().map(|&word| word.to_owned())).collect()
    };
    let store = ["{store_host}", "{store_port}"];
    let master = ["{store_host}", "{store_port}", "{master_host}", "{master_port}"];
    let switch = ["{to_host}", "{to_port}", "{dial_host}", "{dial_port}", "{pause_ms}"];
    let commands = Commands::new(
        run("see", &store),
        run("follow", &master),
        run("switch", &[&store[..], &switch[..]].concat()),
        run("compare", &[&master[..], &["{keys}"][..]].concat()),
        SYNC_TIME_MAX,
    )?;
    let [first, second] =
        peers(site.seen_at)?.map(|peers| ExecDriver::new(Arc::new(peers), commands.clone()));

    let (exec, own) =
        site.runtime.block_on(async { anyhow::Ok((second.see().await?, site.drivers[1].see().await?)) })?;
    ensure!(
        exec.linked && (&exec.history, &exec.follows) == (&own.history, &own.follows),
        "{exec:?} {own:?}"
    );

    let refused = site.runtime.block_on(first.switch(&site.to(1), &Wanted(false)));
    ensure!(refused.is_err() && site.runtime.block_on(first.see())?.master, "{refused:?}");
    wait_for(SYNC_TIME_MAX, || Ok(site.runtime.block_on(first.switch(&site.to(1), &Wanted(true))).ok()))?
        .context("it is not switched")?;
    ensure!(site.runtime.block_on(second.see())?.master, "the role did not go over");
    site.await_follows(0)?;
    // Once more: it is done already.
    site.runtime.block_on(first.switch(&site.to(1), &Wanted(true)))?;

    command!("FLUSHALL").exec(&mut site.stores[1].client()?)?;
    command!("SET", "key", "value").exec(&mut site.stores[1].client()?)?;
    await_acknowledged_by(1, &site.stores[1])?;
    let differ = site.runtime.block_on(first.compare(&site.to(1).to, 3))?;
    ensure!(differ.is_empty(), "{differ:?}");
    site.runtime.block_on(first.follow(&site.to(1).dial))?;
    Ok(())
}
