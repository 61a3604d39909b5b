//! The upgrade for an operator: what `/v1/upgrade` answers.

use std::{collections::BTreeMap, time::Duration};

use segue_wire::PeerName;

use super::{
    action::{Action, Do, Gate, Generation, Moment},
    ahead::{Ahead, What, ahead},
    fleet::Role,
    plan::step_labels,
    state::{Registered, State},
    transaction::{Course, Node, Pause, Pending, Phase, Transaction},
};
use crate::{
    cluster::Standing,
    status::upgrade::{
        JOURNAL_SHOWN_MAX, JournalLine, MeshMember, MeshStatus, NodePart, NodeRole, PauseStatus,
        PendingStatus, PlanStatus, PlannedStep, StepState, StepStatus, TransactionEnded, TransactionStatus,
        UpgradeNode, UpgradeStatus,
    },
};

/// The upgrade as `node` knows it.
#[must_use]
pub fn status(node: &PeerName, state: &State, standing: &Standing, now: Moment) -> UpgradeStatus {
    UpgradeStatus {
        node: node.to_string(),
        at_ms: now.0,
        mesh: mesh(standing),
        nodes: state.nodes.values().map(|node| of_node(node, state, standing)).collect(),
        transaction: state.transaction.as_ref().map(|transaction| of_transaction(transaction, state, now)),
        history: state.history.iter().map(ended).collect(),
        journal: state.journal.iter().rev().take(JOURNAL_SHOWN_MAX).map(line).collect(),
        translations: state.translations.iter().cloned().collect(),
    }
}

/// All that a transaction that has just begun will do, in order, if nothing fails.
#[must_use]
pub fn plan(transaction: &Transaction) -> PlanStatus {
    let steps = ahead(transaction, transaction.started_at, |_| Duration::ZERO);
    PlanStatus {
        from: transaction.from.to_string(),
        to: transaction.to.to_string(),
        batches: batches(transaction),
        master: transaction.fleet.master().map(ToString::to_string).unwrap_or_default(),
        steps: steps.iter().filter_map(|step| planned(&step.what, transaction)).collect(),
    }
}

fn mesh(standing: &Standing) -> MeshStatus {
    let member = |member: &crate::cluster::MemberStanding| MeshMember {
        id: member.name.to_string(),
        votes: member.votes,
        reachable: member.reachable,
    };
    MeshStatus {
        backend: standing.backend.to_owned(),
        leader: standing.leader.as_ref().map(ToString::to_string),
        members: standing.members.iter().map(member).collect(),
        failed: standing.failed.clone(),
    }
}

fn of_node(registered: &Registered, state: &State, standing: &Standing) -> UpgradeNode {
    let name = &registered.node;
    let transaction = state.transaction.as_ref();
    // A transaction looks at its nodes all the time; the registry is told what has changed.
    let fleet = state.running().map(|transaction| &transaction.fleet);
    let seen = fleet.and_then(|fleet| fleet.members.get(name));
    let role = match (seen.map(|member| member.role), registered.master) {
        _ if registered.store.is_none() => NodeRole::Witness,
        (Some(Role::Master), _) | (None, Some(true)) => NodeRole::Master,
        (Some(Role::Secondary), _) | (None, Some(false)) => NodeRole::Secondary,
        (None, None) => NodeRole::Unknown,
    };
    let in_mesh = standing.members.iter().find(|member| member.name == *name);
    let of_master = fleet.and_then(|fleet| fleet.members.get(fleet.master()?)).map(|member| member.offset);
    UpgradeNode {
        id: name.to_string(),
        store: registered.store.clone(),
        release: registered.release.clone(),
        role,
        in_sync: seen.map_or(registered.in_sync, |member| member.in_sync),
        reachable: match seen {
            Some(member) => member.reachable,
            None => in_mesh.is_some_and(|member| member.reachable),
        },
        behind_bytes: seen.and_then(|member| Some(of_master?.saturating_sub(member.offset))),
        sidecar: registered.sidecar.clone(),
        part: transaction.and_then(|transaction| {
            let node = transaction.nodes.get(name)?;
            Some(part(node, transaction.is_pending_on(name)))
        }),
    }
}

