//! What an operator would see of a transaction; `tests/sim` looks at everything else.

use std::time::Duration;

use super::{
    super::{
        action::{Action, Do, Generation, Moment, Outcome},
        fleet::{Fleet, Role},
        rules::{Finalize, OnFailure, Rules},
        transaction::{Phase, Transaction},
    },
    Command, Event, Rejected,
};

/// A transaction over n1, the master, and its secondaries n2 and n3, with whatever was asked and not answered.
struct Under {
    transaction: Transaction,
    asked: Vec<Action>,
    now: Moment,
}

impl Under {
    fn new(rules: Rules) -> Self {
        let releases = ("redis-6.0".parse().unwrap(), "redis-8.0".parse().unwrap());
        let (transaction, asked) =
            Transaction::begin(1, releases, rules, Fleet::of_nodes(3), Moment(0)).unwrap();
        Self { transaction, asked, now: Moment(0) }
    }

    fn handle(&mut self, event: Event) {
        let more = self.transaction.handle(event, self.now);
        self.asked.extend(more);
    }

    fn command(&mut self, command: Command) -> Result<(), Rejected> {
        let more = self.transaction.command(command, self.now)?;
        self.asked.extend(more);
        Ok(())
    }

    /// Answers what is asked with `outcome`, for as long as it is for this; what was answered otherwise.
    fn answer(&mut self, outcome: impl Fn(&Action) -> Option<Outcome>) -> Vec<String> {
        let mut answered = Vec::new();
        while !self.asked.is_empty() {
            let action = self.asked.remove(0);
            let Some(outcome) = outcome(&action) else { continue };
            answered.push(format!("{} {}", action.node, action.what.label()));
            self.handle(Event::Ended(action.id, outcome));
        }
        answered
    }

    fn all_done(&mut self) -> Vec<String> {
        self.answer(|_| Some(Outcome::Done))
    }

    fn later(&mut self, wait: Duration) {
        self.now = self.now.after(wait);
        self.handle(Event::Tick);
    }

    fn pause(&self) -> (Option<&str>, &str) {
        let pause = self.transaction.paused.as_ref().unwrap();
        (pause.node.as_deref(), &pause.why)
    }
}

#[test]
fn secondaries_go_first_and_the_master_moves_before_it_is_stopped() {
    let mut under = Under::new(Rules::default());
    let steps = under.all_done();
    let of = |node: &str| -> Vec<_> {
        steps.iter().filter_map(|step| step.strip_prefix(node)).map(str::trim).collect()
    };
    let node = ["stop", "set-aside", "install", "start", "catch-up", "notify", "gate-after"];
    assert_eq!(of("n2"), [&["preflight", "gate-before"], &node[..]].concat());
    assert_eq!(of("n1"), [&["preflight", "gate-before", "move-master"], &node[..]].concat());
    let at = |step: &str| steps.iter().position(|other| other == step).unwrap();
    assert!(at("n2 gate-after") < at("n3 gate-before") && at("n3 gate-after") < at("n1 gate-before"));
    assert_eq!(under.transaction.phase, Phase::Upgraded { finalize_at: None });
    under.command(Command::Finalize).unwrap();
    assert_eq!(under.all_done(), ["n1 finalize", "n3 finalize", "n2 finalize"]);
    assert_eq!(under.transaction.phase, Phase::Done);
    assert_eq!(under.command(Command::Pause), Err(Rejected::Over("done")));
}

#[test]
fn links_are_turned_a_batch_of_nodes_at_a_time_and_nobody_waits_for_one_that_is_gone() {
    let mut under = Under::new(Rules::default());
    under.all_done();
    let mut fleet = under.transaction.fleet.clone();
    fleet.members.get_mut("n3").unwrap().reachable = false;
    under.handle(Event::Seen(fleet));
    under.command(Command::Finalize).unwrap();
    let asked = |under: &Under| under.asked.iter().map(|action| action.node.to_string()).collect::<Vec<_>>();
    assert_eq!(under.transaction.fleet.master().map(|name| &**name), Some("n2"));
    assert_eq!(asked(&under), ["n1", "n3"]);
    let first = under.asked.remove(0);
    under.handle(Event::Ended(first.id, Outcome::NotYet("a replica is to link anew".into())));
    assert_eq!(asked(&under), ["n3"]);
    under.handle(Event::Ended(first.id, Outcome::Done));
    assert_eq!(asked(&under), ["n3", "n2"]);
    under.all_done();
    assert_eq!(under.transaction.phase, Phase::Done);
}

