use super::{
    super::{
        fleet::Fleet,
        rules::{Finalize, Rules},
        view,
    },
    *,
};

fn begun(rules: Rules) -> Transaction {
    let releases = ("redis-6.0".parse().unwrap(), "redis-8.0".parse().unwrap());
    Transaction::begin(1, releases, rules, Fleet::of_nodes(3), Moment(0)).unwrap().0
}

fn steps(transaction: &Transaction) -> Vec<String> {
    let plan = view::plan(transaction);
    plan.steps.iter().map(|step| format!("{} {}", step.node.as_deref().unwrap_or("all"), step.step)).collect()
}

/// What the nodes' own steps are, without the gates.
fn of_node(steps: &[String], node: &str) -> String {
    let own = steps.iter().filter_map(|step| step.strip_prefix(node)?.strip_prefix(' '));
    own.filter(|step| !step.starts_with("gate")).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_step_of_every_node_is_foreseen_up_to_the_end() {
    let steps = steps(&begun(Rules::default()));
    let secondary = "preflight stop set-aside install start catch-up notify finalize";
    assert_eq!(of_node(&steps, "n2"), secondary);
    assert_eq!(of_node(&steps, "n3"), secondary);
    let master = "preflight move-master stop set-aside install start catch-up notify finalize";
    assert_eq!(of_node(&steps, "n1"), master);
    let place = |step: &str| steps.iter().position(|other| other == step).unwrap();
    assert!(place("n2 notify") < place("n3 gate-before"));
    assert!(place("n3 gate-after") < place("n1 move-master"));
    assert!(place("n1 gate-after") < place("all decide"));
    assert!(place("all decide") < place("n1 finalize"));
}

#[test]
fn waits_are_foreseen_where_the_rules_have_them() {
    let rules = Rules {
        canary: 1,
        canary_soak: Duration::from_secs(60),
        hold_before_master: true,
        soak: Duration::from_secs(5),
        finalize: Finalize::After(Duration::from_secs(30)),
        ..Rules::default()
    };
    let transaction = begun(rules);
    let of_all: Vec<_> = steps(&transaction)
        .into_iter()
        .filter_map(|step| Some(step.strip_prefix("all ")?.to_owned()))
        .collect();
    assert_eq!(of_all, ["rest", "hold", "soak", "decide"]);
    let coming = ahead(&transaction, Moment(0), |_| Duration::from_secs(1));
    let last = coming.last().unwrap();
    assert_eq!(last.what, What::End(Phase::Done));
    // Preflights side by side, 8 and 8 and 9 steps and the finalizings one by one, and the waits.
    assert_eq!(last.at, Moment((1 + 8 + 8 + 9 + 3 + 60 + 5 + 30) * 1000));
}

#[test]
fn what_is_pending_comes_first_and_a_failed_one_has_no_future() {
    let mut transaction = begun(Rules::default());
    for action in transaction.unfinished().cloned().collect::<Vec<_>>() {
        transaction.handle(Event::Ended(action.id, Outcome::Done), Moment(5));
    }
    let coming = ahead(&transaction, Moment(9), |_| Duration::ZERO);
    let first = coming.first().unwrap();
    assert_eq!(first.at, Moment(5));
    assert!(
        matches!(&first.what, What::Step { node, step } if &**node == "n2" && step.label() == "gate-before")
    );

    transaction.command(Command::Abort, Moment(9)).unwrap();
    let coming = ahead(&transaction, Moment(9), |_| Duration::ZERO);
    assert!(matches!(&coming[..], [Ahead { what: What::End(Phase::Failed { .. }), .. }]));
}