fn part(node: &Node, is_pending: bool) -> NodePart {
    let steps = node.course.map(|Course { to, done, .. }| {
        let state = |at: usize| match at {
            at if at < done => StepState::Done,
            at if at == done && is_pending => StepState::Pending,
            _ => StepState::Ahead,
        };
        let step = |(at, label): (usize, &str)| StepStatus { step: label.to_owned(), state: state(at) };
        step_labels(to).enumerate().map(step).collect()
    });
    NodePart {
        generation: node.generation.label().to_owned(),
        heading: node.course.map(|course| course.to.label().to_owned()),
        steps: steps.unwrap_or_default(),
        blocked: node.blocked.clone(),
        finalized: node.finalized,
    }
}

fn of_transaction(transaction: &Transaction, state: &State, now: Moment) -> TransactionStatus {
    let measured = Measured::of(state);
    let coming = ahead(transaction, now, |step| measured.took(step.label()).unwrap_or_default());
    let (left, left_is_at_least) = left(&coming, &measured, now);
    let over = transaction.phase.is_over();
    let is_step = |ahead: &&Ahead| matches!(ahead.what, What::Step { .. });
    let next = coming.get(transaction.pending.len()).filter(|_| !over);
    let done = state.steps.iter().filter(|step| step.transaction == transaction.id).count();
    TransactionStatus {
        id: transaction.id,
        from: transaction.from.to_string(),
        to: transaction.to.to_string(),
        phase: transaction.phase.label().to_owned(),
        reason: transaction.phase.reason().map(str::to_owned),
        over,
        started_at_ms: transaction.started_at.0,
        batches: batches(transaction),
        paused: transaction.paused.as_ref().map(paused),
        pending: transaction.pending.iter().map(|each| pending(each, state)).collect(),
        losses: transaction.fleet.losses_total(),
        until_ms: until(&transaction.phase).map(|until| until.0),
        steps_done: done as u64,
        steps_ahead: coming.iter().filter(is_step).count() as u64,
        left_ms: left.filter(|_| !over && transaction.paused.is_none()),
        left_is_at_least,
        next: next.map(|next| said(&next.what, transaction)),
    }
}

fn batches(transaction: &Transaction) -> Vec<Vec<String>> {
    let names = |batch: &Vec<PeerName>| batch.iter().map(ToString::to_string).collect();
    transaction.batches.iter().map(names).collect()
}

fn paused(pause: &Pause) -> PauseStatus {
    PauseStatus {
        node: pause.node.as_ref().map(ToString::to_string),
        cause: pause.cause.label().to_owned(),
        why: pause.why.clone(),
        advice: pause.cause.advice().to_owned(),
    }
}

fn pending(pending: &Pending, state: &State) -> PendingStatus {
    let Pending { action: Action { id, node, what, deadline }, asked_at, waits_for } = pending;
    PendingStatus {
        id: id.to_string(),
        node: node.to_string(),
        step: what.label().to_owned(),
        attempt: id.attempt,
        claimed: state.claimed.get(node) == Some(id),
        waits_for: waits_for.clone(),
        asked_at_ms: asked_at.0,
        deadline_ms: deadline.0,
    }
}

fn ended(over: &super::state::Ended) -> TransactionEnded {
    TransactionEnded {
        id: over.id,
        from: over.from.to_string(),
        to: over.to.to_string(),
        phase: over.phase.label().to_owned(),
        reason: over.phase.reason().map(str::to_owned),
        at_ms: over.at.0,
    }
}

fn line(line: &super::state::Line) -> JournalLine {
    JournalLine {
        at_ms: line.at.0,
        transaction: line.transaction,
        node: line.node.as_ref().map(ToString::to_string),
        action: line.action.map(|id| id.to_string()),
        text: line.text.clone(),
    }
}

const fn until(phase: &Phase) -> Option<Moment> {
    match phase {
        Phase::Resting { until, .. } | Phase::Soaking { until } => Some(*until),
        Phase::Upgraded { finalize_at } => *finalize_at,
        _ => None,
    }
}

