//! Says hello to another member every now and then, and gives the leader the own word.

use std::{pin::pin, sync::Arc};

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{
    member::Member,
    types::Id,
    wire::{HELLO, HELLO_TIME_MAX, Hello, WORD},
};

/// What this node says of itself.
pub fn own(member: &Member) -> Hello {
    Hello {
        mesh: super::membership::mesh_of(&member.raft_metrics()),
        members: member.roster.members.iter().copied().collect(),
        voters: member.roster.voters.iter().copied().collect(),
    }
}

pub async fn keep(member: Arc<Member>, other: Id) {
    let mut turn = interval(member.timing.hello);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut word = member.presence.own();
    loop {
        let is_turn = {
            let (turn, said) = (pin!(turn.tick()), pin!(word.changed()));
            tokio::select! {
                _ = turn => true,
                said = said => said.is_err(),
            }
        };
        if is_turn {
            let answer = member.client.ask(other, HELLO, &own(&member), HELLO_TIME_MAX).await;
            match answer {
                Ok(hello) => member.presence.answered(other, hello),
                Err(error) => tracing::debug!(%error, "no hello"),
            }
        }
        let said = word.borrow_and_update().clone();
        if let Some(said) = said.filter(|_| member.raft_metrics().current_leader == Some(other)) {
            let age_ms = Instant::now().saturating_duration_since(said.at).as_millis();
            let path = format!("{WORD}{age_ms}");
            if let Err(error) = member.client.send(other, &path, said.word, HELLO_TIME_MAX).await {
                tracing::debug!(%error, "the own word is not heard");
            }
        }
    }
}
