//! Where this node stands: looked at when the raft moves, and every now and then.

use std::sync::Arc;

use tokio::time::{MissedTickBehavior, interval};

use super::{
    super::{MemberStanding, Standing},
    member::Member,
    membership,
    types::RaftMetrics,
};

pub const BACKEND: &str = "raft";

pub async fn keep(member: Arc<Member>) {
    let mut turn = interval(member.timing.heartbeat);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut raft = member.raft.metrics();
    loop {
        tokio::select! {
            _ = turn.tick() => {}
            Ok(()) = raft.changed() => {}
        }
        look(&member);
        if let Some(why) = member.failed.get() {
            tracing::error!(why, "this sidecar takes no part in the mesh any more; links go on");
            return;
        }
    }
}

pub fn look(member: &Member) {
    let raft = member.raft_metrics();
    member.note_failure(&raft);
    if let Some(mesh) = membership::mesh_of(&raft) {
        member.client.mesh().store(mesh, std::sync::atomic::Ordering::Relaxed);
    }
    let leads = member.leads(&raft);
    let node = member.roster.node;
    // Who leads without a majority does not lead.
    let leader = raft.current_leader.filter(|leader| *leader != node || leads);
    let known = raft.membership_config.membership();
    let is_begun = known.nodes().next().is_some();
    let mut ids = member.roster.members.clone();
    ids.extend(known.nodes().map(|(id, _)| *id));
    let members = ids.into_iter().map(|id| MemberStanding {
        name: id.name(),
        votes: if is_begun {
            known.voter_ids().any(|voter| voter == id)
        } else {
            member.roster.voters.contains(&id)
        },
        reachable: id == node || member.presence.is_reachable(id),
    });
    let standing = Standing {
        backend: BACKEND,
        leads,
        leader: leader.map(|leader| leader.name()),
        members: members.collect(),
        failed: member.failed.get().cloned(),
    };
    count(member, &standing, &raft);
    member.standing.send_if_modified(|before| {
        let is_new = **before != standing;
        if before.leader != standing.leader {
            member.metrics.leader_changes.inc();
            tracing::info!(
                leader = standing.leader.as_deref().unwrap_or("none"),
                "the mesh's leader changed"
            );
        }
        if is_new {
            *before = Arc::new(standing);
        }
        is_new
    });
}

fn count(member: &Member, standing: &Standing, raft: &RaftMetrics) {
    let (metrics, term) = (&member.metrics, raft.current_term);
    let purged = raft.purged.map_or(0, |purged| purged.index);
    let kept = raft.last_log_index.unwrap_or_default().saturating_sub(purged);
    metrics.log_entries.set(i64::try_from(kept).unwrap_or(i64::MAX));
    metrics.leader.set(standing.leads.into());
    metrics.member.set((!member.stop.is_cancelled() && standing.failed.is_none()).into());
    metrics.term.set(i64::try_from(term).unwrap_or(i64::MAX));
    let applied = member.position.borrow().map_or(0, |last| last.index);
    metrics.applied.set(i64::try_from(applied).unwrap_or(i64::MAX));
    for (label, is_reachable) in [("true", true), ("false", false)] {
        let count = standing.members.iter().filter(|member| member.reachable == is_reachable).count();
        metrics.members.with_label_values(&[label]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
