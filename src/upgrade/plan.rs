//! What comes next: (transaction, event, now) → actions.
//!
//! ```text
//! Preflight ─► Rolling ─► Soaking ─► Upgraded ─► Finalizing ─► Done
//!     │         │    ▲        │          │
//!     ▼         │    └ Resting│          │   rollback, by command or after a failure
//!   Failed      └────────┬────┴──────────┘
//!                        ▼
//!                   RollingBack ─► RolledBack
//! ```
//!
//! A node of the current batch follows its [`Course`] step by step; a step that fails is tried again, then the
//! node is taken back by itself and the transaction pauses. A gate that stays shut pauses it; nothing ever
//! goes on because time has passed, except a soak and `finalize = "after …"`, which are meant so.

use std::collections::BTreeMap;

use segue_wire::{PeerName, Release};
use serde::{Deserialize, Serialize};

use super::{
    action::{Action, ActionId, Do, Gate, Generation, Moment, Outcome},
    fleet::Fleet,
    order,
    rules::{Finalize, OnFailure, Order, Rules},
    transaction::{Cause, Course, Node, Pause, Pending, Phase, Transaction},
};

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// An action's end, or word of it. Late and repeated ones are known by their id, and do nothing.
    Ended(ActionId, Outcome),
    Seen(Fleet),
    /// Time has passed.
    Tick,
}

/// What an operator can say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    Pause,
    Resume,
    /// Ends it, as long as no node was touched.
    Abort,
    Rollback {
        accept_losses: bool,
    },
    Finalize,
}

impl Command {
    /// For a person.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Abort => "abort",
            Self::Rollback { accept_losses: false } => "rollback",
            Self::Rollback { accept_losses: true } => "rollback, with its losses accepted",
            Self::Finalize => "finalize",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    #[error("nodes were touched already: there is a way back, but no undoing; use `segue upgrade rollback`")]
    Touched,
    #[error("the transaction is over ({0}); start another")]
    Over(&'static str),
    #[error("not every node is upgraded and has soaked ({0}); see `segue upgrade status`")]
    NotUpgraded(&'static str),
    #[error("links are being turned to the new release: there is no way back from here")]
    Finalizing,
    #[error("{0} losses were let through since the start: going back keeps them lost; add --accept-losses")]
    Losses(u64),
    #[error("it is not paused")]
    NotPaused,
    #[error("there is no single master among the nodes; bring the cluster in order first")]
    NoMaster,
    #[error("no secondary could take over from the master: an upgrade would stop the service")]
    NoSecondary,
}

/// The steps of a node's way to the new release. The data are set aside once the store is down, as it may save
/// them when it stops.
const UP: &[StepKind] = &[
    StepKind::GateBefore,
    StepKind::MoveMaster,
    StepKind::Stop,
    StepKind::SetAside,
    StepKind::Install,
    StepKind::Start,
    StepKind::CatchUp,
    StepKind::Notify,
    StepKind::GateAfter,
];

/// And back.
const BACK: &[StepKind] = &[
    StepKind::MoveMaster,
    StepKind::Stop,
    StepKind::SetAside,
    StepKind::Install,
    StepKind::Start,
    StepKind::CatchUp,
    StepKind::Notify,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StepKind {
    GateBefore,
    MoveMaster,
    Stop,
    SetAside,
    Install,
    Start,
    CatchUp,
    Notify,
    GateAfter,
}

const fn steps_to(generation: Generation) -> &'static [StepKind] {
    match generation {
        Generation::New => UP,
        Generation::Old => BACK,
    }
}

/// The names of the steps to a generation, in order; as [`Do::label`] has them.
pub fn step_labels(to: Generation) -> impl Iterator<Item = &'static str> {
    steps_to(to).iter().map(|step| step.label())
}

impl StepKind {
    const fn label(self) -> &'static str {
        match self {
            Self::GateBefore => "gate-before",
            Self::MoveMaster => "move-master",
            Self::Stop => "stop",
            Self::SetAside => "set-aside",
            Self::Install => "install",
            Self::Start => "start",
            Self::CatchUp => "catch-up",
            Self::Notify => "notify",
            Self::GateAfter => "gate-after",
        }
    }
}

