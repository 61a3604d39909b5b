//! An upgrade as text for a person.

use std::time::{Duration, UNIX_EPOCH};

use indicatif::BinaryBytes;

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
/// Of a time of a status: what is later is a mistake.
const TIME_MAX: Duration = Duration::from_secs(253_402_300_799);

pub(super) fn status(status: &UpgradeStatus) -> String {
    let now = status.at_ms;
    let mut text = summary(status);
    if let Some(change) = status.translations.first() {
        let (mode, loss, who) = (plain(&change.mode), plain(&change.loss), plain(&change.who));
        let ago = seconds((now / 1000).saturating_sub(change.at_unix_s));
        text += &format!("\ntranslation of all nodes: {mode}, loss {loss} ({who}, {ago} ago)\n");
    }
    if !status.journal.is_empty() {
        text += "\njournal, newest first:\n";
        for line in status.journal.iter().take(JOURNAL_SHOWN_MAX) {
            text += &format!("{:>8} ago: {}\n", since(line.at_ms, now), journal(line));
        }
    }
    text
}

/// The status without what was.
pub(super) fn summary(status: &UpgradeStatus) -> String {
    let mut lines = notes(status);
    lines.extend(status.transaction.as_ref().and_then(progress));
    lines.extend(end(status));
    let mut text = format!("{}\n{}\n\n{}", headline(status), mesh(status), nodes(&status.nodes));
    if !lines.is_empty() {
        text += &format!("\n{}\n", lines.join("\n"));
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
    let away = away(status);
    let leader = status.mesh.leader.as_deref().map_or_else(|| "nobody".to_owned(), plain);
    let not = match &*away {
        [] => String::new(),
        [one] => format!(", {one} does not"),
        several => format!(", {} do not", several.join(" and ")),
    };
    format!(
        "{leader} leads; {} of {} sidecars answer{not} (as {} sees it)",
        members.len() - away.len(),
        members.len(),
        plain(&status.node)
    )
}

fn away(status: &UpgradeStatus) -> Vec<String> {
    let away = status.mesh.members.iter().filter(|member| !member.reachable);
    away.map(|member| plain(&member.id)).collect()
}

pub(super) const HEADERS: [&str; 7] = ["NODE", "ROLE", "RELEASE", "GENERATION", "IN SYNC", "BEHIND", "STEPS"];

fn nodes(nodes: &[UpgradeNode]) -> String {
    let rows: Vec<_> = nodes.iter().map(node).collect();
    table(HEADERS.map(|header| (header, Align::Left)), &rows)
}

/// Its row, under [`HEADERS`].
pub(super) fn node(node: &UpgradeNode) -> [String; 7] {
    let part = node.part.as_ref();
    let unknown = || "-".to_owned();
    let behind = node.behind_bytes.filter(|_| node.reachable);
    [
        plain(&node.id),
        if node.reachable { role(node.role).to_owned() } else { format!("{}, away", role(node.role)) },
        node.release.as_deref().map_or_else(unknown, plain),
        part.map_or_else(unknown, generation),
        match node.role {
            NodeRole::Witness => "-",
            _ if !node.reachable => "-",
            _ if node.in_sync => "yes",
            _ => "no",
        }
        .to_owned(),
        behind.map_or_else(unknown, |bytes| BinaryBytes(bytes).to_string()),
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
    match part.heading.as_deref() {
        Some(heading) if heading == part.generation => format!("back to {generation}"),
        Some(heading) => format!("{generation} → {}", plain(heading)),
        None if part.finalized => format!("{generation}, finalized"),
        None => generation,
    }
}

/// `3/9 stop`; why it is blocked stands elsewhere.
fn steps(part: &NodePart) -> String {
    let done = part.steps.iter().filter(|step| step.state == StepState::Done).count();
    let blocked = if part.blocked.is_some() { "blocked" } else { "" };
    match part.steps.get(done) {
        Some(step) => {
            format!("{done}/{} {} {blocked}", part.steps.len(), plain(&step.step)).trim_end().to_owned()
        }
        None => blocked.to_owned(),
    }
}

/// What is waited for, what is in the way, and what comes next.
pub(super) fn notes(status: &UpgradeStatus) -> Vec<String> {
    let Some(transaction) = &status.transaction else { return Vec::new() };
    let mut lines: Vec<_> = transaction.pending.iter().map(|each| pending(each, status.at_ms)).collect();
    if let Some(pause) = &transaction.paused {
        lines.push(format!("paused ({}): {}", plain(&pause.cause), plain(&pause.why)));
        lines.push(format!("what to do: {}", plain(&pause.advice)));
    }
    for (why, what_to_do) in blocks(status, transaction) {
        lines.push(why);
        lines.push(format!("what to do: {what_to_do}"));
    }
    if transaction.losses > 0 {
        lines.push(format!("losses since the start: {} (segue losses)", transaction.losses));
    }
    if let Some((what, what_to_do)) = decision(status) {
        lines.push(what);
        lines.push(format!("what to do: {what_to_do}"));
    } else {
        lines.extend(next(transaction));
    }
    lines
}

fn next(transaction: &TransactionStatus) -> Option<String> {
    let next = plain(transaction.next.as_ref()?);
    let is_stopped = transaction.paused.is_some() && transaction.pending.is_empty();
    Some(match &*transaction.phase {
        "resting" | "soaking" if !is_stopped => format!("now: {next}"),
        _ if is_stopped => format!("once it goes on: {next}"),
        _ => format!("next: {next}"),
    })
}

/// What is for the operator once all nodes are upgraded, and what to do.
fn decision(status: &UpgradeStatus) -> Option<(String, String)> {
    let transaction = status.transaction.as_ref().filter(|transaction| transaction.phase == "upgraded")?;
    let (from, to) = (plain(&transaction.from), plain(&transaction.to));
    let what = format!("all nodes run {to}, and still speak {from} to each other: the way back is open");
    let by_itself = transaction.until_ms.map(|until| {
        let left = since(status.at_ms, until);
        format!("; it finalizes by itself in {left}")
    });
    let finalize = "segue upgrade finalize (from there on no way back), or segue upgrade rollback";
    Some((what, finalize.to_owned() + &by_itself.unwrap_or_default()))
}

/// What is in a node's way, and what to do; what it is paused for is said there.
fn blocks(status: &UpgradeStatus, transaction: &TransactionStatus) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for node in &status.nodes {
        let Some((part, blocked)) = node.part.as_ref().and_then(|part| Some((part, part.blocked.as_ref()?)))
        else {
            continue;
        };
        let (id, why) = (plain(&node.id), plain(blocked));
        let down = if node.reachable { "" } else { "; its store is down" };
        if part.heading.as_deref() == Some("old") {
            let from = plain(&transaction.from);
            found.push((
                format!("{id} is stuck on its way back to {from}{down}: {why}"),
                "mend that, then segue upgrade resume".to_owned(),
            ));
        } else if transaction.paused.as_ref().is_none_or(|pause| pause.why != *blocked) {
            found.push((
                format!("{id} is stuck{down}: {why}"),
                "mend that, then segue upgrade resume, or segue upgrade rollback".to_owned(),
            ));
        }
    }
    found
}

/// `15 of 31 steps done, about 40s left`
pub(super) fn progress(transaction: &TransactionStatus) -> Option<String> {
    if transaction.over {
        return None;
    }
    let (done, all) = (transaction.steps_done, transaction.steps_done + transaction.steps_ahead);
    let about = if transaction.left_is_at_least { "at least" } else { "about" };
    let left = transaction.left_ms.map(|left| left.div_ceil(1000)).filter(|left| *left > 0);
    let left = left.map(|left| format!(", {about} {} left", seconds(left))).unwrap_or_default();
    Some(format!("{done} of {all} steps done{left}"))
}

fn pending(pending: &PendingStatus, now: u64) -> String {
    let PendingStatus { node, step, attempt, claimed, waits_for, asked_at_ms, deadline_ms, .. } = pending;
    let attempt = if *attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
    let (taken, left) = (since(*asked_at_ms, now), since(now, *deadline_ms));
    let waits = match waits_for {
        Some(why) => format!("; waits: {}", plain(why)),
        None if !claimed => "; waits: its sidecar has not begun it".to_owned(),
        None => String::new(),
    };
    format!("{}: {}{attempt}, {taken} so far, {left} left{waits}", plain(node), plain(step))
}

/// How it ended, once it has.
pub(super) fn end(status: &UpgradeStatus) -> Option<String> {
    let transaction = status.transaction.as_ref()?;
    let (from, to) = (plain(&transaction.from), plain(&transaction.to));
    let is_end = |line: &&JournalLine| {
        line.transaction == transaction.id && line.text == format!("the transaction is {}", transaction.phase)
    };
    let took = status.journal.iter().find(is_end).map(|line| since(transaction.started_at_ms, line.at_ms));
    let took = took.map(|took| format!(" It took {took}.")).unwrap_or_default();
    Some(match transaction.phase.as_str() {
        "done" => format!("Success: all nodes run {to}, and every link speaks it.{took}"),
        "rolled-back" => {
            format!("Rolled back: all nodes run {from} as before, with the newest writes.{took}")
        }
        "failed" => format!("Nothing was changed: all nodes run {from}. `segue upgrade start` tries again."),
        _ => return None,
    })
}

/// What a rollback costs, while there is one to be had.
pub(super) fn cost(status: &UpgradeStatus) -> Option<String> {
    let transaction = status.transaction.as_ref().filter(|transaction| !transaction.over)?;
    Some(match transaction.losses {
        0 => "going back costs no data: nothing was left out since the start\n".to_owned(),
        losses => format!(
            "going back costs: {losses} losses since the start stay lost; `segue losses` on each node names them\n"
        ),
    })
}

/// What blocks, and what to do.
pub(super) fn explain(status: &UpgradeStatus) -> String {
    let mut text = format!("{}\n", headline(status));
    let found = obstacles(status);
    for (why, what_to_do) in &found {
        text += &format!("\n{why}.\n  what to do: {what_to_do}\n");
    }
    let runs = status.transaction.as_ref().filter(|transaction| !transaction.over);
    if found.is_empty() && runs.is_some() {
        text += "\nNothing is in its way.\n";
    }
    if let Some(end) = end(status) {
        text += &format!("{end}\n");
    }
    let is_known = status.mesh.failed.is_none() && decision(status).is_none();
    if let Some(next) = runs.filter(|_| is_known).and_then(next) {
        text += &format!("\n{next}\n");
    }
    text
}

fn obstacles(status: &UpgradeStatus) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut say = |why: String, what_to_do: &str| found.push((why, what_to_do.to_owned()));
    if status.mesh.failed.is_some() {
        say(
            format!("{}; what else is known here may be old", mesh(status)),
            "mend that, such as by making room in state.dir: it takes part again by itself, links flow meanwhile; \
             ask another node",
        );
        return found;
    }
    let members = &status.mesh.members;
    let away = away(status);
    let voters = members.iter().filter(|member| member.votes).count();
    let answering = members.iter().filter(|member| member.votes && member.reachable).count();
    // The votes of an etcd are its own affair.
    if status.mesh.leader.is_none() || voters > 0 && answering * 2 <= voters {
        say(
            format!(
                "No majority of the sidecars is together ({answering} of {voters} voters answer): nothing goes on"
            ),
            "start the sidecars that are away, and see that they reach each other's mesh address; links flow meanwhile",
        );
    }
    if !away.is_empty() {
        say(
            format!("These sidecars do not answer: {}", away.join(", ")),
            "start them; what was asked of their nodes is done when they are back",
        );
    }
    let runs = status.transaction.as_ref().filter(|transaction| !transaction.over);
    if let Some(pause) = runs.and_then(|transaction| transaction.paused.as_ref()) {
        say(format!("It is paused: {}", plain(&pause.why)), &plain(&pause.advice));
    }
    for each in runs.iter().flat_map(|transaction| &transaction.pending) {
        let deadline = since(status.at_ms, each.deadline_ms);
        let waiting = waiting(&each.step).replace("{deadline}", &deadline);
        say(pending(each, status.at_ms), &format!("nothing yet: {waiting}"));
    }
    if let Some(transaction) = runs {
        found.extend(blocks(status, transaction));
    }
    for node in status.nodes.iter().filter(|node| !node.reachable && node.role != NodeRole::Witness) {
        // Of one on its way that is to be expected, or said already.
        if runs.is_none() || node.part.as_ref().is_none_or(|part| part.heading.is_none()) {
            let why = format!("{}'s store does not answer", plain(&node.id));
            found.push((why, "look at it and at its sidecar's log".to_owned()));
        }
    }
    found.extend(decision(status).map(|(what, what_to_do)| (capitalized(&what), what_to_do)));
    found
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
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

/// `2026-11-27T09:12:41Z`
pub(super) fn clock(at_ms: u64) -> String {
    let at = UNIX_EPOCH + Duration::from_millis(at_ms).min(TIME_MAX);
    humantime::format_rfc3339_seconds(at).to_string()
}

pub(super) fn since(from_ms: u64, to_ms: u64) -> String {
    seconds(to_ms.saturating_sub(from_ms) / 1000)
}
