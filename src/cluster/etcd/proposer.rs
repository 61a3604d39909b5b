//! Makes entries part of the state, one after the other.

use std::sync::Arc;

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

use super::{
    gateway::{Channel, Fault, code},
    messages::{Blob, Compare, Number, Operation, Put, Range, Transacted, Transaction},
    view::{Base, View},
};
use crate::cluster::{Machine, NotAgreed};

/// An etcd takes requests of 1.5 MiB (its `--max-request-bytes`); the rest is for what stands around the state.
pub const STATE_BYTES_MAX: usize = 1_500_000;
/// How often a proposal may find that the state was changed meanwhile. Each time, another's succeeded.
pub const PROPOSAL_TRIES_MAX: u32 = 100;

/// What is asked of the proposer.
pub(super) enum Request<M: Machine> {
    Propose(M::Entry, Deadline, oneshot::Sender<Result<M::Answer, NotAgreed>>),
    HandOver(Deadline, oneshot::Sender<Result<(), NotAgreed>>),
}

#[derive(Clone, Copy)]
pub(super) struct Deadline {
    pub at: Instant,
    /// How long that was from the beginning.
    pub after: std::time::Duration,
}

pub(super) struct Proposer<M> {
    pub view: Arc<View<M>>,
    pub channel: Channel,
}

impl Deadline {
    pub fn after(after: std::time::Duration) -> Self {
        Self { at: Instant::now() + after, after }
    }

    pub async fn limit<T>(self, work: impl Future<Output = Result<T, NotAgreed>>) -> Result<T, NotAgreed> {
        timeout_at(self.at, work).await.unwrap_or(Err(NotAgreed::TimedOut(self.after)))
    }
}

impl<M: Machine> Proposer<M> {
    /// To the end of the requests. An answer that nobody waits for is nobody's.
    pub async fn run(mut self, mut requests: mpsc::Receiver<Request<M>>) {
        while let Some(request) = requests.recv().await {
            match request {
                Request::Propose(entry, deadline, answer) => {
                    drop(answer.send(deadline.limit(self.propose(entry)).await));
                }
                Request::HandOver(deadline, answer) => {
                    drop(answer.send(deadline.limit(self.hand_over()).await));
                }
            }
        }
    }

    async fn propose(&mut self, entry: M::Entry) -> Result<M::Answer, NotAgreed> {
        let mut base = self.view.base();
        for _ in 0..PROPOSAL_TRIES_MAX {
            let mut state = M::clone(&base.state);
            let answer = state.apply(entry.clone());
            let written = written(&state)?;
            // Without a change, it is only asked whether the state is still that one.
            let is_changed = written != base.written;
            let key = self.view.keys().state();
            let put = Put { key: key.clone(), value: Blob(written.clone().into()), lease: Number(0) };
            let transaction = Transaction {
                compare: vec![Compare::mod_revision(&key, base.mod_revision)],
                success: if is_changed { vec![Operation::RequestPut(put)] } else { Vec::new() },
                failure: vec![Operation::RequestRange(Range::one(&key))],
            };
            let done = self.transact(&transaction).await?;
            let revision = done.header.revision.0;
            if done.succeeded {
                if is_changed {
                    let state = Arc::new(state);
                    self.view.made(Base { state, written: written.into(), mod_revision: revision });
                }
                return Ok(answer);
            }
            let learned = self.view.learned_state(revision, done.found());
            base = learned.map_err(|unreadable| NotAgreed::Failed(unreadable.to_string()))?;
        }
        let why = format!(
            "others changed the state {PROPOSAL_TRIES_MAX} times before this entry could (proposal_tries_max)"
        );
        Err(NotAgreed::Failed(why))
    }

    /// In one step: the key of the leader gets another's name and lease.
    async fn hand_over(&mut self) -> Result<(), NotAgreed> {
        let Some(leader) = self.view.leader().filter(|_| self.view.leads()) else { return Ok(()) };
        let key = self.view.keys().leader();
        for (name, lease) in self.view.others() {
            let put = Put { key: key.clone(), value: name.to_string().into(), lease: Number(lease) };
            let transaction = Transaction {
                compare: vec![Compare::mod_revision(&key, leader.mod_revision)],
                success: vec![Operation::RequestPut(put), Operation::RequestRange(Range::one(&key))],
                failure: vec![Operation::RequestRange(Range::one(&key))],
            };
            match self.channel.call::<Transacted>("/v3/kv/txn", &transaction).await {
                Ok(done) => {
                    self.view.learned_leader(done.header.revision.0, done.found());
                    return Ok(());
                }
                // It has gone meanwhile.
                Err(fault) if fault.is(code::NOT_FOUND) => {}
                Err(fault) => return Err(fault.into()),
            }
        }
        Err(NotAgreed::Failed("no other sidecar is there that could lead".to_owned()))
    }

    async fn transact(&mut self, transaction: &Transaction) -> Result<Transacted, NotAgreed> {
        self.channel.call("/v3/kv/txn", transaction).await.map_err(|fault| match fault {
            Fault::Refused { endpoint, message, .. } if message.contains("too large") => {
                NotAgreed::Failed(format!(
                    "{endpoint} refuses the state: {message}; give it --max-request-bytes of 1572864 or more"
                ))
            }
            fault => fault.into(),
        })
    }
}

fn written(state: &impl Machine) -> Result<Vec<u8>, NotAgreed> {
    let written = serde_json::to_vec(state)
        .map_err(|error| NotAgreed::Failed(format!("the state can't be written: {error}")))?;
    if written.len() > STATE_BYTES_MAX {
        return Err(NotAgreed::Failed(format!(
            "the state would grow to {} bytes; etcd takes requests of 1.5 MiB, so that {STATE_BYTES_MAX} are \
             the most (state_bytes_max)",
            written.len()
        )));
    }
    Ok(written)
}