impl Course {
    pub(super) const fn new(to: Generation) -> Self {
        Self { to, done: 0, attempts: 0, waits_since: None }
    }

    fn next(&self) -> Option<StepKind> {
        steps_to(self.to).get(self.done).copied()
    }

    fn back_to_move(&mut self) {
        let steps = steps_to(self.to);
        self.done = steps.iter().position(|step| *step == StepKind::MoveMaster).unwrap_or_default();
        self.attempts = 0;
    }

    /// Nothing of it disturbs the node yet.
    fn is_unbegun(&self) -> bool {
        match self.to {
            Generation::New => matches!(self.next(), Some(StepKind::GateBefore | StepKind::MoveMaster)),
            Generation::Old => matches!(self.next(), Some(StepKind::MoveMaster)),
        }
    }
}

impl Transaction {
    /// A transaction over the fleet as it is, and what it begins with.
    ///
    /// # Errors
    /// [`Rejected::NoMaster`] and [`Rejected::NoSecondary`].
    pub fn begin(
        id: u64,
        (from, to): (Release, Release),
        rules: Rules,
        fleet: Fleet,
        now: Moment,
    ) -> Result<(Self, Vec<Action>), Rejected> {
        let master = fleet.master().ok_or(Rejected::NoMaster)?.clone();
        fleet.elect(|name| *name != master, |_| false).ok_or(Rejected::NoSecondary)?;
        let batches = order::batches(&fleet, &rules);
        let nodes: BTreeMap<_, _> =
            fleet.members.keys().map(|name| (name.clone(), Node::default())).collect();
        let mut transaction = Self {
            id,
            from,
            to,
            rules,
            batches,
            nodes,
            phase: Phase::Preflight,
            paused: None,
            pending: Vec::new(),
            fleet,
            started_at: now,
            steps: 0,
            barrier_open: false,
        };
        let mut actions = Vec::new();
        transaction.ask_all(Do::Preflight, now, &mut actions);
        Ok((transaction, actions))
    }

    /// What happened, and what is to be done now. The transaction is to be journalled before that is.
    pub fn handle(&mut self, event: Event, now: Moment) -> Vec<Action> {
        match event {
            Event::Ended(id, outcome) => self.ended(id, outcome),
            Event::Seen(fleet) if fleet.moves != self.fleet.moves => {}
            Event::Seen(fleet) => self.saw(fleet),
            Event::Tick => {}
        }
        self.go_on(now)
    }

    /// # Errors
    /// Why the command makes no sense now; nothing has changed then.
    pub fn command(&mut self, command: Command, now: Moment) -> Result<Vec<Action>, Rejected> {
        if self.phase.is_over() {
            return Err(Rejected::Over(self.phase.label()));
        }
        match command {
            Command::Pause => self.pause(None, Cause::Operator, "the operator paused it".to_owned()),
            Command::Resume => self.resume()?,
            Command::Abort
                if self.nodes.values().any(|node| node.touched || node.generation == Generation::New) =>
            {
                return Err(Rejected::Touched);
            }
            Command::Abort => {
                self.pending.clear();
                self.paused = None;
                self.phase = Phase::Failed { reason: "the operator aborted it".to_owned() };
            }
            Command::Rollback { .. } if self.phase == Phase::Finalizing => return Err(Rejected::Finalizing),
            Command::Rollback { accept_losses: false } if self.fleet.losses_total() > 0 => {
                return Err(Rejected::Losses(self.fleet.losses_total()));
            }
            Command::Rollback { .. } => self.roll_back("the operator asked for it".to_owned()),
            Command::Finalize => match self.phase {
                Phase::Upgraded { .. } => self.phase = Phase::Finalizing,
                _ => return Err(Rejected::NotUpgraded(self.phase.label())),
            },
        }
        Ok(self.go_on(now))
    }

    fn resume(&mut self) -> Result<(), Rejected> {
        let pause = self.paused.take().ok_or(Rejected::NotPaused)?;
        self.barrier_open |= pause.cause == Cause::Barrier;
        for node in self.nodes.values_mut() {
            node.blocked = None;
            if let Some(course) = &mut node.course {
                course.attempts = 0;
                course.waits_since = None;
            }
        }
        Ok(())
    }

