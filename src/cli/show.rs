//! Status and losses as text for a person.

use indicatif::BinaryBytes;

use super::{
    advice::advice,
    table::{Align, plain, table},
};
use crate::status::{
    EndStatus, KnownRelease, LimitStatus, LinkStatus, LossesStatus, NodeStatus, RefusalStatus, SpokenStatus,
    Status, TranslationStatus,
};

/// How many of the newest losses are shown one by one.
const LOSSES_SHOWN_MAX: usize = 20;

/// `now_unix_s`: seconds since the epoch.
pub(super) fn status(status: &Status, now_unix_s: u64) -> String {
    let node = &status.node;
    let mut text = format!(
        "node {}: {}\nsegue {}, up {}; translation {}{}, loss {}{}\n\n",
        plain(&node.id),
        own_store(node),
        plain(&node.version),
        seconds(node.uptime_s),
        plain(&status.translation.mode),
        spoken(&status.translation),
        plain(&status.translation.loss),
        second_connection(status),
    );
    if let Some(error) = &status.config.last_error {
        text.push_str("config not reloaded:\n");
        text.extend(error.lines().map(|line| format!("  {}\n", plain(line))));
        text.push('\n');
    }
    if status.links.is_empty() {
        text.push_str("no links\n");
    } else {
        text.push_str(&links(&status.links));
    }
    if !status.limits.is_empty() {
        text.push_str(&format!("\n{}", limits(&status.limits)));
    }
    if !status.refusals.is_empty() {
        text.push_str("\nrefused, newest first:\n");
        for each in &status.refusals {
            text.push_str(&refusal(each, now_unix_s));
        }
    }
    text
}

/// Said where it is not what it is by itself.
fn second_connection(status: &Status) -> String {
    match &*status.second_connection {
        "" | "strip" => String::new(),
        other => format!(", second connection {}", plain(other)),
    }
}

fn spoken(translation: &TranslationStatus) -> String {
    match &translation.spoken {
        None => String::new(),
        Some(SpokenStatus { release, who, in_force: true, orphaned }) => {
            let orphaned = if *orphaned { " (there is no [mesh]: segue translate auto ends it)" } else { "" };
            format!(", held to {} by {}{orphaned}", plain(release), plain(who))
        }
        Some(SpokenStatus { release, who, in_force: false, .. }) => {
            let mode = plain(&translation.mode);
            format!(", not held to {} by {}: {mode} outranks it", plain(release), plain(who))
        }
    }
}

fn own_store(node: &NodeStatus) -> String {
    let Some(store) = &node.store else { return "a witness, without a store".to_owned() };
    format!("{} store at {}, {}", plain(&node.protocol), plain(store), release(node.release.as_ref()))
}

fn links(links: &[LinkStatus]) -> String {
    let headers = [
        ("LINK", Align::Right),
        ("DIALER → LISTENER", Align::Left),
        ("RELEASES", Align::Left),
        ("VERDICT", Align::Left),
        ("SENT →", Align::Right),
        ("← SENT", Align::Right),
        ("REWRITTEN", Align::Right),
        ("LOSSES", Align::Right),
        ("SHIFT", Align::Right),
        ("HELD", Align::Right),
        ("AGE", Align::Right),
    ];
    let rows: Vec<_> = links
        .iter()
        .map(|link| {
            [
                link.id.to_string(),
                format!("{} → {}", end(&link.dialer), end(&link.listener)),
                format!(
                    "{} → {}",
                    release(link.dialer.release.as_ref()),
                    release(link.listener.release.as_ref())
                ),
                verdict(link),
                BinaryBytes(link.bytes_from_dialer).to_string(),
                BinaryBytes(link.bytes_from_listener).to_string(),
                link.messages_rewritten.to_string(),
                link.losses.to_string(),
                match link.offset_shift_bytes {
                    0 if !link.own_offsets => "0".to_owned(),
                    shift => format!("{shift:+}"),
                },
                BinaryBytes(link.held_bytes).to_string(),
                seconds(link.age_s),
            ]
        })
        .collect();
    table(headers, &rows)
}

