use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use async_trait::async_trait;
use segue_wire::PeerName;

use super::{
    Routes,
    tests::{Answer as Got, Fake, Running, start},
};
use crate::{
    cluster::{Machine, MemberStanding, NotAgreed, Standing},
    status::upgrade::{NodeRole, PlanStatus, UpgradeStatus},
    upgrade::{
        action::{Moment, Outcome},
        desk::UpgradeDesk,
        fleet::Fleet,
        rules::Rules,
        state::{self, Entry, Registered, State},
        wish::Wish,
    },
};

/// The agreed state of three nodes without anyone to agree with; its clock goes on by a second a look.
#[derive(Default)]
pub(crate) struct Desk {
    state: Mutex<State>,
    no_majority: AtomicBool,
    losses: AtomicU64,
    now: AtomicU64,
}

impl Desk {
    pub fn new() -> Arc<Self> {
        let desk = Self::default();
        for (node, master) in [("n1", true), ("n2", false), ("n3", false)] {
            let registered = Registered {
                node: node.into(),
                store: Some(format!("{node}:6379")),
                release: Some("redis-6.0.16".to_owned()),
                master: Some(master),
                in_sync: true,
                number: None,
                sidecar: "0.1.0".to_owned(),
            };
            desk.apply(Entry::Register(registered));
        }
        Arc::new(desk)
    }

    /// All that is pending is done, and all that follows, until nothing is.
    pub fn all_done(&self) {
        while self.one_done() {}
    }

    pub fn done(&self, actions: usize) {
        for _ in 0..actions {
            assert!(self.one_done(), "nothing is pending");
        }
    }

    fn one_done(&self) -> bool {
        let pending = self.state().running().and_then(|running| running.pending.first().cloned());
        let Some(pending) = pending else { return false };
        let id = pending.action.id;
        self.apply(Entry::Claim { at: self.now(), id });
        self.apply(Entry::Ended { at: self.now(), id, outcome: Outcome::Done, output: Vec::new() });
        true
    }

    pub fn start(&self, to: &str) {
        let wish = Wish { to: to.to_owned(), ..Wish::default() };
        let fit = wish.fit(&self.state(), self.rules(), self.fleet().unwrap()).unwrap();
        self.apply(fit.entry("ana".to_owned(), self.now()));
    }

    /// Nothing more comes of what is pending.
    pub fn time_out(&self) {
        let at = self.now().after(self.rules().gate_time_max);
        self.apply(Entry::Tick { at });
    }

    pub fn apply(&self, entry: Entry) {
        assert_eq!(self.state.lock().unwrap().apply(entry), state::Answer::Done);
    }

    /// Losses that were let through, as the next look at the nodes has them.
    pub fn lose(&self, losses: u64) {
        self.losses.store(losses, Relaxed);
        self.apply(Entry::Seen { at: self.now(), fleet: self.fleet().unwrap() });
    }
}

#[async_trait]
impl UpgradeDesk for Desk {
    fn node(&self) -> PeerName {
        "n1".into()
    }

    fn now(&self) -> Moment {
        Moment(self.now.fetch_add(1000, Relaxed))
    }

    fn state(&self) -> Arc<State> {
        Arc::new(self.state.lock().unwrap().clone())
    }

    fn standing(&self) -> Arc<Standing> {
        let members = ["n1", "n2", "n3"];
        let member = |name: &str| MemberStanding { name: name.into(), votes: true, reachable: true };
        Arc::new(Standing {
            backend: "raft",
            leads: true,
            leader: Some("n1".into()),
            members: members.map(member).into(),
            failed: None,
        })
    }

    fn rules(&self) -> Rules {
        Rules::default()
    }

