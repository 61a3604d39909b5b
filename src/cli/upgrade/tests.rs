use clap::Parser;

use super::{
    super::{Cli, Command, Exit, tests::DUMB},
    *,
};
use crate::{
    admin::{
        Routes,
        tests::{Fake, Running, start as start_admin},
        upgrade_tests::Desk,
    },
    upgrade::{
        desk::UpgradeDesk,
        plan::Command as Told,
        rules::Order,
        state::Entry,
        view,
        wish::{FinalizeWish, RulesWish, Wish},
    },
};

/// The status right after the checks, when the first node is waited for.
pub(super) fn upgrading() -> UpgradeStatus {
    let desk = begun();
    desk.done(3);
    seen(&desk)
}

fn begun() -> std::sync::Arc<Desk> {
    let desk = Desk::new();
    desk.start("redis-8.0");
    desk
}

fn seen(desk: &Desk) -> UpgradeStatus {
    view::status(&desk.node(), &desk.state(), &desk.standing(), desk.now())
}

fn ended(desk: &Desk) -> UpgradeStatus {
    desk.apply(Entry::Command { at: desk.now(), who: "ana".to_owned(), command: Told::Finalize });
    desk.all_done();
    seen(desk)
}

fn parse(line: &str) -> UpgradeArgs {
    let Command::Upgrade(args) = Cli::try_parse_from(line.split(' ')).unwrap().command else {
        panic!("{line}")
    };
    args
}

async fn told(running: &Running, line: &str) -> Result<(), Failure> {
    run(&parse(&format!("segue upgrade {line} --admin {}", running.address)), Some("ana".to_owned()), DUMB)
        .await
}

#[test]
fn flags_are_rules_and_what_is_not_given_stays_open() {
    let UpgradeCommand::Start(args) = parse(
        "segue upgrade start --to redis-8.0 --order master-first --first n3,n2 --soak 90s --hold-before-master \
         --finalize 24h",
    )
    .command
    else {
        panic!()
    };
    let rules = RulesWish {
        order: Some(Order::MasterFirst),
        first: Some(vec!["n3".into(), "n2".into()]),
        soak_ms: Some(90_000),
        hold_before_master: Some(true),
        finalize: Some(FinalizeWish::AfterMs(86_400_000)),
        ..RulesWish::default()
    };
    assert_eq!(args.wish(None), Wish { to: "redis-8.0".to_owned(), rules, ..Wish::default() });
}

#[tokio::test]
async fn one_command_after_the_other_reaches_the_state() {
    let desk = Desk::new();
    let running = start_admin(Routes::Admin, Fake::with(desk.clone())).await;
    told(&running, "plan --to redis-8.0").await.unwrap();
    told(&running, "plan --to redis-8.0 --json").await.unwrap();
    assert_eq!(desk.state().transaction, None);
    let refused = told(&running, "start --to redis-6.0").await.unwrap_err();
    assert_eq!((refused.exit, &*refused.message), (Exit::Failed, "segue: all nodes run redis-6.0 already"));

    told(&running, "start --to redis-8.0").await.unwrap();
    told(&running, "pause").await.unwrap();
    assert!(desk.state().running().unwrap().paused.is_some());
    told(&running, "explain").await.unwrap();
    told(&running, "resume --json").await.unwrap();
    desk.all_done();
    desk.lose(2);
    let refused = told(&running, "rollback").await.unwrap_err();
    assert!(refused.message.contains("--accept-losses"), "{}", refused.message);
    told(&running, "rollback --accept-losses").await.unwrap();
    desk.all_done();
    told(&running, "status --watch").await.unwrap();
    assert_eq!(desk.state().transaction.as_ref().unwrap().phase.label(), "rolled-back");

    told(&running, "start --to redis-8.0").await.unwrap();
    told(&running, "abort").await.unwrap();
    let failed = told(&running, "status --watch --json").await.unwrap_err();
    assert_eq!(failed.message, "segue: the operator aborted it");
}

#[tokio::test]
async fn a_watch_lasts_until_the_end() {
    let desk = begun();
    let running = start_admin(Routes::Admin, Fake::with(desk.clone())).await;
    let finalized = async {
        while told(&running, "finalize").await.is_err() {
            desk.all_done();
            tokio::task::yield_now().await;
        }
        desk.all_done();
    };
    let (watched, ()) = tokio::join!(told(&running, "status --watch"), finalized);
    watched.unwrap();
    assert_eq!(desk.state().transaction.as_ref().unwrap().phase.label(), "done");
}

