//! The option words of the commands, and the first releases that know each.
//!
//! A word that the replica does not know, and that no rule takes out, must not reach it: it would skip the
//! whole command silently. Commands that are not here had all their words in 5.0, or are new as a whole.
//! Source: `COMMAND DOCS` of the servers; tests/matrix/documents.rs compares them.

use super::{
    commands::{FIELD_TTLS, FUNCTIONS, HSETEX, LMOVEM, MSETEX, VECTOR_SETS, XDELEX, XNACK},
    is_word,
};
use crate::{
    releases::{
        Level, Since,
        since::{common, first, redis, valkey},
    },
    resp::{Command, integer},
};

/// The words at one place of a command.
pub struct Options {
    pub command: &'static str,
    start: Start,
    end: End,
    pub words: &'static [Word],
}

/// One option and the arguments that belong to it.
pub struct Word {
    /// Two words, where only both together are the option.
    pub text: &'static str,
    takes: Takes,
    pub since: Since,
}

enum Start {
    At(usize),
    /// Behind as many keys as this argument counts.
    AfterKeys(usize),
    /// Behind as many keys, each with its value.
    AfterPairs(usize),
    /// They are only listed: where they stand depends on others.
    Somewhere,
}

enum End {
    /// The command's own.
    Last,
    /// There is one word.
    One,
    At(&'static str),
    /// An id or a score.
    Number,
}

enum Takes {
    Count(usize),
    /// An optional `=` or `~`, and a number.
    Threshold,
    /// As many as this argument of the command counts.
    EachKey(usize),
    /// A count, and this many for each.
    Counted(usize),
}

const FIRST: Since = first();

/// Words that clients may use and that masters never send, by command, and what they send.
pub const NEVER_SENT: &[(&str, &[&str], &str)] = &[
    ("EXPIRE", &["NX", "XX", "GT", "LT"], "PEXPIREAT with the condition"),
    ("PEXPIRE", &["NX", "XX", "GT", "LT"], "PEXPIREAT with the condition"),
    ("GEOADD", &["NX", "XX", "CH"], "ZADD"),
    ("HSETEX", &["NX", "XX", "EX", "PX", "EXAT"], "no condition, PXAT"),
    ("MSETEX", &["EX", "PX"], "PXAT"),
    ("SET", &["GET", "EXAT"], "SET without it, PXAT"),
    ("XREADGROUP", &["CLAIM", "MAXCOUNT", "MAXSIZE"], "XCLAIM, XGROUP"),
];

/// All of them, by command; a command may have two places.
#[rustfmt::skip]
pub const OPTIONS: &[Options] = &[
    // === strings ===
    SET,
    MSETEX_OPTIONS,
    options("BITOP", Start::At(1), End::One, &[
        word("AND", FIRST), word("OR", FIRST), word("XOR", FIRST), word("NOT", FIRST),
        word("DIFF", redis(8, 2)), word("DIFF1", redis(8, 2)), word("ANDOR", redis(8, 2)), word("ONE", redis(8, 2)),
    ]),
    // === keys ===
    options("DELEX", Start::At(2), End::Last, &[
        word("IFEQ", redis(8, 4)).takes(1), word("IFNE", redis(8, 4)).takes(1),
        word("IFDEQ", redis(8, 4)).takes(1), word("IFDNE", redis(8, 4)).takes(1),
    ]),
    expiry("EXPIRE"), expiry("PEXPIRE"), expiry("EXPIREAT"), expiry("PEXPIREAT"),
    options("FLUSHDB", Start::At(1), End::Last, &[word("ASYNC", FIRST), word("SYNC", common(6, 2))]),
    options("FLUSHALL", Start::At(1), End::Last, &[word("ASYNC", FIRST), word("SYNC", common(6, 2))]),
    // === lists ===
    options("LMOVEM", Start::At(3), End::Last, &[
        word("LEFT", LMOVEM), word("RIGHT", LMOVEM), word("OBO", LMOVEM), word("BULK", LMOVEM),
        word("COUNT", LMOVEM).takes(1), word("EXACTLY", LMOVEM).takes(1),
    ]),
    // === hashes ===
    options("HGETDEL", Start::At(2), End::At("FIELDS"), &[]),
    options("HPERSIST", Start::At(2), End::At("FIELDS"), &[]),
    HSETEX_OPTIONS,
    options("HPEXPIREAT", Start::At(3), End::At("FIELDS"), &[
        word("NX", FIELD_TTLS), word("XX", FIELD_TTLS), word("GT", FIELD_TTLS), word("LT", FIELD_TTLS),
    ]),
    // === sorted sets and geo ===
    options("ZADD", Start::At(2), End::Number, &[
        word("NX", FIRST), word("XX", FIRST), word("CH", FIRST), word("INCR", FIRST),
        word("GT", common(6, 2)), word("LT", common(6, 2)),
    ]),
    aggregates("ZUNIONSTORE"), aggregates("ZINTERSTORE"),
    options("GEOADD", Start::At(2), End::Number, &[
        word("NX", common(6, 2)), word("XX", common(6, 2)), word("CH", common(6, 2)),
    ]),
    radius("GEORADIUS", 6), radius("GEORADIUSBYMEMBER", 5),
    GEOSEARCHSTORE,
    // === streams ===
    XADD,
    XTRIM,
    options("XDELEX", Start::At(2), End::At("IDS"), &[word("KEEPREF", XDELEX), word("DELREF", XDELEX), word("ACKED", XDELEX)]),
    options("XACKDEL", Start::At(3), End::At("IDS"), &[word("KEEPREF", XDELEX), word("DELREF", XDELEX), word("ACKED", XDELEX)]),
    options("XCFGSET", Start::At(2), End::Last, &[
        word("IDMP-DURATION", redis(8, 6)).takes(1), word("IDMP-MAXSIZE", redis(8, 6)).takes(1),
    ]),
    options("XNACK", Start::At(3), End::Last, &[
        word("SILENT", XNACK), word("FAIL", XNACK), word("FATAL", XNACK), word("IDS", XNACK).counted(1),
        word("RETRYCOUNT", XNACK).takes(1), word("FORCE", XNACK),
    ]),
    options("XGROUP", Start::At(1), End::One, &[
        word("CREATE", FIRST), word("SETID", FIRST), word("DESTROY", FIRST), word("DELCONSUMER", FIRST),
        word("CREATECONSUMER", common(6, 2)),
    ]),
    options("XGROUP", Start::At(5), End::Last, &[word("MKSTREAM", FIRST), word("ENTRIESREAD", common(7, 0)).takes(1)]),
    options("XSETID", Start::At(3), End::Last, &[
        word("ENTRIESADDED", common(7, 0)).takes(1), word("MAXDELETEDID", common(7, 0)).takes(1),
    ]),
    // === functions, clusters, vector sets ===
    options("TRIMSLOTS", Start::At(1), End::At("RANGES"), &[]),
    options("FUNCTION", Start::At(1), End::One, &[
        word("LOAD", FUNCTIONS), word("DELETE", FUNCTIONS), word("FLUSH", FUNCTIONS), word("RESTORE", FUNCTIONS),
    ]),
    options("VADD", Start::Somewhere, End::Last, &[
        word("REDUCE", VECTOR_SETS), word("FP32", VECTOR_SETS), word("VALUES", VECTOR_SETS), word("CAS", VECTOR_SETS),
        word("NOQUANT", VECTOR_SETS), word("BIN", VECTOR_SETS), word("Q8", VECTOR_SETS), word("EF", VECTOR_SETS),
        word("SETATTR", VECTOR_SETS), word("M", VECTOR_SETS),
    ]),
];

#[rustfmt::skip]
pub const SET: Options = options("SET", Start::At(3), End::Last, &[
    word("NX", FIRST), word("XX", FIRST), word("EX", FIRST).takes(1), word("PX", FIRST).takes(1),
    word("KEEPTTL", common(6, 0)), word("GET", common(6, 2)),
    word("EXAT", common(6, 2)).takes(1), word("PXAT", common(6, 2)).takes(1),
    word("IFEQ", redis(8, 4).valkey(8, 1)).takes(1),
    word("IFNE", redis(8, 4)).takes(1), word("IFDEQ", redis(8, 4)).takes(1), word("IFDNE", redis(8, 4)).takes(1),
]);

#[rustfmt::skip]
pub const MSETEX_OPTIONS: Options = options("MSETEX", Start::AfterPairs(1), End::Last, &[
    word("NX", MSETEX), word("XX", MSETEX), word("KEEPTTL", MSETEX),
    word("EX", MSETEX).takes(1), word("PX", MSETEX).takes(1), word("EXAT", MSETEX).takes(1), word("PXAT", MSETEX).takes(1),
]);

#[rustfmt::skip]
pub const HSETEX_OPTIONS: Options = options("HSETEX", Start::At(2), End::At("FIELDS"), &[
    word("FNX", HSETEX), word("FXX", HSETEX), word("NX", valkey(9, 1)), word("XX", valkey(9, 1)), word("KEEPTTL", HSETEX),
    word("EX", HSETEX).takes(1), word("PX", HSETEX).takes(1), word("EXAT", HSETEX).takes(1), word("PXAT", HSETEX).takes(1),
]);

#[rustfmt::skip]
pub const GEOSEARCHSTORE: Options = options("GEOSEARCHSTORE", Start::At(3), End::Last, &[
    word("FROMMEMBER", common(6, 2)).takes(1), word("FROMLONLAT", common(6, 2)).takes(2),
    word("BYRADIUS", common(6, 2)).takes(2), word("BYBOX", common(6, 2)).takes(3),
    word("BYPOLYGON", valkey(9, 0)).counted(2),
    word("ASC", common(6, 2)), word("DESC", common(6, 2)), word("COUNT", common(6, 2)).takes(1),
    word("ANY", common(6, 2)), word("STOREDIST", common(6, 2)),
]);

#[rustfmt::skip]
pub const XADD: Options = options("XADD", Start::At(2), End::Number, &[
    word("MAXLEN", FIRST).threshold(), word("MINID", common(6, 2)).threshold(), word("LIMIT", common(6, 2)).takes(1),
    word("NOMKSTREAM", common(6, 2)),
    word("KEEPREF", XDELEX), word("DELREF", XDELEX), word("ACKED", XDELEX),
    word("IDMPAUTO", redis(8, 6)).takes(1), word("IDMP", redis(8, 6)).takes(2),
]);

#[rustfmt::skip]
pub const XTRIM: Options = options("XTRIM", Start::At(2), End::Last, &[
    word("MAXLEN", FIRST).threshold(), word("MINID", common(6, 2)).threshold(), word("LIMIT", common(6, 2)).takes(1),
    word("KEEPREF", XDELEX), word("DELREF", XDELEX), word("ACKED", XDELEX),
]);

const fn expiry(command: &'static str) -> Options {
    options(command, Start::At(3), End::Last, EXPIRY_WORDS)
}

#[rustfmt::skip]
const EXPIRY_WORDS: &[Word] = &[
    word("NX", common(7, 0)), word("XX", common(7, 0)), word("GT", common(7, 0)), word("LT", common(7, 0)),
];

const fn aggregates(command: &'static str) -> Options {
    options(command, Start::AfterKeys(2), End::Last, AGGREGATE_WORDS)
}

#[rustfmt::skip]
const AGGREGATE_WORDS: &[Word] = &[
    word("WEIGHTS", FIRST).each_key(2),
    word("AGGREGATE SUM", FIRST), word("AGGREGATE MIN", FIRST), word("AGGREGATE MAX", FIRST),
    word("AGGREGATE COUNT", redis(8, 8)),
];

const fn radius(command: &'static str, at: usize) -> Options {
    options(command, Start::At(at), End::Last, RADIUS_WORDS)
}

#[rustfmt::skip]
const RADIUS_WORDS: &[Word] = &[
    word("WITHCOORD", FIRST), word("WITHDIST", FIRST), word("WITHHASH", FIRST), word("ASC", FIRST), word("DESC", FIRST),
    word("COUNT", FIRST).takes(1), word("ANY", common(6, 2)), word("STORE", FIRST).takes(1), word("STOREDIST", FIRST).takes(1),
];

const fn options(command: &'static str, start: Start, end: End, words: &'static [Word]) -> Options {
    Options { command, start, end, words }
}

const fn word(text: &'static str, since: Since) -> Word {
    Word { text, takes: Takes::Count(0), since }
}

impl Word {
    const fn takes(self, count: usize) -> Self {
        Self { takes: Takes::Count(count), ..self }
    }

