//! `segue verdicts`

use std::fmt::Write;

use segue_wire::{Change, Grade, LossPolicy, Protocol, Refusal, Release, Verdict};
use serde_json::{Value, json};

use super::{
    Exit, Failure, VerdictsArgs,
    advice::advice,
    print,
    table::{Align, table},
};

/// What each verdict means for what is sent, in the order of the columns.
const VERDICTS: [(&str, &str); 4] = [
    ("same", "passes unchanged to"),
    ("downshift", "sends what is older itself to"),
    ("rewrite", "is rewritten for"),
    ("refuse", "is refused to"),
];

/// Prints what lies between releases, from the tables that the translator itself follows.
///
/// # Errors
/// A release that is not known.
pub fn run(args: &VerdictsArgs, protocol: &dyn Protocol) -> Result<(), Failure> {
    if protocol.releases().is_empty() && !args.json {
        return print(&format!(
            "{}: no release is told from another, all bytes pass unchanged\n",
            protocol.name()
        ));
    }
    for release in [&args.from, &args.to].into_iter().flatten() {
        if !protocol.releases().contains(&release.short()) {
            return Err(unknown(protocol, release));
        }
    }
    if args.json {
        return print(&format!("{:#}\n", as_json(args, protocol)));
    }
    match (&args.from, &args.to) {
        (Some(from), Some(to)) => print(&one_pair(protocol, from, to)),
        _ => print(&all_pairs(&rows(protocol, args.from.as_ref(), args.to.as_ref()))),
    }
}

fn unknown(protocol: &dyn Protocol, release: &Release) -> Failure {
    let known = spans(protocol.releases(), protocol.releases().iter());
    let message = format!("segue: {release} is not known to {}; known are {known}", protocol.name());
    Failure { exit: Exit::Usage, message }
}

/// What one release sends, to all others.
pub struct Row {
    pub from: Release,
    /// The receivers with each verdict, in the order of [`Row::HEADERS`].
    pub to: [String; 4],
}

impl Row {
    pub const HEADERS: [&str; 5] =
        ["what this sends", VERDICTS[0].1, VERDICTS[1].1, VERDICTS[2].1, VERDICTS[3].1];
}

/// The matrix of all pairs, or of those with one sender or receiver.
#[must_use]
pub fn rows(protocol: &dyn Protocol, from: Option<&Release>, to: Option<&Release>) -> Vec<Row> {
    let (senders, receivers) = (chosen(protocol, from), chosen(protocol, to));
    let row = |from: &Release| {
        let with = |(label, _): (&str, &str)| {
            let has = |to: &&Release| protocol.verdict(from, to).label() == label;
            spans(protocol.releases(), receivers.iter().filter(has))
        };
        Row { from: from.clone(), to: VERDICTS.map(with) }
    };
    senders.iter().map(row).collect()
}

fn chosen(protocol: &dyn Protocol, release: Option<&Release>) -> Vec<Release> {
    release.map_or_else(|| protocol.releases().to_vec(), |release| vec![release.clone()])
}

/// Releases as a person says them: `redis 5.0 to 7.2, 8.0; valkey 9.0`. Those of one store stand together in
/// `all`, from old to new.
fn spans<'a>(all: &[Release], chosen: impl Iterator<Item = &'a Release>) -> String {
    let place = |release: &Release| all.iter().position(|other| *other == release.short());
    let number = |release: &Release| release.to_string().replacen(&format!("{}-", release.store()), "", 1);
    let mut text = String::new();
    let mut chosen = chosen.peekable();
    let mut store = "";
    while let Some(first) = chosen.next() {
        let mut last = first;
        let follows = |last: &Release, next: &Release| {
            next.store() == last.store() && place(last).is_some_and(|at| place(next) == Some(at + 1))
        };
        while let Some(next) = chosen.next_if(|next| follows(last, next)) {
            last = next;
        }
        match (text.is_empty(), store == first.store()) {
            (true, _) => text = format!("{} ", first.store()),
            (false, true) => text += ", ",
            (false, false) => text += &format!("; {} ", first.store()),
        }
        store = first.store();
        text += &number(first);
        if first != last {
            text += &format!(" to {}", number(last));
        }
    }
    text
}

fn all_pairs(rows: &[Row]) -> String {
    let mut cells = Vec::new();
    for Row { from, to } in rows {
        let mut from = from.to_string();
        for ((label, _), to) in VERDICTS.iter().zip(to).filter(|(_, to)| !to.is_empty()) {
            cells.push([std::mem::take(&mut from), (*label).to_owned(), to.clone()]);
        }
    }
    table([("FROM", Align::Left), ("VERDICT", Align::Left), ("TO", Align::Left)], &cells)
        + "\nwhat is rewritten, and what can be lost: segue verdicts PROTOCOL --from RELEASE --to RELEASE\n"
}

fn one_pair(protocol: &dyn Protocol, from: &Release, to: &Release) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _infallible = write_pair(protocol, from, to, &mut text);
    text
}