#[test]
fn the_barrier_holds_before_the_master() {
    let mut under = Under::new(Rules { hold_before_master: true, ..Rules::default() });
    assert_eq!(under.all_done().last().unwrap(), "n3 gate-after");
    assert_eq!(under.pause(), (None, "the master is next (hold_before_master)"));
    under.command(Command::Resume).unwrap();
    assert!(under.all_done().contains(&"n1 move-master".to_owned()));
    assert_eq!(under.command(Command::Resume), Err(Rejected::NotPaused));
}

/// And whoever saw the fleet as it was before does not change it back.
#[test]
fn a_master_that_others_made_ends_the_move_of_its_predecessor() {
    let mut under = Under::new(Rules::default());
    let moves = |action: &Action| matches!(action.what, Do::MoveMaster { .. });
    under.answer(|action| (!moves(action)).then_some(Outcome::Done));
    assert!(under.transaction.unfinished().any(moves));
    let before = under.transaction.fleet.clone();
    let mut after = before.clone();
    for (name, member) in &mut after.members {
        member.role = if **name == *"n3" { Role::Master } else { Role::Secondary };
    }
    under.handle(Event::Seen(after));
    assert!(!under.transaction.unfinished().any(moves));
    under.handle(Event::Seen(before));
    assert!(under.transaction.fleet.is_master(&"n3".into()));
    under.all_done();
    assert_eq!(under.transaction.phase, Phase::Upgraded { finalize_at: None });
}

/// Whatever else it was paused for before.
#[test]
fn only_a_resume_at_the_barrier_opens_it() {
    let mut under = Under::new(Rules { hold_before_master: true, ..Rules::default() });
    under.command(Command::Pause).unwrap();
    under.command(Command::Resume).unwrap();
    assert_eq!(under.all_done().last().unwrap(), "n3 gate-after");
    assert_eq!(under.pause(), (None, "the master is next (hold_before_master)"));
}

#[test]
fn a_gate_that_stays_shut_pauses_and_never_proceeds() {
    let mut under = Under::new(Rules::default());
    let waits = |action: &Action| match action.what {
        Do::CatchUp => Some(Outcome::NotYet("it is 7 MB behind".into())),
        _ => Some(Outcome::Done),
    };
    assert_eq!(under.answer(waits).last().unwrap(), "n2 catch-up");
    under.later(Rules::default().gate_time_max);
    assert_eq!(under.pause(), (Some("n2"), "catch-up of n2 took too long: it is 7 MB behind"));
    under.later(Duration::from_secs(1_000_000));
    assert_eq!(under.all_done(), [""; 0]);
    under.command(Command::Resume).unwrap();
    assert_eq!(under.all_done()[..2], ["n2 catch-up", "n2 notify"]);
}

#[test]
fn a_node_that_fails_is_taken_back_by_itself() {
    let mut under = Under::new(Rules { attempts_max: 2, ..Rules::default() });
    let broken = |action: &Action| match action.what {
        Do::Install(Generation::New) => Some(Outcome::Failed("no such package".into())),
        _ => Some(Outcome::Done),
    };
    let steps = under.answer(broken);
    let of_n2: Vec<_> = steps.iter().filter(|step| step.starts_with("n2")).cloned().collect();
    assert_eq!(of_n2[4..6], ["n2 install", "n2 install"]);
    let back = ["n2 stop", "n2 set-aside", "n2 install", "n2 start", "n2 catch-up", "n2 notify"];
    assert_eq!(of_n2[6..], back);
    assert_eq!(under.pause(), (Some("n2"), "install of n2 failed: no such package"));
    assert!(!steps.contains(&"n3 gate-before".to_owned()), "{steps:?}");
}

#[test]
fn a_failure_can_roll_all_back() {
    let mut under =
        Under::new(Rules { attempts_max: 1, on_failure: OnFailure::Rollback, ..Rules::default() });
    let broken = |action: &Action| match action.what {
        Do::Start if &*action.node == "n3" && action.id.step < 20 => {
            Some(Outcome::Failed("no memory".into()))
        }
        _ => Some(Outcome::Done),
    };
    let steps = under.answer(broken);
    assert!(matches!(&under.transaction.phase, Phase::RolledBack { reason } if reason.contains("no memory")));
    assert!(under.transaction.nodes.values().all(|node| node.generation == Generation::Old));
    let at = |step: &str| steps.iter().rposition(|other| other == step).unwrap();
    assert!(at("n3 notify") < at("n2 stop"), "{steps:?}");
}

