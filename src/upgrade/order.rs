//! Which nodes are upgraded together, and when.

use segue_wire::PeerName;

use super::{
    fleet::Fleet,
    rules::{Order, Rules},
};

/// The nodes in the order in which they are upgraded, by batches. Two readers of one fleet get one order.
#[must_use]
pub fn batches(fleet: &Fleet, rules: &Rules) -> Vec<Vec<PeerName>> {
    let master = fleet.master();
    let mut secondaries: Vec<&PeerName> = fleet.members.keys().filter(|name| Some(*name) != master).collect();
    secondaries.sort_by_key(|name| {
        let listed = rules.first.iter().position(|first| first == *name).unwrap_or(usize::MAX);
        (listed, fleet.members.get(*name).map(|member| member.number), *name)
    });
    let master = master.map(|master| vec![master.clone()]);
    let mut canary = rules.canary;
    let mut batches = Vec::new();
    if rules.order == Order::MasterFirst && master.is_some() {
        batches.extend(master.clone());
        canary = canary.saturating_sub(1);
    }
    let (first, others) = secondaries.split_at(canary.min(secondaries.len()));
    for part in [first, others] {
        for together in part.chunks(rules.batch.max(1)) {
            batches.push(together.iter().map(|name| (*name).clone()).collect());
        }
    }
    if rules.order == Order::SecondariesFirst {
        batches.extend(master);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::{
        super::fleet::{Member, Role},
        *,
    };

    fn fleet() -> Fleet {
        let mut fleet = Fleet::default();
        for (number, name) in ["n1", "n2", "n3", "n4", "n5"].into_iter().enumerate() {
            let role = if number == 0 { Role::Master } else { Role::Secondary };
            let member = Member { number: number as u32, role, reachable: true, in_sync: true, offset: 0 };
            fleet.members.insert(name.into(), member);
        }
        fleet
    }

    fn shown(rules: &Rules) -> String {
        let batches = batches(&fleet(), rules);
        batches.iter().map(|batch| batch.join("+")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn by_order_and_batch() {
        let rules = Rules::default();
        assert_eq!(shown(&rules), "n2 n3 n4 n5 n1");
        assert_eq!(shown(&Rules { order: Order::MasterFirst, ..rules.clone() }), "n1 n2 n3 n4 n5");
        assert_eq!(shown(&Rules { batch: 3, ..rules.clone() }), "n2+n3+n4 n5 n1");
        assert_eq!(shown(&Rules { batch: 2, order: Order::MasterFirst, ..rules }), "n1 n2+n3 n4+n5");
    }

    #[test]
    fn listed_ones_go_first_and_canaries_by_themselves() {
        let rules = Rules { first: vec!["n4".into(), "n3".into()], ..Rules::default() };
        assert_eq!(shown(&rules), "n4 n3 n2 n5 n1");
        assert_eq!(shown(&Rules { canary: 1, batch: 2, ..rules }), "n4 n3+n2 n5 n1");
        let many = Rules { canary: 9, batch: 2, ..Rules::default() };
        assert_eq!(shown(&many), "n2+n3 n4+n5 n1");
    }
}