#[test]
fn a_status_tells_nodes_steps_and_what_comes_next() {
    let text = show::status(&upgrading());
    for part in [
        "upgrade 1, redis-6.0 to redis-8.0: rolling\nn1 leads; 3 of 3 sidecars answer (as n1 sees it)\n",
        "n2    secondary  redis-6.0.16  old → new",
        "0/9 gate-before",
        "n2: gate-before, 1s so far, ",
        "waits: its sidecar has not begun it",
        "next: n2: stop the store",
        "3 of 31 steps done\n",
        "ana starts the upgrade from redis-6.0 to redis-8.0",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn what_is_for_the_operator_is_said_with_what_it_means() {
    let desk = begun();
    desk.all_done();
    for text in [show::status(&seen(&desk)), show::explain(&seen(&desk))] {
        let text = text.to_lowercase();
        assert!(text.contains("all nodes run redis-8.0, and still speak redis-6.0 to each other"), "{text}");
        assert!(
            text.contains("what to do: segue upgrade finalize (from there on no way back), or"),
            "{text}"
        );
        assert!(!text.contains("next:"), "{text}");
    }
    let took = show::end(&ended(&desk)).unwrap();
    assert!(
        took.starts_with("Success: all nodes run redis-8.0, and every link speaks it. It took "),
        "{took}"
    );
}

#[test]
fn a_node_that_is_stuck_on_its_way_back_is_said_to_be() {
    let desk = begun();
    desk.done(3);
    let mut status = seen(&desk);
    let n2 = status.nodes.iter_mut().find(|node| node.id == "n2").unwrap();
    n2.reachable = false;
    let part = n2.part.as_mut().unwrap();
    (part.heading, part.blocked) = (Some("old".to_owned()), Some("install of n2 failed".to_owned()));
    let text = show::status(&status);
    for part in [
        "n2    secondary, away  redis-6.0.16  back to old  -        -       0/9 gate-before blocked\n",
        "n2 is stuck on its way back to redis-6.0; its store is down: install of n2 failed\n",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn a_plan_says_every_step_and_that_nothing_moved() {
    let text = show::plan(&view::plan(begun().state().running().unwrap()));
    assert!(
        text.starts_with("redis-6.0 to redis-8.0, in this order: n2, n3, n1; n1 is master now\n"),
        "{text}"
    );
    assert!(text.contains("n1    move-master  hold writes, let n2 catch up and become master\n"), "{text}");
    assert!(text.contains("Nothing has moved."), "{text}");
}

#[test]
fn each_thing_in_the_way_is_explained_with_what_to_do() {
    let desk = begun();
    desk.done(3);
    let text = show::explain(&seen(&desk));
    assert!(text.contains("n2: gate-before, 1s so far, "), "{text}");
    assert!(text.contains("it pauses; it never goes on unfinished"), "{text}");

    desk.time_out();
    let text = show::explain(&seen(&desk));
    assert!(text.contains("It is paused: gate-before of n2 took too long"), "{text}");
    assert!(
        text.contains("what to do: see what it waits for, then segue upgrade resume or rollback"),
        "{text}"
    );
    assert_eq!(text.matches("gate-before of n2 took too long").count(), 1, "{text}");

    assert!(!text.contains("n2 is stuck"), "{text}");
    let mut alone = seen(&desk);
    for member in alone.mesh.members.iter_mut().skip(1) {
        member.reachable = false;
    }
    let text = show::explain(&alone);
    assert!(text.contains("1 of 3 voters answer"), "{text}");
    assert!(text.contains("These sidecars do not answer: n2, n3."), "{text}");

    alone.mesh.failed = Some("mesh.redb: No space left on device".to_owned());
    let text = show::explain(&alone);
    let (why, what_to_do) = text.split_once("what to do: ").unwrap();
    assert!(
        why.contains("n1 takes no part in the mesh any more: mesh.redb: No space left on device;"),
        "{why}"
    );
    assert!(what_to_do.starts_with("mend that, such as by making room in state.dir"), "{what_to_do}");
    assert!(show::status(&alone).contains("\nn1 takes no part in the mesh any more: "));
}
