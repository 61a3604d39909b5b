use super::{Rewriting, command, eval, find_word, is_word, scripts, without};
use crate::{
    releases::Pair,
    resp::{Command, integer},
};

/// What stands between the key and the id of `XADD`, or after the key of `XTRIM`.
#[derive(Debug, Default)]
struct Options {
    nomkstream: Option<usize>,
    /// `MAXLEN` or `MINID`, an optional `=` or `~`, the threshold.
    trim: Option<Trim>,
    limit: Option<usize>,
}

#[derive(Debug)]
struct Trim {
    at: usize,
    arguments: usize,
    by_id: bool,
}

const OPTIONS_AT: usize = 2;

fn options(of: &Command) -> Options {
    let mut options = Options::default();
    let mut at = OPTIONS_AT;
    loop {
        let by_id = is_word(of, at, "MINID");
        at += if is_word(of, at, "NOMKSTREAM") {
            options.nomkstream = Some(at);
            1
        } else if by_id || is_word(of, at, "MAXLEN") {
            let operator = is_word(of, at + 1, "=") || is_word(of, at + 1, "~");
            let arguments = if operator { 3 } else { 2 };
            options.trim = Some(Trim { at, arguments, by_id });
            arguments
        } else if is_word(of, at, "LIMIT") {
            options.limit = Some(at);
            2
        } else {
            return options;
        };
    }
}

pub fn has_nomkstream(xadd: &Command, _: &Pair) -> bool {
    options(xadd).nomkstream.is_some()
}

pub fn drop_nomkstream(xadd: &Command, to: &mut Rewriting<'_>) {
    if let Some(at) = options(xadd).nomkstream {
        to.say(without(xadd, at, 1));
    }
}

pub fn has_limit(of: &Command, _: &Pair) -> bool {
    options(of).limit.is_some()
}

pub fn drop_limit(of: &Command, to: &mut Rewriting<'_>) {
    if let Some(at) = options(of).limit {
        to.say(without(of, at, 2));
    }
}

pub fn has_minid(of: &Command, _: &Pair) -> bool {
    options(of).trim.is_some_and(|trim| trim.by_id)
}

pub fn xadd_minid(xadd: &Command, to: &mut Rewriting<'_>) {
    let (Some(trim), Some(key)) = (options(xadd).trim, xadd.get(1)) else { return };
    let Some(id) = xadd.get(trim.at + trim.arguments - 1) else { return };
    to.say(without(xadd, trim.at, trim.arguments));
    to.say(command(["XTRIM".into(), key.into(), "MINID".into(), id.into()]));
}

pub fn xtrim_minid(xtrim: &Command, to: &mut Rewriting<'_>) {
    let (Some(trim), Some(key)) = (options(xtrim).trim, xtrim.get(1)) else { return };
    let Some(id) = xtrim.get(trim.at + trim.arguments - 1).and_then(|id| stream_id(id)) else {
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
