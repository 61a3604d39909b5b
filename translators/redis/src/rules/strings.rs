use super::{Rewriting, command, eval, find_word, scripts, without};
use crate::{releases::Pair, resp::Command};

/// `SET key value …`: options start here.
const OPTIONS_AT: usize = 3;

pub fn has_pxat(set: &Command, _: &Pair) -> bool {
    find_word(set, OPTIONS_AT, "PXAT").is_some_and(|at| at + 1 < set.len())
}

pub fn set_pxat(set: &Command, to: &mut Rewriting<'_>) {
    let (Some(at), Some(key)) = (find_word(set, OPTIONS_AT, "PXAT"), set.get(1)) else { return };
    let Some(ms) = set.get(at + 1) else { return };
    to.say(without(set, at, 2));
    to.say(command(["PEXPIREAT".into(), key.into(), ms.into()]));
}

pub fn has_keepttl(set: &Command, _: &Pair) -> bool {
    find_word(set, OPTIONS_AT, "KEEPTTL").is_some()
}

/// A condition (`NX`, `XX`) was true on the master: it needs no second look.
pub fn set_keepttl(set: &Command, to: &mut Rewriting<'_>) {
    let [_, key, value, ..] = set.as_slice() else { return };
    to.say(eval(scripts::SET_KEEPTTL, std::slice::from_ref(key), [value.clone()]));
}
