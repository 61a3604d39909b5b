//! `/v1/upgrade`, and `PUT /v1/translation/all`: what all sidecars agree on.

use std::{net::SocketAddr, sync::Arc};

use hyper::{Request, StatusCode, body::Incoming};
use serde::Deserialize;
use serde_json::json;

use super::{
    NoDesk, Sidecar,
    routes::{Answer, Wrong, body, json, parsed, translation_change, who},
};
use crate::{
    cluster::NotAgreed,
    status::TranslationChange,
    upgrade::{
        desk::UpgradeDesk,
        plan::Command,
        state::{self, Entry},
        view,
        wish::{Fit, Unfit, Wish},
    },
};

/// What can be posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Plan,
    Start,
    Pause,
    Resume,
    Abort,
    Rollback,
    Finalize,
}

/// The body of a command; it may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Told {
    who: Option<String>,
    accept_losses: bool,
}

impl Act {
    pub fn at(name: &str) -> Option<Self> {
        Some(match name {
            "plan" => Self::Plan,
            "start" => Self::Start,
            "pause" => Self::Pause,
            "resume" => Self::Resume,
            "abort" => Self::Abort,
            "rollback" => Self::Rollback,
            "finalize" => Self::Finalize,
            _ => return None,
        })
    }

    fn command(self, accept_losses: bool) -> Option<Command> {
        Some(match self {
            Self::Plan | Self::Start => return None,
            Self::Pause => Command::Pause,
            Self::Resume => Command::Resume,
            Self::Abort => Command::Abort,
            Self::Rollback => Command::Rollback { accept_losses },
            Self::Finalize => Command::Finalize,
        })
    }
}

/// `GET /v1/upgrade`.
pub(super) fn status(sidecar: &dyn Sidecar) -> Answer {
    match desk(sidecar) {
        Ok(desk) => {
            json(StatusCode::OK, &view::status(&desk.node(), &desk.state(), &desk.standing(), desk.now()))
        }
        Err(wrong) => wrong.into(),
    }
}

/// `POST /v1/upgrade/…`.
pub(super) async fn act(
    act: Act,
    request: Request<Incoming>,
    from: SocketAddr,
    sidecar: &dyn Sidecar,
) -> Answer {
    acted(act, request, from, sidecar).await.unwrap_or_else(Answer::from)
}

async fn acted(
    act: Act,
    request: Request<Incoming>,
    from: SocketAddr,
    sidecar: &dyn Sidecar,
) -> Result<Answer, Wrong> {
    let desk = desk(sidecar)?;
    let body = body(request).await?;
    if matches!(act, Act::Plan | Act::Start) {
        let wish: Wish = parsed(&body, "a wish for an upgrade")?;
        let fit = fit(&wish, &*desk)?;
        let begun = fit.begin(desk.now()).map_err(|unfit| refused(&unfit))?;
        return match act {
            Act::Plan => Ok(json(StatusCode::OK, &view::plan(&begun))),
            _ => propose(&*desk, fit.entry(who(wish.who, from), desk.now())).await,
        };
    }
    let told: Told = if body.is_empty() { Told::default() } else { parsed(&body, "a command's")? };
    let at = desk.now();
    match act.command(told.accept_losses) {
        Some(command) => propose(&*desk, Entry::Command { at, who: who(told.who, from), command }).await,
        None => Err(Wrong(StatusCode::NOT_FOUND, "no such command".to_owned())),
    }
}

/// `PUT /v1/translation/all`.
pub(super) async fn translate(request: Request<Incoming>, from: SocketAddr, sidecar: &dyn Sidecar) -> Answer {
    translated(request, from, sidecar).await.unwrap_or_else(Answer::from)
}

async fn translated(
    request: Request<Incoming>,
    from: SocketAddr,
    sidecar: &dyn Sidecar,
) -> Result<Answer, Wrong> {
    let desk = desk(sidecar)?;
    let change = translation_change(request, from).await?;
    let entry = Entry::Translate {
        at: desk.now(),
        who: who(change.who.clone(), from),
        change: TranslationChange { who: None, ..change },
    };
    propose(&*desk, entry).await
}

fn desk(sidecar: &dyn Sidecar) -> Result<Arc<dyn UpgradeDesk>, Wrong> {
    sidecar.upgrade().map_err(|none| {
        let status = match none {
            NoDesk::NoMesh => StatusCode::NOT_FOUND,
            NoDesk::NoPart(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Wrong(status, none.to_string())
    })
}

fn fit(wish: &Wish, desk: &dyn UpgradeDesk) -> Result<Fit, Wrong> {
    let fleet = desk.fleet().map_err(|why| Wrong(StatusCode::SERVICE_UNAVAILABLE, why))?;
    wish.fit(&desk.state(), desk.rules(), fleet).map_err(|unfit| refused(&unfit))
}

async fn propose(desk: &dyn UpgradeDesk, entry: Entry) -> Result<Answer, Wrong> {
    match desk.propose(entry).await {
        Ok(state::Answer::Done) => Ok(json(StatusCode::OK, &json!({ "done": true }))),
        Ok(state::Answer::Stale) => {
            Err(Wrong(StatusCode::CONFLICT, "what this was about is over".to_owned()))
        }
        Ok(state::Answer::Rejected(why)) => Err(Wrong(StatusCode::CONFLICT, why)),
        Err(not @ NotAgreed::Failed(_)) => Err(Wrong(StatusCode::INTERNAL_SERVER_ERROR, not.to_string())),
        Err(not) => {
            let message = format!("{not}; it may still come to be: see `segue upgrade status`");
            Err(Wrong(StatusCode::SERVICE_UNAVAILABLE, message))
        }
    }
}

fn refused(unfit: &Unfit) -> Wrong {
    let status = match unfit {
        Unfit::NoRelease(_) | Unfit::Rule(_) => StatusCode::BAD_REQUEST,
        Unfit::ManyReleases(_)
        | Unfit::NoneKnown
        | Unfit::Already(_)
        | Unfit::Runs(_)
        | Unfit::Rejected(_) => StatusCode::CONFLICT,
    };
    Wrong(status, unfit.to_string())
}
