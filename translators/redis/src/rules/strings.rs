use bytes::Bytes;

use super::{
    Rewriting, command, eval,
    options::{MSETEX_OPTIONS, SET},
    scripts, without,
};
use crate::{
    releases::Pair,
    resp::{Command, integer},
};

const CONDITIONS: [&str; 4] = ["IFEQ", "IFNE", "IFDEQ", "IFDNE"];

pub fn has_ifeq(set: &Command, _: &Pair) -> bool {
    SET.has(set, "IFEQ")
}

pub fn has_other_condition(set: &Command, _: &Pair) -> bool {
    CONDITIONS.iter().skip(1).any(|condition| SET.has(set, condition))
}

pub fn drop_condition(set: &Command, to: &mut Rewriting<'_>) {
    let condition = CONDITIONS.iter().find_map(|condition| SET.find(set, condition));
    if let Some(place) = condition {
        to.say(without(set, place.at, place.length));
    }
}

pub fn has_pxat(set: &Command, _: &Pair) -> bool {
    SET.find(set, "PXAT").is_some_and(|place| place.value_at() < set.len())
}

pub fn set_pxat(set: &Command, to: &mut Rewriting<'_>) {
    let (Some(place), Some(key)) = (SET.find(set, "PXAT"), set.get(1)) else { return };
    let Some(ms) = set.get(place.value_at()) else { return };
    to.say(without(set, place.at, place.length));
    to.say(command(["PEXPIREAT".into(), key.into(), ms.into()]));
}

pub fn has_keepttl(set: &Command, _: &Pair) -> bool {
    SET.has(set, "KEEPTTL")
}

/// A condition (`NX`, `XX`) was true on the master: it needs no second look.
pub fn set_keepttl(set: &Command, to: &mut Rewriting<'_>) {
    let [_, key, value, ..] = set.as_slice() else { return };
    to.say(eval(scripts::SET_KEEPTTL, std::slice::from_ref(key), [value.clone()]));
}

pub fn has_pairs(msetex: &Command, _: &Pair) -> bool {
    pairs(msetex).is_some()
}

/// Masters send every expiry as `PXAT` or `EXAT`, and only if the condition was true.
pub fn msetex(msetex: &Command, to: &mut Rewriting<'_>) {
    let Some(pairs) = pairs(msetex) else { return };
    let value = |expiry| MSETEX_OPTIONS.find(msetex, expiry).and_then(|place| msetex.get(place.value_at()));
    let seconds = value("EXAT").and_then(|seconds| integer(seconds)?.checked_mul(1000));
    let ms = seconds.map(|ms| Bytes::from(ms.to_string())).or_else(|| value("PXAT").cloned());
    let keep = MSETEX_OPTIONS.has(msetex, "KEEPTTL");
    if ms.is_none() && !keep {
        let mut mset = command(["MSET".into()]);
        mset.extend(pairs.iter().cloned());
        return to.say(mset);
    }
    for pair in pairs.chunks_exact(2) {
        let mut set = command(["SET".into()]);
        set.extend(pair.iter().cloned());
        match &ms {
            Some(ms) => set.extend(command(["PXAT".into(), ms.into()])),
            None => set.extend(command(["KEEPTTL".into()])),
        }
        to.say(set);
    }
}

/// The keys and values; none if a relative expiry stands behind them, which no master sends.
fn pairs(msetex: &Command) -> Option<&[Bytes]> {
    let relative = ["EX", "PX"].iter().any(|expiry| MSETEX_OPTIONS.has(msetex, expiry));
    let count = usize::try_from(integer(msetex.get(1)?)?).ok()?.checked_mul(2)?;
    msetex.get(2..)?.get(..count).filter(|_| !relative)
}
