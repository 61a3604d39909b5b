use bytes::Bytes;
use segue_wire::FaultKind;

use super::{
    Rewriting, command,
    commands::{ARRAYS, VECTOR_SETS},
    eval, find_word, is_word, scripts,
};
use crate::{
    rdb::{self, Payload},
    releases::Pair,
    resp::Command,
};

pub fn drop_condition(expire: &Command, to: &mut Rewriting<'_>) {
    to.say(expire.iter().take(3).cloned().collect());
}

pub fn has_sync(flush: &Command, _: &Pair) -> bool {
    is_word(flush, 1, "SYNC")
}

pub fn drop_mode(flush: &Command, to: &mut Rewriting<'_>) {
    to.say(flush.iter().take(1).cloned().collect());
}

/// Without `REPLACE` the destination did not exist on the master: replacing is the same.
pub fn copy(copy: &Command, to: &mut Rewriting<'_>) {
    let [_, source, destination, ..] = copy.as_slice() else { return };
    let database = find_word(copy, 3, "DB").and_then(|at| copy.get(at + 1).cloned()).unwrap_or_default();
    to.say(eval(scripts::COPY, &[source.clone(), destination.clone()], [database]));
}

pub fn delex(delex: &Command, to: &mut Rewriting<'_>) {
    if let Some(key) = delex.get(1) {
        to.say(command(["DEL".into(), key.into()]));
    }
}

/// Whether a key can be of a type that the replica does not have.
pub fn may_be_lost(_: &Command, pair: &Pair) -> bool {
    [VECTOR_SETS, ARRAYS].iter().any(|kind| kind.has(pair.from) && !kind.has(pair.to))
}

pub fn rename(rename: &Command, to: &mut Rewriting<'_>) {
    let [name, key, newkey] = rename.as_slice() else { return };
    to.say(eval(scripts::RENAME, &[key.clone(), newkey.clone()], [name.clone()]));
}

/// `RESTORE key ttl payload [REPLACE] [ABSTTL] …`
const PAYLOAD_AT: usize = 3;

pub fn has_newer_payload(restore: &Command, pair: &Pair) -> bool {
    let Some(payload) = restore.get(PAYLOAD_AT) else { return false };
    payload_version(payload).is_some_and(|version| !pair.rdb.accepts(version))
        || payload.first().is_some_and(|&kind| !pair.rdb.loads_type(kind))
        // Whether a module's value loads is told by its module, not by its type.
        || payload.first() == Some(&rdb::TYPE_MODULE_2)
}

pub fn restore(restore: &Command, to: &mut Rewriting<'_>) {
    let (Some(key), Some(payload)) = (restore.get(1), restore.get(PAYLOAD_AT)) else { return };
    match rdb::rewrite_payload(payload, &to.pair.rdb, to.limits) {
        Ok(Payload::Same) => say_restore(restore, payload.clone(), to),
        Ok(Payload::Rewritten(rewritten, losses)) => {
            for loss in losses {
                to.lose(loss.kind, loss.what, Some(key));
            }
            say_restore(restore, Bytes::from(rewritten), to);
        }
        Ok(Payload::None(loss)) => to.lose(loss.kind, loss.what, Some(key)),
        Err(FaultKind::TooLarge { what, limit, max }) => {
            to.lose("restore-payload", format!("{what} is larger than {limit} = {max} bytes"), Some(key));
        }
        Err(fault) => to.lose("restore-payload", format!("a payload that can't be read: {fault}"), Some(key)),
    }
}

/// The rewritten payload must not match the rule again, so it is said as a whole.
fn say_restore(restore: &Command, payload: Bytes, to: &mut Rewriting<'_>) {
    let mut said = restore.clone();
    if let Some(argument) = said.get_mut(PAYLOAD_AT) {
        *argument = payload;
    }
    to.say_last(said);
}

/// The two bytes before a payload's checksum, little endian.
pub fn payload_version(payload: &[u8]) -> Option<u16> {
    let footer = payload.len().checked_sub(10)?;
    Some(u16::from_le_bytes(payload.get(footer..footer + 2)?.try_into().ok()?))
}
