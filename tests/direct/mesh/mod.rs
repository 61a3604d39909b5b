//! The raft that sidecars agree by: real members on loopback, in one process.

mod lab;
mod refused;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use lab::{Lab, PATIENCE, hand_over, leader, note, notes, stands, stop};
use segue::cluster::{NotAgreed, Standing, raft};
use segue_bench::{port, sidecar::Sidecar};
use serde_json::Value;
use tokio::runtime::Handle;

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_agree_on_whichever_of_them_something_is_proposed() {
    let mut lab = Lab::new(3);
    let joined = lab.start_all().await;
    leader(&joined).await;
    for (at, one) in joined.iter().enumerate() {
        assert_eq!(note(one, &format!("note {at}")).await, at);
        // Who proposed it has it once it is answered.
        assert_eq!(one.state().borrow().last.len(), at + 1);
    }
    for one in &joined {
        notes(one, &texts(&["note 0", "note 1", "note 2"])).await;
        stands(one, "all three are there", |standing| {
            standing.backend == "raft"
                && standing.leader.is_some()
                && standing.members.len() == 3
                && standing.members.iter().all(|member| member.votes && member.reachable)
        })
        .await;
    }
    for one in &joined {
        one.stop().await;
        assert!(!one.standing().borrow().leads);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_ends_is_replaced_and_nothing_agreed_is_lost() {
    let mut lab = Lab::new(3);
    let mut joined = lab.start_all().await;
    let first = leader(&joined).await;
    let mut said = texts(&["a", "b"]);
    for text in &said {
        note(&joined[first], text).await;
    }
    joined[first].stop().await;
    let mut others: Vec<_> = (0..3).filter(|at| *at != first).collect();
    let rest: Vec<_> = others.iter().map(|at| joined[*at].clone()).collect();
    let second = others[leader(&rest).await];
    note(&joined[second], "c").await;
    said.push("c".to_owned());

    // From its disk, as it was, and then as it became.
    joined[first] = lab.start(first).await;
    let known = joined[first].state().borrow().last.clone();
    assert!(said.iter().zip(&known).all(|(said, known)| said == known), "{known:?}");
    notes(&joined[first], &said).await;

    // Alone, a member agrees on nothing, says so in time, and shows what it has.
    lab.propose_timeout = Duration::from_secs(2);
    joined[first].stop().await;
    joined[first] = lab.start(first).await;
    notes(&joined[first], &said).await;
    for at in others.drain(..) {
        joined[at].stop().await;
    }
    // Whose last answer is of just now is not silent yet.
    let started = Instant::now();
    loop {
        match joined[first].propose("d".to_owned()).await {
            Err(NotAgreed::NoMajority(why)) if why.starts_with("silent: n") => break,
            other => assert!(started.elapsed() < PATIENCE, "{other:?}"),
        }
    }
    stands(&joined[first], "nobody leads", |standing| !standing.leads).await;
    notes(&joined[first], &said).await;
    assert!(lab.counted(first, "segue_mesh_proposals_total", "no-majority") >= 1.0);
    joined[first].stop().await;
    assert_eq!(joined[first].propose("e".to_owned()).await, Err(NotAgreed::Stopped));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_role_is_handed_over_when_asked() {
    let mut lab = Lab::new(3);
    let joined = lab.start_all().await;
    let first = leader(&joined).await;
    note(&joined[first], "a").await;
    stands(&joined[first], "the others are there", |standing| {
        standing.members.iter().all(|member| member.reachable)
    })
    .await;
    hand_over(&joined, first).await;
    // Where another leads, it is done already.
    hand_over(&joined, first).await;
    note(&joined[first], "b").await;
    notes(&joined[first], &texts(&["a", "b"])).await;
    stop(&joined).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_seven_five_vote_and_words_reach_the_leader() {
    let mut lab = Lab::new(6);
    lab.add("w", true);
    let joined = lab.start_all().await;
    leader(&joined).await;
    for one in &joined {
        stands(one, "all are members", |standing| {
            let votes = |votes| standing.members.iter().filter(move |member| member.votes == votes);
            let learners: Vec<_> = votes(false).map(|member| &*member.name).collect();
            votes(true).count() == 5
                && votes(true).any(|member| &*member.name == "w")
                && learners == ["n5", "n6"]
        })
        .await;
    }
    // Who does not vote proposes and learns, and so does the witness.
    assert_eq!(note(&joined[5], "from a learner").await, 0);
    assert_eq!(note(&joined[6], "from a witness").await, 1);
    for one in &joined {
        notes(one, &texts(&["from a learner", "from a witness"])).await;
    }
    let mut polls = tokio::time::interval(Duration::from_millis(50));
    let started = Instant::now();
    loop {
        polls.tick().await;
        for (at, one) in joined.iter().enumerate() {
            one.say(format!("word {at}").into());
        }
        let words = joined[leader(&joined).await].words();
        let heard = |at: usize| words.iter().any(|word| word.said == format!("word {at}"));
        if words.len() == 7 && (0..7).all(heard) {
            assert!(words.iter().all(|word| word.age < PATIENCE), "{words:?}");
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{words:?}");
    }
    stop(&joined).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mesh_follows_its_config() {
    let mut lab = Lab::new(1);
    let alone = lab.start_all().await;
    leader(&alone).await;
    note(&alone[0], "alone").await;
    alone[0].stop().await;

    lab.add("n2", false);
    lab.add("n3", false);
    let mut three = lab.start_all().await;
    let all_vote = |standing: &Standing| {
        standing.members.len() == 3 && standing.members.iter().all(|member| member.votes && member.reachable)
    };
    stands(&three[2], "three vote", all_vote).await;
    notes(&three[2], &texts(&["alone"])).await;
    three[2].stop().await;

    // While the configs differ, nothing is changed.
    lab.remove_last();
    three[0].stop().await;
    three[0] = lab.start(0).await;
    leader(&three[..2]).await;
    note(&three[0], "two").await;
    assert!(three[1].standing().borrow().members.len() == 3);
    three[1].stop().await;
    three[1] = lab.start(1).await;
    stands(&three[0], "two are left", |standing| standing.members.len() == 2).await;
    notes(&three[1], &texts(&["alone", "two"])).await;
    stop(&three[..2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_meshes_that_were_begun_apart_stay_two() {
    let mut lab = Lab::new(1);
    let mut first = lab.start_all().await;
    leader(&first).await;
    note(&first[0], "of the first").await;
    // Begun by a config that knows of nobody else.
    lab.add("n2", false);
    let mut settings = lab.settings(1);
    settings.mesh.members.remove(0);
    let second = [raft::start::<lab::Notes>(settings, &Handle::current()).await.unwrap()];
    leader(&second).await;
    note(&second[0], "of the second").await;
    stop(&first).await;
    stop(&second).await;

    first = lab.start_all().await;
    let apart =
        |standing: &Standing| standing.leads && standing.members.iter().all(|member| member.reachable);
    for one in &first {
        stands(one, "it leads its own mesh", apart).await;
    }
    // Time enough for one to take the other in, if it did.
    note(&first[0], "more").await;
    notes(&first[0], &texts(&["of the first", "more"])).await;
    notes(&first[1], &texts(&["of the second"])).await;
    assert_eq!(first[0].standing().borrow().members.iter().filter(|member| member.votes).count(), 1);
    stop(&first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_much_is_agreed_on_the_file_stays_small_and_who_was_away_catches_up() {
    const ENTRIES: usize = 800;
    const ENTRY_BYTES: usize = 15_000;
    // What is free in the file is used again, but not given back.
    const FILE_BYTES_MAX: u64 = (ENTRIES * ENTRY_BYTES) as u64 * 2;
    const LOG_ENTRIES_MAX: f64 = 350.0;
    let mut lab = Lab::new(3);
    let mut joined = lab.start_all().await;
    leader(&joined).await;
    joined[2].stop().await;
    let first = leader(&joined[..2]).await;
    let long = "x".repeat(ENTRY_BYTES);
    let mut said = Vec::new();
    for number in 0..ENTRIES {
        said.push(format!("{number} {long}"));
        note(&joined[first], &said[number]).await;
    }
    // More than the log keeps: it needs a snapshot, in several chunks.
    joined[2] = lab.start(2).await;
    for one in &joined {
        notes(one, &said[ENTRIES - 20..]).await;
    }
    for (at, one) in joined.iter().enumerate() {
        let started = Instant::now();
        while lab.counted(at, "segue_mesh_log_entries", "") > LOG_ENTRIES_MAX {
            assert!(started.elapsed() < PATIENCE, "n{} keeps its log", at + 1);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        one.stop().await;
        let bytes = std::fs::metadata(lab.folder(at).join("mesh.redb")).unwrap().len();
        assert!(bytes < FILE_BYTES_MAX, "n{}: {bytes} bytes", at + 1);
    }
    let one = lab.start(0).await;
    notes(&one, &said[ENTRIES - 20..]).await;
    one.stop().await;
}

#[test]
fn a_witness_runs_without_a_store() {
    let [mesh, other, admin, metrics] = [(); 4].map(|()| port::free().unwrap());
    let config = format!(
        "[node]\nid = \"w\"\nwitness = true\n[[peer]]\nid = \"n1\"\nstore = \"127.0.0.1:1\"\n\
         mesh = \"127.0.0.1:{other}\"\n[mesh]\nlisten = \"127.0.0.1:{mesh}\"\n\
         [admin]\nlisten = \"127.0.0.1:{admin}\"\n[metrics]\nlisten = \"127.0.0.1:{metrics}\"\n"
    );
    let mut sidecar = Sidecar::start(Path::new(env!("CARGO_BIN_EXE_segue")), &config).unwrap();
    assert_eq!(sidecar.status().unwrap()["node"]["store"], Value::Null);
    sidecar.stop().unwrap();
}
