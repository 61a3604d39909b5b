//! May the node be touched, and may the next one be?

use std::{path::Path, time::Duration};

use rustix::fs::statvfs;

use super::{
    Hands,
    perform::{Ground, Stopped},
};
use crate::{config::Upgrade, upgrade::action::Gate};

/// A refusal on the own links shuts a gate for so long.
const REFUSED_LATELY: Duration = Duration::from_secs(10);
/// Of the keys that differ, so many are named.
const KEYS_NAMED_MAX: usize = 3;

impl Hands {
    pub(super) async fn pass_gate(&self, ground: &Ground, gate: Gate) -> Result<(), Stopped> {
        let not_yet = |why: String| Err(Stopped::NotYet(why));
        if let Some(why) = self.others_out_of_order(ground) {
            return not_yet(why);
        }
        if let Some(why) = self.too_few_voters() {
            return not_yet(why);
        }
        let (losses, losses_max) = (ground.transaction.fleet.losses, ground.upgrade.losses_max);
        if losses > losses_max {
            return not_yet(format!(
                "{losses} losses were let through (losses_max = {losses_max}); see segue losses on each node"
            ));
        }
        if let Some(why) = self.refused_lately() {
            return not_yet(why);
        }
        if let Err(why) = self.disk_is_free(&ground.upgrade) {
            return not_yet(why);
        }
        let seen = ground.driver.see().await?;
        if seen.loading {
            return not_yet("the store reads its data".to_owned());
        }
        if seen.master {
            let is_agreed = ground.transaction.fleet.master() == Some(&self.node);
            return if is_agreed {
                Ok(())
            } else {
                not_yet("the store is master, and another one is agreed to be".to_owned())
            };
        }
        if !seen.linked {
            return not_yet("the store is not linked with its master".to_owned());
        }
        self.is_near(ground, &seen).await?;
        let master = ground.transaction.fleet.master().and_then(|master| self.store_of(master));
        if let Some(master) = master
            && ground.upgrade.sample_keys > 0
        {
            let differing = ground.driver.compare(&master, ground.upgrade.sample_keys).await?;
            if !differing.is_empty() {
                let named = differing.iter().take(KEYS_NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
                let when = if gate == Gate::Before { "before" } else { "after" };
                return not_yet(format!(
                    "{} keys differ from the master's {when} the upgrade of the node: {named}",
                    differing.len()
                ));
            }
        }
        Ok(())
    }

    /// Those that are being upgraded together with this one have gates of their own.
    fn others_out_of_order(&self, ground: &Ground) -> Option<String> {
        let transaction = &ground.transaction;
        if transaction.fleet.master().is_none() {
            return Some("there is no single master among the nodes".to_owned());
        }
        let under_way = |name| transaction.nodes.get(name).is_some_and(|node| node.course.is_some());
        let mut others = transaction.fleet.members.iter().filter(|(name, _)| !under_way(*name));
        others.find_map(|(name, member)| match member {
            member if !member.reachable => Some(format!("{name} does not answer")),
            member if !member.in_sync => Some(format!("{name} is not in sync")),
            _ => None,
        })
    }

    fn too_few_voters(&self) -> Option<String> {
        let standing = self.agreement.standing().borrow().clone();
        let voters = standing.members.iter().filter(|member| member.votes).count();
        let reachable = standing.members.iter().filter(|member| member.votes && member.reachable).count();
        // The leader alone hears all; the others know that there is one.
        let enough = if standing.leads { reachable * 2 > voters } else { standing.leader.is_some() };
        (!enough).then(|| format!("{reachable} of {voters} voters of the mesh answer"))
    }

    fn refused_lately(&self) -> Option<String> {
        let refused = self.shared.refused_peers(REFUSED_LATELY);
        let refused = refused.first()?;
        let peer = refused.peer.as_deref().unwrap_or("a peer");
        Some(format!("a link of {peer} was refused ({}): {}", refused.reason, refused.detail))
    }

    pub(super) fn disk_is_free(&self, upgrade: &Upgrade) -> Result<(), String> {
        let config = self.config();
        let min = upgrade.disk_free_bytes_min;
        for folder in std::iter::once(&config.state.dir).chain(&upgrade.data_dir) {
            let free = free_bytes(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            if free < min {
                let folder = folder.display();
                return Err(format!(
                    "{free} bytes are free at {folder} (disk_free_bytes_min = {min}): make room"
                ));
            }
        }
        Ok(())
    }
}

fn free_bytes(folder: &Path) -> Result<u64, rustix::io::Errno> {
    let stat = statvfs(folder)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
