//! The fleet, as the words have it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use segue_wire::PeerName;

use super::word::{Heard, StoreWord};
use crate::upgrade::{
    action::Moment,
    fleet::{Fleet, Member, Role},
    state::State,
    transaction::Transaction,
};

/// How long another node must be the one master, against what was agreed, to be taken for it: nobody of the
/// transaction made it one, or whoever did can't tell.
const ADOPTED_AFTER: Duration = Duration::from_secs(10);

/// The nodes that have a store, as they are now.
pub fn fleet(heard: &[Heard], state: &State, lag_bytes_max: u64, now: Moment) -> Fleet {
    let running = state.running();
    let stores: BTreeMap<&PeerName, (&StoreWord, bool)> = heard
        .iter()
        .filter_map(|heard| Some((&heard.node, (heard.word.store.as_ref()?, heard.is_fresh))))
        .collect();
    let names: Vec<&PeerName> = match running {
        Some(running) => running.fleet.members.keys().collect(),
        None => {
            let registered = state.nodes.values().filter(|node| node.store.is_some());
            let mut names: Vec<_> = registered.map(|node| &node.node).chain(stores.keys().copied()).collect();
            names.sort();
            names.dedup();
            names
        }
    };
    let agreed = running.and_then(|running| running.fleet.master());
    let master = agreed.and_then(|master| stores.get(master)).filter(|(_, is_fresh)| *is_fresh);
    let member = |(place, name): (usize, &PeerName)| {
        let before = running.and_then(|running| running.fleet.members.get(name));
        let store = stores.get(name);
        let registered = state.nodes.get(name);
        let is_master = match (agreed, store) {
            (Some(agreed), _) => name == agreed,
            (None, Some((store, true))) if store.silent.is_none() => store.master,
            (None, _) => registered.is_some_and(|node| node.master == Some(true)),
        };
        let fresh = store.filter(|(store, is_fresh)| *is_fresh && store.silent.is_none());
        let reachable = fresh.is_some();
        let number = u32::try_from(place).unwrap_or(u32::MAX);
        let counts_as_master =
            |store: &StoreWord| master.is_none_or(|(master, _)| master.history == store.history);
        let member = Member {
            number: store.and_then(|(store, _)| store.number).or(before.map(|m| m.number)).unwrap_or(number),
            role: if is_master { Role::Master } else { Role::Secondary },
            reachable,
            in_sync: match fresh {
                Some((store, _)) if store.linked || store.master => store.is_in_sync(lag_bytes_max),
                // It had all when its master was last there, or it did not.
                Some((store, _)) => {
                    master.is_none() && !store.loading && before.is_some_and(|before| before.in_sync)
                }
                None => before.is_some_and(|before| before.in_sync),
            },
            offset: fresh.filter(|(store, _)| counts_as_master(store)).map_or(0, |(store, _)| store.offset),
        };
        (name.clone(), member)
    };
    let mut fleet = Fleet {
        members: names.into_iter().enumerate().map(member).collect(),
        seen_at: now,
        ..Fleet::default()
    };
    if let Some(running) = running {
        fleet.losses = losses(heard, running);
        fleet.count_losses_of(&running.fleet);
        fleet.moves = running.fleet.moves;
    }
    fleet
}

/// What a node said before it went away still counts.
fn losses(heard: &[Heard], running: &Transaction) -> BTreeMap<PeerName, u64> {
    let said = heard.iter().filter(|heard| heard.word.transaction == running.id && heard.word.losses > 0);
    said.map(|heard| (heard.node.clone(), heard.word.losses)).collect()
}

/// Whether two looks differ in what anything is decided by; offsets change all the time.
pub fn differ(a: &Fleet, b: &Fleet) -> bool {
    let without_offsets = |fleet: &Fleet| {
        let members = fleet.members.iter();
        members
            .map(|(name, member)| (name.clone(), Member { offset: 0, ..member.clone() }))
            .collect::<Vec<_>>()
    };
    a.losses != b.losses || without_offsets(a) != without_offsets(b)
}

/// Somebody else made another node master.
#[derive(Default)]
pub struct Other {
    since: Option<(PeerName, Instant)>,
}

impl Other {
    /// The node that is master against what was agreed, once it has been for long enough.
    pub fn adopted(&mut self, heard: &[Heard], running: &Transaction, now: Instant) -> Option<PeerName> {
        let other = other_master(heard, running);
        match (&self.since, other) {
            (Some((before, since)), Some(other)) if *before == other => {
                (now.duration_since(*since) >= ADOPTED_AFTER).then_some(other)
            }
            (_, other) => {
                self.since = other.map(|other| (other, now));
                None
            }
        }
    }
}