    const fn threshold(self) -> Self {
        Self { takes: Takes::Threshold, ..self }
    }

    const fn each_key(self, counted: usize) -> Self {
        Self { takes: Takes::EachKey(counted), ..self }
    }

    const fn counted(self, each: usize) -> Self {
        Self { takes: Takes::Counted(each), ..self }
    }

    /// How many arguments of the command are this option, which stands at `at`; none if it does not.
    fn length(&self, of: &Command, at: usize) -> Option<usize> {
        let mut words = 0;
        for text in self.text.split(' ') {
            if !is_word(of, at + words, text) {
                return None;
            }
            words += 1;
        }
        let next = at + words;
        let arguments = match self.takes {
            Takes::Count(count) => count,
            Takes::Threshold if is_word(of, next, "=") || is_word(of, next, "~") => 2,
            Takes::Threshold => 1,
            Takes::EachKey(counted) => count_at(of, counted)?,
            Takes::Counted(each) => count_at(of, next)?.saturating_mul(each).saturating_add(1),
        };
        Some(words.saturating_add(arguments))
    }
}

/// The places of this command's options.
pub fn of(command: &Command) -> impl Iterator<Item = &'static Options> + use<> {
    let name = super::word(command, 0);
    OPTIONS.iter().filter(move |options| options.command.as_bytes() == name)
}

