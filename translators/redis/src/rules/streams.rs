use bytes::Bytes;

use super::{
    Rewriting, command, eval, find_word, is_word,
    options::{Options, Place, XADD, XTRIM},
    scripts, without, word,
};
use crate::{
    releases::Pair,
    resp::{Command, integer},
};

const REFERENCES: [&str; 3] = ["KEEPREF", "DELREF", "ACKED"];

/// Of `XADD` or `XTRIM`.
fn options(of: &Command) -> &'static Options {
    if is_word(of, 0, "XADD") { &XADD } else { &XTRIM }
}

fn find(of: &Command, words: &[&str]) -> Option<Place> {
    words.iter().find_map(|word| options(of).find(of, word))
}

pub fn is_idempotent(xadd: &Command, _: &Pair) -> bool {
    find(xadd, &["IDMP", "IDMPAUTO"]).is_some()
}

/// A duplicate that the master refused is sent with the id `*`.
pub fn xadd_idempotent(xadd: &Command, to: &mut Rewriting<'_>) {
    let Some(place) = find(xadd, &["IDMP", "IDMPAUTO"]) else { return };
    if options(xadd).end(xadd).is_some_and(|id| is_word(xadd, id, "*")) {
        return;
    }
    forget_idempotency(xadd, to);
    to.say(without(xadd, place.at, place.length));
}

pub fn forget_idempotency(of: &Command, to: &mut Rewriting<'_>) {
    to.forget("stream-idempotence", "ids of a stream's producers", of.get(1));
}

pub fn has_references(of: &Command, _: &Pair) -> bool {
    find(of, &REFERENCES).is_some()
}

/// Older releases keep references: `KEEPREF` is what they do anyway.
pub fn xadd_references(xadd: &Command, to: &mut Rewriting<'_>) {
    let (Some(place), Some(key)) = (find(xadd, &REFERENCES), xadd.get(1)) else { return };
    let plain = without(xadd, place.at, place.length);
    let trim = find(&plain, &["MAXLEN", "MINID"]);
    let (Some(trim), false) = (trim, is_word(xadd, place.at, "KEEPREF")) else { return to.say(plain) };
    let arguments = trim_arguments(&plain, trim, word(xadd, place.at));
    let untrimmed = without(&plain, trim.at, trim.length);
    to.say(match find(&untrimmed, &["LIMIT"]) {
        Some(limit) => without(&untrimmed, limit.at, limit.length),
        None => untrimmed,
    });
    to.say(eval(scripts::TRIM_REFERENCES, std::slice::from_ref(key), arguments));
}

pub fn xtrim_references(xtrim: &Command, to: &mut Rewriting<'_>) {
    let (Some(place), Some(key)) = (find(xtrim, &REFERENCES), xtrim.get(1)) else { return };
    let plain = without(xtrim, place.at, place.length);
    match find(&plain, &["MAXLEN", "MINID"]) {
        Some(trim) if !is_word(xtrim, place.at, "KEEPREF") => {
            let arguments = trim_arguments(&plain, trim, word(xtrim, place.at));
            to.say(eval(scripts::TRIM_REFERENCES, std::slice::from_ref(key), arguments));
        }
        _ => to.say(plain),
    }
}

/// `MAXLEN` or `MINID`, the threshold, what becomes of references.
fn trim_arguments(of: &Command, trim: Place, references: Vec<u8>) -> [Bytes; 3] {
    let threshold = of.get(trim.value_at()).cloned().unwrap_or_default();
    [Bytes::from(word(of, trim.at)), threshold, Bytes::from(references)]
}

pub fn has_ids(of: &Command, _: &Pair) -> bool {
    ids(of).is_some()
}

/// `[KEEPREF|DELREF|ACKED] IDS n id …`: what becomes of references, and the ids.
fn ids(of: &Command) -> Option<(Bytes, &[Bytes])> {
    let options_at = if is_word(of, 0, "XACKDEL") { 3 } else { 2 };
    let references = word(of, options_at);
    let at = if references == b"IDS" { options_at } else { options_at + 1 };
    let count = usize::try_from(integer(of.get(at + 1)?)?).ok().filter(|_| is_word(of, at, "IDS"))?;
    let references = if references == b"IDS" { Bytes::from_static(b"KEEPREF") } else { references.into() };
    Some((references, of.get(at + 2..)?.get(..count)?))
}

pub fn xdelex(xdelex: &Command, to: &mut Rewriting<'_>) {
    let (Some(key), Some((references, ids))) = (xdelex.get(1), ids(xdelex)) else { return };
    if references == b"KEEPREF"[..] {
        let mut xdel = command(["XDEL".into(), key.into()]);
        xdel.extend(ids.iter().cloned());
        return to.say(xdel);
    }
    let mut arguments = vec![references];
    arguments.extend(ids.iter().cloned());
    to.say(eval(scripts::XDELEX, std::slice::from_ref(key), arguments));
}

