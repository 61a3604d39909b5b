//! An upgrade as text for a person.

use super::super::{
    show::seconds,
    table::{Align, plain, table},
};
use crate::status::upgrade::{
    JournalLine, NodePart, NodeRole, PendingStatus, PlanStatus, StepState, TransactionStatus, UpgradeNode,
    UpgradeStatus,
};

/// Lines of the journal that are shown.
const JOURNAL_SHOWN_MAX: usize = 8;

pub(super) fn status(status: &UpgradeStatus) -> String {
    let now = status.at_ms;
    let mut text = format!("{}\n{}\n\n{}", headline(status), mesh(status), nodes(&status.nodes));
    if let Some(transaction) = &status.transaction {
        let notes = notes(transaction, now);
        if !notes.is_empty() {
            text += &format!("\n{}\n", notes.join("\n"));
        }
    }
    if let Some(change) = status.translations.first() {
        let (mode, loss, who) = (plain(&change.mode), plain(&change.loss), plain(&change.who));
        let ago = seconds((now / 1000).saturating_sub(change.at_unix_s));
        text += &format!("\ntranslation of all nodes: {mode}, loss {loss} ({who}, {ago} ago)\n");
    }
    if !status.journal.is_empty() {
        text += "\njournal, newest first:\n";
        for line in status.journal.iter().take(JOURNAL_SHOWN_MAX) {
            text += &format!("  {} ago: {}\n", since(line.at_ms, now), journal(line));
        }
    }
    text
}

/// What the transaction is, in one line.
pub(super) fn headline(status: &UpgradeStatus) -> String {
    let Some(transaction) = &status.transaction else {
        return "no upgrade was begun yet: segue upgrade plan --to RELEASE".to_owned();
    };
    let (id, from, to) = (transaction.id, plain(&transaction.from), plain(&transaction.to));
    let mut text = format!("upgrade {id}, {from} to {to}: {}", plain(&transaction.phase));
    if transaction.paused.is_some() {
        text += ", paused";
    }
    if let Some(reason) = &transaction.reason {
        text += &format!(" ({})", plain(reason));
    }
    text
}

pub(super) fn mesh(status: &UpgradeStatus) -> String {
    if let Some(why) = &status.mesh.failed {
        return format!("{} takes no part in the mesh any more: {}", plain(&status.node), plain(why));
    }
    let members = &status.mesh.members;
    let reachable = members.iter().filter(|member| member.reachable).count();
    let leader = status.mesh.leader.as_deref().map_or_else(|| "nobody".to_owned(), plain);
    format!(
        "{leader} leads; {reachable} of {} sidecars answer (as {} sees it)",
        members.len(),
        plain(&status.node)
    )
}

fn nodes(nodes: &[UpgradeNode]) -> String {
    let headers = ["NODE", "ROLE", "RELEASE", "GENERATION", "IN SYNC", "BEHIND", "STEPS"];
    let rows: Vec<_> = nodes.iter().map(node).collect();
    table(headers.map(|header| (header, Align::Left)), &rows)
}

/// Its row, under the headers of [`nodes`].
pub(super) fn node(node: &UpgradeNode) -> [String; 7] {
    let part = node.part.as_ref();
    [
        plain(&node.id),
        if node.reachable { role(node.role).to_owned() } else { format!("{}, away", role(node.role)) },
        node.release.as_deref().map_or_else(|| "-".to_owned(), plain),
        part.map_or_else(|| "-".to_owned(), generation),
        match node.role {
            NodeRole::Witness => "-",
            _ if node.in_sync => "yes",
            _ => "no",
        }
        .to_owned(),
        node.behind_bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{bytes} B")),
        part.map_or_else(String::new, steps),
    ]
}

const fn role(role: NodeRole) -> &'static str {
    match role {
        NodeRole::Master => "master",
        NodeRole::Secondary => "secondary",
        NodeRole::Witness => "witness",
        NodeRole::Unknown => "unknown",
    }
}