fn write_pair(protocol: &dyn Protocol, from: &Release, to: &Release, text: &mut String) -> std::fmt::Result {
    let verdict = protocol.verdict(from, to);
    write!(text, "from {from} to {to}: {}", verdict.label())?;
    match verdict {
        Verdict::Same => return writeln!(text, ": all bytes pass unchanged"),
        Verdict::Refuse(refusal) => return write_refusal(&refusal, text),
        Verdict::Downshift => {
            writeln!(text, ": {from} itself sends what is older; where it can't, rewritten:")?
        }
        Verdict::Rewrite => writeln!(text, ": what is not listed passes unchanged")?,
    }
    let changes = protocol.changes(from, to);
    let mut part = None;
    for change in &changes {
        if part != Some(change.part) {
            part = Some(change.part);
            writeln!(text, "\nin the {}:", change.part.label())?;
        }
        writeln!(text, "  {}\n    → {}", change.form, change.instead)?;
        for loss in &change.losses {
            writeln!(text, "    loss {} ({})", loss.name, loss.grade.label())?;
        }
    }
    let losses = kinds(&changes, Grade::Data);
    if !losses.is_empty() {
        writeln!(text, "\nwhere it comes to {}:", losses.join(", "))?;
        for policy in LossPolicy::ALL {
            writeln!(text, "  loss = \"{}\": {}", policy.label(), what_happens(policy))?;
        }
    }
    let bookkeeping = kinds(&changes, Grade::Bookkeeping);
    if !bookkeeping.is_empty() {
        writeln!(text, "always let through without, and counted: {}", bookkeeping.join(", "))?;
    }
    Ok(())
}

fn write_refusal(refusal: &Refusal, text: &mut String) -> std::fmt::Result {
    writeln!(text, ": {refusal}")?;
    match advice(refusal.label()) {
        Some(advice) => writeln!(text, "what to do: {advice}"),
        None => Ok(()),
    }
}

/// Each once, in the order of their first appearance.
fn kinds(changes: &[Change], grade: Grade) -> Vec<&'static str> {
    let mut kinds = Vec::new();
    for loss in changes.iter().flat_map(|change| &change.losses).filter(|loss| loss.grade == grade) {
        if !kinds.contains(&loss.name) {
            kinds.push(loss.name);
        }
    }
    kinds
}

const fn what_happens(policy: LossPolicy) -> &'static str {
    match policy {
        LossPolicy::Refuse => "the link is closed before the receiver has anything incomplete",
        LossPolicy::Degrade => "it is left out, named and counted (segue losses)",
    }
}

/// Every pair that was asked for; the changes only where it is one.
fn as_json(args: &VerdictsArgs, protocol: &dyn Protocol) -> Value {
    let (senders, receivers) = (chosen(protocol, args.from.as_ref()), chosen(protocol, args.to.as_ref()));
    let one = args.from.is_some() && args.to.is_some();
    let pair = |from: &Release, to: &Release| {
        let verdict = protocol.verdict(from, to);
        let mut pair = json!({ "from": from.to_string(), "to": to.to_string(), "verdict": verdict.label() });
        if let Verdict::Refuse(refusal) = &verdict {
            pair["reason"] = refusal.label().into();
        }
        if one {
            pair["changes"] = protocol.changes(from, to).iter().map(change_as_json).collect();
        }
        pair
    };
    let pairs = senders.iter().flat_map(|from| receivers.iter().map(move |to| (from, to)));
    let pairs: Vec<_> = pairs.map(|(from, to)| pair(from, to)).collect();
    json!({ "protocol": protocol.name(), "pairs": pairs })
}

fn change_as_json(change: &Change) -> Value {
    let loss = |loss: &segue_wire::LossKind| json!({ "kind": loss.name, "grade": loss.grade.label() });
    let losses: Vec<_> = change.losses.iter().map(loss).collect();
    json!({ "part": change.part.label(), "form": change.form, "instead": change.instead, "losses": losses })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_that_follow_each_other_are_one_span() {
        let releases =
            |names: &[&str]| -> Vec<Release> { names.iter().map(|name| name.parse().unwrap()).collect() };
        let all = releases(&["a-1.0", "a-1.1", "a-1.2", "a-1.4", "b-1.0", "b-2.0"]);
        for (chosen, said) in [
            (&[][..], ""),
            (&["a-1.1"], "a 1.1"),
            (&["a-1.0", "a-1.1", "a-1.2"], "a 1.0 to 1.2"),
            (&["a-1.0", "a-1.2", "a-1.4"], "a 1.0, 1.2 to 1.4"),
            (&["a-1.4", "b-1.0", "b-2.0"], "a 1.4; b 1.0 to 2.0"),
            (&["a-1.2.3"], "a 1.2.3"),
        ] {
            assert_eq!(spans(&all, releases(chosen).iter()), said);
        }
    }
}