    fn pause(&mut self, node: Option<PeerName>, cause: Cause, why: String) {
        // The first reason is the one to mend.
        self.paused.get_or_insert(Pause { node, cause, why });
    }

    /// Another master than that of the transaction is one that others made: then nobody who is none any more has
    /// the role to give away.
    fn saw(&mut self, mut fleet: Fleet) {
        fleet.count_losses_of(&self.fleet);
        let moves = self.fleet.moves + u64::from(fleet.master() != self.fleet.master());
        self.fleet = Fleet { moves, ..fleet };
        let Self { pending, fleet, .. } = self;
        pending.retain(|Pending { action, .. }| {
            !matches!(action.what, Do::MoveMaster { .. }) || fleet.is_master(&action.node)
        });
    }

    fn ended(&mut self, id: ActionId, outcome: Outcome) {
        if let Outcome::NotYet(why) = outcome {
            if let Some(pending) = self.pending.iter_mut().find(|pending| pending.action.id == id) {
                pending.waits_for = Some(why);
            }
            return;
        }
        let Some(Pending { action, .. }) = self.take_pending(id) else { return };
        match outcome {
            Outcome::Done => self.succeeded(&action),
            Outcome::Failed(why) => self.failed(&action, why),
            Outcome::NotYet(_) => {}
        }
    }

    fn succeeded(&mut self, action: &Action) {
        let Some(node) = self.nodes.get_mut(&action.node) else { return };
        match &action.what {
            Do::Notify(generation) => {
                node.generation = *generation;
                node.touched = *generation == Generation::New;
            }
            Do::MoveMaster { to } => self.fleet.move_master(to),
            Do::Finalize => node.finalized = true,
            _ => {}
        }
        if let Some(course) = &mut node.course {
            course.done += 1;
            course.attempts = 0;
            course.waits_since = None;
        }
    }

    fn failed(&mut self, action: &Action, why: String) {
        let why = format!("{} of {} failed: {why}", action.what.label(), action.node);
        match self.phase {
            Phase::Preflight => {
                self.pending.clear();
                self.phase = Phase::Failed { reason: why };
            }
            // It is tried again until it is done.
            Phase::Finalizing => {}
            _ => self.step_failed(&action.node, action.id.attempt, why),
        }
    }

    fn step_failed(&mut self, name: &PeerName, attempt: u32, why: String) {
        let attempts_max = self.rules.attempts_max;
        let Some(node) = self.nodes.get_mut(name) else { return };
        let Some(course) = &mut node.course else { return };
        if attempt < attempts_max {
            return;
        }
        match course.to {
            Generation::New if course.is_unbegun() && !node.touched => {
                node.course = None;
                self.pause(Some(name.clone()), Cause::Failed, why);
            }
            Generation::New => {
                node.course = Some(Course::new(Generation::Old));
                let losses = self.fleet.losses_total();
                match self.rules.on_failure {
                    OnFailure::Rollback if losses == 0 => self.roll_back(why),
                    // What it costs is for the operator to accept.
                    OnFailure::Rollback => {
                        let why = format!("{why}; no rollback by itself: {}", Rejected::Losses(losses));
                        self.pause(Some(name.clone()), Cause::TakenBack, why);
                    }
                    OnFailure::Pause => self.pause(Some(name.clone()), Cause::TakenBack, why),
                }
            }
            Generation::Old => {
                node.blocked = Some(why.clone());
                self.pause(Some(name.clone()), Cause::Failed, why);
            }
        }
    }

    /// A gate that stays shut pauses; a step that hangs has failed.
    fn time_out(&mut self, now: Moment) {
        let late: Vec<_> =
            self.pending.iter().filter(|pending| pending.action.deadline <= now).cloned().collect();
        for Pending { action, waits_for, .. } in late {
            self.take_pending(action.id);
            let waits_for = waits_for.map(|why| format!(": {why}")).unwrap_or_default();
            if !action.what.is_gate() {
                self.failed(&action, format!("it took too long{waits_for}"));
                continue;
            }
            let why = format!("{} of {} took too long{waits_for}", action.what.label(), action.node);
            if let Some(node) = self.nodes.get_mut(&action.node) {
                node.blocked = Some(why.clone());
            }
            self.pause(Some(action.node), Cause::Gate, why);
        }
        self.time_out_elections(now);
    }