fn other_master(heard: &[Heard], running: &Transaction) -> Option<PeerName> {
    let agreed = running.fleet.master()?;
    let mut masters = heard.iter().filter(|heard| {
        let says = heard.word.store.as_ref().is_some_and(|store| store.silent.is_none() && store.master);
        heard.is_fresh && says && running.fleet.members.contains_key(&heard.node)
    });
    let first = masters.next()?;
    (masters.next().is_none() && first.node != *agreed).then(|| first.node.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cluster::Machine,
        hands::word::Word,
        upgrade::{
            rules::Rules,
            state::{Answer, Entry},
        },
    };

    const LAG_BYTES_MAX: u64 = 100;

    fn heard(node: &str, master: bool) -> Heard {
        let store = StoreWord {
            address: format!("{node}:6379"),
            master,
            linked: !master,
            offset: 1000,
            history: "h".to_owned(),
            ..StoreWord::default()
        };
        let word = Word { store: Some(store), transaction: 1, ..Word::default() };
        Heard { node: node.into(), word, is_fresh: true }
    }

    /// n1 is master, n2 follows it.
    fn all() -> [Heard; 2] {
        [heard("n1", true), heard("n2", false)]
    }

    fn changed(change: impl FnOnce(&mut Heard, &mut Heard)) -> [Heard; 2] {
        let [mut n1, mut n2] = all();
        change(&mut n1, &mut n2);
        [n1, n2]
    }

    fn store(heard: &mut Heard) -> &mut StoreWord {
        heard.word.store.as_mut().unwrap()
    }

    fn look(heard: &[Heard], state: &State) -> Fleet {
        fleet(heard, state, LAG_BYTES_MAX, Moment(0))
    }

    fn running() -> State {
        let mut state = State::default();
        let started = state.apply(Entry::Start {
            at: Moment(0),
            who: "ana".to_owned(),
            from: "redis-6.0".parse().unwrap(),
            to: "redis-8.0".parse().unwrap(),
            rules: Rules::default(),
            fleet: look(&all(), &State::default()),
        });
        assert_eq!(started, Answer::Done);
        state
    }

    #[test]
    fn a_secondary_that_is_behind_or_silent_is_not_in_sync() {
        let n2 = |heard: &[Heard]| {
            let member = look(heard, &State::default()).members["n2"].clone();
            (member.reachable, member.in_sync)
        };
        assert_eq!(n2(&all()), (true, true));
        assert_eq!(n2(&changed(|_, n2| store(n2).behind_bytes = Some(LAG_BYTES_MAX + 1))), (true, false));
        assert_eq!(n2(&changed(|_, n2| store(n2).linked = false)), (true, false));
        assert_eq!(n2(&changed(|_, n2| store(n2).silent = Some("refused".to_owned()))), (false, false));
        assert_eq!(n2(&changed(|_, n2| n2.is_fresh = false)), (false, false));
    }

    #[test]
    fn without_its_master_a_secondary_counts_as_it_did() {
        let state = running();
        let n2 = |heard: &[Heard]| look(heard, &state).members["n2"].in_sync;
        let unlinked = |n2: &mut Heard| store(n2).linked = false;
        assert!(!n2(&changed(|_, n2| unlinked(n2))));
        let both = changed(|n1, n2| {
            n1.is_fresh = false;
            unlinked(n2);
        });
        assert!(n2(&both));
        // Another history's count says nothing of how far it is.
        let other = changed(|_, n2| store(n2).history = "other".to_owned());
        assert_eq!(look(&other, &state).members["n2"].offset, 0);
    }

    #[test]
    fn losses_that_were_agreed_on_are_never_fewer() {
        let mut state = running();
        let lost = changed(|n1, n2| (n1.word.losses, n2.word.losses) = (2, 3));
        let seen = look(&lost, &state);
        assert_eq!(seen.losses_total(), 5);
        assert!(differ(&seen, &look(&all(), &state)));
        assert_eq!(state.apply(Entry::Seen { at: Moment(0), fleet: seen }), Answer::Done);
        assert_eq!(look(&all(), &state).losses_total(), 5);
        let earlier = changed(|n1, _| (n1.word.transaction, n1.word.losses) = (0, 70));
        assert_eq!(look(&earlier, &state).losses_total(), 5);
        // Of each node apart: one that knows no more of its own hides nothing of another's.
        let fewer = changed(|n1, n2| (n1.word.losses, n2.word.losses) = (0, 4));
        assert_eq!(look(&fewer, &state).losses_total(), 6);
    }

    #[test]
    fn offsets_alone_are_no_difference() {
        let further = changed(|n1, n2| (store(n1).offset, store(n2).offset) = (2000, 1900));
        let state = State::default();
        assert!(!differ(&look(&all(), &state), &look(&further, &state)));
    }

    #[test]
    fn another_master_is_taken_for_it_once_it_has_been_for_long_enough() {
        let state = running();
        let running = state.running().unwrap();
        let failed_over = changed(|n1, n2| (store(n1).master, store(n2).master) = (false, true));
        let two = changed(|_, n2| store(n2).master = true);
        let (mut other, start) = (Other::default(), Instant::now());
        let at = |s| start + Duration::from_secs(s);
        assert_eq!(other.adopted(&failed_over, running, at(0)), None);
        assert_eq!(other.adopted(&failed_over, running, at(9)), None);
        assert_eq!(other.adopted(&failed_over, running, at(10)), Some("n2".into()));
        // Two at once, and it counts from anew.
        assert_eq!(other.adopted(&two, running, at(11)), None);
        assert_eq!(other.adopted(&failed_over, running, at(12)), None);
        assert_eq!(other.adopted(&all(), running, at(100)), None);
    }
}
