//! From a proposal to its answer, wherever the leader is.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use openraft::error::{ClientWriteError, RaftError};
use tokio::time::{Instant, timeout_at};

use super::{
    super::{NotAgreed, outcome},
    member::Member,
    types::Id,
    wire::{ENTRY_BYTES_MAX, PROPOSE, Proposal, Proposed},
};

/// How soon it is tried again where nobody leads.
const RETRY: Duration = Duration::from_millis(100);
/// What an answer may take on its way back.
const WAY_BACK: Duration = Duration::from_millis(200);

impl Member {
    /// The answer, as JSON, once the own state has the entry.
    pub async fn propose(&self, entry: String) -> Result<String, NotAgreed> {
        let agreed = self.propose_in_time(entry).await;
        self.metrics.proposals.with_label_values(&[outcome(&agreed)]).inc();
        agreed
    }

    async fn propose_in_time(&self, entry: String) -> Result<String, NotAgreed> {
        let bytes = entry.len();
        if bytes > ENTRY_BYTES_MAX {
            return Err(NotAgreed::Failed(format!("{bytes} bytes are too many: at most {ENTRY_BYTES_MAX}")));
        }
        let limit = self.timing.propose;
        let deadline = Instant::now() + limit;
        let timed_out = || NotAgreed::TimedOut(limit);
        let place = timeout_at(deadline, self.proposals.acquire()).await.map_err(|_| timed_out())?;
        let _place = place.map_err(|_| NotAgreed::Stopped)?;
        loop {
            if self.stop.is_cancelled() {
                return Err(NotAgreed::Stopped);
            }
            let raft = self.raft_metrics();
            let why = match raft.current_leader {
                Some(leader) if leader != self.roster.node => {
                    self.propose_to(leader, &entry, deadline).await?
                }
                _ => self.propose_here(&entry, deadline).await,
            };
            match why {
                Proposed::Agreed { index, answer } => {
                    let mut position = self.position.clone();
                    let reached = position.wait_for(|last| last.is_some_and(|last| last.index >= index));
                    // Agreed it is, also where the own state comes later.
                    let _in_time = timeout_at(deadline, reached).await;
                    return Ok(answer);
                }
                Proposed::Failed(why) => return Err(NotAgreed::Failed(why)),
                Proposed::TimedOut => return Err(timed_out()),
                Proposed::NoMajority(why) if Instant::now() >= deadline => {
                    return Err(NotAgreed::NoMajority(why));
                }
                Proposed::NotLeader { .. } if Instant::now() >= deadline => {
                    return Err(NotAgreed::NoMajority(self.silent()));
                }
                Proposed::NoMajority(_) | Proposed::NotLeader { .. } => {}
            }
            tokio::select! {
                () = tokio::time::sleep_until(deadline.min(Instant::now() + RETRY)) => {}
                () = self.stop.cancelled() => return Err(NotAgreed::Stopped),
            }
        }
    }

    /// As the leader; an entry is not taken while no majority answers, so that none pile up.
    pub async fn propose_here(&self, entry: &str, deadline: Instant) -> Proposed {
        let raft = self.raft_metrics();
        if let Err(error) = &raft.running_state {
            return Proposed::Failed(format!("the mesh has ended on {}: {error}", self.roster.node));
        }
        if !raft.state.is_leader() || self.handing_over.load(Relaxed) {
            let leader = raft.current_leader.filter(|leader| *leader != self.roster.node);
            return Proposed::NotLeader { leader };
        }
        if !self.leads(&raft) {
            return Proposed::NoMajority(self.silent());
        }
        let written = timeout_at(deadline, self.raft.client_write(entry.to_owned())).await;
        match written {
            Ok(Ok(written)) => Proposed::Agreed { index: written.log_id.index, answer: written.data },
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward)))) => {
                Proposed::NotLeader { leader: forward.leader_id }
            }
            Ok(Err(error)) => Proposed::Failed(error.to_string()),
            Err(_) if self.leads(&self.raft_metrics()) => Proposed::TimedOut,
            Err(_) => Proposed::NoMajority(self.silent()),
        }
    }

    async fn propose_to(&self, leader: Id, entry: &str, deadline: Instant) -> Result<Proposed, NotAgreed> {
        let left = deadline.saturating_duration_since(Instant::now());
        let time_max_ms = u64::try_from(left.saturating_sub(WAY_BACK).as_millis()).unwrap_or(u64::MAX);
        let proposal = Proposal { entry: entry.to_owned(), time_max_ms };
        match self.client.ask(leader, PROPOSE, &proposal, left).await {
            Ok(proposed) => Ok(proposed),
            Err(error) if error.is_unsent() => Ok(Proposed::NotLeader { leader: None }),
            Err(_) if Instant::now() >= deadline => Err(NotAgreed::TimedOut(self.timing.propose)),
            Err(error) => Err(NotAgreed::Failed(format!("{error}; it may have been agreed"))),
        }
    }

    /// Who does not answer.
    pub fn silent(&self) -> String {
        let silent = self.roster.others().filter(|id| !self.presence.is_reachable(*id));
        let silent: Vec<String> = silent.map(|id| id.to_string()).collect();
        if silent.is_empty() {
            "nobody leads yet".to_owned()
        } else {
            format!("silent: {}", silent.join(", "))
        }
    }
}