    /// A master that nobody can take over from stays master, and the operator is asked.
    fn time_out_elections(&mut self, now: Moment) {
        let gate_time_max = self.rules.gate_time_max;
        let is_late = |node: &Node| {
            node.course
                .and_then(|course| course.waits_since)
                .is_some_and(|since| since.after(gate_time_max) <= now)
        };
        let late = self.nodes.iter().find(|(_, node)| node.blocked.is_none() && is_late(node));
        let Some(name) = late.map(|(name, _)| name.clone()) else { return };
        let why = format!("no secondary that is in sync and free can take over from {name}");
        if let Some(node) = self.nodes.get_mut(&name) {
            node.blocked = Some(why.clone());
        }
        self.pause(Some(name), Cause::Gate, why);
    }

    fn go_on(&mut self, now: Moment) -> Vec<Action> {
        let mut actions = Vec::new();
        self.time_out(now);
        // Each turn either changes the phase or is the last.
        loop {
            let before = self.phase.clone();
            self.turn(now, &mut actions);
            if self.phase == before {
                return actions;
            }
        }
    }

    fn turn(&mut self, now: Moment, actions: &mut Vec<Action>) {
        match self.phase.clone() {
            Phase::Preflight if self.pending.is_empty() => self.phase = Phase::Rolling { batch: 0 },
            Phase::Rolling { batch } => self.roll(batch, now, actions),
            Phase::Resting { until, batch } if until <= now && self.paused.is_none() => {
                self.phase = Phase::Rolling { batch };
            }
            Phase::Soaking { until } if until <= now && self.paused.is_none() => {
                let finalize_at = match self.rules.finalize {
                    Finalize::Manual => None,
                    Finalize::After(wait) => Some(now.after(wait)),
                };
                self.phase = Phase::Upgraded { finalize_at };
            }
            Phase::Upgraded { finalize_at: Some(at) } if at <= now && self.paused.is_none() => {
                self.phase = Phase::Finalizing;
            }
            Phase::Finalizing => self.finalize(now, actions),
            Phase::RollingBack { reason } => self.go_back(reason, now, actions),
            _ => {}
        }
    }

    fn roll(&mut self, batch: usize, now: Moment, actions: &mut Vec<Action>) {
        let Some(nodes) = self.batches.get(batch).cloned() else { return };
        self.advance(now, actions);
        if self.paused.is_some() || self.nodes.values().any(|node| node.course.is_some()) {
            return;
        }
        let waiting: Vec<_> =
            nodes.iter().filter(|node| self.generation(node) == Generation::Old).cloned().collect();
        if waiting.is_empty() {
            self.phase = self.after_batch(batch, now);
            return;
        }
        if self.rules.hold_before_master && !self.barrier_open && self.touches_master(&waiting) {
            self.pause(None, Cause::Barrier, "the master is next (hold_before_master)".to_owned());
            return;
        }
        for node in &waiting {
            if let Some(node) = self.nodes.get_mut(node) {
                node.course = Some(Course::new(Generation::New));
            }
        }
        self.advance(now, actions);
    }

    fn touches_master(&self, nodes: &[PeerName]) -> bool {
        self.rules.order == Order::SecondariesFirst && nodes.iter().any(|node| self.fleet.is_master(node))
    }

    fn after_batch(&self, batch: usize, now: Moment) -> Phase {
        let upgraded: usize = self.batches.iter().take(batch + 1).map(Vec::len).sum();
        let before: usize = self.batches.iter().take(batch).map(Vec::len).sum();
        if upgraded == self.nodes.len() {
            return Phase::Soaking { until: now.after(self.rules.soak) };
        }
        if before < self.rules.canary && self.rules.canary <= upgraded {
            return Phase::Resting { until: now.after(self.rules.canary_soak), batch: batch + 1 };
        }
        Phase::Rolling { batch: batch + 1 }
    }

    /// Begins the next step of every node that is on a course and free for it.
    pub(super) fn advance(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let names: Vec<_> = self.nodes.keys().cloned().collect();
        for name in names {
            while let Some(what) = self.next_step(&name, now) {
                let Some(what) = what else { continue };
                self.ask(name.clone(), what, now, actions);
                break;
            }
        }
    }

