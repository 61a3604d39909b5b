//! BITOP's operations of 8.2.

use bytes::Bytes;

use super::{Rewriting, command, eval, scripts, word};
use crate::{releases::Pair, resp::Command};

pub fn is_newer(bitop: &Command, _: &Pair) -> bool {
    matches!(&*word(bitop, 1), b"DIFF" | b"DIFF1" | b"ANDOR" | b"ONE")
}

/// X is the first source, Y the others. The plain forms gather in the destination, so that it must not be X.
pub fn bitop(bitop: &Command, to: &mut Rewriting<'_>) {
    let [_, _, destination, sources @ ..] = bitop.as_slice() else { return };
    let Some((first, others)) = sources.split_first() else { return };
    let operation = word(bitop, 1);
    let mut say = |operation: &'static str, sources: &[&Bytes]| {
        let mut plain = command(["BITOP".into(), operation.into(), destination.into()]);
        plain.extend(sources.iter().copied().cloned());
        to.say(plain);
    };
    let gathered: Vec<_> = others.iter().collect();
    match (&*operation, others) {
        (b"ONE", []) => say("OR", &[first]),
        (b"ONE", [other]) => say("XOR", &[first, other]),
        (b"ANDOR", [other]) => say("AND", &[first, other]),
        (b"ANDOR", _) if first != destination => {
            say("OR", &gathered);
            say("AND", &[destination, first]);
        }
        (b"DIFF", _) if first != destination => {
            say("OR", &gathered);
            say("AND", &[destination, first]);
            say("XOR", &[destination, first]);
        }
        (b"DIFF1", _) if first != destination => {
            say("OR", &gathered);
            say("OR", &[destination, first]);
            say("XOR", &[destination, first]);
        }
        _ => {
            let mut keys = vec![destination.clone()];
            keys.extend(sources.iter().cloned());
            to.say(eval(scripts::BITOP, &keys, [Bytes::from(operation)]));
        }
    }
}
