use super::{Rewriting, command, eval, scripts, word};
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
