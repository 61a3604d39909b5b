//! Functions, scripts, shard messages, types of one store alone.

use bytes::Bytes;

use super::{Rewriting, commands::FUNCTIONS, is_word, keys::payload_version};
use crate::{
    rdb::{self, Payload},
    releases::Pair,
    resp::Command,
};

/// What removes something that the older release never had.
pub fn nothing(_: &Command, _: &mut Rewriting<'_>) {}

pub fn brings_functions(function: &Command, _: &Pair) -> bool {
    is_word(function, 1, "LOAD") || is_word(function, 1, "RESTORE")
}

pub fn function(function: &Command, to: &mut Rewriting<'_>) {
    let what = match function.last().and_then(|code| library_name(code)) {
        Some(name) => format!("function library {name}"),
        None => "function libraries".to_owned(),
    };
    to.lose("function-library", what, None);
}

/// `#!lua name=<name>` at the start of the code.
fn library_name(code: &[u8]) -> Option<String> {
    let first = code.split(|&b| b == b'\n').next()?.strip_prefix(b"#!")?;
    let name = first.split(|&b| b == b' ').find_map(|word| word.strip_prefix(b"name="))?;
    Some(name.escape_ascii().to_string())
}

pub fn sets_slot(cluster: &Command, _: &Pair) -> bool {
    is_word(cluster, 1, "SETSLOT")
}

pub fn syncs_slots(cluster: &Command, pair: &Pair) -> bool {
    !sets_slot(cluster, pair)
}

pub fn sync_slots(_: &Command, to: &mut Rewriting<'_>) {
    to.lose("slot-migration", "a step of a migration of slots", None);
}

const RESTORE_PAYLOAD_AT: usize = 2;

pub fn has_newer_functions(function: &Command, pair: &Pair) -> bool {
    FUNCTIONS.has(pair.to)
        && is_word(function, 1, "RESTORE")
        && function
            .get(RESTORE_PAYLOAD_AT)
            .and_then(|payload| payload_version(payload))
            .is_some_and(|version| !pair.rdb.accepts(version))
}

pub fn function_restore(function: &Command, to: &mut Rewriting<'_>) {
    let Some(payload) = function.get(RESTORE_PAYLOAD_AT) else { return };
    match rdb::rewrite_function_payload(payload, &to.pair.rdb, to.limits) {
        Ok(Payload::Rewritten(older, losses)) => {
            for loss in losses {
                to.lose(loss.kind, loss.what, None);
            }
            let mut said = function.clone();
            if let Some(argument) = said.get_mut(RESTORE_PAYLOAD_AT) {
                *argument = Bytes::from(older);
            }
            to.say_last(said);
        }
        Ok(Payload::Same) => to.say_last(function.clone()),
        Ok(Payload::None(loss)) => to.lose(loss.kind, loss.what, None),
        Err(fault) => to.lose("function-library", format!("a payload that can't be read: {fault}"), None),
    }
}

pub fn is_script_flush(script: &Command, _: &Pair) -> bool {
    is_word(script, 1, "FLUSH")
}

pub fn script_flush(script: &Command, to: &mut Rewriting<'_>) {
    to.say(script.iter().take(2).cloned().collect());
}

pub fn spublish(spublish: &Command, to: &mut Rewriting<'_>) {
    to.lose("shard-message", "a message to a shard channel", spublish.get(1));
}

pub fn trim_slots(_: &Command, to: &mut Rewriting<'_>) {
    to.lose("slot-trim", "that the keys of slots that moved away are deleted", None);
}

pub fn vector_set(command: &Command, to: &mut Rewriting<'_>) {
    to.lose("vector-set", "a vector set", command.get(1));
}

pub fn array(command: &Command, to: &mut Rewriting<'_>) {
    to.lose("array", "an array", command.get(1));
}
