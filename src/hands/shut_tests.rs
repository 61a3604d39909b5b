use super::*;
use crate::{
    cluster::MemberStanding,
    upgrade::{
        action::{Do, Moment},
        fleet::{Member, Role},
        plan::Event,
        rules::Rules,
    },
};

/// n1 is master; n2 is on its way, its gate is next.
fn begun() -> Transaction {
    let releases = ("redis-6.0".parse().unwrap(), "redis-8.0".parse().unwrap());
    let begun = Transaction::begin(1, releases, Rules::default(), Fleet::of_nodes(3), Moment(0));
    let (mut transaction, actions) = begun.unwrap();
    for action in actions {
        let done = Event::Ended(action.id, crate::upgrade::action::Outcome::Done);
        transaction.handle(done, Moment(0));
    }
    let pending: Vec<_> = transaction.unfinished().map(|action| (&*action.node, &action.what)).collect();
    assert_eq!(pending, [("n2", &Do::PassGate(Gate::Before))]);
    transaction
}

fn standing(leads: bool, answer: usize) -> Standing {
    let member = |number| MemberStanding {
        name: format!("n{number}").into(),
        votes: number <= 3,
        reachable: number <= answer,
    };
    Standing {
        backend: "raft",
        leads,
        leader: leads.then(|| "n1".into()),
        members: (1..=4).map(member).collect(),
        failed: None,
    }
}

fn shut(transaction: &Transaction) -> Option<String> {
    among_all(transaction, &standing(true, 4), 0, &[])
}

fn member<'a>(transaction: &'a mut Transaction, name: &str) -> &'a mut Member {
    transaction.fleet.members.get_mut(name).unwrap()
}

#[test]
fn nodes_that_are_not_on_their_way_must_answer_and_be_in_sync() {
    let mut transaction = begun();
    assert_eq!(shut(&transaction), None);
    // It has a gate of its own.
    (member(&mut transaction, "n2").reachable, member(&mut transaction, "n2").in_sync) = (false, false);
    assert_eq!(shut(&transaction), None);
    member(&mut transaction, "n3").in_sync = false;
    assert_eq!(shut(&transaction).unwrap(), "n3 is not in sync");
    member(&mut transaction, "n1").reachable = false;
    assert_eq!(shut(&transaction).unwrap(), "n1 does not answer");
    member(&mut transaction, "n3").role = Role::Master;
    assert_eq!(shut(&transaction).unwrap(), "there is no single master among the nodes");
}

#[test]
fn most_of_those_that_vote_must_answer_the_leader() {
    let transaction = begun();
    let shut = |standing| among_all(&transaction, &standing, 0, &[]);
    assert_eq!(shut(standing(true, 2)), None);
    // The fourth does not vote.
    assert_eq!(shut(standing(true, 1)).unwrap(), "1 of 3 voters of the mesh answer");
    let follower = Standing { leader: Some("n2".into()), ..standing(false, 1) };
    assert_eq!(shut(follower), None);
    assert_eq!(shut(standing(false, 3)).unwrap(), "nobody leads the mesh");
}

#[test]
fn losses_shut_it_beyond_what_is_allowed_and_are_told_by_node() {
    let mut transaction = begun();
    transaction.fleet.losses = [("n1".into(), 2), ("n3".into(), 3)].into();
    let shut = |losses_max| among_all(&transaction, &standing(true, 4), losses_max, &[]);
    assert_eq!(shut(5), None);
    assert_eq!(
        shut(4).unwrap(),
        "5 losses were let through (losses_max = 4): 2 on n1, 3 on n3; see segue losses there"
    );
}

#[test]
fn a_link_that_was_refused_lately_shuts_it() {
    let refused = RefusalStatus {
        at_unix_s: 7,
        listen: "127.0.0.1:7401".to_owned(),
        peer: Some("n3".to_owned()),
        reason: "loss".to_owned(),
        detail: "it has a vector-set".to_owned(),
    };
    let shut = |refused: &RefusalStatus| {
        among_all(&begun(), &standing(true, 4), 0, std::slice::from_ref(refused)).unwrap()
    };
    assert_eq!(shut(&refused), "a link of n3 was refused (loss): it has a vector-set");
    let unnamed = RefusalStatus { peer: None, ..refused };
    assert_eq!(shut(&unnamed), "a link of a peer was refused (loss): it has a vector-set");
}

#[test]
fn what_a_disk_lacks_is_told_in_bytes() {
    assert_eq!(disk("/data", Ok(100), 100), None);
    assert_eq!(
        disk("/data", Ok(99), 100).unwrap(),
        "99 bytes are free at /data (disk_free_bytes_min = 100): make room"
    );
    let gone = io::Error::new(io::ErrorKind::NotFound, "no such folder");
    assert_eq!(disk("/data", Err(gone), 100).unwrap(), "/data: no such folder");
}

#[test]
fn the_own_store_must_be_what_was_agreed_and_up_to_date() {
    let seen = Seen {
        store: "redis".to_owned(),
        version: "8.0.1".to_owned(),
        master: false,
        linked: true,
        follows: None,
        offset: 1,
        history: "h".to_owned(),
        loading: false,
        unwritten: false,
        run: None,
    };
    let shut = |seen: &Seen, is_agreed_master| store(seen, is_agreed_master);
    assert_eq!(shut(&seen, false), None);
    let master = Seen { master: true, linked: false, ..seen.clone() };
    assert_eq!(shut(&master, true), None);
    assert_eq!(shut(&master, false).unwrap(), "the store is master, and another one is agreed to be");
    let unlinked = Seen { linked: false, ..seen.clone() };
    assert_eq!(shut(&unlinked, false).unwrap(), "the store is not linked with its master");
    assert_eq!(shut(&unlinked, true).unwrap(), "the store is not linked with its master");
    let loading = Seen { loading: true, ..master };
    assert_eq!(shut(&loading, true).unwrap(), "the store reads its data");
}

#[test]
fn keys_that_differ_are_named_up_to_a_few() {
    let keys = ["a", "b", "c", "d"].map(str::to_owned);
    assert_eq!(data(&[], Gate::Before), None);
    assert_eq!(
        data(&keys, Gate::After).unwrap(),
        "4 keys differ from the master's after the upgrade of the node: a, b, c"
    );
    assert_eq!(
        data(&keys[..1], Gate::Before).unwrap(),
        "1 keys differ from the master's before the upgrade of the node: a"
    );
}
