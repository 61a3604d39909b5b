//! What holds of every way in which sidecars agree, whatever is behind it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails")]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use segue::cluster::{Agreement, Machine, NotAgreed, Standing};
use serde::{Deserialize, Serialize};
use tokio::{
    task::JoinSet,
    time::{interval, sleep, timeout},
};

/// Longer than anything takes on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(120);
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// That each of them proposes at once.
const CONTENDED_NOTES: usize = 40;

/// What was said, in order; the answer is how many came before. Nothing makes `nothing` of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notes(pub Vec<String>);

impl Machine for Notes {
    type Entry = String;
    type Answer = usize;

    fn apply(&mut self, entry: String) -> usize {
        if entry != "nothing" {
            self.0.push(entry);
        }
        self.0.len().saturating_sub(1)
    }
}

pub type Joined = Arc<dyn Agreement<Notes>>;

/// Of three that have just started, none with a leading of its own. They are stopped in the end.
pub async fn holds(joined: &[Joined]) {
    assert_eq!(joined.len(), 3);
    leader(joined).await;
    each_is_heard_by_all(joined).await;
    none_is_lost_under_contention(joined).await;
    words_are_heard(joined).await;
    the_lead_is_handed_over(joined).await;
    a_stopped_leader_is_followed_by_another(joined).await;
}

async fn each_is_heard_by_all(joined: &[Joined]) {
    for (at, one) in joined.iter().enumerate() {
        assert_eq!(note(one, &format!("note {at}")).await, at);
        // Who proposed it has it once it is answered.
        assert_eq!(one.state().borrow().0.len(), at + 1);
    }
    assert_eq!(note(&joined[0], "nothing").await, 2);
    for one in joined {
        until(one, "all notes", |notes| *notes == ["note 0", "note 1", "note 2"]).await;
        stands(one, "all three are there", |standing| {
            standing.leader.is_some()
                && standing.members.len() == 3
                && standing.members.iter().all(|member| member.reachable)
        })
        .await;
    }
}

async fn none_is_lost_under_contention(joined: &[Joined]) {
    let before = joined[0].state().borrow().0.len();
    let mut proposers = JoinSet::new();
    for (at, one) in joined.iter().enumerate() {
        let one = one.clone();
        proposers.spawn(async move {
            let mut answers = Vec::new();
            for number in 0..CONTENDED_NOTES {
                let text = format!("{at} says {number}");
                answers.push((note(&one, &text).await, text));
            }
            answers
        });
    }
    let answers: Vec<_> = proposers.join_all().await.into_iter().flatten().collect();
    let all = before + joined.len() * CONTENDED_NOTES;
    for one in joined {
        until(one, "every note", |notes| notes.len() == all).await;
        let state = one.state().borrow().clone();
        // Each stands where its answer said, and so each is there once, in its order.
        for (place, text) in &answers {
            assert_eq!(state.0[*place], *text);
        }
        let of = |at: usize| state.0.iter().filter(move |text| text.starts_with(&format!("{at} says ")));
        for at in 0..joined.len() {
            let expected = (0..CONTENDED_NOTES).map(|number| format!("{at} says {number}"));
            assert!(of(at).cloned().eq(expected), "{state:?}");
        }
    }
}

async fn words_are_heard(joined: &[Joined]) {
    let mut round = 0;
    poll("the leader hears the words of all", || {
        round += 1;
        // As a sidecar does: again and again, the newest counts.
        for (at, one) in joined.iter().enumerate() {
            one.say(Bytes::from(format!("word of {at} in round {}", round.min(5))));
        }
        let leader = joined.iter().find(|one| one.standing().borrow().leads)?;
        let words = leader.words();
        let heard = |at: usize| {
            let said = format!("word of {at} in round 5");
            words.iter().any(|word| word.said == said.as_bytes() && word.age < PATIENCE)
        };
        (words.len() == joined.len() && (0..joined.len()).all(heard)).then_some(())
    })
    .await;
}

