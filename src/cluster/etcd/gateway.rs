//! The way to an etcd: its JSON gateway, over connections that are kept open.

use std::{
    fmt::Display,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_rustls::rustls::ClientConfig;

use super::messages::{Authenticate, Authenticated, Line, Refusal};
use crate::{
    cluster::{NotAgreed, raft::Metrics},
    config::{Credentials, Endpoint, Etcd},
    net,
    tls::{ClientFiles, KeysError, Stream, handshake},
};

const DIAL_TIME_MAX: Duration = Duration::from_secs(1);
/// Longer than an etcd takes to elect another leader.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(3);
/// Of one answer, or of one line of an answer that goes on.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// One that was not used for so long may have been forgotten on the way: another is opened.
const IDLE_TIME_MAX: Duration = Duration::from_secs(10);

/// What a member that knows no leader is to refuse instead of waiting for one.
const HAS_LEADER: (&str, &str) = ("grpc-metadata-hasleader", "true");

/// Codes of gRPC.
pub(super) mod code {
    pub const DEADLINE_EXCEEDED: i64 = 4;
    pub const NOT_FOUND: i64 = 5;
    pub const UNAVAILABLE: i64 = 14;
    pub const UNAUTHENTICATED: i64 = 16;
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// Nothing was done.
    #[error("{0}")]
    Unreached(String),
    /// It may have been done, or be done yet.
    #[error("{0}")]
    Broken(String),
    /// As [`Self::Broken`].
    #[error("{0}: no answer within {1:?}")]
    Silent(Endpoint, Duration),
    #[error("{endpoint} refuses it: {message}")]
    Refused { endpoint: Endpoint, code: i64, message: String },
}

/// What all connections to an etcd share.
pub(super) struct Gateway {
    settings: Etcd,
    /// As the files last were good: they are read anew for each connection.
    tls: Mutex<Option<Arc<ClientConfig>>>,
    /// How often an endpoint was left for the next.
    moves: watch::Sender<usize>,
    token: Mutex<Option<String>>,
    metrics: Metrics,
}

/// One connection at a time, opened when it is needed.
pub(super) struct Channel {
    gateway: Arc<Gateway>,
    open: Option<Open>,
}

struct Open {
    at: At,
    used: Instant,
    sender: SendRequest<Full<Bytes>>,
}

/// An endpoint, and after how many moves it is the one in use.
#[derive(Clone)]
struct At {
    moves: usize,
    endpoint: Endpoint,
}

/// An answer that goes on.
pub(super) struct Lines {
    endpoint: Endpoint,
    body: Incoming,
    held: BytesMut,
    /// Of the held bytes, how many have no line end among them.
    searched: usize,
    /// The connection ends with it.
    _sender: SendRequest<Full<Bytes>>,
}

impl Gateway {
    /// # Errors
    /// Certificates that can't be used.
    pub fn new(settings: Etcd, metrics: Metrics) -> Result<Arc<Self>, KeysError> {
        let tls = settings.tls.as_ref().map(ClientFiles::read).transpose()?;
        let moves = watch::Sender::new(0);
        Ok(Arc::new(Self { settings, tls: Mutex::new(tls), moves, token: Mutex::default(), metrics }))
    }

    pub const fn settings(&self) -> &Etcd {
        &self.settings
    }

    pub fn channel(self: &Arc<Self>) -> Channel {
        Channel { gateway: self.clone(), open: None }
    }

    /// Changes when an endpoint is left.
    pub fn moves(&self) -> watch::Receiver<usize> {
        self.moves.subscribe()
    }

    fn at(&self) -> Result<At, Fault> {
        let moves = *self.moves.borrow();
        let endpoints = &self.settings.endpoints;
        let index = moves.checked_rem(endpoints.len()).unwrap_or_default();
        let endpoint = endpoints.get(index).cloned();
        endpoint.map(|endpoint| At { moves, endpoint }).ok_or_else(|| Fault::Unreached("no endpoint".into()))
    }

    /// All go to the next endpoint, unless they went already.
    fn leave(&self, at: &At) {
        self.metrics.call_failures.with_label_values(&[&at.endpoint.to_string()]).inc();
        self.moves.send_if_modified(|moves| {
            let is_current = *moves == at.moves;
            *moves = moves.wrapping_add(usize::from(is_current));
            is_current
        });
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<SendRequest<Full<Bytes>>, Fault> {
        let unreached = |why: &dyn Display| Fault::Unreached(format!("{endpoint}: {why}"));
        let tcp = net::dial(&endpoint.address.to_string(), DIAL_TIME_MAX).await.map_err(|e| unreached(&e))?;
        let stream = match &self.settings.tls {
            Some(files) if endpoint.tls => {
                let client = self.client_config(files).map_err(|error| unreached(&error))?;
                handshake::connect_as(&client, endpoint.address.host(), tcp, ANSWER_TIME_MAX)
                    .await
                    .map_err(|error| unreached(&error))?
            }
            None if endpoint.tls => return Err(unreached(&"no CA to know it by (mesh.etcd_ca_file)")),
            _ => Stream::Plain(tcp),
        };
        let (stream, _) = stream.into_parts();
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreached(&error))?;
        let endpoint = endpoint.clone();
        // Ends when the sender is dropped.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%endpoint, "a connection to etcd ended early: {error}");
            }
        });
        Ok(sender)
    }

    fn client_config(&self, files: &ClientFiles) -> Result<Arc<ClientConfig>, KeysError> {
        let mut good = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        match (files.read(), &mut *good) {
            (Ok(read), good) => Ok(good.insert(read).clone()),
            (Err(error), Some(good)) => {
                tracing::warn!(%error, "the certificates for etcd can't be used; those read before are");
                Ok(good.clone())
            }
            (Err(error), None) => Err(error),
        }
    }

    fn token(&self) -> Option<String> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_token(&self, token: Option<String>) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }
}

