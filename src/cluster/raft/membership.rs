//! Who is a member: how a mesh begins, and how it follows the config.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use openraft::ChangeMembers;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{
    hello,
    member::Member,
    types::{Id, Node, RaftMetrics},
    wire::Hello,
};
use crate::seldom::Seldom;

/// A member that is to vote may be so many entries behind.
const BEHIND_ENTRIES_MAX: u64 = 100;

/// Of a node that can't be a member of this mesh.
pub const ANOTHER_MESH: &str =
    "is a member of another mesh: stop one, remove the folder mesh in its state.dir, start it again";

/// Which mesh this node is a member of.
pub fn mesh_of(raft: &RaftMetrics) -> Option<u64> {
    raft.membership_config.nodes().map(|(_, node)| node.mesh).find(|mesh| *mesh != 0)
}

pub async fn keep(member: Arc<Member>) {
    let mut turn = interval(member.timing.hello);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let seldom = Seldom::default();
    loop {
        turn.tick().await;
        let raft = member.raft_metrics();
        let done = match mesh_of(&raft) {
            None => begin(&member).await,
            Some(mesh) if member.leads(&raft) => follow_config(&member, &raft, mesh).await,
            Some(_) => Ok(()),
        };
        if let Err(waits) = done
            && let Some(unsaid) = seldom.is_due(&waits, Instant::now())
        {
            tracing::warn!(unsaid, "{waits}");
        }
    }
}

/// The voter with the lowest id begins the mesh, once all voters have said that they are of none: one whose
/// disk was lost must not begin a second one.
async fn begin(member: &Member) -> Result<(), String> {
    let roster = &member.roster;
    let mut silent = Vec::new();
    for other in roster.others() {
        match member.presence.hello(other) {
            Some(hello) if hello.mesh.is_some() => {
                return Err(format!("waiting for the leader of the mesh that {other} is a member of"));
            }
            Some(hello) => same_config(member, other, &hello)?,
            None if roster.voters.contains(&other) => silent.push(other.to_string()),
            None => {}
        }
    }
    if roster.voters.first() != Some(&roster.node) {
        return Ok(());
    }
    if !silent.is_empty() {
        let silent = silent.join(", ");
        return Err(format!("the mesh begins when all its voters have answered once; silent: {silent}"));
    }
    let mesh = getrandom::u64().map_err(|error| format!("no random number for the mesh: {error}"))?.max(1);
    let voters: BTreeMap<Id, Node> = roster.voters.iter().map(|id| (*id, Node { mesh })).collect();
    member.raft.initialize(voters).await.map_err(|error| format!("the mesh does not begin: {error}"))?;
    tracing::info!(members = roster.members.len(), "the mesh begins");
    Ok(())
}

/// One step of what the config has and the mesh has not, or the other way round. Only while all that answer
/// have the same config: else each new leader would undo what the one before it did.
async fn follow_config(member: &Member, raft: &RaftMetrics, mesh: u64) -> Result<(), String> {
    let roster = &member.roster;
    let known: BTreeSet<Id> = raft.membership_config.nodes().map(|(id, _)| *id).collect();
    let voters: BTreeSet<Id> = raft.membership_config.voter_ids().collect();
    let is_joint = raft.membership_config.membership().get_joint_config().len() > 1;
    if known == roster.members && voters == roster.voters && !is_joint {
        return Ok(());
    }
    for other in roster.others() {
        let Some(hello) = member.presence.hello(other) else { continue };
        if hello.mesh.is_some_and(|theirs| theirs != mesh) {
            return Err(format!("{other} {ANOTHER_MESH}"));
        }
        same_config(member, other, &hello)?;
    }
    let missing: BTreeSet<Id> = roster.members.difference(&known).copied().collect();
    let change = if !missing.is_empty() {
        ChangeMembers::AddNodes(missing.iter().map(|id| (*id, Node { mesh })).collect())
    } else if voters != roster.voters || is_joint {
        for id in roster.voters.difference(&voters) {
            let is_near = is_near(raft, *id);
            if !is_near || !member.presence.is_reachable(*id) {
                return Err(format!("{id} is to vote, and is not up to date yet"));
            }
        }
        ChangeMembers::ReplaceAllVoters(roster.voters.clone())
    } else {
        ChangeMembers::RemoveNodes(known.difference(&roster.members).copied().collect())
    };
    tracing::info!(?change, "the mesh follows the config");
    match timeout(member.timing.propose, member.raft.change_membership(change, true)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("the mesh's members can't be changed: {error}")),
        Err(_) => Err(format!("the mesh's members could not be changed within {:?}", member.timing.propose)),
    }
}

fn same_config(member: &Member, other: Id, hello: &Hello) -> Result<(), String> {
    let own = hello::own(member);
    if (&own.members, &own.voters) == (&hello.members, &hello.voters) {
        return Ok(());
    }
    Err(format!("the config of {other} has other members of the mesh: make them the same everywhere"))
}

fn is_near(raft: &RaftMetrics, id: Id) -> bool {
    let matched = raft.replication.as_ref().and_then(|replication| replication.get(&id).copied().flatten());
    let last = raft.last_log_index.unwrap_or_default();
    matched.is_some_and(|matched| last.saturating_sub(matched.index) <= BEHIND_ENTRIES_MAX)
}
