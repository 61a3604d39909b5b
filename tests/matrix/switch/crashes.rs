//! A driver that ends at any of its requests, whatever becomes of that: the next call finishes what it began.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use segue::stores::driver::Driver;

use super::{
    Site, Wanted, await_written, drivers,
    proxy::{self, Fate, Gate},
    writers::Writers,
};

/// Later than the next call has begun.
const LATE: Duration = Duration::from_millis(60);
/// A switch makes fewer requests, unless it waits for long.
const REQUESTS_MAX: usize = 40;

fn crashes_at_every_request(stores: [&str; 2], fates: &[Fate]) -> Result<()> {
    let mut site = Site::start(stores, false)?;
    let gate = Arc::new(Gate::default());
    let [first, second] = site.ports();
    site.seen_at = site.runtime.block_on(async {
        anyhow::Ok([proxy::start(first, gate.clone()).await?, proxy::start(second, gate.clone()).await?])
    })?;
    site.drivers = drivers(site.seen_at)?;
    let mut writers = Writers::start(site.ports());
    let (mut master, mut cuts) = (0, 0);
    for fate in fates {
        for request in 1..REQUESTS_MAX {
            let to = 1 - master;
            await_written(&writers, master)?;
            gate.set(request, *fate);
            let switch = site.to(to);
            let was_cut = site.runtime.block_on(async {
                tokio::select! {
                    _ = site.drivers[master].switch(&switch, &Wanted(true)) => false,
                    () = gate.cut.notified() => true,
                }
            });
            gate.set(0, *fate);
            let context = || format!("{stores:?}: cut off at request {request}, {fate:?}");
            site.switch_to(to).with_context(context)?;
            await_written(&writers, to)?;
            writers.assert_never_two_masters(master, to).with_context(context)?;
            site.await_follows(master).with_context(context)?;
            master = to;
            if !was_cut {
                break;
            }
            cuts += 1;
        }
    }
    let written = writers.assert_nothing_lost(site.stores[master].port())?;
    println!("{stores:?}: {cuts} crashes, {written} writes were acknowledged, and all are there");
    Ok(())
}

#[test]
fn a_switch_of_8_0_that_is_cut_off_is_finished() -> Result<()> {
    crashes_at_every_request(["redis-8.0.6", "redis-8.0.6"], &[Fate::Lost, Fate::Delivered, Fate::Late(LATE)])
}

/// Each takes half a second.
#[test]
fn a_switch_of_6_0_that_is_cut_off_is_finished() -> Result<()> {
    crashes_at_every_request(["redis-6.0.16", "redis-6.0.16"], &[Fate::Delivered, Fate::Late(LATE)])
}
