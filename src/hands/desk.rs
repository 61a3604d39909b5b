//! What an operator's commands reach.

use std::sync::Arc;

use async_trait::async_trait;
use segue_wire::PeerName;

use super::{Hands, now};
use crate::{
    cluster::{NotAgreed, Standing},
    upgrade::{
        action::Moment,
        desk::UpgradeDesk,
        fleet::{Fleet, Member, Role},
        rules::Rules,
        state::{Answer, Entry, Registered, State},
    },
};

#[async_trait]
impl UpgradeDesk for Hands {
    fn node(&self) -> PeerName {
        self.node.clone()
    }

    fn now(&self) -> Moment {
        now()
    }

    fn state(&self) -> Arc<State> {
        Hands::state(self)
    }

    fn standing(&self) -> Arc<Standing> {
        self.agreement.standing().borrow().clone()
    }

    fn rules(&self) -> Rules {
        self.config().upgrade.as_ref().map(|upgrade| upgrade.rules.clone()).unwrap_or_default()
    }

    fn fleet(&self) -> Result<Fleet, String> {
        let state = Hands::state(self);
        let standing = UpgradeDesk::standing(self);
        if standing.leader.is_none() {
            return Err("nobody leads the mesh: no majority of the sidecars answers".to_owned());
        }
        if standing.leads {
            return Ok(self.picture(&state));
        }
        Ok(registered(&state, &standing))
    }

    async fn propose(&self, entry: Entry) -> Result<Answer, NotAgreed> {
        self.agreement.propose(entry).await
    }
}

/// Only the leader hears all words; the others know what was registered, and the leader's next look adds the
/// offsets.
fn registered(state: &State, standing: &Standing) -> Fleet {
    let stores = state.nodes.values().filter(|node| node.store.is_some());
    let member = |(place, node): (usize, &Registered)| {
        let is_gone =
            |name: &PeerName| standing.members.iter().any(|member| member.name == *name && !member.reachable);
        let member = Member {
            number: node.number.or(u32::try_from(place).ok()).unwrap_or(u32::MAX),
            role: if node.master == Some(true) { Role::Master } else { Role::Secondary },
            reachable: node.master.is_some() && !is_gone(&node.node),
            in_sync: node.in_sync,
            offset: 0,
        };
        (node.node.clone(), member)
    };
    Fleet { members: stores.enumerate().map(member).collect(), seen_at: now(), ..Fleet::default() }
}