    fn fleet(&self) -> Result<Fleet, String> {
        let moves = self.state.lock().unwrap().transaction.as_ref().map_or(0, |running| running.fleet.moves);
        let losses = self.losses.load(Relaxed);
        let losses = (losses > 0).then(|| ("n1".into(), losses)).into_iter().collect();
        Ok(Fleet { losses, seen_at: self.now(), moves, ..Fleet::of_nodes(3) })
    }

    async fn propose(&self, entry: Entry) -> Result<state::Answer, NotAgreed> {
        if self.no_majority.load(Relaxed) {
            return Err(NotAgreed::NoMajority("1 of 3 answers".to_owned()));
        }
        Ok(self.state.lock().unwrap().apply(entry))
    }
}

async fn with_desk() -> (Running, Arc<Desk>) {
    let desk = Desk::new();
    (start(Routes::Admin, Fake::with(desk.clone())).await, desk)
}

async fn send(running: &Running, method: &str, path: &str, body: &str) -> Got {
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: segue\r\nContent-Length: {length}\r\n\r\n");
    running.send(&(head + body)).await
}

async fn post(running: &Running, act: &str, body: &str) -> Got {
    send(running, "POST", &format!("/v1/upgrade/{act}"), body).await
}

async fn status(running: &Running) -> UpgradeStatus {
    let answer = running.get("/v1/upgrade").await;
    assert_eq!(answer.status(), "200", "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

const TO_8: &str = r#"{"to":"redis-8.0","who":"ana"}"#;

#[tokio::test]
async fn a_sidecar_in_no_mesh_says_so() {
    let running = start(Routes::Admin, Fake::default()).await;
    for answer in [running.get("/v1/upgrade").await, post(&running, "start", TO_8).await] {
        assert_eq!(answer.status(), "404");
        assert!(answer.error().contains("give its config a [mesh]"), "{}", answer.body);
    }
}

#[tokio::test]
async fn a_plan_moves_nothing_and_is_the_same_each_time() {
    let (running, _) = with_desk().await;
    let (first, again) = (post(&running, "plan", TO_8).await, post(&running, "plan", TO_8).await);
    assert_eq!((first.status(), &first.body), ("200", &again.body));
    let plan: PlanStatus = serde_json::from_str(&first.body).unwrap();
    assert_eq!(
        (plan.from.as_str(), plan.to.as_str(), plan.master.as_str()),
        ("redis-6.0", "redis-8.0", "n1")
    );
    assert_eq!(plan.batches, [["n2"], ["n3"], ["n1"]]);
    assert!(plan.steps.iter().any(|step| step.does == "hold writes, let n2 catch up and become master"));
    assert_eq!(status(&running).await.transaction, None);
}

#[tokio::test]
async fn from_the_start_to_the_end() {
    let (running, desk) = with_desk().await;
    let body = r#"{"to":"redis-8.0","who":"ana","rules":{"hold_before_master":true}}"#;
    assert_eq!(post(&running, "start", body).await.status(), "200");
    let begun = status(&running).await;
    let transaction = begun.transaction.unwrap();
    assert_eq!((transaction.phase.as_str(), transaction.pending.len()), ("preflight", 3));
    assert!(transaction.next.unwrap().starts_with("n2: wait until links are up"));
    assert!(begun.journal.iter().any(|line| line.text.starts_with("ana starts")));

    desk.all_done();
    let held = status(&running).await;
    let pause = held.transaction.clone().unwrap().paused.unwrap();
    assert_eq!((pause.cause.as_str(), pause.advice.as_str()), ("barrier", "segue upgrade resume"));
    let generation = |status: &UpgradeStatus, node: &str| {
        let node = status.nodes.iter().find(|other| other.id == node).unwrap();
        (node.role, node.part.as_ref().unwrap().generation.clone())
    };
    assert_eq!(generation(&held, "n1"), (NodeRole::Master, "old".to_owned()));
    assert_eq!(generation(&held, "n2"), (NodeRole::Secondary, "new".to_owned()));

    assert_eq!(post(&running, "resume", "").await.status(), "200");
    let going = status(&running).await.transaction.unwrap();
    assert!(going.left_ms.unwrap() > 0 && going.left_is_at_least, "no master was moved yet");
    desk.all_done();
    let upgraded = status(&running).await;
    assert_eq!(upgraded.transaction.as_ref().unwrap().phase, "upgraded");
    assert_eq!(generation(&upgraded, "n2"), (NodeRole::Master, "new".to_owned()));
    assert_eq!(post(&running, "finalize", r#"{"who":"ben"}"#).await.status(), "200");
    desk.all_done();
    let done = status(&running).await;
    assert_eq!(done.transaction.as_ref().map(|done| (done.phase.as_str(), done.over)), Some(("done", true)));
    assert!(done.journal.iter().any(|line| line.text == "ben: finalize"));

    let over = post(&running, "rollback", "{}").await;
    assert_eq!(over.status(), "409");
    assert_eq!(over.error(), "no transaction runs; begin one with `segue upgrade start`");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_its_reason() {
    let (running, desk) = with_desk().await;
    let cases = [
        (
            r#"{"to":"redis8"}"#,
            "400",
            "redis8 is not the name of a release; a release is named like redis-8.0",
        ),
        (r#"{"to":"redis-6.0"}"#, "409", "all nodes run redis-6.0 already"),
        (r#"{"to":"redis-8.0","rules":{"batch":0}}"#, "400", "batch must be 1 to 64"),
        (
            r#"{"to":"redis-8.0","rules":{"first":["n9"]}}"#,
            "400",
            "first names n9, which is no node with a store here",
        ),
    ];
    for (body, status, message) in cases {
        let answer = post(&running, "start", body).await;
        assert_eq!((answer.status(), answer.error().as_str()), (status, message));
    }
    assert_eq!(post(&running, "start", "").await.status(), "400");
    assert_eq!(post(&running, "pause", r#"{"why":1}"#).await.status(), "400");
    assert_eq!(post(&running, "restart", "").await.status(), "404");
    assert_eq!(running.get("/v1/upgrade/pause").await.status(), "405");

    assert_eq!(post(&running, "start", TO_8).await.status(), "200");
    let second = post(&running, "start", TO_8).await;
    assert_eq!(second.status(), "409");
    assert!(second.error().starts_with("transaction 1 runs already"), "{}", second.body);

    desk.all_done();
    desk.lose(2);
    let costs = post(&running, "rollback", "").await;
    assert_eq!(costs.status(), "409");
    assert!(costs.error().contains("2 losses"), "{}", costs.body);
    assert_eq!(post(&running, "rollback", r#"{"accept_losses":true}"#).await.status(), "200");
}

#[tokio::test]
async fn without_a_majority_nothing_is_promised() {
    let (running, desk) = with_desk().await;
    desk.no_majority.store(true, Relaxed);
    let answer = post(&running, "start", TO_8).await;
    assert_eq!(answer.status(), "503");
    assert_eq!(
        answer.error(),
        "no majority of the mesh answers: 1 of 3 answers; it may still come to be: see `segue upgrade status`"
    );
}

#[tokio::test]
async fn a_translation_for_all_is_recorded() {
    let (running, _) = with_desk().await;
    let half = send(&running, "PUT", "/v1/translation/all", r#"{"loss":"degrade"}"#).await;
    assert_eq!(half.status(), "409");
    let body = r#"{"mode":"redis-6.0","loss":"degrade","who":"ana","reason":"trial"}"#;
    assert_eq!(send(&running, "PUT", "/v1/translation/all", body).await.status(), "200");
    let changes = status(&running).await.translations;
    let [change] = &*changes else { panic!("{changes:?}") };
    assert_eq!((change.who.as_str(), change.reason.as_deref()), ("ana", Some("trial")));
    assert_eq!((change.mode.as_str(), change.loss.as_str()), ("redis-6.0", "degrade"));
}
