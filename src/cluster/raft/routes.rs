//! One request: who asks, what, and the answer.

use std::{net::SocketAddr, sync::atomic::Ordering::Relaxed, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body as _, Incoming},
    header::{CONNECTION, HeaderValue},
};
use openraft::raft::InstallSnapshotRequest;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Instant, timeout};
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::{
    hello,
    member::Member,
    membership::ANOTHER_MESH,
    types::{Id, Types},
    wire::{
        APPEND, BODY_BYTES_MAX, BODY_TIME_MAX, ELECT, HELLO, Hello, MESH_HEADER, NODE_HEADER, PROPOSE,
        Proposal, SNAPSHOT, SNAPSHOT_BYTES_MAX, VOTE, WORD, WORD_BYTES_MAX,
    },
};
use crate::tls;

/// Why not: the answer's status, the metric's label, and the reason.
struct Refusal(StatusCode, &'static str, String);

type Answer = Result<Bytes, Refusal>;

pub async fn answer(
    request: Request<Incoming>,
    from: SocketAddr,
    certificate: Option<&CertificateDer<'_>>,
    member: &Member,
) -> Response<Full<Bytes>> {
    match answered(request, certificate, member).await {
        Ok(body) => Response::new(Full::new(body)),
        Err(Refusal(status, reason, why)) => {
            member.refuse(reason, from, &why);
            let mut refused = Response::new(Full::new(why.into()));
            *refused.status_mut() = status;
            refused.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            refused
        }
    }
}

async fn answered(
    request: Request<Incoming>,
    certificate: Option<&CertificateDer<'_>>,
    member: &Member,
) -> Answer {
    let asking = asking(&request, certificate, member)?;
    if request.method() != Method::POST {
        return Err(bad("only POST is answered"));
    }
    let path = request.uri().path().to_owned();
    let is_raft = [APPEND, SNAPSHOT, VOTE].contains(&&*path);
    if is_raft {
        same_mesh(&request, asking, member)?;
    }
    let body = body(request).await?;
    match &*path {
        APPEND => written(&member.raft.append_entries(read(&body)?).await),
        VOTE => written(&member.raft.vote(read(&body)?).await),
        SNAPSHOT => {
            let chunk: InstallSnapshotRequest<Types> = read(&body)?;
            if chunk.offset.saturating_add(chunk.data.len() as u64) > SNAPSHOT_BYTES_MAX {
                return Err(too_large(format!("the snapshot has more than {SNAPSHOT_BYTES_MAX} bytes")));
            }
            written(&member.raft.install_snapshot(chunk).await)
        }
        HELLO => {
            let hello: Hello = read(&body)?;
            member.presence.answered(asking, hello);
            written(&hello::own(member))
        }
        PROPOSE => {
            let Proposal { entry, time_max_ms } = read(&body)?;
            let limit = Duration::from_millis(time_max_ms).min(member.timing.propose);
            written(&member.propose_here(&entry, Instant::now() + limit).await)
        }
        ELECT => written(&member.elect().await),
        path => {
            let age_ms = path.strip_prefix(WORD).and_then(|age_ms| age_ms.parse().ok());
            let age_ms = age_ms.ok_or_else(|| bad("no such request"))?;
            if body.len() > WORD_BYTES_MAX {
                return Err(too_large(format!("a word has at most {WORD_BYTES_MAX} bytes")));
            }
            member.presence.said(asking, body, Duration::from_millis(age_ms));
            Ok(Bytes::new())
        }
    }
}

/// Who asks: another member that the config knows, and that its certificate names where that is asked for.
fn asking(
    request: &Request<Incoming>,
    certificate: Option<&CertificateDer<'_>>,
    member: &Member,
) -> Result<Id, Refusal> {
    let forbidden = |reason, why| Refusal(StatusCode::FORBIDDEN, reason, why);
    let id = request.headers().get(NODE_HEADER).and_then(|id| id.to_str().ok());
    let id = id.and_then(|id| Id::new(id).ok()).ok_or_else(|| bad("no node's id is in the request"))?;
    if !member.roster.others().any(|other| other == id) {
        let why = format!("\"{id}\" is no other member in the config of {}", member.roster.node);
        return Err(forbidden("unknown-node", why));
    }
    if member.verify_name && !certificate.is_some_and(|shown| tls::names::is_named(shown, id.as_str())) {
        return Err(forbidden("wrong-name", format!("the certificate shown does not name \"{id}\"")));
    }
    Ok(id)
}

/// Members of two meshes that were begun apart must not mix their logs.
fn same_mesh(request: &Request<Incoming>, asking: Id, member: &Member) -> Result<(), Refusal> {
    let theirs = request.headers().get(MESH_HEADER).and_then(|mesh| mesh.to_str().ok()?.parse().ok());
    let (own, theirs) = (member.client.mesh().load(Relaxed), theirs.unwrap_or(0_u64));
    if own == 0 || theirs == 0 || own == theirs {
        return Ok(());
    }
    Err(Refusal(StatusCode::CONFLICT, "other-mesh", format!("{asking} {ANOTHER_MESH}")))
}

async fn body(request: Request<Incoming>) -> Result<Bytes, Refusal> {
    let too_many = || too_large(format!("a body has at most {BODY_BYTES_MAX} bytes"));
    if request.body().size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(too_many());
    }
    let read = Limited::new(request.into_body(), BODY_BYTES_MAX).collect();
    let read = timeout(BODY_TIME_MAX, read).await;
    let read = read.map_err(|_| bad(&format!("the body did not come within {BODY_TIME_MAX:?}")))?;
    let read =
        read.map_err(|error| if error.is::<LengthLimitError>() { too_many() } else { bad("no body") })?;
    Ok(read.to_bytes())
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| bad(&error.to_string()))
}

fn written(answer: &impl Serialize) -> Answer {
    let written = serde_json::to_vec(answer);
    written.map(Bytes::from).map_err(|error| bad(&error.to_string()))
}

fn bad(why: &str) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, "bad-request", why.to_owned())
}

fn too_large(why: String) -> Refusal {
    Refusal(StatusCode::PAYLOAD_TOO_LARGE, "too-large", why)
}