/// Where an option stands, and how many arguments it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub at: usize,
    pub length: usize,
}

impl Place {
    /// Its last argument.
    pub const fn value_at(self) -> usize {
        self.at.saturating_add(self.length).saturating_sub(1)
    }
}

impl Options {
    /// No command with fewer arguments has any of them.
    pub fn arguments_min(&self) -> u64 {
        let start = match self.start {
            Start::At(at) | Start::AfterKeys(at) | Start::AfterPairs(at) => at,
            Start::Somewhere => return u64::MAX,
        };
        start as u64 + 1
    }

    pub fn find(&self, of: &Command, text: &str) -> Option<Place> {
        self.walk(of).find_map(|(place, word)| (word.is_some_and(|word| word.text == text)).then_some(place))
    }

    /// The word that ends them, where there is one.
    pub const fn end_word(&self) -> Option<&'static str> {
        match self.end {
            End::At(word) => Some(word),
            End::Last | End::One | End::Number => None,
        }
    }

    pub fn has(&self, of: &Command, text: &str) -> bool {
        self.find(of, text).is_some()
    }

    /// Where the options end, if all are known.
    pub fn end(&self, of: &Command) -> Option<usize> {
        let last = self.walk(of).last();
        last.map_or_else(
            || self.start_in(of),
            |(place, word)| word.map(|_| place.at.saturating_add(place.length)),
        )
    }

    /// The first word that this release does not know.
    pub fn unknown(&self, of: &Command, to: Level) -> Option<usize> {
        self.walk(of)
            .find_map(|(place, word)| (!word.is_some_and(|word| word.since.has(to))).then_some(place.at))
    }

    /// Each option with its place; a place without one is an unknown word, and the last.
    fn walk<'a>(&'a self, of: &'a Command) -> impl Iterator<Item = (Place, Option<&'a Word>)> + 'a {
        let mut at = self.start_in(of);
        std::iter::from_fn(move || {
            let here = at.filter(|here| !self.ends(of, *here))?;
            let found = self.words.iter().find_map(|word| Some((word, word.length(of, here)?)));
            let length = found.map_or(1, |(_, length)| length);
            at = match (&self.end, &found) {
                (End::One, _) | (_, None) => None,
                _ => here.checked_add(length),
            };
            Some((Place { at: here, length }, found.map(|(word, _)| word)))
        })
    }

    fn start_in(&self, of: &Command) -> Option<usize> {
        match self.start {
            Start::At(at) => Some(at),
            Start::AfterKeys(counted) => count_at(of, counted)?.checked_add(counted + 1),
            Start::AfterPairs(counted) => count_at(of, counted)?.checked_mul(2)?.checked_add(counted + 1),
            Start::Somewhere => None,
        }
    }

    fn ends(&self, of: &Command, at: usize) -> bool {
        let Some(argument) = of.get(at) else { return true };
        match self.end {
            End::Last | End::One => false,
            End::At(word) => is_word(of, at, word),
            End::Number => is_number(argument),
        }
    }
}