fn generation(part: &NodePart) -> String {
    let generation = plain(&part.generation);
    match &part.heading {
        Some(heading) => format!("{generation} → {}", plain(heading)),
        None if part.finalized => format!("{generation}, finalized"),
        None => generation,
    }
}

/// `3/9 stop`, or what is in its way.
fn steps(part: &NodePart) -> String {
    if let Some(blocked) = &part.blocked {
        return format!("blocked: {}", plain(blocked));
    }
    let done = part.steps.iter().filter(|step| step.state == StepState::Done).count();
    match part.steps.get(done) {
        Some(step) => format!("{done}/{} {}", part.steps.len(), plain(&step.step)),
        None => String::new(),
    }
}

/// What is waited for, what comes next and when.
pub(super) fn notes(transaction: &TransactionStatus, now: u64) -> Vec<String> {
    let mut lines: Vec<_> = transaction.pending.iter().map(|each| pending(each, now)).collect();
    if let Some(pause) = &transaction.paused {
        let node = pause.node.as_deref().map(|node| format!(" at {}", plain(node))).unwrap_or_default();
        lines.push(format!("paused{node} ({}): {}", plain(&pause.cause), plain(&pause.why)));
        lines.push(format!("what to do: {}", plain(&pause.advice)));
    }
    if transaction.losses > 0 {
        lines.push(format!("losses since the start: {} (segue losses)", transaction.losses));
    }
    if let Some(next) = &transaction.next {
        lines.push(format!("next: {}", plain(next)));
    }
    if let Some(left) = left(transaction) {
        lines.push(left);
    }
    if let Some(end) = end(transaction) {
        lines.push(end);
    }
    lines
}

fn left(transaction: &TransactionStatus) -> Option<String> {
    let left = seconds(transaction.left_ms?.div_ceil(1000));
    let about = if transaction.left_is_at_least { "at least " } else { "about " };
    let (done, all) = (transaction.steps_done, transaction.steps_done + transaction.steps_ahead);
    Some(format!("{done} of {all} steps done, {about}{left} left"))
}

fn pending(pending: &PendingStatus, now: u64) -> String {
    let PendingStatus { node, step, attempt, claimed, waits_for, asked_at_ms, deadline_ms, .. } = pending;
    let mut text = format!("{}: {} for {}", plain(node), plain(step), since(*asked_at_ms, now));
    if *attempt > 1 {
        text += &format!(", attempt {attempt}");
    }
    match waits_for {
        Some(why) => text += &format!(", waits: {}", plain(why)),
        None if !claimed => text += ", waits: its sidecar has not begun it",
        None => {}
    }
    text + &format!(" ({} left)", since(now, *deadline_ms))
}

/// How it ended, once it has.
pub(super) fn end(transaction: &TransactionStatus) -> Option<String> {
    let (from, to) = (plain(&transaction.from), plain(&transaction.to));
    Some(match transaction.phase.as_str() {
        "done" => format!("Success: all nodes run {to}, and every link speaks it."),
        "rolled-back" => format!("Rolled back: all nodes run {from} as before, with the newest writes."),
        "failed" => format!("Nothing was changed: all nodes run {from}. `segue upgrade start` tries again."),
        _ => return None,
    })
}

/// What a rollback costs.
pub(super) fn cost(status: &UpgradeStatus) -> String {
    match status.transaction.as_ref().map(|transaction| transaction.losses) {
        None | Some(0) => "going back costs no data: nothing was left out since the start\n".to_owned(),
        Some(losses) => format!(
            "going back costs: {losses} losses since the start stay lost; `segue losses` on each node names them\n"
        ),
    }
}

