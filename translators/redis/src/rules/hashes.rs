use bytes::Bytes;

use super::{
    Rewriting, command,
    commands::FIELD_TTLS,
    eval, find_word,
    options::{HSETEX_OPTIONS, Place},
    scripts,
};
use crate::{releases::Pair, resp::Command};

/// `HSETEX key …`: options start here; `FIELDS` ends them.
const OPTIONS_AT: usize = 2;

pub fn has_fields(of: &Command, _: &Pair) -> bool {
    fields(of).is_some()
}

pub fn has_keepttl(hsetex: &Command, _: &Pair) -> bool {
    HSETEX_OPTIONS.has(hsetex, "KEEPTTL") && fields(hsetex).is_some()
}

pub fn hsetex_keepttl(hsetex: &Command, to: &mut Rewriting<'_>) {
    let (Some(key), Some(pairs)) = (hsetex.get(1), fields(hsetex)) else { return };
    if FIELD_TTLS.has(to.pair.to) {
        to.say(eval(scripts::HSET_KEEPTTL, std::slice::from_ref(key), pairs.iter().cloned()));
    } else {
        to.say(hset(key, pairs));
    }
}

/// Masters send every expiry as `PXAT`.
pub fn is_sent(hsetex: &Command, _: &Pair) -> bool {
    fields(hsetex).is_some() && !["EX", "PX", "EXAT"].iter().any(|expiry| HSETEX_OPTIONS.has(hsetex, expiry))
}

/// A condition (`FNX`, `FXX`) was true on the master: it needs no second look.
pub fn hsetex(hsetex: &Command, to: &mut Rewriting<'_>) {
    let (Some(key), Some(pairs)) = (hsetex.get(1), fields(hsetex)) else { return };
    to.say(hset(key, pairs));
    if let Some(ms) = HSETEX_OPTIONS.find(hsetex, "PXAT").map(Place::value_at).and_then(|at| hsetex.get(at)) {
        let names: Vec<_> = pairs.iter().step_by(2).cloned().collect();
        let mut expire = command([
            "HPEXPIREAT".into(),
            key.into(),
            ms.into(),
            "FIELDS".into(),
            names.len().to_string().into(),
        ]);
        expire.extend(names);
        to.say(expire);
    }
}

pub fn hgetdel(hgetdel: &Command, to: &mut Rewriting<'_>) {
    let (Some(key), Some(names)) = (hgetdel.get(1), fields(hgetdel)) else { return };
    let mut hdel = command(["HDEL".into(), key.into()]);
    hdel.extend(names.iter().cloned());
    to.say(hdel);
}

pub fn hpexpireat(hpexpireat: &Command, to: &mut Rewriting<'_>) {
    let count = fields(hpexpireat).map_or(0, <[Bytes]>::len);
    to.lose("hash-field-ttl", format!("the expiry of {count} fields of a hash"), hpexpireat.get(1));
}

fn hset(key: &Bytes, pairs: &[Bytes]) -> Command {
    let mut hset = command(["HSET".into(), key.into()]);
    hset.extend(pairs.iter().cloned());
    hset
}

/// What follows `FIELDS n`.
fn fields(of: &Command) -> Option<&[Bytes]> {
    of.get(find_word(of, OPTIONS_AT, "FIELDS")? + 2..)
}