/// `*`, an id, or a score: no option begins like one, but `INCR` begins as `inf` does.
fn is_number(argument: &[u8]) -> bool {
    let unsigned = argument.strip_prefix(b"+").or_else(|| argument.strip_prefix(b"-")).unwrap_or(argument);
    unsigned.first().is_none_or(|byte| !byte.is_ascii_alphabetic())
        || unsigned.eq_ignore_ascii_case(b"inf")
        || unsigned.eq_ignore_ascii_case(b"infinity")
}

fn count_at(of: &Command, at: usize) -> Option<usize> {
    usize::try_from(integer(of.get(at)?)?).ok()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::releases::RELEASES;

    fn command(text: &str) -> Command {
        text.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
    }

    #[track_caller]
    fn unknown(text: &str, to: &str) -> Option<usize> {
        let release = RELEASES.iter().find(|release| release.to_string() == to).unwrap();
        let level = crate::releases::Pair::new(release, release).unwrap().to;
        let command = command(text);
        let name = command[0].to_ascii_uppercase();
        let places = OPTIONS.iter().filter(|options| options.command.as_bytes() == name);
        places.filter_map(|options| options.unknown(&command, level)).next()
    }

    #[test]
    fn a_word_is_known_or_not_by_release() {
        assert_eq!(unknown("SET k v PX 5 NX", "redis-5.0"), None);
        assert_eq!(unknown("SET k v PX 5 KEEPTTL", "redis-5.0"), Some(5));
        assert_eq!(unknown("SET k v IFEQ KEEPTTL", "redis-8.6"), None);
        assert_eq!(unknown("SET k v IFEQ KEEPTTL", "valkey-8.0"), Some(3));
        assert_eq!(unknown("SET k v SOON", "redis-8.10"), Some(3));
        assert_eq!(unknown("BITOP DIFF d a b", "redis-8.0"), Some(1));
        assert_eq!(unknown("BITOP OR DIFF DIFF", "redis-8.0"), None);
        assert_eq!(unknown("ZADD k NX CH 5 GT", "redis-6.0"), None);
        assert_eq!(unknown("ZADD k NX CH inf GT", "redis-6.0"), None);
        assert_eq!(unknown("ZADD k NX GT -5 m", "redis-6.0"), Some(3));
        assert_eq!(unknown("ZUNIONSTORE d 2 a b WEIGHTS 1 2 AGGREGATE MAX", "redis-8.6"), None);
        assert_eq!(unknown("ZUNIONSTORE d 2 AGGREGATE COUNT AGGREGATE COUNT", "redis-8.6"), Some(5));
        assert_eq!(unknown("XADD k NOMKSTREAM MAXLEN = 5 LIMIT 2 1-1 NEW v", "redis-6.2"), None);
        assert_eq!(unknown("XADD k MINID ~ 5 NEWER * f v", "redis-8.10"), Some(5));
        assert_eq!(unknown("HSETEX k KEEPTTL FIELDS 1 NEWER v", "valkey-9.0"), None);
        assert_eq!(unknown("MSETEX 1 NEWER PX PXAT 5", "redis-8.6"), None);
        assert_eq!(unknown("GEOSEARCHSTORE d s BYPOLYGON 3 1 2 3 4 5 6 ASC", "valkey-9.0"), None);
        assert_eq!(unknown("GEOSEARCHSTORE d s BYPOLYGON 3 1 2 3 4 5 6 ASC", "redis-8.10"), Some(3));
        assert_eq!(unknown("XGROUP CREATE k g 0 MKSTREAM ENTRIESREAD 1", "redis-6.2"), Some(6));
    }

    #[test]
    fn values_are_no_words() {
        let set = command("SET k w IFEQ PXAT PXAT 99");
        assert_eq!(SET.find(&set, "PXAT"), Some(Place { at: 5, length: 2 }));
        assert_eq!(SET.find(&set, "PXAT").map(Place::value_at), Some(6));
        assert!(!SET.has(&command("SET KEEPTTL KEEPTTL"), "KEEPTTL"));
        let lying = command("ZUNIONSTORE d 99999999999999999999 a AGGREGATE COUNT");
        assert!(!OPTIONS.iter().any(|options| options.has(&lying, "AGGREGATE COUNT")));
    }
}
