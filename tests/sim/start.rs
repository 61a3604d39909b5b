//! What a seed begins with.

use std::{collections::BTreeMap, time::Duration};

use fastrand::Rng;
use segue::upgrade::{
    action::Moment,
    fleet::{Fleet, Member, Role},
    rules::{Finalize, OnFailure, Order, Rules},
};
use segue_wire::PeerName;

use crate::node::Node;

pub fn rules(rng: &mut Rng, count: usize) -> Rules {
    Rules {
        order: if rng.bool() { Order::SecondariesFirst } else { Order::MasterFirst },
        batch: rng.usize(1..=3),
        canary: rng.usize(0..=count),
        canary_soak: Duration::from_secs(rng.u64(0..20)),
        hold_before_master: rng.bool(),
        soak: Duration::from_secs(rng.u64(0..20)),
        finalize: if rng.bool() {
            Finalize::Manual
        } else {
            Finalize::After(Duration::from_secs(rng.u64(0..30)))
        },
        on_failure: if rng.bool() { OnFailure::Pause } else { OnFailure::Rollback },
        attempts_max: rng.u32(1..4),
        step_time_max: Duration::from_secs(rng.u64(5..60)),
        gate_time_max: Duration::from_secs(rng.u64(5..60)),
        ..Rules::default()
    }
}

/// All stores, as they are.
pub fn fleet(nodes: &BTreeMap<PeerName, Node>, now: u64, moves: u64) -> Fleet {
    let master = nodes.values().find(|node| node.is_master).map_or(0, |node| node.writes);
    let members = nodes.iter().enumerate().map(|(number, (name, node))| {
        let role = if node.is_master { Role::Master } else { Role::Secondary };
        let member = Member {
            number: number as u32,
            role,
            reachable: node.running,
            in_sync: master - node.writes < 5,
            offset: node.writes,
        };
        (name.clone(), member)
    });
    Fleet { members: members.collect(), losses: BTreeMap::new(), seen_at: Moment(now), moves }
}
