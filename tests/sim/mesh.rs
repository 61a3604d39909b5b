//! What the sidecars send each other to agree: delayed, repeated, lost.

use fastrand::Rng;
use segue::upgrade::{
    action::ActionId,
    state::{Answer, Entry},
};
use segue_wire::PeerName;

#[derive(Clone, Debug)]
pub enum Message {
    Propose {
        by: Proposer,
        entry: Box<Entry>,
    },
    /// To a claim or an end.
    Answered {
        to: Proposer,
        about: ActionId,
        answer: Answer,
    },
}

/// A sidecar; one that was started again has nothing to do with what it proposed before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposer {
    pub node: PeerName,
    pub start: u32,
}

#[derive(Debug, Default)]
pub struct Mesh {
    pub under_way: Vec<(u64, Message)>,
    /// No more than one message in so many is lost or repeated; 0: none is.
    pub faults_in: u32,
}

const DELAY_MS_MAX: u64 = 400;

impl Mesh {
    pub fn send(&mut self, rng: &mut Rng, now: u64, message: Message) {
        let fault = if self.faults_in == 0 { 2 } else { rng.u32(0..self.faults_in.max(3)) };
        let copies = match fault {
            0 => 0,
            1 => 2,
            _ => 1,
        };
        for _ in 0..copies {
            self.under_way.push((now + rng.u64(1..DELAY_MS_MAX), message.clone()));
        }
    }

    /// What arrives by now, in any order.
    pub fn arrived(&mut self, rng: &mut Rng, now: u64) -> Vec<Message> {
        if self.under_way.iter().all(|(at, _)| *at > now) {
            return Vec::new();
        }
        let (mut due, left) = std::mem::take(&mut self.under_way).into_iter().partition(|(at, _)| *at <= now);
        self.under_way = left;
        let due: &mut Vec<(u64, Message)> = &mut due;
        rng.shuffle(due);
        std::mem::take(due).into_iter().map(|(_, message)| message).collect()
    }
}