impl Channel {
    pub async fn call<A: DeserializeOwned>(
        &mut self,
        path: &str,
        request: &impl Serialize,
    ) -> Result<A, Fault> {
        let (open, response) = self.send(path, request).await?;
        let endpoint = &open.at.endpoint;
        let answer = match collected(endpoint, response).await {
            Ok(body) => parsed(endpoint, &body),
            Err(fault) => Err(fault),
        };
        match &answer {
            Ok(_) => self.open = Some(open),
            Err(_) => self.gateway.leave(&open.at),
        }
        answer
    }

    /// As [`Self::call`], where the answer is the first line of one that could go on.
    pub async fn call_line<A: DeserializeOwned>(
        &mut self,
        path: &str,
        request: &impl Serialize,
    ) -> Result<A, Fault> {
        let line: Line<A> = self.call(path, request).await?;
        let at = self.gateway.at()?;
        line.into_result(&at.endpoint)
    }

    /// The connection is the answer's alone.
    pub async fn stream(mut self, path: &str, request: &impl Serialize) -> Result<Lines, Fault> {
        let (open, response) = self.send(path, request).await?;
        Ok(Lines {
            endpoint: open.at.endpoint,
            body: response.into_body(),
            held: BytesMut::new(),
            searched: 0,
            _sender: open.sender,
        })
    }

    /// At the first endpoint that does not refuse to do anything at all.
    async fn send(
        &mut self,
        path: &str,
        request: &impl Serialize,
    ) -> Result<(Open, Response<Incoming>), Fault> {
        let body = serde_json::to_vec(request).map_err(|error| Fault::Unreached(error.to_string()))?;
        let body = Bytes::from(body);
        let mut unreached = Vec::new();
        let mut is_new_token = false;
        loop {
            let at = self.gateway.at()?;
            let fault = match self.ask(&at, path, &body).await {
                Ok(answered) => return Ok(answered),
                Err(fault) => fault,
            };
            match fault {
                fault if fault.is_old_token() && !is_new_token && self.gateway.token().is_some() => {
                    self.gateway.set_token(None);
                    is_new_token = true;
                }
                Fault::Unreached(why) => {
                    self.gateway.leave(&at);
                    unreached.push(why);
                    if unreached.len() >= self.gateway.settings.endpoints.len() {
                        return Err(Fault::Unreached(unreached.join("; ")));
                    }
                }
                Fault::Refused { code, .. } if !is_unavailable(code) => return Err(fault),
                fault => {
                    self.gateway.leave(&at);
                    return Err(fault);
                }
            }
        }
    }

    /// The connection is kept out of the channel while something is under way on it: one who is dropped
    /// meanwhile leaves nothing behind.
    async fn ask(&mut self, at: &At, path: &str, body: &Bytes) -> Result<(Open, Response<Incoming>), Fault> {
        let mut open = self.opened(at).await?;
        let token = match (&self.gateway.settings.login, self.gateway.token()) {
            (Some(login), None) => {
                let token = authenticated(&mut open.sender, at, login).await?;
                self.gateway.set_token(Some(token.clone()));
                Some(token)
            }
            (_, token) => token,
        };
        let response = exchange(&mut open.sender, at, path, token.as_deref(), body.clone()).await?;
        open.used = Instant::now();
        Ok((open, response))
    }

    async fn opened(&mut self, at: &At) -> Result<Open, Fault> {
        if let Some(mut open) = self.open.take()
            && open.at.moves == at.moves
            && open.used.elapsed() < IDLE_TIME_MAX
            && open.sender.ready().await.is_ok()
        {
            return Ok(open);
        }
        let sender = self.gateway.connect(&at.endpoint).await?;
        Ok(Open { at: at.clone(), used: Instant::now(), sender })
    }
}

