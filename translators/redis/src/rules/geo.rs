use bytes::Bytes;

use super::{Rewriting, command, commands::GEO_STORE_DELETES, find_word, is_word, options::GEOSEARCHSTORE};
use crate::{releases::Pair, resp::Command};

/// `GEORADIUS key longitude latitude radius unit …`; the member form is one shorter.
const OPTIONS_AT: usize = 5;

pub fn has_any(radius: &Command, _: &Pair) -> bool {
    find_word(radius, OPTIONS_AT, "ANY").is_some()
}

pub fn any(radius: &Command, to: &mut Rewriting<'_>) {
    lose_any(to, destination(radius));
}

pub fn has_store(radius: &Command, _: &Pair) -> bool {
    destination(radius).is_some()
}

pub fn store(radius: &Command, to: &mut Rewriting<'_>) {
    if let (Some(destination), Some(source)) = (destination(radius), radius.get(1)) {
        delete_first(to, destination, source);
        to.say_last(radius.clone());
    }
}

fn destination(radius: &Command) -> Option<&Bytes> {
    let at = find_word(radius, OPTIONS_AT, "STORE").or_else(|| find_word(radius, OPTIONS_AT, "STOREDIST"))?;
    radius.get(at + 1)
}

pub fn search_store(search: &Command, to: &mut Rewriting<'_>) {
    if let [_, destination, source, ..] = search.as_slice() {
        delete_first(to, destination, source);
        to.say_last(search.clone());
    }
}

/// From 6.2.6 on, a search of a key that is not there deletes the destination; before, it leaves it alone.
fn delete_first(to: &mut Rewriting<'_>, destination: &Bytes, source: &Bytes) {
    if destination != source && GEO_STORE_DELETES.has(to.pair.from) {
        to.say(command(["DEL".into(), destination.into()]));
    }
}

fn lose_any(to: &mut Rewriting<'_>, destination: Option<&Bytes>) {
    to.lose(
        "geo-any",
        "COUNT … ANY takes whatever is found first, which no other server repeats",
        destination,
    );
}

pub fn has_polygon(search: &Command, _: &Pair) -> bool {
    GEOSEARCHSTORE.has(search, "BYPOLYGON")
}

pub fn lose_polygon(search: &Command, to: &mut Rewriting<'_>) {
    to.lose("geo-polygon", "a search by polygon, which no other store has", search.get(1));
}

/// `GEOSEARCHSTORE destination source (FROMMEMBER m | FROMLONLAT lon lat) (BYRADIUS r unit | BYBOX w h
/// unit) [ASC|DESC] [COUNT n [ANY]] [STOREDIST]`, in any order.
pub fn geosearchstore(search: &Command, to: &mut Rewriting<'_>) {
    let [_, destination, source, ..] = search.as_slice() else { return };
    let (mut from, mut radius, mut options, mut store) = (Vec::new(), Vec::new(), Vec::new(), "STORE");
    let mut name = "GEORADIUS";
    let mut at = 3;
    while at < search.len() {
        let take = |count: usize| search.iter().skip(at + 1).take(count).cloned();
        at += if is_word(search, at, "FROMMEMBER") {
            name = "GEORADIUSBYMEMBER";
            from = take(1).collect();
            2
        } else if is_word(search, at, "FROMLONLAT") {
            from = take(2).collect();
            3
        } else if is_word(search, at, "BYRADIUS") {
            radius = take(2).collect();
            3
        } else if is_word(search, at, "ASC") || is_word(search, at, "DESC") {
            options.extend(search.get(at).cloned());
            1
        } else if is_word(search, at, "COUNT") {
            options.extend(search.iter().skip(at).take(2).cloned());
            2
        } else if is_word(search, at, "STOREDIST") {
            store = "STOREDIST";
            1
        } else if is_word(search, at, "ANY") {
            return lose_any(to, Some(destination));
        } else if is_word(search, at, "BYBOX") {
            return to.lose("geo-box", "a search by box has no older form", Some(destination));
        } else {
            return to.lose("unknown-form", "GEOSEARCHSTORE with an unknown option", Some(destination));
        };
    }
    let mut older = command([name.into(), source.into()]);
    older.extend(from);
    older.extend(radius);
    older.extend(options);
    older.extend(command([store.into(), destination.into()]));
    delete_first(to, destination, source);
    to.say_last(older);
}
