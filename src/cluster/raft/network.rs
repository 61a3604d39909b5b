//! The raft's own requests, to one member each.

use std::{iter, sync::Arc, time::Duration};

use openraft::{
    error::{InstallSnapshotError, RPCError, RaftError, RemoteError, Unreachable},
    network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
        VoteRequest, VoteResponse,
    },
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    client::Client,
    types::{Id, Node, Types},
    wire::{APPEND, SNAPSHOT, VOTE},
};

/// Opens no connection by itself.
#[derive(Clone)]
pub struct Network {
    pub client: Arc<Client>,
    /// How long a member that could not be reached is left alone.
    pub backoff: Duration,
}

pub struct ToMember {
    network: Network,
    member: Id,
}

type Answer<T, E = openraft::error::Infallible> = Result<T, RPCError<Id, Node, RaftError<Id, E>>>;

impl RaftNetworkFactory<Types> for Network {
    type Network = ToMember;

    async fn new_client(&mut self, member: Id, _node: &Node) -> ToMember {
        ToMember { network: self.clone(), member }
    }
}

impl ToMember {
    async fn ask<A: Serialize, B: DeserializeOwned, E: std::error::Error + DeserializeOwned>(
        &self,
        path: &str,
        ask: &A,
        option: &RPCOption,
    ) -> Answer<B, E> {
        let answer = self.network.client.ask(self.member, path, ask, option.hard_ttl()).await;
        let answer: Result<B, RaftError<Id, E>> = answer.map_err(|error| Unreachable::new(&error))?;
        answer.map_err(|error| RemoteError::new(self.member, error).into())
    }
}

impl RaftNetwork<Types> for ToMember {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Answer<AppendEntriesResponse<Id>> {
        self.ask(APPEND, &rpc, &option).await
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<Types>,
        option: RPCOption,
    ) -> Answer<InstallSnapshotResponse<Id>, InstallSnapshotError> {
        self.ask(SNAPSHOT, &rpc, &option).await
    }

    async fn vote(&mut self, rpc: VoteRequest<Id>, option: RPCOption) -> Answer<VoteResponse<Id>> {
        self.ask(VOTE, &rpc, &option).await
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(iter::repeat(self.network.backoff))
    }
}