/// What blocks, and what to do.
pub(super) fn explain(status: &UpgradeStatus) -> String {
    let mut text = format!("{}\n", headline(status));
    let mut say = |why: &str, what_to_do: &str| text += &format!("\n{why}\n  what to do: {what_to_do}\n");
    if status.mesh.failed.is_some() {
        say(
            &format!("{}; what else is known here may be old.", mesh(status)),
            "mend that, such as by making room in state.dir: it takes part again by itself, links flow meanwhile; \
             ask another node",
        );
        return text;
    }
    let members = &status.mesh.members;
    let away: Vec<_> =
        members.iter().filter(|member| !member.reachable).map(|member| plain(&member.id)).collect();
    let voters = members.iter().filter(|member| member.votes).count();
    let answering = members.iter().filter(|member| member.votes && member.reachable).count();
    if status.mesh.leader.is_none() || answering * 2 <= voters {
        say(
            &format!(
                "No majority of the sidecars is together ({answering} of {voters} voters answer): nothing goes on."
            ),
            "start the sidecars that are away, and see that they reach each other's mesh address; links flow meanwhile",
        );
    }
    if !away.is_empty() {
        say(
            &format!("These sidecars do not answer: {}.", away.join(", ")),
            "start them; what was asked of their nodes is done when they are back",
        );
    }
    let Some(transaction) = status.transaction.as_ref().filter(|transaction| !transaction.over) else {
        return text;
    };
    if let Some(pause) = &transaction.paused {
        let node = pause.node.as_deref().map(|node| format!(" at {}", plain(node))).unwrap_or_default();
        say(&format!("It is paused{node}: {}.", plain(&pause.why)), &plain(&pause.advice));
    }
    for each in &transaction.pending {
        let deadline = since(status.at_ms, each.deadline_ms);
        say(
            &pending(each, status.at_ms),
            &format!("nothing yet: {}", waiting(&each.step).replace("{deadline}", &deadline)),
        );
    }
    for node in &status.nodes {
        if let Some(blocked) = node.part.as_ref().and_then(|part| part.blocked.as_ref()) {
            say(
                &format!("{} does not go on: {}.", plain(&node.id), plain(blocked)),
                "mend that, then segue upgrade resume; or segue upgrade rollback",
            );
        }
        if !node.reachable && node.role != NodeRole::Witness {
            say(
                &format!("{}'s store does not answer.", plain(&node.id)),
                "look at it and at its sidecar's log",
            );
        }
    }
    if transaction.phase == "upgraded" {
        let to = plain(&transaction.to);
        say(
            &format!("All nodes run {to}, and still speak the release before to each other."),
            "segue upgrade finalize, or segue upgrade rollback",
        );
    }
    if let Some(next) = &transaction.next {
        text += &format!("\nnext: {}\n", plain(next));
    }
    text
}

/// What becomes of a pending step by itself.
fn waiting(step: &str) -> &'static str {
    match step {
        "gate-before" | "gate-after" | "catch-up" => {
            "after {deadline} it pauses; it never goes on unfinished"
        }
        "finalize" => "it is tried until it is done",
        _ => "after {deadline} it counts as failed, and is tried again as often as attempts_max says",
    }
}

pub(super) fn plan(plan: &PlanStatus) -> String {
    let (from, to) = (plain(&plan.from), plain(&plan.to));
    let batches: Vec<_> = plan.batches.iter().map(|batch| plain(&batch.join(" + "))).collect();
    let mut text = format!(
        "{from} to {to}, in this order: {}; {} is master now\n\n",
        batches.join(", "),
        plain(&plan.master)
    );
    let headers = [("", Align::Right), ("NODE", Align::Left), ("STEP", Align::Left), ("WHAT", Align::Left)];
    let rows: Vec<_> = (1..)
        .zip(&plan.steps)
        .map(|(number, step): (u32, _)| {
            let node = step.node.as_deref().map_or_else(|| "all".to_owned(), plain);
            [number.to_string(), node, plain(&step.step), plain(&step.does)]
        })
        .collect();
    text += &table(headers, &rows);
    text + "\nNothing has moved. segue upgrade start begins it; until finalize, rollback brings all nodes back.\n"
}

pub(super) fn journal(line: &JournalLine) -> String {
    let node = line.node.as_deref().map(|node| format!("{}: ", plain(node))).unwrap_or_default();
    node + &plain(&line.text)
}

fn since(from_ms: u64, to_ms: u64) -> String {
    seconds(to_ms.saturating_sub(from_ms) / 1000)
}