async fn the_lead_is_handed_over(joined: &[Joined]) {
    let first = leader(joined).await;
    let other = (first + 1) % joined.len();
    joined[other].hand_over().await.unwrap();
    assert_eq!(leader(joined).await, first, "who does not lead has nothing to give");
    hand_over(&joined[first]).await;
    let second = leader(joined).await;
    assert_ne!(second, first);
    note(&joined[first], "handed over").await;
    for one in joined {
        until(one, "the note of the handed-over", |notes| notes.last().unwrap() == "handed over").await;
        let name = joined[second].standing().borrow().leader.clone();
        stands(one, "the same leader", |standing| standing.leader == name).await;
    }
}

async fn a_stopped_leader_is_followed_by_another(joined: &[Joined]) {
    let first = leader(joined).await;
    joined[first].stop().await;
    assert!(!joined[first].standing().borrow().leads);
    assert_eq!(joined[first].propose("too late".to_owned()).await, Err(NotAgreed::Stopped));
    let second = leader(joined).await;
    assert_ne!(second, first);
    note(&joined[second], "the other leads").await;
    for (at, one) in joined.iter().enumerate().filter(|(at, _)| *at != first) {
        until(one, "the last note", |notes| notes.last().unwrap() == "the other leads").await;
        assert!(at != first && !one.state().borrow().0.contains(&"too late".to_owned()));
        one.stop().await;
    }
}

/// The lead is given away, whatever is in the way for a while: then it may be, and that is not heard of.
async fn hand_over(first: &Joined) {
    let given = async {
        while let Err(error) = first.hand_over().await {
            assert!(is_in_the_way(&error), "{error}");
            sleep(RETRY_PAUSE).await;
        }
    };
    timeout(PATIENCE, given).await.expect("the lead is not handed over");
}

fn is_in_the_way(error: &NotAgreed) -> bool {
    matches!(error, NotAgreed::NoMajority(_) | NotAgreed::TimedOut(_))
}

/// Which of them leads, once exactly one does.
pub async fn leader(joined: &[Joined]) -> usize {
    poll("one leads", || {
        let leading = |at: &usize| joined[*at].standing().borrow().leads;
        let mut leading = (0..joined.len()).filter(leading);
        leading.next().filter(|_| leading.next().is_none())
    })
    .await
}

/// The answer, once nothing is in the way any more.
pub async fn note(one: &Joined, text: &str) -> usize {
    let noted = || one.state().borrow().0.iter().rposition(|note| note == text);
    let before = noted();
    let agreed = async {
        loop {
            match one.propose(text.to_owned()).await {
                Ok(place) => return place,
                Err(error) => assert!(is_in_the_way(&error), "{text}: {error}"),
            }
            // It may have been agreed on without an answer: who agrees on anything later knows.
            while let Err(error) = one.propose("nothing".to_owned()).await {
                assert!(is_in_the_way(&error), "{text}: {error}");
                sleep(RETRY_PAUSE).await;
            }
            if let Some(place) = noted().filter(|_| noted() != before) {
                return place;
            }
        }
    };
    timeout(PATIENCE, agreed).await.unwrap_or_else(|_| panic!("{text}: nothing is agreed on"))
}

pub async fn until(one: &Joined, what: &str, holds: impl Fn(&[String]) -> bool) {
    let mut state = one.state();
    let waited = timeout(PATIENCE, state.wait_for(|notes| holds(&notes.0))).await;
    if !matches!(waited, Ok(Ok(_))) {
        panic!("{what}: {:?}", one.state().borrow());
    }
}

pub async fn stands(one: &Joined, what: &str, holds: impl Fn(&Standing) -> bool) {
    let mut standing = one.standing();
    let waited = timeout(PATIENCE, standing.wait_for(|standing| holds(standing))).await;
    if !matches!(waited, Ok(Ok(_))) {
        panic!("{what}: {:?}", one.standing().borrow());
    }
}

pub async fn poll<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let mut polls = interval(Duration::from_millis(20));
    let found = async {
        loop {
            polls.tick().await;
            if let Some(found) = found() {
                return found;
            }
        }
    };
    timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("in vain: {what}"))
}
