//! What the sidecars agree on: entries that are answered otherwise than `Done`, and what is kept of the past.

use std::collections::BTreeMap;

use segue_wire::PeerName;

use super::{
    super::{
        action::{ActionId, Moment, Outcome},
        fleet::{Fleet, Member, Role},
        plan::Command,
        rules::Rules,
        wish::{Unfit, Wish},
    },
    Answer, Entry, HISTORY_MAX, JOURNAL_BYTES_MAX, JOURNAL_LINE_BYTES_MAX, JOURNAL_LINES_MAX, Registered,
    STEPS_MAX, State,
};
use crate::{cluster::Machine, status::TranslationChange};

const AT: Moment = Moment(1000);

fn fleet() -> Fleet {
    let member = |(name, role): (&str, Role)| {
        let member = Member { number: 0, role, reachable: true, in_sync: true, offset: 10 };
        (PeerName::from(name), member)
    };
    let members = [("n1", Role::Master), ("n2", Role::Secondary)].map(member);
    Fleet { members: BTreeMap::from(members), ..Fleet::default() }
}

fn start(state: &mut State, to: &str) -> Answer {
    state.apply(Entry::Start {
        at: AT,
        who: "ana".to_owned(),
        from: "redis-6.0".parse().unwrap(),
        to: to.parse().unwrap(),
        rules: Rules::default(),
        fleet: fleet(),
    })
}

fn started() -> State {
    let mut state = State::default();
    assert_eq!(start(&mut state, "redis-8.0"), Answer::Done);
    state
}

fn command(state: &mut State, command: Command) -> Answer {
    state.apply(Entry::Command { at: AT, who: "ana".to_owned(), command })
}

fn pending(state: &State) -> Option<ActionId> {
    state.running()?.unfinished().next().map(|action| action.id)
}

fn done(state: &mut State, id: ActionId) -> Answer {
    state.apply(Entry::Ended { at: AT, id, outcome: Outcome::Done, output: Vec::new() })
}

/// Up to where the operator is needed.
fn all_done(state: &mut State) {
    while let Some(id) = pending(state) {
        assert_eq!(done(state, id), Answer::Done);
    }
}

#[track_caller]
fn assert_rejected(answer: Answer, why: &str) {
    let Answer::Rejected(said) = answer else { panic!("{answer:?}") };
    assert!(said.contains(why), "{said}");
}

#[test]
fn a_second_start_is_rejected_by_the_name_of_the_first() {
    let mut state = started();
    let before = state.clone();
    let why = "transaction 1 runs already (preflight, redis-6.0 to redis-8.0)";
    assert_rejected(start(&mut state, "redis-7.0"), why);
    assert_eq!(state, before);
    assert_eq!(command(&mut state, Command::Abort), Answer::Done);
    assert_eq!(start(&mut state, "redis-7.0"), Answer::Done);
    assert_eq!(state.running().unwrap().id, 2);
}

/// The nodes run the new release then, and are not done with it.
#[test]
fn a_wish_names_the_transaction_that_is_not_finalized() {
    let mut state = started();
    for (node, master) in [("n1", false), ("n2", true)] {
        state.apply(Entry::Register(Registered {
            node: node.into(),
            store: Some(format!("{node}:6379")),
            release: Some("redis-8.0.6".to_owned()),
            master: Some(master),
            in_sync: true,
            number: None,
            sidecar: "0.1.0".to_owned(),
        }));
    }
    all_done(&mut state);
    let wish = Wish { to: "redis-8.0".to_owned(), ..Wish::default() };
    let fit = |state: &State| wish.fit(state, Rules::default(), fleet()).unwrap_err();
    let why = fit(&state).to_string();
    assert!(why.starts_with("transaction 1 runs already (upgraded, "), "{why}");
    assert_eq!(command(&mut state, Command::Finalize), Answer::Done);
    all_done(&mut state);
    assert_eq!(fit(&state), Unfit::Already("redis-8.0".parse().unwrap()));
}

#[test]
fn what_is_not_pending_is_not_begun() {
    let mut state = State::default();
    let claim = |state: &mut State, id, at| state.apply(Entry::Claim { at, id });
    let other = ActionId { transaction: 1, step: 99, attempt: 1 };
    assert_eq!(claim(&mut state, other, AT), Answer::Stale);
    assert_eq!(start(&mut state, "redis-8.0"), Answer::Done);
    let action = state.running().unwrap().unfinished().next().unwrap().clone();
    assert_eq!(claim(&mut state, other, AT), Answer::Stale);
    assert_eq!(claim(&mut state, ActionId { attempt: 7, ..action.id }, AT), Answer::Stale);
    assert_eq!(claim(&mut state, action.id, action.deadline), Answer::Stale);
    assert_eq!(state.claimed.len(), 0);
    // A sidecar that was started again begins again, and that is told once.
    let lines = state.journal.len();
    assert_eq!(claim(&mut state, action.id, AT), Answer::Done);
    assert_eq!(claim(&mut state, action.id, AT), Answer::Done);
    assert_eq!((state.claimed.get(&action.node), state.journal.len()), (Some(&action.id), lines + 1));
    assert_eq!(done(&mut state, action.id), Answer::Done);
    let before = state.clone();
    assert_eq!(claim(&mut state, action.id, AT), Answer::Stale);
    assert_eq!(done(&mut state, action.id), Answer::Stale);
    assert_eq!(state, before);
}

