//! One seed, from the start of a transaction to its end.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fastrand::Rng;
use segue::upgrade::{
    action::{Action, Do, Gate, Generation, Moment, Outcome},
    fleet::{Fleet, Member, Role},
    plan::{Command, Event},
    rules::{Finalize, OnFailure, Order, Rules},
    transaction::{Cause, Phase, Transaction},
};
use segue_wire::PeerName;

use crate::{
    mesh::{Mesh, Message},
    node::Node,
};

const TICK_MS: u64 = 100;
/// By then every fault has ended, and what is still under way has to come to its end.
const FAULTS_END_MS: u64 = 60_000;
const TIME_MS_MAX: u64 = 3_600_000;

pub struct Run {
    rng: Rng,
    now: u64,
    nodes: BTreeMap<PeerName, Node>,
    mesh: Mesh,
    transaction: Transaction,
    /// The coordinator is down until then.
    coordinator_up_at: u64,
    /// Nodes whose gate stayed shut; only the operator opens it.
    shut: BTreeSet<PeerName>,
    /// Written and acknowledged by a master, ever.
    acknowledged: u64,
    met: Ends,
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
}

impl Ends {
    pub fn count(&mut self, other: Self) {
        self.done += other.done;
        self.rolled_back += other.rolled_back;
        self.failed += other.failed;
        self.paused += other.paused;
        self.taken_back += other.taken_back;
        self.moved += other.moved;
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
        let (transaction, actions) = Transaction::begin(seed, releases, rules, fleet, Moment(0)).unwrap();
        let mut mesh = Mesh { faults_in: [0, 5, 20, 100][rng.usize(0..4)], ..Mesh::default() };
        for action in actions {
            mesh.send(&mut rng, 0, Message::Do(action));
        }
        let met = Ends::default();
        Self {
            rng,
            now: 0,
            nodes,
            mesh,
            transaction,
            coordinator_up_at: 0,
            shut: BTreeSet::new(),
            acknowledged: 0,
            met,
            shows: false,
        }
    }

    pub fn finish(mut self) -> Result<Ends, String> {
        while !self.transaction.phase.is_over() {
            self.now += TICK_MS;
            if self.now > TIME_MS_MAX {
                return Err(format!("it does not end: {:#?}\n{:#?}", self.transaction, self.nodes));
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
            self.coordinator()?;
            self.operator();
        }
        self.check_end()
    }

    fn faulty(&mut self, one_in: u32) -> bool {
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
            let (crashes, returns) = (self.faulty(600), self.rng.u32(0..20) == 0);
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
            Message::Do(action) => self.execute(action)?,
            Message::Ended(id, outcome) if self.coordinator_up_at <= self.now => {
                if self.shows {
                    println!("{:7} ended {id} {outcome:?}", self.now);
                }
                self.told(Event::Ended(id, outcome))?;
            }
            Message::Ended(..) => {}
        }
        Ok(())
    }

    fn told(&mut self, event: Event) -> Result<(), String> {
        let passed = match &event {
            Event::Ended(id, Outcome::Done) => Some(*id),
            _ => None,
        };
        let is_late = |action: &&Action| {
            action.what.is_gate() && action.deadline.0 <= self.now && Some(action.id) != passed
        };
        let late: Vec<Action> = self.transaction.unfinished().filter(is_late).cloned().collect();
        let was_paused = self.transaction.paused.is_some();
        let actions = self.journalled(|transaction, now| transaction.handle(event, now));
        self.check_pause(&late, was_paused, &actions)
    }

    /// What the transaction says is journalled; the coordinator may die before it acts on it.
    fn journalled(&mut self, step: impl FnOnce(&mut Transaction, Moment) -> Vec<Action>) -> Vec<Action> {
        if self.faulty(200) {
            self.coordinator_up_at = self.now + self.rng.u64(0..5000);
            return Vec::new();
        }
        let was_paused = self.transaction.paused.is_some();
        let actions = step(&mut self.transaction, Moment(self.now));
        if let Some(pause) = self.transaction.paused.as_ref().filter(|_| !was_paused) {
            self.met.paused += 1;
            self.met.taken_back += u64::from(pause.cause == Cause::TakenBack);
        }
        if self.faulty(200) {
            self.coordinator_up_at = self.now + self.rng.u64(0..5000);
            return actions;
        }
        for action in &actions {
            self.mesh.send(&mut self.rng, self.now, Message::Do(action.clone()));
        }
        actions
    }

    fn execute(&mut self, action: Action) -> Result<(), String> {
        let outcome = match self.nodes.get(&action.node).and_then(|node| node.known(action.id)) {
            Some(None) => return Ok(()),
            Some(Some(known)) => known,
            None => self.perform(&action)?,
        };
        let is_final = !matches!(outcome, Outcome::NotYet(_));
        if let Some(node) = self.nodes.get_mut(&action.node) {
            node.last = Some((action.id, is_final.then(|| outcome.clone())));
        }
        self.mesh.send(&mut self.rng, self.now, Message::Ended(action.id, outcome));
        Ok(())
    }

