use bytes::Bytes;

use super::{Rewriting, eval, find_word, is_word, options, scripts, word};
use crate::{
    releases::Pair,
    resp::{Command, integer},
};

/// `ZADD key …`: flags start here.
const FLAGS_AT: usize = 2;
const FLAGS: [&str; 6] = ["NX", "XX", "GT", "LT", "CH", "INCR"];

pub fn has_gt_lt(zadd: &Command, _: &Pair) -> bool {
    flag(zadd, "GT") || flag(zadd, "LT")
}

pub fn zadd_gt_lt(zadd: &Command, to: &mut Rewriting<'_>) {
    let Some(key) = zadd.get(1) else { return };
    let mut arguments = vec![
        Bytes::from_static(if flag(zadd, "GT") { b"GT" } else { b"LT" }),
        yes_no(flag(zadd, "INCR")),
        yes_no(flag(zadd, "XX")),
    ];
    arguments.extend(zadd.iter().skip(FLAGS_AT + flags(zadd)).cloned());
    to.say(eval(scripts::ZADD_GT_LT, std::slice::from_ref(key), arguments));
}

pub fn has_source_keys(store: &Command, _: &Pair) -> bool {
    sources(store).is_some()
}

pub fn zdiffstore(store: &Command, to: &mut Rewriting<'_>) {
    let (Some(destination), Some(sources)) = (store.get(1), sources(store)) else { return };
    let mut keys = vec![destination.clone()];
    keys.extend(sources.iter().cloned());
    to.say(eval(scripts::ZDIFFSTORE, &keys, []));
}

pub fn zrangestore(store: &Command, to: &mut Rewriting<'_>) {
    let [_, destination, source, min, max, ..] = store.as_slice() else { return };
    let has = |option| find_word(store, 5, option).is_some();
    let range = match (has("BYSCORE"), has("BYLEX"), has("REV")) {
        (true, _, false) => "ZRANGEBYSCORE",
        (true, _, true) => "ZREVRANGEBYSCORE",
        (_, true, false) => "ZRANGEBYLEX",
        (_, true, true) => "ZREVRANGEBYLEX",
        (_, _, false) => "ZRANGE",
        (_, _, true) => "ZREVRANGE",
    };
    let mut arguments = vec![range.into(), min.clone(), max.clone()];
    if let Some(limit) = find_word(store, 5, "LIMIT") {
        arguments.extend(store.iter().skip(limit).take(3).cloned());
    }
    to.say(eval(scripts::ZRANGESTORE, &[destination.clone(), source.clone()], arguments));
}

pub fn counts(store: &Command, _: &Pair) -> bool {
    sources(store).is_some() && options::of(store).any(|options| options.has(store, "AGGREGATE COUNT"))
}

pub fn aggregate_count(store: &Command, to: &mut Rewriting<'_>) {
    let (Some(destination), Some(sources)) = (store.get(1), sources(store)) else { return };
    let weights = options::of(store).find_map(|options| options.find(store, "WEIGHTS"));
    let mut arguments = vec![Bytes::from(word(store, 0))];
    match weights.and_then(|place| store.get(place.at + 1..=place.value_at())) {
        Some(weights) => arguments.extend(weights.iter().cloned()),
        None => arguments.extend(sources.iter().map(|_| Bytes::from_static(b"1"))),
    }
    let mut keys = vec![destination.clone()];
    keys.extend(sources.iter().cloned());
    to.say(eval(scripts::AGGREGATE_COUNT, &keys, arguments));
}

/// `destination n key …`: the keys.
fn sources(store: &Command) -> Option<&[Bytes]> {
    let count = usize::try_from(integer(store.get(2)?)?).ok()?;
    store.get(3..)?.get(..count)
}

/// How many flags stand before the first score.
fn flags(zadd: &Command) -> usize {
    zadd.iter()
        .skip(FLAGS_AT)
        .take_while(|argument| FLAGS.iter().any(|flag| argument.eq_ignore_ascii_case(flag.as_bytes())))
        .count()
}

fn flag(zadd: &Command, name: &str) -> bool {
    (FLAGS_AT..FLAGS_AT + flags(zadd)).any(|at| is_word(zadd, at, name))
}

fn yes_no(yes: bool) -> Bytes {
    Bytes::from_static(if yes { b"1" } else { b"0" })
}
