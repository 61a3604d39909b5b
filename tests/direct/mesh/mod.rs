//! The raft that sidecars agree by: real members on loopback, in one process.

mod lab;

use lab::{Lab, leader, note, notes, stands};

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
        assert_eq!(one.state().borrow().0.len(), at + 1);
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
