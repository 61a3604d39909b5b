//! The fleet, as the words have it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use segue_wire::PeerName;

use super::word::{Heard, StoreWord};
use crate::upgrade::{
    action::{Do, Moment},
    fleet::{Fleet, Member, Role},
    state::State,
    transaction::Transaction,
};

/// How long another node must be the one master, against what was agreed, to be taken for it: nobody of the
/// transaction made it one.
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
    Fleet {
        members: names.into_iter().enumerate().map(member).collect(),
        losses: running.map_or(0, |running| losses(heard, running)),
        seen_at: now,
        moves: running.map_or(0, |running| running.fleet.moves),
    }
}

/// What a node said before it went away still counts, and so does what was agreed on.
fn losses(heard: &[Heard], running: &Transaction) -> u64 {
    let of_transaction = heard.iter().filter(|heard| heard.word.transaction == running.id);
    of_transaction.map(|heard| heard.word.losses).sum::<u64>().max(running.fleet.losses)
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
    if running.unfinished().any(|action| matches!(action.what, Do::MoveMaster { .. })) {
        return None;
    }
    let agreed = running.fleet.master()?;
    let mut masters = heard.iter().filter(|heard| {
        let says = heard.word.store.as_ref().is_some_and(|store| store.silent.is_none() && store.master);
        heard.is_fresh && says && running.fleet.members.contains_key(&heard.node)
    });
    let first = masters.next()?;
    (masters.next().is_none() && first.node != *agreed).then(|| first.node.clone())
}
