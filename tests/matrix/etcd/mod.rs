//! Sidecars agree by a real etcd.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails")]

#[path = "../../contract/mod.rs"]
mod contract;
mod lab;
mod words;

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use contract::{Joined, PATIENCE, leader, note, stands, until};
use lab::{Server, login};
use rustix::process::{Pid, Signal, kill_process};
use segue::cluster::{Agreement, Machine, NotAgreed, etcd};
use segue_bench::{authority::Authority, child::wait_for};
use serde::{Deserialize, Serialize};
use tokio::{
    runtime::{Builder, Handle},
    task::JoinSet,
    time::timeout,
};

/// Where its end is waited for, and nobody needs to lead until then.
const SHORT_LEASE: Duration = Duration::from_secs(3);

/// Refused for a reason like this: on a slow machine others may come before.
async fn refused(one: &Joined, is_it: impl Fn(&NotAgreed) -> bool) -> NotAgreed {
    let mut last = None;
    let refused = async {
        loop {
            let error = one.propose("nothing".to_owned()).await.expect_err("nothing is in the way");
            if is_it(&error) {
                return error;
            }
            last = Some(error);
        }
    };
    let found = timeout(PATIENCE, refused).await;
    found.unwrap_or_else(|_| panic!("not refused so, but for {last:?}"))
}

