//! Who the members are, as the config has it.

use std::{collections::BTreeSet, time::Duration};

use super::types::{Id, IdTooLong};
use crate::config::Mesh;

/// Most members that vote; the others learn what was agreed on.
pub const VOTERS_MAX: usize = 5;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    pub node: Id,
    pub members: BTreeSet<Id>,
    /// Witnesses, which are there for it, then the others, by id.
    pub voters: BTreeSet<Id>,
}

impl Roster {
    pub fn new(node: Id, mesh: &Mesh) -> Result<Self, IdTooLong> {
        let mut by_rank = BTreeSet::new();
        for member in &mesh.members {
            by_rank.insert((!member.witness, Id::new(&member.id)?));
        }
        let members = by_rank.iter().map(|(_, id)| *id).collect();
        let voters = by_rank.iter().take(VOTERS_MAX).map(|(_, id)| *id).collect();
        Ok(Self { node, members, voters })
    }

    pub fn others(&self) -> impl Iterator<Item = Id> {
        self.members.iter().copied().filter(|id| *id != self.node)
    }
}

/// All that follows from `election_timeout_ms`.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// From it to `lease`, at random, a member waits before it stands for election.
    pub election: Duration,
    /// How long a leader's word holds: no other is voted for, and it may say that it leads.
    pub lease: Duration,
    pub heartbeat: Duration,
    /// How often a member says hello to the others.
    pub hello: Duration,
    /// Who has not answered for so long is not reachable.
    pub reachable: Duration,
    pub propose: Duration,
}

impl Timing {
    pub fn new(mesh: &Mesh) -> Self {
        let election = mesh.election_timeout;
        let hello = election.min(Duration::from_secs(1));
        Self {
            election,
            lease: election.saturating_mul(3) / 2,
            heartbeat: election / 4,
            hello,
            reachable: hello.saturating_mul(3),
            propose: mesh.propose_timeout,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MeshMember;

    #[test]
    fn five_vote_and_witnesses_first() {
        let member = |(id, witness): &(&str, bool)| MeshMember {
            id: (*id).into(),
            address: "127.0.0.1:1".parse().unwrap(),
            witness: *witness,
        };
        let voters = |members: &[(&str, bool)]| {
            let mesh = Mesh {
                listen: ([127, 0, 0, 1], 1).into(),
                keys: None,
                verify_name: false,
                members: members.iter().map(member).collect(),
                election_timeout: Duration::from_secs(1),
                propose_timeout: Duration::from_secs(1),
            };
            let roster = Roster::new(Id::new("n1").unwrap(), &mesh).unwrap();
            assert_eq!((roster.members.len(), roster.others().count()), (members.len(), members.len() - 1));
            roster.voters.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let nodes = ["n6", "n5", "n4", "n3", "n2", "n1"].map(|id| (id, false));
        assert_eq!(voters(&nodes[4..]), ["n1", "n2"]);
        assert_eq!(voters(&nodes), ["n1", "n2", "n3", "n4", "n5"]);
        assert_eq!(voters(&[&nodes[..], &[("w", true)]].concat()), ["n1", "n2", "n3", "n4", "w"]);
    }
}
