//! One seed, from the start of a transaction to its end.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use fastrand::Rng;
use segue::{
    cluster::Machine,
    upgrade::{
        action::{Action, ActionId, Do, Moment, Outcome},
        plan::Command,
        state::{Answer, Entry, State},
        transaction::{Phase, Transaction},
    },
};
use segue_wire::PeerName;

use crate::{
    mesh::{Mesh, Message},
    node::Node,
    sidecar::Sidecar,
    start::{fleet, rules},
};

const TICK_MS: u64 = 200;
/// By then every fault has ended, and what is still under way has to come to its end.
const FAULTS_END_MS: u64 = 60_000;
const TIME_MS_MAX: u64 = 3_600_000;

pub struct Run {
    pub rng: Rng,
    pub now: u64,
    pub nodes: BTreeMap<PeerName, Node>,
    pub sidecars: BTreeMap<PeerName, Sidecar>,
    pub mesh: Mesh,
    pub state: State,
    /// The transaction of the state.
    pub agreed: Rc<Transaction>,
    /// What was let through the fence, ever.
    pub fenced: BTreeSet<ActionId>,
    /// Nodes whose gate stayed shut; only the operator opens it.
    pub shut: BTreeSet<PeerName>,
    /// Written and acknowledged by a master, ever.
    pub acknowledged: u64,
    pub met: Ends,
    pub shows: bool,
}

/// How runs ended, and what they met.
#[derive(Debug, Default)]
pub struct Ends {
    pub done: u64,
    pub rolled_back: u64,
    pub failed: u64,
    pub paused: u64,
    pub taken_back: u64,
    pub moved: u64,
    /// Claims of what was not wanted any more.
    pub fenced_off: u64,
    pub crashed_at_work: u64,
}

impl Ends {
    pub fn count(&mut self, other: Self) {
        self.done += other.done;
        self.rolled_back += other.rolled_back;
        self.failed += other.failed;
        self.paused += other.paused;
        self.taken_back += other.taken_back;
        self.moved += other.moved;
        self.fenced_off += other.fenced_off;
        self.crashed_at_work += other.crashed_at_work;
    }
}