const fn no_majority(error: &NotAgreed) -> bool {
    matches!(error, NotAgreed::NoMajority(_))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_holds_of_every_agreement_holds_of_one_by_etcd() -> Result<()> {
    let server = Server::start(1, None)?;
    let joined = server.join_all();
    contract::holds(&joined).await;
    assert_eq!(joined[0].standing().borrow().backend, "etcd");
    // The leases were given back, or ended: nothing but the state is left.
    let left = || server.ctl(&["get", "/segue/", "--prefix", "--keys-only"]);
    let gone = wait_for(PATIENCE, || Ok((left()?.trim() == "/segue/lab/state").then_some(())))?;
    ensure!(gone.is_some(), "{}", left()?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_leads_once_the_lease_of_a_dead_one_is_over() -> Result<()> {
    let mut server = Server::start(1, None)?;
    server.lease = Duration::from_secs(10);
    // Its tasks end in the midst of what they do, as in a process that is killed.
    let mortal = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let dead: Joined = etcd::start(server.settings("n1"), mortal.handle())?;
    stands(&dead, "the first leads", |standing| standing.leads).await;
    note(&dead, "from the dead one").await;
    let others = [server.join("n2"), server.join("n3")];
    for one in &others {
        stands(one, "the first is seen", |standing| {
            standing.leader.as_deref() == Some("n1") && standing.members[0].reachable
        })
        .await;
    }
    mortal.shutdown_background();
    assert_ne!(others[leader(&others).await].standing().borrow().leader.as_deref(), Some("n1"));
    for one in &others {
        stands(one, "the first is gone", |standing| !standing.members[0].reachable).await;
        assert_eq!(note(one, "from the living").await, one.state().borrow().0.len() - 1);
    }
    // It comes back with the same name.
    let back = server.join("n1");
    until(&back, "what was agreed on meanwhile", |notes| notes.len() == 3).await;
    for one in others.iter().chain([&back]) {
        one.stop().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_etcd_nothing_is_agreed_on_and_all_that_was_stays_known() -> Result<()> {
    let mut server = Server::start(1, None)?;
    server.lease = SHORT_LEASE;
    let joined = server.join_all();
    let first = leader(&joined).await;
    note(&joined[0], "before").await;
    for one in &joined {
        until(one, "the first note", |notes| notes == ["before"]).await;
    }

    server.kill(0)?;
    for one in &joined {
        refused(one, no_majority).await;
        assert_eq!(one.state().borrow().0, ["before"]);
        stands(one, "nobody is reachable", |standing| {
            !standing.leads && standing.members.iter().all(|member| !member.reachable)
        })
        .await;
    }
    joined[first].say("still here".into());
    assert_eq!(joined[first].words()[0].said, "still here");

    server.start_again(0)?;
    leader(&joined).await;
    for one in &joined {
        note(one, "after").await;
    }
    for one in &joined {
        until(one, "the notes of all", |notes| notes == ["before", "after", "after", "after"]).await;
    }
    // A sidecar that starts while nothing answers joins later.
    server.kill(0)?;
    let late = server.join("n1");
    refused(&late, no_majority).await;
    server.start_again(0)?;
    until(&late, "all notes", |notes| notes.len() == 4).await;
    for one in joined.iter().chain([&late]) {
        one.stop().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_many_wait_for_an_etcd_that_hangs_each_is_answered_in_time() -> Result<()> {
    let server = Server::start(1, None)?;
    let mut settings = server.settings("n1");
    settings.etcd.propose_timeout = Duration::from_secs(5);
    let one: Joined = etcd::start(settings, &Handle::current())?;
    note(&one, "before").await;
    let pid = i32::try_from(server.pid(0)).ok().and_then(Pid::from_raw).unwrap();
    kill_process(pid, Signal::STOP)?;
    // More than wait in the proposer's queue.
    let mut proposals = JoinSet::new();
    for _ in 0..200 {
        let one = one.clone();
        proposals.spawn(async move { one.propose("waits".to_owned()).await });
    }
    let answers = timeout(PATIENCE, proposals.join_all()).await?;
    let late =
        |answer: &&Result<_, _>| matches!(answer, Err(NotAgreed::TimedOut(_) | NotAgreed::NoMajority(_)));
    // A process that is told to stop may do one thing more.
    assert!(answers.iter().filter(late).count() >= 199, "{answers:?}");
    kill_process(pid, Signal::CONT)?;
    stands(&one, "it leads again", |standing| standing.leads).await;
    note(&one, "after").await;
    one.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_heard_of_across_compactions() -> Result<()> {
    let mut server = Server::start(1, None)?;
    let joined = server.join_all();
    let compact = |server: &Server| {
        // `revision` stands in the header of any answer in JSON.
        let said = server.ctl(&["get", "/segue/lab/state", "-w", "json"])?;
        let said: serde_json::Value = serde_json::from_str(&said)?;
        let revision = said["header"]["revision"].to_string();
        server.ctl(&["compact", revision.trim_matches('"')])
    };
    for round in 0..3 {
        note(&joined[round], "before").await;
        compact(&server)?;
        note(&joined[round], "after").await;
        for one in &joined {
            until(one, "both notes", |notes| notes.len() == 2 * (round + 1)).await;
        }
    }
    // What the watch knew last is compacted away while it is broken off.
    let sleeper = server.join("n3");
    until(&sleeper, "all notes", |notes| notes.len() == 6).await;
    server.kill(0)?;
    stands(&sleeper, "etcd is gone", |standing| !standing.members[0].reachable).await;
    server.start_again(0)?;
    note(&joined[0], "meanwhile").await;
    compact(&server)?;
    for one in joined.iter().chain([&sleeper]) {
        until(one, "what was said meanwhile", |notes| notes.len() == 7).await;
        one.stop().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_member_of_three_may_be_lost_and_two_may_not() -> Result<()> {
    let mut server = Server::start(3, None)?;
    server.lease = SHORT_LEASE;
    let joined = server.join_all();
    leader(&joined).await;
    note(&joined[0], "before").await;
    // All of them use the first.
    server.kill(0)?;
    for one in &joined {
        // What was under way there, or begins while another leader is elected, may be lost; what comes later is not.
        let deadline = Instant::now() + PATIENCE;
        while one.propose("one is lost".to_owned()).await.is_err() {
            assert!(Instant::now() < deadline, "two of three agree on nothing");
        }
    }
    for one in &joined {
        until(one, "notes of all", |notes| notes.len() >= 4).await;
    }
    leader(&joined).await;

    let agreed = joined[0].state().borrow().0.len();
    server.kill(1)?;
    for one in &joined {
        let deadline = Instant::now() + PATIENCE;
        // The one that is left may not know yet that it is alone.
        while !matches!(one.propose("nothing".to_owned()).await, Err(NotAgreed::NoMajority(_))) {
            assert!(Instant::now() < deadline, "one of three agrees");
        }
        assert!(one.state().borrow().0.len() >= agreed);
        stands(one, "nobody leads", |standing| !standing.leads).await;
    }
    server.start_again(1)?;
    leader(&joined).await;
    note(&joined[2], "two again").await;
    for one in &joined {
        until(one, "the last note", |notes| notes.last().unwrap() == "two again").await;
        one.stop().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_named_and_never_shown() -> Result<()> {
    let mut server = Server::start(1, None)?;
    server.ask_for_passwords()?;
    let join = |node, password: Option<&str>, prefix: &str| -> Joined {
        let mut settings = server.settings(node);
        settings.etcd.login = password.map(login);
        settings.etcd.prefix = prefix.to_owned();
        etcd::start(settings, &Handle::current()).unwrap()
    };
    let good = join("n1", Some("the password"), "/segue/");
    stands(&good, "it leads", |standing| standing.leads).await;
    note(&good, "let in").await;
    for (password, prefix, why) in [
        (Some("guessed"), "/segue/", "authentication failed"),
        (None, "/segue/", "user name is empty"),
        (Some("the password"), "/other/", "permission denied"),
    ] {
        let bad = join("n2", password, prefix);
        let error = refused(&bad, |error| matches!(error, NotAgreed::Failed(_))).await;
        assert!(error.to_string().contains(why), "{error}");
        assert!(!error.to_string().contains("guessed"), "{error}");
        assert!(bad.state().borrow().0.is_empty());
        bad.stop().await;
    }
    // Its tokens are forgotten.
    server.kill(0)?;
    server.start_again(0)?;
    stands(&good, "it leads again", |standing| standing.leads).await;
    note(&good, "let in again").await;
    good.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_is_reached_over_tls_with_a_certificate_of_the_own() -> Result<()> {
    let authority = Authority::new("the lab")?;
    let server = Server::start(1, Some(authority.issue("etcd")?))?;
    let joined = [server.join("n1"), server.join("n2")];
    leader(&joined).await;
    note(&joined[0], "over TLS").await;
    until(&joined[1], "the note", |notes| notes == ["over TLS"]).await;

    let stranger = Authority::new("another")?;
    let mut settings = server.settings("n3");
    settings.etcd.tls.as_mut().unwrap().ca = stranger.issue("etcd")?.ca;
    let misled: Joined = etcd::start(settings, &Handle::current())?;
    refused(&misled, |error| no_majority(error) && error.to_string().contains("not accepted")).await;

    let mut settings = server.settings("n3");
    settings.etcd.tls.as_mut().unwrap().certificate = None;
    let nameless: Joined = etcd::start(settings, &Handle::current())?;
    refused(&nameless, no_majority).await;

    let mut settings = server.settings("n3");
    settings.etcd.tls.as_mut().unwrap().ca = "/nowhere/ca.crt".into();
    let error = etcd::start::<contract::Notes>(settings, &Handle::current()).err().unwrap();
    assert!(error.to_string().contains("/nowhere/ca.crt"), "{error}");
    for one in joined.iter().chain([&misled, &nameless]) {
        one.stop().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_is_too_large_or_unknown_is_refused_and_left_as_it_is() -> Result<()> {
    let server = Server::start(1, None)?;
    let one = server.join("n1");
    note(&one, "small").await;
    let error = one.propose("x".repeat(etcd::STATE_BYTES_MAX)).await.unwrap_err();
    assert!(
        matches!(&error, NotAgreed::Failed(why) if why.contains("1500012 bytes") && why.contains("state_bytes_max")),
        "{error}"
    );
    assert_eq!(one.state().borrow().0, ["small"]);
    let room = etcd::STATE_BYTES_MAX - r#"["small",""]"#.len();
    assert_eq!(note(&one, &"x".repeat(room)).await, 1);
    let other = server.join("n2");
    until(&other, "the largest state", |notes| notes.len() == 2).await;

    let strange = r#"{"from":"a newer release"}"#;
    server.ctl(&["put", "/segue/lab/state", strange])?;
    for one in [&one, &other] {
        refused(one, |error| matches!(error, NotAgreed::Failed(why) if why.contains("/segue/lab/state")))
            .await;
        assert_eq!(one.state().borrow().0.len(), 2);
    }
    assert_eq!(server.ctl(&["get", "/segue/lab/state", "--print-value-only"])?.trim(), strange);
    // A word that is too large is not said; what was said before stays.
    one.say("short".into());
    one.say("x".repeat(etcd::WORD_BYTES_MAX + 1).into());
    assert_eq!(one.words()[0].said, "short");
    for one in [&one, &other] {
        one.stop().await;
    }
    Ok(())
}

/// Somebody else changes the state while an entry is applied to it: each time the sum is another.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Contended(u64);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Overtaken {
    address: String,
    times: u64,
}

impl Machine for Contended {
    type Entry = Overtaken;
    type Answer = u64;

    fn apply(&mut self, Overtaken { address, times }: Overtaken) -> u64 {
        if self.0 < times {
            // `/segue/lab/state`, and a number.
            let value = ["MQ==", "Mg==", "Mw=="].get(self.0 as usize).copied().unwrap_or("MTAwMDAw");
            put(&address, "L3NlZ3VlL2xhYi9zdGF0ZQ==", value).unwrap();
        }
        self.0 += 10;
        self.0
    }
}

fn put(address: &str, key: &str, value: &str) -> Result<()> {
    let body = format!(r#"{{"key":"{key}","value":"{value}"}}"#);
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "POST /v3/kv/put HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_is_overtaken_is_applied_anew_and_not_for_ever() -> Result<()> {
    let server = Server::start(1, None)?;
    let mut settings = server.settings("n1");
    settings.etcd.propose_timeout = PATIENCE;
    let address = settings.etcd.endpoints[0].address.to_string();
    let one: std::sync::Arc<dyn Agreement<Contended>> = etcd::start(settings, &Handle::current())?;
    // 0 becomes 1, 2 and 3 by others; then it is left alone.
    let entry = |times| Overtaken { address: address.clone(), times };
    assert_eq!(one.propose(entry(3)).await, Ok(13));
    assert_eq!(one.state().borrow().0, 13);
    let error = one.propose(entry(u64::MAX)).await.unwrap_err();
    assert!(matches!(&error, NotAgreed::Failed(why) if why.contains("proposal_tries_max")), "{error}");
    one.stop().await;
    Ok(())
}
