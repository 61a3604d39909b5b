//! Which request gets which answer.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
};
use prometheus::{Encoder, TextEncoder};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    BODY_BYTES_MAX, ChangeRefused, ChangeRefusedKind, Sidecar,
    upgrade::{self, Act},
};
use crate::status::TranslationChange;

/// What a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routes {
    Admin,
    Metrics,
}

pub(super) type Answer = Response<Full<Bytes>>;

/// What is answered where a request can't be met.
pub(super) struct Wrong(pub StatusCode, pub String);

impl From<Wrong> for Answer {
    fn from(Wrong(status, message): Wrong) -> Self {
        error(status, &message)
    }
}

/// Answers one request from this address.
pub(super) async fn answer(
    request: Request<Incoming>,
    from: SocketAddr,
    routes: Routes,
    sidecar: &dyn Sidecar,
) -> Answer {
    let Some(page) = Page::at(request.uri().path(), routes) else {
        return error(StatusCode::NOT_FOUND, &format!("no such page; there are {}", routes.pages()));
    };
    match (page, request.method()) {
        (Page::Status, &Method::GET | &Method::HEAD) => json(StatusCode::OK, &sidecar.status()),
        (Page::Losses, &Method::GET | &Method::HEAD) => json(StatusCode::OK, &sidecar.losses()),
        (Page::Translation, &Method::GET | &Method::HEAD) => json(StatusCode::OK, &sidecar.translation()),
        (Page::Translation, &Method::PUT) => change(request, from, sidecar).await,
        (Page::TranslationOfAll, &Method::PUT) => upgrade::translate(request, from, sidecar).await,
        (Page::Upgrade, &Method::GET | &Method::HEAD) => upgrade::status(sidecar),
        (Page::Act(act), &Method::POST) => upgrade::act(act, request, from, sidecar).await,
        (Page::Reload, &Method::PUT) => match sidecar.reload_config() {
            Ok(status) => json(StatusCode::OK, &status),
            Err(refused) => not_made(&refused),
        },
        (Page::Live, &Method::GET | &Method::HEAD) => {
            json(StatusCode::OK, &serde_json::json!({ "live": true }))
        }
        (Page::Ready, &Method::GET | &Method::HEAD) => match sidecar.ready() {
            Ok(()) => json(StatusCode::OK, &serde_json::json!({ "ready": true })),
            Err(why) => error(StatusCode::SERVICE_UNAVAILABLE, &why),
        },
        (Page::Metrics, &Method::GET | &Method::HEAD) => metrics(sidecar),
        (page, method) => {
            let allowed = page.methods();
            let mut answer = error(
                StatusCode::METHOD_NOT_ALLOWED,
                &format!("{method} is not for this page; it takes {allowed}"),
            );
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            answer
        }
    }
}

#[derive(Clone, Copy)]
enum Page {
    Status,
    Losses,
    Translation,
    TranslationOfAll,
    Upgrade,
    Act(Act),
    Reload,
    Live,
    Ready,
    Metrics,
}

impl Page {
    fn at(path: &str, routes: Routes) -> Option<Self> {
        match (routes, path) {
            (_, "/livez") => Some(Self::Live),
            (_, "/readyz") => Some(Self::Ready),
            (Routes::Admin, "/v1/status") => Some(Self::Status),
            (Routes::Admin, "/v1/losses") => Some(Self::Losses),
            (Routes::Admin, "/v1/translation") => Some(Self::Translation),
            (Routes::Admin, "/v1/translation/all") => Some(Self::TranslationOfAll),
            (Routes::Admin, "/v1/upgrade") => Some(Self::Upgrade),
            (Routes::Admin, "/v1/config/reload") => Some(Self::Reload),
            (Routes::Metrics, "/metrics") => Some(Self::Metrics),
            (Routes::Admin, path) => path.strip_prefix("/v1/upgrade/").and_then(Act::at).map(Self::Act),
            _ => None,
        }
    }

