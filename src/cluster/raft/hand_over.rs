//! The leader gives its role to another: it falls silent, and has the other one stand for election.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};

use super::{
    super::NotAgreed,
    member::Member,
    types::{Id, RaftMetrics},
    wire::{ELECT, Elected},
};

/// While it is there, this node says nothing as the leader.
struct Silence<'a>(&'a Member);

impl<'a> Silence<'a> {
    /// `None` where it is silent already.
    fn begin(member: &'a Member) -> Option<Self> {
        if member.handing_over.swap(true, Relaxed) {
            return None;
        }
        member.raft.runtime_config().heartbeat(false);
        Some(Self(member))
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        self.0.raft.runtime_config().heartbeat(true);
        self.0.handing_over.store(false, Relaxed);
    }
}

impl Member {
    pub async fn hand_over(&self) -> Result<(), NotAgreed> {
        let raft = self.raft_metrics();
        match raft.current_leader {
            Some(leader) if leader != self.roster.node => return Ok(()),
            Some(_) if raft.state.is_leader() => {}
            _ => return Err(NotAgreed::NoMajority(self.silent())),
        }
        let Some(successor) = self.successor(&raft) else {
            return Err(NotAgreed::NoMajority(format!("no other voter could lead; {}", self.silent())));
        };
        let limit = self.elect_time_max().saturating_mul(2);
        let deadline = Instant::now() + limit;
        let Some(_silence) = Silence::begin(self) else {
            return Err(NotAgreed::Failed("the role is being handed over already".to_owned()));
        };
        // Until then, the others vote for nobody else.
        sleep(self.timing.lease + self.timing.heartbeat).await;
        let left = deadline.saturating_duration_since(Instant::now());
        let asked = self.client.ask::<_, Elected>(successor, ELECT, &(), left).await;
        let mut metrics = self.raft.metrics();
        let other =
            metrics.wait_for(|raft| raft.current_leader.is_some_and(|leader| leader != self.roster.node));
        match (timeout_at(deadline, other).await, asked) {
            (Ok(Ok(_)), _) => Ok(()),
            (Ok(Err(_)), _) => Err(NotAgreed::Stopped),
            (Err(_), Ok(_)) => Err(NotAgreed::TimedOut(limit)),
            (Err(_), Err(error)) => Err(NotAgreed::Failed(error.to_string())),
        }
    }

    /// Stands for election until this node leads, or it took too long.
    pub async fn elect(&self) -> Elected {
        let deadline = Instant::now() + self.elect_time_max();
        let mut metrics = self.raft.metrics();
        while Instant::now() < deadline {
            if self.raft.trigger().elect().await.is_err() {
                return Elected(false);
            }
            let next = deadline.min(Instant::now() + self.timing.election);
            let leads = metrics.wait_for(|raft| raft.current_leader == Some(self.roster.node));
            if timeout_at(next, leads).await.is_ok_and(|waited| waited.is_ok()) {
                return Elected(true);
            }
        }
        Elected(false)
    }

    fn elect_time_max(&self) -> Duration {
        self.timing.lease.saturating_mul(3)
    }

    /// The voter that has most of the log, among those that answer.
    fn successor(&self, raft: &RaftMetrics) -> Option<Id> {
        let replication = raft.replication.as_ref()?;
        let voters = raft.membership_config.voter_ids();
        let others = voters.filter(|id| *id != self.roster.node && self.presence.is_reachable(*id));
        others.max_by_key(|id| replication.get(id).copied().flatten())
    }
}