/// How long each step took, on average.
struct Measured<'a>(BTreeMap<&'a str, (u32, Duration)>);

impl<'a> Measured<'a> {
    fn of(state: &'a State) -> Self {
        let mut sums: BTreeMap<&str, (u32, Duration)> = BTreeMap::new();
        for step in &state.steps {
            let sum = sums.entry(&step.label).or_default();
            *sum = (sum.0 + 1, sum.1.saturating_add(Duration::from_millis(step.took_ms)));
        }
        Self(sums)
    }

    fn took(&self, label: &str) -> Option<Duration> {
        self.0.get(label).and_then(|(count, sum)| sum.checked_div(*count))
    }
}

/// The time in milliseconds until the operator is needed or all is over; and whether it may well be more.
fn left(coming: &[Ahead], measured: &Measured<'_>, now: Moment) -> (Option<u64>, bool) {
    let stops = |ahead: &&Ahead| matches!(ahead.what, What::Hold | What::Decide(None) | What::End(_));
    let stop = coming.iter().find(stops);
    let stop_at = coming.iter().position(|ahead| stops(&ahead)).unwrap_or(coming.len());
    let is_unmeasured = |ahead: &Ahead| match &ahead.what {
        What::Step { step, .. } => measured.took(step.label()).is_none(),
        _ => false,
    };
    let at_least = coming.iter().take(stop_at).any(is_unmeasured);
    (stop.map(|stop| stop.at.0.saturating_sub(now.0)), at_least)
}

fn planned(what: &What, transaction: &Transaction) -> Option<PlannedStep> {
    let (node, step) = match what {
        What::Step { node, step } => (Some(node.to_string()), step.label()),
        What::Rest(_) => (None, "rest"),
        What::Soak(_) => (None, "soak"),
        What::Hold => (None, "hold"),
        What::Decide(_) => (None, "decide"),
        What::End(_) => return None,
    };
    Some(PlannedStep { node, step: step.to_owned(), does: does(what, transaction) })
}

/// What comes, with where.
fn said(what: &What, transaction: &Transaction) -> String {
    match what {
        What::Step { node, .. } => format!("{node}: {}", does(what, transaction)),
        _ => does(what, transaction),
    }
}

/// In an operator's words.
fn does(what: &What, transaction: &Transaction) -> String {
    let release = |generation: Generation| match generation {
        Generation::Old => &transaction.from,
        Generation::New => &transaction.to,
    };
    let step = match what {
        What::Step { step, .. } => step,
        What::Rest(time) => return format!("let the canaries run for {}", rounded(*time)),
        What::Soak(time) => return format!("let all run on {} for {}", transaction.to, rounded(*time)),
        What::Hold => {
            return "wait for the operator (segue upgrade resume) before the master is touched".into();
        }
        What::Decide(None) => return "wait for the operator: segue upgrade finalize, or rollback".into(),
        What::Decide(Some(time)) => return format!("wait for {}, then finalize by itself", rounded(*time)),
        What::End(phase) => return format!("the transaction is {}", phase.label()),
    };
    match step {
        Do::Preflight => "check hooks, disk, links and releases; nothing is changed".to_owned(),
        Do::PassGate(Gate::Before) => {
            "wait until links are up, in sync, with nothing refused or lost".to_owned()
        }
        Do::PassGate(Gate::After) => "wait for the same again, and compare data by sample".to_owned(),
        Do::MoveMaster { to } => format!("hold writes, let {to} catch up and become master"),
        Do::Stop => "stop the store".to_owned(),
        Do::SetAside(to) => {
            format!("move the data on disk out of the way where {} can't read them", release(*to))
        }
        Do::Install(to) => format!("install {}", release(*to)),
        Do::Start => "start the store as a secondary".to_owned(),
        Do::CatchUp => "wait until it has all that the master has".to_owned(),
        Do::Notify(to) => format!("tell all sidecars that it runs {}", release(*to)),
        Do::Finalize => format!("speak {} on its links", transaction.to),
    }
}

fn rounded(time: Duration) -> impl std::fmt::Display {
    humantime::format_duration(Duration::from_secs(
        time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0)),
    ))
}