fn limits(limits: &[LimitStatus]) -> String {
    let headers =
        [("LIMIT", Align::Left), ("USED", Align::Right), ("MAX", Align::Right), ("HITS", Align::Right)];
    let rows: Vec<_> = limits
        .iter()
        .map(|LimitStatus { limit, max, used, hits }| {
            let used = used.map_or_else(|| "-".to_owned(), |used| used.to_string());
            [plain(limit), used, max.to_string(), hits.to_string()]
        })
        .collect();
    table(headers, &rows)
}

fn verdict(link: &LinkStatus) -> String {
    let of_bus = if link.bus { "bus, " } else { "" };
    let unspoken = match &link.unspoken {
        Some(release) => format!(", can't be held to {}", plain(release)),
        None => String::new(),
    };
    match &link.target {
        Some(target) if link.verdict != "same" => {
            format!("{of_bus}{} to {}{unspoken}", plain(&link.verdict), plain(target))
        }
        _ => format!("{of_bus}{}{unspoken}", plain(&link.verdict)),
    }
}

fn end(end: &EndStatus) -> String {
    let tls = end.tls.as_deref().map(|version| format!(", {}", plain(version))).unwrap_or_default();
    match &end.peer {
        Some(peer) => format!("{} ({}{tls})", plain(peer), plain(&end.address)),
        None => format!("{}{tls}", plain(&end.address)),
    }
}

fn release(release: Option<&KnownRelease>) -> String {
    match release {
        Some(known) => format!("{} ({})", plain(&known.release), known.learned.label()),
        None => "release unknown".to_owned(),
    }
}

fn refusal(refusal: &RefusalStatus, now_unix_s: u64) -> String {
    let RefusalStatus { at_unix_s, listen, peer, reason, detail } = refusal;
    let ago = seconds(now_unix_s.saturating_sub(*at_unix_s));
    let from = peer.as_deref().map(|peer| format!(" with {}", plain(peer))).unwrap_or_default();
    let (listen, reason, detail) = (plain(listen), plain(reason), plain(detail));
    let mut text = format!("  {ago} ago, {listen}{from}: {reason}\n    {detail}\n");
    if let Some(advice) = advice(&reason) {
        text.push_str(&format!("    what to do: {advice}\n"));
    }
    text
}

/// `now_unix_s`: seconds since the epoch.
pub(super) fn losses(losses: &LossesStatus, now_unix_s: u64) -> String {
    if losses.total == 0 {
        return "nothing was left out\n".to_owned();
    }
    let headers =
        [("KIND", Align::Left), ("GRADE", Align::Left), ("PEER", Align::Left), ("COUNT", Align::Right)];
    let rows: Vec<_> = losses
        .counts
        .iter()
        .map(|each| {
            let peer = each.peer.as_deref().map_or_else(|| "-".to_owned(), plain);
            [plain(&each.kind), plain(&each.grade), peer, each.count.to_string()]
        })
        .collect();
    let mut text =
        format!("{} left out since start\n\n{}\nnewest first:\n", losses.total, table(headers, &rows));
    for loss in losses.recent.iter().take(LOSSES_SHOWN_MAX) {
        let ago = seconds(now_unix_s.saturating_sub(loss.at_unix_s));
        let key = match &loss.key {
            Some(key) => format!(" (key \"{}\" in database {})", plain(key), loss.db),
            None => String::new(),
        };
        let peer = loss.peer.as_deref().map(|peer| format!(", {}", plain(peer))).unwrap_or_default();
        text.push_str(&format!("  {ago} ago{peer}: {}: {}{key}\n", plain(&loss.kind), plain(&loss.what)));
    }
    let more = losses.recent.len().saturating_sub(LOSSES_SHOWN_MAX);
    if more > 0 {
        text.push_str(&format!("  and {more} more: segue losses --json\n"));
    }
    text
}

/// A duration in its two largest units.
pub(super) fn seconds(s: u64) -> String {
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m {}s", s / 60, s % 60),
        3600..86400 => format!("{}h {}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d {}h", s / 86400, s % 86400 / 3600),
    }
}

#[cfg(test)]
mod tests;