    const fn methods(self) -> &'static str {
        match self {
            Self::Translation => "GET, HEAD, PUT",
            Self::Reload | Self::TranslationOfAll => "PUT",
            Self::Act(_) => "POST",
            Self::Status | Self::Losses | Self::Upgrade | Self::Live | Self::Ready | Self::Metrics => {
                "GET, HEAD"
            }
        }
    }
}

impl Routes {
    const fn pages(self) -> &'static str {
        match self {
            Self::Admin => {
                "/v1/status, /v1/losses, /v1/translation, /v1/translation/all, /v1/upgrade, \
                 /v1/upgrade/{plan,start,pause,resume,abort,rollback,finalize}, /v1/config/reload, /livez and \
                 /readyz"
            }
            Self::Metrics => "/metrics, /livez and /readyz",
        }
    }
}

/// `PUT /v1/translation`.
async fn change(request: Request<Incoming>, from: SocketAddr, sidecar: &dyn Sidecar) -> Answer {
    let change = match translation_change(request, from).await {
        Ok(change) => change,
        Err(wrong) => return wrong.into(),
    };
    match sidecar.set_translation(change) {
        Ok(translation) => json(StatusCode::OK, &translation),
        Err(refused) => not_made(&refused),
    }
}

/// The change that a request asks for. `who` is always there.
pub(super) async fn translation_change(
    request: Request<Incoming>,
    from: SocketAddr,
) -> Result<TranslationChange, Wrong> {
    let change: TranslationChange = parsed(&body(request).await?, "a change of the translation")?;
    if change.mode.is_none() && change.loss.is_none() {
        let message = "nothing to change; expected \"mode\", \"loss\" or both";
        return Err(Wrong(StatusCode::BAD_REQUEST, message.to_owned()));
    }
    Ok(TranslationChange { who: Some(who(change.who, from)), ..change })
}

/// Who asks: by name, or else from where.
pub(super) fn who(name: Option<String>, from: SocketAddr) -> String {
    name.filter(|who| !who.is_empty()).unwrap_or_else(|| from.to_string())
}

pub(super) async fn body(request: Request<Incoming>) -> Result<Bytes, Wrong> {
    match Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(e) if e.is::<LengthLimitError>() => {
            let message = format!("the body is larger than {BODY_BYTES_MAX} bytes");
            Err(Wrong(StatusCode::PAYLOAD_TOO_LARGE, message))
        }
        Err(e) => Err(Wrong(StatusCode::BAD_REQUEST, format!("the body was cut off: {e}"))),
    }
}

pub(super) fn parsed<T: DeserializeOwned>(body: &[u8], what: &str) -> Result<T, Wrong> {
    serde_json::from_slice(body)
        .map_err(|e| Wrong(StatusCode::BAD_REQUEST, format!("the body is not {what} in JSON: {e}")))
}

fn not_made(refused: &ChangeRefused) -> Answer {
    let status = match refused.kind {
        ChangeRefusedKind::Invalid => StatusCode::BAD_REQUEST,
        ChangeRefusedKind::WouldBreak => StatusCode::CONFLICT,
    };
    error(status, &refused.message)
}

fn metrics(sidecar: &dyn Sidecar) -> Answer {
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(&sidecar.gather_metrics(), &mut text) {
        Ok(()) => page(StatusCode::OK, HeaderValue::from_static(prometheus::TEXT_FORMAT), text),
        Err(e) => error(StatusCode::INTERNAL_SERVER_ERROR, &format!("the metrics cannot be written: {e}")),
    }
}

pub(super) fn error(status: StatusCode, message: &str) -> Answer {
    json(status, &serde_json::json!({ "error": message }))
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(text) => page(status, HeaderValue::from_static("application/json"), text),
        Err(_) => page(StatusCode::INTERNAL_SERVER_ERROR, HeaderValue::from_static("text/plain"), Vec::new()),
    }
}

fn page(status: StatusCode, content_type: HeaderValue, text: Vec<u8>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
