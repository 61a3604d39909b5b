//! What keeps a gate shut, by what was seen: nothing is looked up here.

use std::io;

use segue_wire::PeerName;

use crate::{
    cluster::Standing,
    status::RefusalStatus,
    stores::driver::Seen,
    upgrade::{action::Gate, fleet::Fleet, transaction::Transaction},
};

/// Of the keys that differ, so many are named.
const KEYS_NAMED_MAX: usize = 3;

/// What the sidecars know of each other, and what they were asked to allow.
pub fn among_all(
    transaction: &Transaction,
    standing: &Standing,
    losses_max: u64,
    refused: &[RefusalStatus],
) -> Option<String> {
    others(transaction)
        .or_else(|| voters(standing))
        .or_else(|| losses(&transaction.fleet, losses_max))
        .or_else(|| refusal(refused))
}

/// Those that are being upgraded together with this one have gates of their own.
fn others(transaction: &Transaction) -> Option<String> {
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

fn voters(standing: &Standing) -> Option<String> {
    let voters = standing.members.iter().filter(|member| member.votes).count();
    let reachable = standing.members.iter().filter(|member| member.votes && member.reachable).count();
    // The leader alone hears all; the others know that there is one.
    if !standing.leads {
        return standing.leader.is_none().then(|| "nobody leads the mesh".to_owned());
    }
    (reachable * 2 <= voters).then(|| format!("{reachable} of {voters} voters of the mesh answer"))
}

fn losses(fleet: &Fleet, losses_max: u64) -> Option<String> {
    let losses = fleet.losses_total();
    let of = |(node, losses): (&PeerName, &u64)| format!("{losses} on {node}");
    let nodes = fleet.losses.iter().map(of).collect::<Vec<_>>().join(", ");
    (losses > losses_max).then(|| {
        format!(
            "{losses} losses were let through (losses_max = {losses_max}): {nodes}; see segue losses there"
        )
    })
}

fn refusal(refused: &[RefusalStatus]) -> Option<String> {
    let refused = refused.first()?;
    let peer = refused.peer.as_deref().unwrap_or("a peer");
    Some(format!("a link of {peer} was refused ({}): {}", refused.reason, refused.detail))
}

/// The folder's disk, with so many bytes free.
pub fn disk(folder: &str, free: io::Result<u64>, min: u64) -> Option<String> {
    match free {
        Err(error) => Some(format!("{folder}: {error}")),
        Ok(free) => (free < min)
            .then(|| format!("{free} bytes are free at {folder} (disk_free_bytes_min = {min}): make room")),
    }
}

/// The own store, as it is now.
pub fn store(seen: &Seen, is_agreed_master: bool) -> Option<String> {
    let why = match seen {
        Seen { loading: true, .. } => "the store reads its data",
        Seen { master: true, .. } if is_agreed_master => return None,
        Seen { master: true, .. } => "the store is master, and another one is agreed to be",
        Seen { linked: false, .. } => "the store is not linked with its master",
        _ => return None,
    };
    Some(why.to_owned())
}

/// Keys that are not as the master has them.
pub fn data(differing: &[String], gate: Gate) -> Option<String> {
    let named = differing.iter().take(KEYS_NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    let when = if gate == Gate::Before { "before" } else { "after" };
    (!differing.is_empty()).then(|| {
        format!("{} keys differ from the master's {when} the upgrade of the node: {named}", differing.len())
    })
}

#[cfg(test)]
#[path = "shut_tests.rs"]
mod tests;