impl Lines {
    pub async fn next<A: DeserializeOwned>(&mut self) -> Result<A, Fault> {
        let broken = |why: &dyn Display| Fault::Broken(format!("{}: {why}", self.endpoint));
        loop {
            let unsearched = self.held.get(self.searched..).unwrap_or_default();
            if let Some(end) = unsearched.iter().position(|byte| *byte == b'\n') {
                let line = self.held.split_to(self.searched + end + 1);
                self.searched = 0;
                let line: Line<A> = parsed(&self.endpoint, &line)?;
                return line.into_result(&self.endpoint);
            }
            self.searched = self.held.len();
            let Some(frame) = self.body.frame().await else { return Err(broken(&"the watch ended")) };
            let Ok(data) = frame.map_err(|error| broken(&error))?.into_data() else { continue };
            if self.held.len().saturating_add(data.len()) > ANSWER_BYTES_MAX {
                return Err(broken(&format_args!("an answer is larger than {ANSWER_BYTES_MAX} bytes")));
            }
            self.held.extend_from_slice(&data);
        }
    }

    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl Fault {
    pub fn is(&self, of: i64) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == of)
    }

    fn is_old_token(&self) -> bool {
        match self {
            Self::Refused { code: code::UNAUTHENTICATED, .. } => true,
            Self::Refused { message, .. } => message.contains("revision of auth store is old"),
            _ => false,
        }
    }
}

impl From<Fault> for NotAgreed {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused { code, .. } if !is_unavailable(code) => Self::Failed(fault.to_string()),
            fault => Self::NoMajority(fault.to_string()),
        }
    }
}

impl<A> Line<A> {
    fn into_result(self, endpoint: &Endpoint) -> Result<A, Fault> {
        let refused = self.error.map(|refusal| refused(endpoint, refusal));
        let unread = || Fault::Broken(format!("{endpoint}: neither a result nor an error came"));
        self.result.ok_or_else(|| refused.unwrap_or_else(unread))
    }
}

const fn is_unavailable(code: i64) -> bool {
    matches!(code, code::UNAVAILABLE | code::DEADLINE_EXCEEDED)
}

async fn authenticated(
    sender: &mut SendRequest<Full<Bytes>>,
    at: &At,
    login: &Credentials,
) -> Result<String, Fault> {
    let name = login.username.as_deref().unwrap_or_default();
    let body = serde_json::to_vec(&Authenticate { name, password: login.password.reveal() });
    let body = body.map_err(|error| Fault::Unreached(error.to_string()))?;
    let response = exchange(sender, at, "/v3/auth/authenticate", None, body.into()).await?;
    let answer: Authenticated = parsed(&at.endpoint, &collected(&at.endpoint, response).await?)?;
    Ok(answer.token)
}

/// A good answer's head; anything else is told as it is.
async fn exchange(
    sender: &mut SendRequest<Full<Bytes>>,
    at: &At,
    path: &str,
    token: Option<&str>,
    body: Bytes,
) -> Result<Response<Incoming>, Fault> {
    let endpoint = &at.endpoint;
    let unsent = |why: &dyn Display| Fault::Unreached(format!("{endpoint}: {why}"));
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(HOST, endpoint.address.to_string())
        .header(CONTENT_TYPE, "application/json")
        .header(HAS_LEADER.0, HAS_LEADER.1);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, token);
    }
    let request = request.body(Full::new(body)).map_err(|error| unsent(&error))?;
    sender.ready().await.map_err(|error| unsent(&error))?;
    let sent = timeout(ANSWER_TIME_MAX, sender.try_send_request(request)).await;
    let response = match sent.map_err(|_| Fault::Silent(endpoint.clone(), ANSWER_TIME_MAX))? {
        Ok(response) => response,
        Err(mut error) => {
            let was_sent = error.take_message().is_none();
            let error = error.into_error();
            return Err(if was_sent {
                Fault::Broken(format!("{endpoint}: {error}"))
            } else {
                unsent(&error)
            });
        }
    };
    if response.status() == StatusCode::OK {
        return Ok(response);
    }
    let status = response.status();
    let body = collected(endpoint, response).await?;
    let refusal = serde_json::from_slice(&body).unwrap_or_else(|_| Refusal {
        code: 0,
        message: format!("{status}, which is not what etcd's JSON gateway answers (--enable-grpc-gateway)"),
    });
    Err(refused(endpoint, refusal))
}

fn refused(endpoint: &Endpoint, refusal: Refusal) -> Fault {
    let Refusal { code, message } = refusal;
    // Said before anything is done: another member may know one.
    if message.contains("no leader") {
        return Fault::Unreached(format!("{endpoint}: {message}"));
    }
    Fault::Refused { endpoint: endpoint.clone(), code, message }
}

async fn collected(endpoint: &Endpoint, response: Response<Incoming>) -> Result<Bytes, Fault> {
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
    match timeout(ANSWER_TIME_MAX, body).await {
        Err(_) => Err(Fault::Silent(endpoint.clone(), ANSWER_TIME_MAX)),
        Ok(Err(error)) => Err(Fault::Broken(format!("{endpoint}: {error}"))),
        Ok(Ok(body)) => Ok(body.to_bytes()),
    }
}

fn parsed<A: DeserializeOwned>(endpoint: &Endpoint, body: &[u8]) -> Result<A, Fault> {
    serde_json::from_slice(body)
        .map_err(|error| Fault::Broken(format!("{endpoint}: an answer that can't be read: {error}")))
}
