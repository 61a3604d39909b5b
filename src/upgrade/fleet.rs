//! The nodes as last seen.

use std::{cmp::Reverse, collections::BTreeMap};

use segue_wire::PeerName;
use serde::{Deserialize, Serialize};

use super::action::Moment;

/// Every node of the cluster, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    pub members: BTreeMap<PeerName, Member>,
    /// How often each node left content out for older ones since the transaction began, where it did. Going back
    /// costs it.
    pub losses: BTreeMap<PeerName, u64>,
    /// When it was looked at.
    pub seen_at: Moment,
    /// How often the transaction had moved the master by then: whoever knew of fewer moves names another one.
    #[serde(default)]
    pub moves: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its place among the secondaries.
    pub number: u32,
    pub role: Role,
    /// It answers.
    pub reachable: bool,
    /// It has all that its master has, or had when last seen.
    pub in_sync: bool,
    /// How far it has followed the master's stream, in the master's count.
    pub offset: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Master,
    Secondary,
}

impl Fleet {
    /// The one master; `None` also where there seem to be two.
    #[must_use]
    pub fn master(&self) -> Option<&PeerName> {
        let mut masters = self.members.iter().filter(|(_, member)| member.role == Role::Master);
        let master = masters.next()?;
        masters.next().is_none().then_some(master.0)
    }

    #[must_use]
    pub fn losses_total(&self) -> u64 {
        self.losses.values().fold(0, |total, losses| total.saturating_add(*losses))
    }

    /// Losses that were counted before stay so, whoever looks.
    pub fn count_losses_of(&mut self, before: &Self) {
        for (node, losses) in &before.losses {
            let counted = self.losses.entry(node.clone()).or_default();
            *counted = (*counted).max(*losses);
        }
    }

    pub(super) fn move_master(&mut self, master: &PeerName) {
        self.moves += 1;
        for (name, member) in &mut self.members {
            member.role = if name == master { Role::Master } else { Role::Secondary };
        }
    }

    #[must_use]
    pub fn is_master(&self, node: &PeerName) -> bool {
        self.members.get(node).is_some_and(|member| member.role == Role::Master)
    }

    pub(super) fn answers(&self, node: &PeerName) -> bool {
        self.members.get(node).is_some_and(|member| member.reachable)
    }

    /// Who is to be the new master: of the secondaries that answer, are in sync and that `may` be, one that
    /// is `preferred`, then the one with the highest offset, then the lowest number.
    #[must_use]
    pub fn elect(
        &self,
        may: impl Fn(&PeerName) -> bool,
        preferred: impl Fn(&PeerName) -> bool,
    ) -> Option<&PeerName> {
        let electable = |(name, member): &(&PeerName, &Member)| {
            member.role == Role::Secondary && member.reachable && member.in_sync && may(name)
        };
        let best = self.members.iter().filter(electable).max_by_key(|(name, member)| {
            (preferred(name), member.offset, Reverse(member.number), Reverse(*name))
        });
        best.map(|(name, _)| name)
    }
}

#[cfg(test)]
impl Fleet {
    /// n1 is master, and as many secondaries follow it as make so many nodes; all are in order.
    #[must_use]
    pub fn of_nodes(count: u32) -> Self {
        let member = |number| {
            let role = if number == 1 { Role::Master } else { Role::Secondary };
            let name = PeerName::from(format!("n{number}"));
            (name, Member { number, role, reachable: true, in_sync: true, offset: 10 })
        };
        Self { members: (1..=count).map(member).collect(), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(secondaries: &[(&str, bool, u64)]) -> Fleet {
        let master = Member { number: 0, role: Role::Master, reachable: true, in_sync: true, offset: 100 };
        let mut members = BTreeMap::from([("m".into(), master.clone())]);
        for (number, (name, in_sync, offset)) in secondaries.iter().enumerate() {
            let number = number as u32 + 1;
            let member =
                Member { number, role: Role::Secondary, in_sync: *in_sync, offset: *offset, ..master };
            members.insert((*name).into(), member);
        }
        Fleet { members, ..Fleet::default() }
    }

    fn elected(fleet: &Fleet, may: &[&str], preferred: &str) -> Option<String> {
        let elected = fleet.elect(|name| may.contains(&&**name), |name| &**name == preferred);
        elected.map(|name| name.to_string())
    }

    #[test]
    fn the_highest_offset_is_elected_and_the_lowest_number_of_equals() {
        let fleet = fleet(&[("b", true, 90), ("a", true, 95), ("c", true, 95)]);
        assert_eq!(elected(&fleet, &["a", "b", "c", "m"], ""), Some("a".into()));
        assert_eq!(elected(&fleet, &["b", "c"], ""), Some("c".into()));
        assert_eq!(elected(&fleet, &["a", "b", "c"], "b"), Some("b".into()));
    }

    #[test]
    fn one_that_is_not_in_sync_is_never_elected() {
        let fleet = fleet(&[("a", false, 1000), ("b", true, 5)]);
        assert_eq!(elected(&fleet, &["a", "b"], "a"), Some("b".into()));
        assert_eq!(elected(&fleet, &["a"], "a"), None);
    }
}
