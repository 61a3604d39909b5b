use std::{net::SocketAddr, sync::Arc, sync::Mutex, time::Duration};

use prometheus::{IntCounterVec, Opts, Registry};
use segue_bench::port;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{upgrade_tests::Desk, *};
use crate::status::{ConfigStatus, LossCount, NodeStatus};

/// A sidecar that says fixed things and remembers what it was told.
#[derive(Default)]
pub(crate) struct Fake {
    changes: Mutex<Vec<TranslationChange>>,
    not_ready: bool,
    wrong_config: bool,
    desk: Option<Arc<Desk>>,
}

impl Fake {
    pub fn with(desk: Arc<Desk>) -> Self {
        Self { desk: Some(desk), ..Self::default() }
    }
}

impl Sidecar for Fake {
    fn status(&self) -> Status {
        Status {
            node: NodeStatus {
                id: "n1".to_owned(),
                protocol: "redis".to_owned(),
                store: Some("127.0.0.1:6401".to_owned()),
                release: None,
                version: "0.1.0".to_owned(),
                uptime_s: 7,
            },
            config: ConfigStatus { loaded_at_unix_s: 5, last_error: None },
            translation: self.translation(),
            second_connection: "strip".to_owned(),
            links: Vec::new(),
            limits: Vec::new(),
            refusals: Vec::new(),
        }
    }

    fn losses(&self) -> LossesStatus {
        let (kind, grade) = ("vector-set".to_owned(), "data".to_owned());
        LossesStatus {
            total: 2,
            counts: vec![LossCount { kind, grade, peer: None, count: 2 }],
            recent: Vec::new(),
        }
    }

    fn translation(&self) -> TranslationStatus {
        TranslationStatus {
            mode: "auto".to_owned(),
            loss: "refuse".to_owned(),
            spoken: None,
            changes: Vec::new(),
        }
    }

    fn set_translation(&self, change: TranslationChange) -> Result<TranslationStatus, ChangeRefused> {
        self.changes.lock().unwrap().push(change.clone());
        let refused = |kind, message: &str| Err(ChangeRefused { kind, message: message.to_owned() });
        match (change.mode.as_deref(), change.force) {
            (Some("sideways"), _) => refused(ChangeRefusedKind::Invalid, "no such mode"),
            (Some("off"), false) => refused(ChangeRefusedKind::WouldBreak, "n2 depends on it"),
            (mode, _) => {
                Ok(TranslationStatus { mode: mode.unwrap_or("auto").to_owned(), ..self.translation() })
            }
        }
    }

    fn reload_config(&self) -> Result<ConfigStatus, ChangeRefused> {
        if self.wrong_config {
            return Err(ChangeRefused {
                kind: ChangeRefusedKind::Invalid,
                message: "segue.toml:3: no".to_owned(),
            });
        }
        Ok(ConfigStatus { loaded_at_unix_s: 9, last_error: None })
    }

    fn upgrade(&self) -> Result<Arc<dyn UpgradeDesk>, NoDesk> {
        self.desk.clone().map(|desk| desk as Arc<dyn UpgradeDesk>).ok_or(NoDesk::NoMesh)
    }

    fn ready(&self) -> Result<(), String> {
        if self.not_ready { Err("no listener is open".to_owned()) } else { Ok(()) }
    }

    fn gather_metrics(&self) -> Vec<prometheus::proto::MetricFamily> {
        let registry = Registry::new();
        let losses =
            IntCounterVec::new(Opts::new("segue_losses_total", "Content left out."), &["kind"]).unwrap();
        losses.with_label_values(&["vector-set"]).inc_by(2);
        registry.register(Box::new(losses)).unwrap();
        registry.gather()
    }
}

pub(crate) struct Running {
    pub address: SocketAddr,
    stop: CancellationToken,
    server: JoinHandle<()>,
    fake: Arc<Fake>,
}

pub(crate) async fn start(routes: Routes, fake: Fake) -> Running {
    let address = SocketAddr::from(([127, 0, 0, 1], port::free().unwrap()));
    let listener = TcpListener::bind(address).await.unwrap();
    let (stop, fake) = (CancellationToken::new(), Arc::new(fake));
    let server = tokio::spawn(serve(listener, routes, fake.clone(), stop.clone()));
    Running { address, stop, server, fake }
}

pub(crate) struct Answer {
    /// Status line and headers, in lower case.
    head: String,
    pub body: String,
}

impl Answer {
    pub fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    pub fn error(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        body.get("error").unwrap().as_str().unwrap().to_owned()
    }
}

