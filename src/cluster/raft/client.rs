//! Asks other members, over connections that are kept.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, StatusCode,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Metrics,
    types::Id,
    wire::{BODY_BYTES_MAX, DIAL_TIME_MAX, HANDSHAKE_TIME_MAX, MESH_HEADER, NODE_HEADER},
};
use crate::{
    config::StoreAddress,
    net,
    tls::{self, Current, Stream, TlsError},
};

/// Most connections to one member that are kept.
const IDLE_MAX: usize = 4;
/// An answer that refuses says why; so much of it is passed on.
const REASON_BYTES_MAX: usize = 256;

type Connection = SendRequest<Full<Bytes>>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("{0} is no member that the config knows")]
    Unknown(Id),
    /// The other one did not get it.
    #[error("{0} can't be reached: {1}")]
    Unreached(Id, String),
    /// It may have got it.
    #[error("{0} does not answer: {1}")]
    Unanswered(Id, String),
    #[error("{0} refuses: {1}")]
    Refused(Id, String),
}

impl CallError {
    /// It can be asked again without being asked twice.
    pub const fn is_unsent(&self) -> bool {
        matches!(self, Self::Unknown(_) | Self::Unreached(..) | Self::Refused(..))
    }
}

pub struct Client {
    node: Id,
    /// Which mesh this node is of; 0 of none.
    mesh: Arc<AtomicU64>,
    members: BTreeMap<Id, Member>,
    tls: Option<Arc<Current>>,
    verify_name: bool,
    metrics: Metrics,
    connections: TaskTracker,
    stop: CancellationToken,
}

struct Member {
    address: StoreAddress,
    idle: Mutex<Vec<Connection>>,
}

impl Client {
    pub fn new(
        node: Id,
        members: impl Iterator<Item = (Id, StoreAddress)>,
        tls: Option<Arc<Current>>,
        verify_name: bool,
        metrics: Metrics,
    ) -> Self {
        let members = members.map(|(id, address)| (id, Member { address, idle: Mutex::default() })).collect();
        let (connections, stop) = (TaskTracker::new(), CancellationToken::new());
        Self { node, mesh: Arc::default(), members, tls, verify_name, metrics, connections, stop }
    }

    pub fn mesh(&self) -> &AtomicU64 {
        &self.mesh
    }

    /// # Errors
    /// No answer within the limit, or none that can be read.
    pub async fn ask<A: Serialize, B: DeserializeOwned>(
        &self,
        to: Id,
        path: &str,
        ask: &A,
        limit: Duration,
    ) -> Result<B, CallError> {
        let body = serde_json::to_vec(ask).map_err(|error| CallError::Unreached(to, error.to_string()))?;
        let answer = self.send(to, path, body.into(), limit).await?;
        serde_json::from_slice(&answer).map_err(|error| CallError::Unanswered(to, error.to_string()))
    }

    /// # Errors
    /// As [`Self::ask`].
    pub async fn send(&self, to: Id, path: &str, body: Bytes, limit: Duration) -> Result<Bytes, CallError> {
        let late = || Err(CallError::Unanswered(to, format!("not within {limit:?}")));
        let answer = timeout(limit, self.send_in_time(to, path, body)).await.unwrap_or_else(|_| late());
        if answer.is_err() {
            self.metrics.call_failures.with_label_values(&[to.as_str()]).inc();
        }
        answer
    }

    /// Ends all connections.
    pub async fn stop(&self) {
        self.stop.cancel();
        for member in self.members.values() {
            member.idle().clear();
        }
        self.connections.close();
        self.connections.wait().await;
    }

    async fn send_in_time(&self, to: Id, path: &str, body: Bytes) -> Result<Bytes, CallError> {
        let member = self.members.get(&to).ok_or(CallError::Unknown(to))?;
        // A kept one may have ended meanwhile; then it says that nothing of the request went out.
        while let Some(kept) = member.take() {
            match self.send_on(kept, to, member, path, body.clone()).await {
                Err(error) if error.is_unsent() && !matches!(error, CallError::Refused(..)) => {}
                answer => return answer,
            }
        }
        let fresh = self.dial(to, member).await.map_err(|error| CallError::Unreached(to, error))?;
        self.send_on(fresh, to, member, path, body).await
    }

    async fn send_on(
        &self,
        mut connection: Connection,
        to: Id,
        member: &Member,
        path: &str,
        body: Bytes,
    ) -> Result<Bytes, CallError> {
        let unreached = |error: String| CallError::Unreached(to, error);
        let unanswered = |error: String| CallError::Unanswered(to, error);
        connection.ready().await.map_err(|error| unreached(error.to_string()))?;
        let request = Request::post(path)
            .header("host", "segue-mesh")
            .header(NODE_HEADER, self.node.as_str())
            .header(MESH_HEADER, self.mesh.load(Relaxed))
            .body(Full::new(body))
            .map_err(|error| unreached(error.to_string()))?;
        let answer = connection.try_send_request(request).await.map_err(|error| {
            // Given back: it was not sent.
            let is_unsent = error.message().is_some();
            let why = error.into_error().to_string();
            if is_unsent { unreached(why) } else { unanswered(why) }
        })?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), BODY_BYTES_MAX).collect().await;
        let body = body.map_err(|error| unanswered(error.to_string()))?.to_bytes();
        if status != StatusCode::OK {
            let reason = body.get(..body.len().min(REASON_BYTES_MAX)).unwrap_or_default();
            let reason = String::from_utf8_lossy(reason);
            return Err(CallError::Refused(to, format!("{status}: {reason}")));
        }
        member.keep(connection);
        Ok(body)
    }

    async fn dial(&self, to: Id, member: &Member) -> Result<Connection, String> {
        let tcp = net::dial(&member.address.to_string(), DIAL_TIME_MAX).await;
        let tcp = tcp.map_err(|error| error.to_string())?;
        let stream = match &self.tls {
            None => Stream::Plain(tcp),
            Some(current) => {
                let keys = current.keys().await.ok_or_else(|| TlsError::NoKeys.to_string())?;
                let host = member.address.host();
                let stream = tls::handshake::connect(&keys, host, tcp, HANDSHAKE_TIME_MAX).await;
                let stream = stream.map_err(|error| error.to_string())?;
                let named = |certificate| tls::names::is_named(&certificate, to.as_str());
                if self.verify_name && !stream.certificate().is_some_and(named) {
                    return Err(format!("the certificate at {} does not name it", member.address));
                }
                stream
            }
        };
        let (duplex, _) = stream.into_parts();
        let opened = http1::handshake(TokioIo::new(duplex)).await;
        let (connection, driver) = opened.map_err(|error| error.to_string())?;
        let stop = self.stop.clone();
        self.connections.spawn(async move {
            tokio::select! {
                // Who asked gets to know.
                _ = driver => {}
                () = stop.cancelled() => {}
            }
        });
        Ok(connection)
    }
}

impl Member {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Connection> {
        let mut idle = self.idle();
        idle.retain(|connection| !connection.is_closed());
        idle.pop()
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle();
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
    }
}