    fn perform(&mut self, action: &Action) -> Result<Outcome, String> {
        if self.shows {
            println!("{:7} {} {} {:?}", self.now, action.id, action.node, action.what);
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

    fn coordinator(&mut self) -> Result<(), String> {
        if self.coordinator_up_at > self.now {
            return Ok(());
        }
        let fleet = fleet(&self.nodes, self.now, self.transaction.fleet.moves);
        self.told(Event::Seen(fleet))?;
        // What is not known to be done is asked for again, by this coordinator or the next.
        if self.now.is_multiple_of(1000) {
            let again: Vec<_> = self.transaction.unfinished().cloned().collect();
            for action in again {
                self.mesh.send(&mut self.rng, self.now, Message::Do(action));
            }
        }
        if self.faulty(300) {
            self.coordinator_up_at = self.now + self.rng.u64(0..10_000);
        }
        Ok(())
    }

    fn operator(&mut self) {
        if self.transaction.phase.is_over() {
            return;
        }
        let (regrets, rests) = (self.faulty(1500), self.faulty(1000));
        let command = match (&self.transaction.paused, &self.transaction.phase) {
            (Some(_), phase) => {
                let back = !matches!(phase, Phase::RollingBack { .. }) && self.rng.u32(0..60) == 0;
                match self.rng.u32(0..20) {
                    _ if back => Command::Rollback { accept_losses: true },
                    0 => Command::Resume,
                    _ => return,
                }
            }
            (None, Phase::Upgraded { .. }) if self.rng.bool() => Command::Finalize,
            (None, _) if regrets => Command::Rollback { accept_losses: true },
            (None, _) if rests => Command::Pause,
            _ => return,
        };
        if self.shows {
            println!("{:7} operator: {command:?} in {}", self.now, self.transaction.phase.label());
        }
        let finalizing = self.transaction.phase == Phase::Finalizing;
        let rollback = matches!(command, Command::Rollback { .. });
        let mut rejected = None;
        self.journalled(|transaction, now| {
            transaction.command(command.clone(), now).unwrap_or_else(|why| {
                rejected = Some(why);
                Vec::new()
            })
        });
        if rejected.is_none() && matches!(command, Command::Resume | Command::Rollback { .. }) {
            self.shut.clear();
        }
        assert!(!rollback || finalizing || rejected.is_none(), "no way back: {rejected:?}");
    }

    // === what must always be true ===

    fn check(&self) -> Result<(), String> {
        let masters: Vec<_> = self.nodes.iter().filter(|(_, node)| node.is_master).collect();
        let [(name, master)] = masters[..] else { return Err(format!("{} masters", masters.len())) };
        if master.writes < self.acknowledged {
            let lost = self.acknowledged - master.writes;
            return Err(format!("{lost} acknowledged writes lost: the master {name} does not have them"));
        }
        if master.finalized && !self.nodes.values().all(|node| node.installed == Generation::New) {
            return Err("finalized before all are upgraded".into());
        }
        Ok(())
    }

    /// While it is paused nothing new is begun, and a node whose gate stayed shut stays where it is.
    fn check_pause(&mut self, late: &[Action], was_paused: bool, actions: &[Action]) -> Result<(), String> {
        let given_up = |late: &&Action| self.transaction.unfinished().all(|action| action.id != late.id);
        self.shut.extend(late.iter().filter(given_up).map(|action| action.node.clone()));
        for action in actions {
            let begins = action.what == Do::PassGate(Gate::Before);
            if self.shut.contains(&action.node) || (begins && was_paused) {
                return Err(format!("{action:?} while paused: {was_paused}"));
            }
        }
        Ok(())
    }

    /// No more nodes are down by our doing than the rules allow, and none before its batch.
    fn check_order(&self, action: &Action) -> Result<(), String> {
        if action.what != Do::Stop {
            return Ok(());
        }
        let down =
            |(name, node): &(&PeerName, &Node)| **name != action.node && !node.running && !node.crashed;
        let down = self.nodes.iter().filter(down).count();
        if down >= self.transaction.rules.batch {
            return Err(format!("{down} nodes are down already, and {} is to be stopped", action.node));
        }
        Ok(())
    }

    fn check_end(mut self) -> Result<Ends, String> {
        let all = |generation| {
            self.nodes.values().all(|node| node.installed == generation && node.notified == generation)
        };
        match &self.transaction.phase {
            Phase::Done if all(Generation::New) => self.met.done += 1,
            Phase::RolledBack { .. } if all(Generation::Old) => self.met.rolled_back += 1,
            Phase::Failed { .. } if all(Generation::Old) => self.met.failed += 1,
            phase => return Err(format!("ended as {phase:?} with {:#?}", self.nodes)),
        }
        Ok(self.met)
    }
}

fn rules(rng: &mut Rng, count: usize) -> Rules {
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

/// What the sidecars say of their stores.
fn fleet(nodes: &BTreeMap<PeerName, Node>, now: u64, moves: u64) -> Fleet {
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
    Fleet { members: members.collect(), losses: 0, seen_at: Moment(now), moves }
}