impl Run {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let count = rng.usize(2..=6);
        let names: Vec<PeerName> = (1..=count).map(|number| format!("n{number}").into()).collect();
        let nodes: BTreeMap<_, _> =
            names.iter().enumerate().map(|(at, name)| (name.clone(), Node::new(at == 0))).collect();
        let fleet = fleet(&nodes, 0, 0);
        let rules = rules(&mut rng, count);
        let releases = ("redis-6.0".parse().unwrap(), "redis-8.0".parse().unwrap());
        let entry = Entry::Start {
            at: Moment(0),
            who: "operator".to_owned(),
            from: releases.0,
            to: releases.1,
            rules,
            fleet,
        };
        let mut state = State::default();
        assert_eq!(state.apply(entry.clone()), Answer::Done);
        assert!(matches!(state.apply(entry), Answer::Rejected(_)), "it was started twice");
        let agreed = Rc::new(state.transaction.clone().unwrap());
        let mesh = Mesh { faults_in: [0, 5, 20, 100][rng.usize(0..4)], ..Mesh::default() };
        let sidecars = names.iter().map(|name| (name.clone(), Sidecar::new(Rc::clone(&agreed)))).collect();
        let met = Ends::default();
        Self {
            rng,
            now: 0,
            nodes,
            sidecars,
            mesh,
            state,
            agreed,
            fenced: BTreeSet::new(),
            shut: BTreeSet::new(),
            acknowledged: 0,
            met,
            shows: false,
        }
    }

    pub fn finish(mut self) -> Result<Ends, String> {
        while !self.agreed.phase.is_over() {
            self.now += TICK_MS;
            if self.now > TIME_MS_MAX {
                return Err(format!("it does not end: {:#?}\n{:#?}", self.agreed, self.nodes));
            }
            if self.now > FAULTS_END_MS {
                self.mesh.faults_in = 0;
            }
            self.stores();
            self.check()?;
            for message in self.mesh.arrived(&mut self.rng, self.now) {
                self.deliver(message)?;
                self.check()?;
            }
            self.sidecars()?;
            self.check()?;
            self.operator()?;
            self.check()?;
        }
        self.check_end()
    }

    pub fn transaction(&self) -> &Transaction {
        self.state.transaction.as_ref().unwrap()
    }

    pub fn faulty(&mut self, one_in: u32) -> bool {
        self.now <= FAULTS_END_MS && self.rng.u32(0..one_in) == 0
    }

    // === what happens to the stores ===

    fn stores(&mut self) {
        if let Some(master) = self.nodes.values_mut().find(|node| node.is_master && node.running) {
            master.writes += self.rng.u64(0..3);
            self.acknowledged = self.acknowledged.max(master.writes);
            let writes = master.writes;
            for node in self.nodes.values_mut().filter(|node| node.running && !node.is_master) {
                if self.rng.u32(0..3) > 0 {
                    node.writes += self.rng.u64(0..4).min(writes - node.writes);
                }
                // A replica that is far behind gets a full sync.
                if self.rng.u32(0..8) == 0 {
                    node.writes = writes;
                }
            }
        }
        let names: Vec<_> = self.nodes.keys().cloned().collect();
        for name in names {
            let (crashes, returns) = (self.faulty(300), self.rng.u32(0..10) == 0);
            let Some(node) = self.nodes.get_mut(&name) else { continue };
            if node.running && crashes {
                // What it has written is on its disk.
                (node.running, node.crashed) = (false, true);
            } else if node.crashed && returns {
                node.start();
            }
        }
    }

    // === what happens to the messages ===

    fn deliver(&mut self, message: Message) -> Result<(), String> {
        match message {
            Message::Propose { by, entry } => {
                let about = match &*entry {
                    Entry::Claim { id, .. } => Some(*id),
                    Entry::Ended { id, outcome, .. } if !matches!(outcome, Outcome::NotYet(_)) => Some(*id),
                    _ => None,
                };
                let answer = self.agree(*entry)?;
                if let Some(about) = about {
                    let message = Message::Answered { to: by, about, answer };
                    self.mesh.send(&mut self.rng, self.now, message);
                }
            }
            Message::Answered { to, about, answer } => self.answered(&to, about, &answer),
        }
        Ok(())
    }

    pub fn perform(&mut self, action: &Action) -> Result<Outcome, String> {
        if self.shows {
            println!("{:7} {} {} {:?}", self.now, action.id, action.node, action.what);
        }
        if !self.fenced.contains(&action.id) {
            return Err(format!("{action:?} is performed, and was not claimed"));
        }
        self.check_order(action)?;
        let one_in = if action.what == Do::Preflight { 60 } else { 25 };
        if !action.what.is_gate() && self.faulty(one_in) {
            return Ok(Outcome::Failed("the hook failed".into()));
        }
        if let Do::MoveMaster { to } = &action.what {
            return self.move_master(&action.node, to);
        }
        let master = self.nodes.values().find(|node| node.is_master && node.running).map(|node| node.writes);
        let Some(node) = self.nodes.get_mut(&action.node) else { return Err("no such node".into()) };
        Ok(node.act(action, master))
    }

    /// Writes are held, the offsets become equal, the roles change: all of it or nothing.
    fn move_master(&mut self, from: &PeerName, to: &PeerName) -> Result<Outcome, String> {
        let (Some(master), Some(next)) = (self.nodes.get(from), self.nodes.get(to)) else {
            return Err("no such node".into());
        };
        if !master.is_master {
            return Ok(Outcome::Done);
        }
        if !master.running || !next.running {
            return Ok(Outcome::NotYet("one of the two is down".into()));
        }
        if next.writes != master.writes {
            return Ok(Outcome::NotYet("the offsets are not equal".into()));
        }
        self.met.moved += 1;
        for (name, node) in &mut self.nodes {
            node.is_master = name == to;
        }
        Ok(Outcome::Done)
    }

    // === who decides ===

    fn operator(&mut self) -> Result<(), String> {
        if self.agreed.phase.is_over() {
            return Ok(());
        }
        let (regrets, rests) = (self.faulty(750), self.faulty(500));
        let command = match (&self.agreed.paused, &self.agreed.phase) {
            (Some(_), phase) => {
                let back = !matches!(phase, Phase::RollingBack { .. }) && self.rng.u32(0..60) == 0;
                match self.rng.u32(0..20) {
                    _ if back => Command::Rollback { accept_losses: true },
                    0 => Command::Resume,
                    _ => return Ok(()),
                }
            }
            (None, Phase::Upgraded { .. }) if self.rng.bool() => Command::Finalize,
            (None, _) if regrets => Command::Rollback { accept_losses: true },
            (None, _) if rests => Command::Pause,
            _ => return Ok(()),
        };
        if self.shows {
            println!("{:7} operator: {command:?} in {}", self.now, self.agreed.phase.label());
        }
        let rollback = matches!(command, Command::Rollback { .. });
        let finalizing = self.agreed.phase == Phase::Finalizing;
        let entry = Entry::Command { at: Moment(self.now), who: "operator".to_owned(), command };
        match self.agree(entry)? {
            Answer::Rejected(why) if rollback && !finalizing => Err(format!("no way back: {why}")),
            _ => Ok(()),
        }
    }
}