pub fn xackdel(xackdel: &Command, to: &mut Rewriting<'_>) {
    let ([_, key, group, ..], Some((references, ids))) = (xackdel.as_slice(), ids(xackdel)) else { return };
    let mut arguments = vec![references, group.clone()];
    arguments.extend(ids.iter().cloned());
    to.say(eval(scripts::XACKDEL, std::slice::from_ref(key), arguments));
}

pub fn xnack(xnack: &Command, to: &mut Rewriting<'_>) {
    to.lose("stream-nacked", "pending entries that were given back", xnack.get(1));
}

pub fn has_nomkstream(xadd: &Command, _: &Pair) -> bool {
    find(xadd, &["NOMKSTREAM"]).is_some()
}

pub fn drop_nomkstream(xadd: &Command, to: &mut Rewriting<'_>) {
    if let Some(place) = find(xadd, &["NOMKSTREAM"]) {
        to.say(without(xadd, place.at, place.length));
    }
}

pub fn has_limit(of: &Command, _: &Pair) -> bool {
    find(of, &["LIMIT"]).is_some()
}

pub fn drop_limit(of: &Command, to: &mut Rewriting<'_>) {
    if let Some(place) = find(of, &["LIMIT"]) {
        to.say(without(of, place.at, place.length));
    }
}

pub fn has_minid(of: &Command, _: &Pair) -> bool {
    find(of, &["MINID"]).is_some()
}

pub fn xadd_minid(xadd: &Command, to: &mut Rewriting<'_>) {
    let (Some(trim), Some(key)) = (find(xadd, &["MINID"]), xadd.get(1)) else { return };
    let Some(id) = xadd.get(trim.value_at()) else { return };
    to.say(without(xadd, trim.at, trim.length));
    to.say(command(["XTRIM".into(), key.into(), "MINID".into(), id.into()]));
}

pub fn xtrim_minid(xtrim: &Command, to: &mut Rewriting<'_>) {
    let (Some(trim), Some(key)) = (find(xtrim, &["MINID"]), xtrim.get(1)) else { return };
    let Some(id) = xtrim.get(trim.value_at()).and_then(|id| stream_id(id)) else {
        return to.lose("unknown-form", "XTRIM MINID with an id that can't be read", Some(key));
    };
    let last = match id {
        (0, 0) => return,
        (ms, 0) => (ms - 1, u64::MAX),
        (ms, sequence) => (ms, sequence - 1),
    };
    to.say(eval(scripts::XTRIM_UP_TO, std::slice::from_ref(key), [format!("{}-{}", last.0, last.1).into()]));
}

/// `<ms>` or `<ms>-<sequence>`.
fn stream_id(text: &[u8]) -> Option<(u64, u64)> {
    let text = std::str::from_utf8(text).ok()?;
    let (ms, sequence) = text.split_once('-').unwrap_or((text, "0"));
    Some((ms.parse().ok()?, sequence.parse().ok()?))
}

pub fn is_createconsumer(xgroup: &Command, _: &Pair) -> bool {
    is_word(xgroup, 1, "CREATECONSUMER")
}

pub fn createconsumer(xgroup: &Command, to: &mut Rewriting<'_>) {
    let [_, _, key, group, consumer, ..] = xgroup.as_slice() else { return };
    to.say(command([
        "XREADGROUP".into(),
        "GROUP".into(),
        group.into(),
        consumer.into(),
        "COUNT".into(),
        "1".into(),
        "STREAMS".into(),
        key.into(),
        "0".into(),
    ]));
}

/// `XGROUP CREATE|SETID key group id …`: options start here.
const GROUP_OPTIONS_AT: usize = 5;

pub fn has_entriesread(xgroup: &Command, _: &Pair) -> bool {
    find_word(xgroup, GROUP_OPTIONS_AT, "ENTRIESREAD").is_some()
}

pub fn drop_entriesread(xgroup: &Command, to: &mut Rewriting<'_>) {
    let Some(at) = find_word(xgroup, GROUP_OPTIONS_AT, "ENTRIESREAD") else { return };
    to.forget("stream-counters", "a group's entries-read", xgroup.get(2));
    to.say(without(xgroup, at, 2));
}

pub fn drop_setid_counters(xsetid: &Command, to: &mut Rewriting<'_>) {
    to.forget("stream-counters", "a stream's entries-added and max-deleted-id", xsetid.get(1));
    to.say_last(xsetid.iter().take(3).cloned().collect());
}

/// The form in which masters send claims: `XCLAIM key group consumer 0 id TIME ms RETRYCOUNT n FORCE
/// JUSTID LASTID id`, one id each.
pub fn is_propagated_claim(xclaim: &Command, _: &Pair) -> bool {
    is_word(xclaim, 6, "TIME") && xclaim.get(4).and_then(|idle| integer(idle)) == Some(0)
}

pub fn xclaim(xclaim: &Command, to: &mut Rewriting<'_>) {
    let [_, key, arguments @ ..] = xclaim.as_slice() else { return };
    to.say(eval(scripts::XCLAIM, std::slice::from_ref(key), arguments.iter().cloned()));
}