#[test]
fn only_what_has_touched_nothing_can_be_aborted() {
    let mut state = started();
    assert_eq!(command(&mut state, Command::Abort), Answer::Done);
    let transaction = state.transaction.as_ref().unwrap();
    assert_eq!(transaction.phase.reason(), Some("the operator aborted it"));
    assert_eq!(pending(&state), None);
    assert_rejected(command(&mut state, Command::Abort), "no transaction runs");

    assert_eq!(start(&mut state, "redis-8.0"), Answer::Done);
    while !state.running().unwrap().nodes.values().any(|node| node.touched) {
        let id = pending(&state).unwrap();
        assert_eq!(done(&mut state, id), Answer::Done);
    }
    let before = state.clone();
    assert_rejected(command(&mut state, Command::Abort), "use `segue upgrade rollback`");
    assert_eq!(state, before);
}

#[test]
fn the_first_translation_names_both_and_later_ones_what_they_change() {
    let mut state = State::default();
    let mut translate = |mode: Option<&str>, loss: Option<&str>| {
        let change = TranslationChange {
            mode: mode.map(str::to_owned),
            loss: loss.map(str::to_owned),
            ..TranslationChange::default()
        };
        let answer = state.apply(Entry::Translate { at: AT, who: "ana".to_owned(), change });
        let newest = state.translations.front();
        (answer, newest.map(|newest| (newest.mode.clone(), newest.loss.clone())))
    };
    let first = "the first change for all nodes has to name mode and loss".to_owned();
    assert_eq!(translate(Some("off"), None), (Answer::Rejected(first.clone()), None));
    assert_eq!(translate(None, Some("refuse")), (Answer::Rejected(first), None));
    let set = |mode: &str, loss: &str| (Answer::Done, Some((mode.to_owned(), loss.to_owned())));
    assert_eq!(translate(Some("auto"), Some("refuse")), set("auto", "refuse"));
    assert_eq!(translate(None, Some("degrade")), set("auto", "degrade"));
    assert_eq!(translate(Some("off"), None), set("off", "degrade"));
}

#[test]
fn the_newest_transactions_and_steps_are_kept() {
    let mut state = State::default();
    let mut steps = 0;
    while steps <= STEPS_MAX as u64 {
        assert_eq!(start(&mut state, "redis-8.0"), Answer::Done);
        all_done(&mut state);
        assert_eq!(command(&mut state, Command::Finalize), Answer::Done);
        all_done(&mut state);
        steps = state.steps.back().unwrap().number;
    }
    let newest = state.transaction.as_ref().unwrap().id;
    assert!(newest > HISTORY_MAX as u64 + 1);
    let history: Vec<u64> = state.history.iter().map(|ended| ended.id).collect();
    assert_eq!(history, (newest - HISTORY_MAX as u64..newest).rev().collect::<Vec<_>>());
    let kept: Vec<u64> = state.steps.iter().map(|step| step.number).collect();
    assert_eq!(kept, (steps - STEPS_MAX as u64 + 1..=steps).collect::<Vec<_>>());
}

#[test]
fn the_newest_lines_of_a_journal_are_kept_within_both_bounds() {
    let mut state = State::default();
    for number in 0..3 * JOURNAL_LINES_MAX {
        state.note(Moment(0), None, None, &number.to_string());
    }
    assert_eq!(state.journal.len(), JOURNAL_LINES_MAX);
    let long = "x".repeat(2 * JOURNAL_LINE_BYTES_MAX);
    for number in 0..JOURNAL_LINES_MAX {
        state.note(Moment(0), None, None, &format!("{number} {long}"));
    }
    let bytes: usize = state.journal.iter().map(|line| line.text.len()).sum();
    assert!(bytes <= JOURNAL_BYTES_MAX && bytes > JOURNAL_BYTES_MAX - 2 * JOURNAL_LINE_BYTES_MAX);
    let newest = &state.journal.back().unwrap().text;
    assert!(newest.starts_with("2047 x") && newest.ends_with(" … (cut off)"));
}
