//! May the node be touched, and may the next one be?

use std::{io, path::Path, time::Duration};

use rustix::fs::statvfs;

use super::{
    Hands,
    perform::{Ground, Stopped},
    shut,
};
use crate::{config::Upgrade, upgrade::action::Gate};

/// A refusal on the own links shuts a gate for so long.
const REFUSED_LATELY: Duration = Duration::from_secs(10);

impl Hands {
    /// What costs least is looked at first.
    pub(super) async fn pass_gate(&self, ground: &Ground, gate: Gate) -> Result<(), Stopped> {
        let Ground { driver, upgrade, transaction } = ground;
        let standing = self.agreement.standing().borrow().clone();
        let refused = self.shared.refused_peers(REFUSED_LATELY);
        open(shut::among_all(transaction, &standing, upgrade.losses_max, &refused))?;
        open(self.full_disk(upgrade))?;
        let master = transaction.fleet.master();
        let is_master = master == Some(&self.node);
        let seen = driver.see().await?;
        open(shut::store(&seen, is_master))?;
        if is_master {
            return Ok(());
        }
        self.is_near(ground, &seen).await?;
        if let Some(master) = master.and_then(|master| self.store_of(master))
            && upgrade.sample_keys > 0
        {
            let differing = driver.compare(&master, upgrade.sample_keys).await?;
            open(shut::data(&differing, gate))?;
        }
        Ok(())
    }

    /// Of the folders that are written to: the first with too little room.
    pub(super) fn full_disk(&self, upgrade: &Upgrade) -> Option<String> {
        let config = self.config();
        let mut folders = std::iter::once(&config.state.dir).chain(&upgrade.data_dir);
        folders.find_map(|folder| {
            shut::disk(&folder.display().to_string(), free_bytes(folder), upgrade.disk_free_bytes_min)
        })
    }
}

fn open(shut: Option<String>) -> Result<(), Stopped> {
    shut.map_or(Ok(()), |why| Err(Stopped::NotYet(why)))
}

fn free_bytes(folder: &Path) -> io::Result<u64> {
    let stat = statvfs(folder)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