impl Running {
    pub async fn send(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Answer { head: head.to_lowercase(), body: body.to_owned() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: segue\r\n\r\n")).await
    }

    async fn put(&self, body: &str) -> Answer {
        let length = body.len();
        self.send(&format!(
            "PUT /v1/translation HTTP/1.1\r\nHost: segue\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await
    }

    pub fn last_change(&self) -> TranslationChange {
        self.fake.changes.lock().unwrap().last().unwrap().clone()
    }
}

#[tokio::test]
async fn snapshots_are_served_as_json() {
    let running = start(Routes::Admin, Fake::default()).await;
    let status = running.get("/v1/status").await;
    assert_eq!(status.status(), "200");
    assert!(status.head.contains("\r\ncontent-type: application/json"), "{}", status.head);
    assert_eq!(serde_json::from_str::<Status>(&status.body).unwrap(), running.fake.status());
    let losses = running.get("/v1/losses").await;
    assert_eq!(serde_json::from_str::<LossesStatus>(&losses.body).unwrap(), running.fake.losses());
    let translation = running.get("/v1/translation?pretty").await;
    let expected = running.fake.translation();
    assert_eq!(serde_json::from_str::<TranslationStatus>(&translation.body).unwrap(), expected);
    let head = running.send("HEAD /v1/status HTTP/1.1\r\nHost: segue\r\n\r\n").await;
    assert_eq!((head.status(), head.body.as_str()), ("200", ""));
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let running = start(Routes::Metrics, Fake::default()).await;
    let metrics = running.get("/metrics").await;
    assert_eq!(metrics.status(), "200");
    assert!(metrics.head.contains("\r\ncontent-type: text/plain; version=0.0.4"), "{}", metrics.head);
    assert_eq!(
        metrics.body,
        "# HELP segue_losses_total Content left out.\n# TYPE segue_losses_total counter\n\
         segue_losses_total{kind=\"vector-set\"} 2\n"
    );
}

#[tokio::test]
async fn each_listener_has_its_own_pages() {
    let admin = start(Routes::Admin, Fake::default()).await;
    let metrics = start(Routes::Metrics, Fake::default()).await;
    for running in [&admin, &metrics] {
        assert_eq!(running.get("/livez").await.body, r#"{"live":true}"#);
        assert_eq!(running.get("/readyz").await.body, r#"{"ready":true}"#);
    }
    let missing = admin.get("/metrics").await;
    assert_eq!(missing.status(), "404");
    assert_eq!(
        missing.error(),
        "no such page; there are /v1/status, /v1/losses, /v1/translation, /v1/translation/all, /v1/upgrade, \
         /v1/upgrade/{plan,start,pause,resume,abort,rollback,finalize}, /v1/config/reload, /livez and /readyz"
    );
    let missing = metrics.get("/v1/status").await;
    assert_eq!(missing.status(), "404");
    assert_eq!(missing.error(), "no such page; there are /metrics, /livez and /readyz");
}

#[tokio::test]
async fn not_ready_says_why_and_is_still_alive() {
    let running = start(Routes::Metrics, Fake { not_ready: true, ..Fake::default() }).await;
    let ready = running.get("/readyz").await;
    assert_eq!((ready.status(), ready.error().as_str()), ("503", "no listener is open"));
    assert_eq!(running.get("/livez").await.status(), "200");
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let running = start(Routes::Admin, Fake::default()).await;
    let answer =
        running.send("POST /v1/translation HTTP/1.1\r\nHost: segue\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(answer.status(), "405");
    assert!(answer.head.contains("\r\nallow: get, head, put\r\n"), "{}", answer.head);
    assert_eq!(answer.error(), "POST is not for this page; it takes GET, HEAD, PUT");
    let answer = running.send("DELETE /v1/status HTTP/1.1\r\nHost: segue\r\n\r\n").await;
    assert_eq!(answer.error(), "DELETE is not for this page; it takes GET, HEAD");
}

#[tokio::test]
async fn a_change_reaches_the_sidecar() {
    let running = start(Routes::Admin, Fake::default()).await;
    let answer = running.put(r#"{"mode":"redis-6.0","who":"ana","reason":"trial"}"#).await;
    assert_eq!(answer.status(), "200");
    assert_eq!(serde_json::from_str::<TranslationStatus>(&answer.body).unwrap().mode, "redis-6.0");
    let expected = TranslationChange {
        mode: Some("redis-6.0".to_owned()),
        who: Some("ana".to_owned()),
        reason: Some("trial".to_owned()),
        ..TranslationChange::default()
    };
    assert_eq!(running.last_change(), expected);
}

#[tokio::test]
async fn who_changes_is_never_unknown() {
    let running = start(Routes::Admin, Fake::default()).await;
    for body in [r#"{"loss":"degrade"}"#, r#"{"loss":"degrade","who":""}"#] {
        running.put(body).await;
        let who: SocketAddr = running.last_change().who.unwrap().parse().unwrap();
        assert_eq!(who.ip().to_string(), "127.0.0.1");
    }
}

#[tokio::test]
async fn refused_changes_say_why() {
    let running = start(Routes::Admin, Fake::default()).await;
    let invalid = running.put(r#"{"mode":"sideways"}"#).await;
    assert_eq!((invalid.status(), invalid.error().as_str()), ("400", "no such mode"));
    let would_break = running.put(r#"{"mode":"off"}"#).await;
    assert_eq!((would_break.status(), would_break.error().as_str()), ("409", "n2 depends on it"));
    assert_eq!(running.put(r#"{"mode":"off","force":true}"#).await.status(), "200");
}

#[tokio::test]
async fn a_reload_answers_with_its_outcome() {
    let reload = "PUT /v1/config/reload HTTP/1.1\r\nHost: segue\r\nContent-Length: 0\r\n\r\n";
    let good = start(Routes::Admin, Fake::default()).await.send(reload).await;
    assert_eq!((good.status(), good.body.as_str()), ("200", r#"{"loaded_at_unix_s":9,"last_error":null}"#));
    let running = start(Routes::Admin, Fake { wrong_config: true, ..Fake::default() }).await;
    let wrong = running.send(reload).await;
    assert_eq!((wrong.status(), wrong.error().as_str()), ("400", "segue.toml:3: no"));
    let read = running.get("/v1/config/reload").await;
    assert_eq!(read.error(), "GET is not for this page; it takes PUT");
}

#[tokio::test]
async fn a_bad_body_changes_nothing() {
    let running = start(Routes::Admin, Fake::default()).await;
    let cases = [
        ("{}", "nothing to change; expected \"mode\", \"loss\" or both"),
        (
            "mode=off",
            "the body is not a change of the translation in JSON: expected value at line 1 column 1",
        ),
        (
            r#"{"modus":"off"}"#,
            "the body is not a change of the translation in JSON: unknown field `modus`, expected one of \
             `mode`, `loss`, `who`, `reason`, `force` at line 1 column 8",
        ),
    ];
    for (body, message) in cases {
        let answer = running.put(body).await;
        assert_eq!((answer.status(), answer.error().as_str()), ("400", message));
    }
    assert!(running.fake.changes.lock().unwrap().is_empty());
}

#[tokio::test]
async fn bodies_are_bounded() {
    let running = start(Routes::Admin, Fake::default()).await;
    let padded = |bytes: usize| format!("{:<bytes$}", r#"{"mode":"auto"}"#);
    assert_eq!(running.put(&padded(BODY_BYTES_MAX)).await.status(), "200");
    let answer = running.put(&padded(BODY_BYTES_MAX + 1)).await;
    assert_eq!(answer.status(), "413");
    assert_eq!(answer.error(), "the body is larger than 8192 bytes");
}

#[tokio::test]
async fn connections_are_bounded() {
    let running = start(Routes::Admin, Fake::default()).await;
    // Where all stalls for HEADER_TIME_MAX, places are free for that.
    for _ in 0..TRIES_MAX {
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            idle.push(TcpStream::connect(running.address).await.unwrap());
        }
        let waits = timeout(Duration::from_millis(300), running.get("/livez")).await;
        if waits.is_ok() {
            assert!(!all_open(&idle), "one connection too many was served");
            continue;
        }
        idle.pop();
        assert_eq!(running.get("/livez").await.status(), "200");
        if all_open(&idle) {
            return;
        }
    }
    panic!("a free place was not used");
}

const TRIES_MAX: u32 = 10;

fn all_open(streams: &[TcpStream]) -> bool {
    let would_block = |stream: &TcpStream| {
        stream.try_read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    streams.iter().all(would_block)
}

#[tokio::test]
async fn a_client_that_says_nothing_is_let_go() {
    let running = start(Routes::Admin, Fake::default()).await;
    let mut silent = TcpStream::connect(running.address).await.unwrap();
    let mut answer = Vec::new();
    // As it would be then anyway.
    let closed = timeout(CONNECTION_TIME_MAX, silent.read_to_end(&mut answer)).await;
    assert!(closed.is_ok(), "the connection is still open");
}

#[tokio::test]
async fn a_stop_ends_it() {
    let running = start(Routes::Admin, Fake::default()).await;
    let _idle = TcpStream::connect(running.address).await.unwrap();
    assert_eq!(running.get("/livez").await.status(), "200");
    running.stop.cancel();
    timeout(Duration::from_secs(60), running.server).await.expect("it did not end").unwrap();
    assert!(TcpStream::connect(running.address).await.is_err(), "the listener is still open");
}
