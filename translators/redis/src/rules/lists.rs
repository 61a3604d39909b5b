use bytes::Bytes;

use super::{Rewriting, command, eval, is_word, scripts, word};
use crate::resp::{Command, integer};

pub fn lpop_count(pop: &Command, to: &mut Rewriting<'_>) {
    let [_, key, count] = pop.as_slice() else { return };
    to.say(command(["LTRIM".into(), key.into(), count.into(), "-1".into()]));
}

pub fn rpop_count(pop: &Command, to: &mut Rewriting<'_>) {
    let [_, key, count] = pop.as_slice() else { return };
    let Some(last) = integer(count).and_then(|count| count.checked_add(1)) else {
        return to.lose("unknown-form", "RPOP with a count that is no number", Some(key));
    };
    to.say(command(["LTRIM".into(), key.into(), "0".into(), format!("-{last}").into()]));
}

pub fn lmove(lmove: &Command, to: &mut Rewriting<'_>) {
    let [_, source, destination, ..] = lmove.as_slice() else { return };
    let (index, pop) = match &*word(lmove, 3) {
        b"LEFT" => ("0", "LPOP"),
        _ => ("-1", "RPOP"),
    };
    let push = match &*word(lmove, 4) {
        b"LEFT" => "LPUSH",
        _ => "RPUSH",
    };
    if (pop, push) == ("RPOP", "LPUSH") {
        to.say(command(["RPOPLPUSH".into(), source.into(), destination.into()]));
    } else {
        let arguments = [index.into(), push.into(), pop.into()];
        to.say(eval(scripts::LMOVE, &[source.clone(), destination.clone()], arguments));
    }
}

/// Up to so many elements are moved one by one.
const PLAIN_MOVES_MAX: i64 = 4;

/// `LMOVEM source destination from to [COUNT|EXACTLY n OBO|BULK]`. One by one, elements that leave at one end
/// and come in at the same end of the other list arrive in reverse; as a bulk they keep their order.
pub fn lmovem(lmovem: &Command, to: &mut Rewriting<'_>) {
    let [_, source, destination, from, whereto, how_many @ ..] = lmovem.as_slice() else { return };
    let count = match how_many {
        [] => Some(1),
        [_, count, ..] => integer(count),
        _ => None,
    };
    let Some(count) = count.filter(|count| *count > 0) else {
        return to.lose("unknown-form", "LMOVEM with a count that is no number", Some(source));
    };
    let bulk = is_word(lmovem, 7, "BULK");
    let reversed = !bulk && from.eq_ignore_ascii_case(whereto);
    // On one list, all leave before the first comes in again.
    let one_by_one = source != destination && (reversed || !from.eq_ignore_ascii_case(whereto));
    if count == 1 || (one_by_one && count <= PLAIN_MOVES_MAX) {
        for _ in 0..count {
            to.say(command(["LMOVE".into(), source.into(), destination.into(), from.into(), whereto.into()]));
        }
        return;
    }
    let upper = |word: &Bytes| Bytes::from(word.to_ascii_uppercase());
    let order = Bytes::from_static(if reversed { b"REVERSED" } else { b"KEPT" });
    let arguments = [upper(from), upper(whereto), count.to_string().into(), order];
    to.say(eval(scripts::LMOVEM, &[source.clone(), destination.clone()], arguments));
}