#[test]
fn a_failure_does_not_roll_back_by_itself_what_would_cost_data() {
    let mut under =
        Under::new(Rules { attempts_max: 1, on_failure: OnFailure::Rollback, ..Rules::default() });
    let fleet = Fleet { losses: [("n1".into(), 2)].into(), ..under.transaction.fleet.clone() };
    under.handle(Event::Seen(fleet));
    under.answer(|action| match action.what {
        Do::Start if action.id.step < 10 => Some(Outcome::Failed("no memory".into())),
        _ => Some(Outcome::Done),
    });
    let (node, why) = under.pause();
    assert_eq!(node, Some("n2"));
    assert!(why.starts_with("start of n2 failed: no memory; no rollback by itself: 2 losses"), "{why}");
    assert_eq!(under.transaction.nodes["n2"].course, None);
    under.command(Command::Rollback { accept_losses: true }).unwrap();
    under.all_done();
    assert!(matches!(under.transaction.phase, Phase::RolledBack { .. }));
}

/// A move that was given up may go through all the same.
#[test]
fn one_that_became_master_past_its_turn_gives_the_role_away_before_it_is_stopped() {
    let mut under = Under::new(Rules::default());
    under.all_done();
    under.command(Command::Rollback { accept_losses: false }).unwrap();
    let stop = under.asked.remove(0);
    assert_eq!((&*stop.node, &stop.what), ("n1", &Do::Stop));
    let mut fleet = under.transaction.fleet.clone();
    for (name, member) in &mut fleet.members {
        member.role = if *name == stop.node { Role::Master } else { Role::Secondary };
    }
    under.handle(Event::Seen(fleet));
    under.handle(Event::Ended(stop.id, Outcome::Failed("it is master".into())));
    let steps = under.all_done();
    assert_eq!(steps[..2], ["n1 move-master", "n1 stop"]);
    assert!(matches!(under.transaction.phase, Phase::RolledBack { .. }));
}

#[test]
fn the_way_back_names_its_price_and_ends_where_links_are_turned() {
    let mut under =
        Under::new(Rules { finalize: Finalize::After(Duration::from_secs(60)), ..Rules::default() });
    under.all_done();
    for losses in [[("n1".into(), 1)], [("n2".into(), 2)], [("n1".into(), 0)]] {
        let fleet = Fleet { losses: losses.into(), seen_at: Moment(1), ..under.transaction.fleet.clone() };
        under.handle(Event::Seen(fleet));
    }
    assert_eq!(under.command(Command::Rollback { accept_losses: false }), Err(Rejected::Losses(3)));
    under.later(Duration::from_secs(60));
    assert_eq!(under.transaction.phase, Phase::Finalizing);
    assert_eq!(under.command(Command::Rollback { accept_losses: true }), Err(Rejected::Finalizing));
}

#[test]
fn late_and_repeated_words_do_nothing() {
    let mut under = Under::new(Rules::default());
    let first = under.asked.first().unwrap().id;
    under.all_done();
    let before = under.transaction.clone();
    under.handle(Event::Ended(first, Outcome::Done));
    under.handle(Event::Ended(first, Outcome::Failed("late".into())));
    assert_eq!(under.transaction, before);
}

#[test]
fn without_anyone_to_take_over_nothing_begins() {
    let releases = || ("redis-6.0".parse().unwrap(), "redis-8.0".parse().unwrap());
    let begin = |fleet| Transaction::begin(1, releases(), Rules::default(), fleet, Moment(0)).map(drop);
    assert_eq!(begin(Fleet::of_nodes(1)), Err(Rejected::NoSecondary));
    assert_eq!(begin(Fleet::default()), Err(Rejected::NoMaster));
    let mut unsynced = Fleet::of_nodes(2);
    unsynced.members.get_mut("n2").unwrap().in_sync = false;
    assert_eq!(begin(unsynced), Err(Rejected::NoSecondary));
}

#[test]
fn a_failed_preflight_touches_nothing() {
    let mut under = Under::new(Rules::default());
    let full = |action: &Action| match &*action.node {
        "n3" => Some(Outcome::Failed("the disk is full".into())),
        _ => Some(Outcome::Done),
    };
    under.answer(full);
    let reason = "preflight of n3 failed: the disk is full".to_owned();
    assert_eq!(under.transaction.phase, Phase::Failed { reason });
    assert!(under.transaction.nodes.values().all(|node| !node.touched));
}