    /// The node's next action; `Some(None)` where a step had nothing to do, `None` where there is none now.
    fn next_step(&mut self, name: &PeerName, now: Moment) -> Option<Option<Do>> {
        if self.is_pending_on(name) {
            return None;
        }
        let rolling_back = matches!(self.phase, Phase::RollingBack { .. });
        let paused = self.paused.is_some();
        let is_master = self.fleet.is_master(name);
        let target = self.successor(name).cloned();
        let node = self.nodes.get_mut(name)?;
        let course = node.course.as_mut()?;
        if node.blocked.is_some()
            || (paused && course.is_unbegun() && (course.to == Generation::New || rolling_back))
        {
            return None;
        }
        let Some(step) = course.next() else {
            node.course = None;
            return None;
        };
        // It became master past its turn to give the role away, as by a move that was given up and went through.
        if is_master && matches!(step, StepKind::Stop | StepKind::SetAside) {
            course.back_to_move();
            return Some(None);
        }
        let to = course.to;
        let what = match step {
            StepKind::GateBefore => Do::PassGate(Gate::Before),
            StepKind::GateAfter => Do::PassGate(Gate::After),
            StepKind::MoveMaster if !is_master => {
                course.done += 1;
                return Some(None);
            }
            StepKind::MoveMaster => match target {
                Some(to) => Do::MoveMaster { to },
                None => {
                    course.waits_since.get_or_insert(now);
                    return None;
                }
            },
            StepKind::Stop => Do::Stop,
            StepKind::SetAside => Do::SetAside(to),
            StepKind::Install => Do::Install(to),
            StepKind::Start => Do::Start,
            StepKind::CatchUp => Do::CatchUp,
            StepKind::Notify => Do::Notify(to),
        };
        node.touched |= !matches!(step, StepKind::GateBefore | StepKind::MoveMaster);
        Some(Some(what))
    }

    /// Who takes over from this node: none that is on a course itself; on the way back, one that need not
    /// give the role away again.
    fn successor(&self, node: &PeerName) -> Option<&PeerName> {
        let free =
            |name: &PeerName| name != node && self.nodes.get(name).is_some_and(|node| node.course.is_none());
        let course = self.nodes.get(node)?.course?;
        self.fleet.elect(free, |name| self.generation(name) == course.to)
    }

    /// So many nodes at a time as are upgraded, the master last. One that does not answer is asked all the same, and
    /// nobody waits for it.
    fn finalize(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let mut left: Vec<_> =
            self.nodes.iter().filter(|(_, node)| !node.finalized).map(|(name, _)| name.clone()).collect();
        if left.is_empty() {
            self.phase = Phase::Done;
        }
        left.sort_by_key(|name| self.fleet.is_master(name));
        let under_way = self.unfinished().filter(|action| self.fleet.answers(&action.node)).count();
        let mut room = self.rules.batch.saturating_sub(under_way);
        for name in left {
            let answers = self.fleet.answers(&name);
            if self.is_pending_on(&name) || answers && room == 0 {
                continue;
            }
            room = room.saturating_sub(answers.into());
            self.ask(name, Do::Finalize, now, actions);
        }
    }

    fn ask_all(&mut self, what: Do, now: Moment, actions: &mut Vec<Action>) {
        for name in self.nodes.keys().cloned().collect::<Vec<_>>() {
            self.ask(name, what.clone(), now, actions);
        }
    }

    fn ask(&mut self, node: PeerName, what: Do, now: Moment, actions: &mut Vec<Action>) {
        let wait = if what.is_gate() { self.rules.gate_time_max } else { self.rules.step_time_max };
        let mut attempt = 1;
        if let Some(course) = self.nodes.get_mut(&node).and_then(|node| node.course.as_mut()) {
            course.attempts += 1;
            attempt = course.attempts;
        }
        self.steps += 1;
        let id = ActionId { transaction: self.id, step: self.steps, attempt };
        let action = Action { id, node, what, deadline: now.after(wait) };
        self.pending.push(Pending { action: action.clone(), asked_at: now, waits_for: None });
        actions.push(action);
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
