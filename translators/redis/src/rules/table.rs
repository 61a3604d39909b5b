//! Every rule: form, first releases that understand it, what is said instead.
//!
//! Each was verified by replaying the form into real replicas of the older releases and comparing the
//! data. Order matters within a command: the first rule that matches rewrites, and what it gives is
//! looked up again.

use super::{Rule, geo, hashes, keys, lists, others, sorted_sets, streams, strings};
use crate::releases::since::{common, never, redis};

#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    // === strings ===
    Rule { name: "set-pxat", command: "SET", form: "SET key value PXAT ms", since: common(6, 2), sent_from: None, arguments_min: 4,
           instead: "SET key value; PEXPIREAT key ms", matches: strings::has_pxat, rewrite: strings::set_pxat },
    Rule { name: "set-keepttl", command: "SET", form: "SET key value KEEPTTL", since: common(6, 0), sent_from: None, arguments_min: 4,
           instead: "a script: SET, then PEXPIREAT with the key's own time", matches: strings::has_keepttl, rewrite: strings::set_keepttl },

    // === keys ===
    Rule { name: "expire-condition", command: "PEXPIREAT", form: "PEXPIREAT key ms NX|XX|GT|LT", since: common(7, 0), sent_from: None, arguments_min: 4,
           instead: "PEXPIREAT key ms (the master found the condition true)", matches: keys::has_condition, rewrite: keys::drop_condition },
    Rule { name: "expire-condition", command: "EXPIREAT", form: "EXPIREAT key s NX|XX|GT|LT", since: common(7, 0), sent_from: None, arguments_min: 4,
           instead: "EXPIREAT key s (the master found the condition true)", matches: keys::has_condition, rewrite: keys::drop_condition },
    Rule { name: "copy", command: "COPY", form: "COPY source destination [DB n] [REPLACE]", since: common(6, 2), sent_from: None, arguments_min: 3,
           instead: "a script: DUMP, RESTORE with the source's own time", matches: always, rewrite: keys::copy },
    Rule { name: "flush-sync", command: "FLUSHDB", form: "FLUSHDB SYNC", since: common(6, 2), sent_from: None, arguments_min: 2,
           instead: "FLUSHDB", matches: keys::has_sync, rewrite: keys::drop_sync },
    Rule { name: "flush-sync", command: "FLUSHALL", form: "FLUSHALL SYNC", since: common(6, 2), sent_from: None, arguments_min: 2,
           instead: "FLUSHALL", matches: keys::has_sync, rewrite: keys::drop_sync },
    Rule { name: "restore-payload", command: "RESTORE", form: "RESTORE key ttl payload …", since: never(), sent_from: None, arguments_min: 4,
           instead: "RESTORE with the payload rewritten, its version and checksum too", matches: keys::has_newer_payload, rewrite: keys::restore },

    // === lists ===
    Rule { name: "lpop-count", command: "LPOP", form: "LPOP key count", since: common(6, 2), sent_from: None, arguments_min: 3,
           instead: "LTRIM key count -1", matches: always, rewrite: lists::lpop_count },
    Rule { name: "rpop-count", command: "RPOP", form: "RPOP key count", since: common(6, 2), sent_from: None, arguments_min: 3,
           instead: "LTRIM key 0 -(count+1)", matches: always, rewrite: lists::rpop_count },
    Rule { name: "lmove", command: "LMOVE", form: "LMOVE source destination LEFT|RIGHT LEFT|RIGHT", since: common(6, 2), sent_from: None, arguments_min: 5,
           instead: "RPOPLPUSH (RIGHT LEFT), else a script: pop, push", matches: always, rewrite: lists::lmove },

    // === hashes ===
    Rule { name: "hsetex-keepttl", command: "HSETEX", form: "HSETEX key KEEPTTL FIELDS n field value …", since: redis(8, 0).valkey(9, 0), sent_from: None, arguments_min: 6,
           instead: "HSET; from 7.4 a script that puts the fields' times back", matches: hashes::has_keepttl, rewrite: hashes::hsetex_keepttl },
    Rule { name: "hsetex", command: "HSETEX", form: "HSETEX key [FNX|FXX] [PXAT ms] FIELDS n field value …", since: redis(8, 0).valkey(9, 0), sent_from: None, arguments_min: 5,
           instead: "HSET; HPEXPIREAT", matches: hashes::has_fields, rewrite: hashes::hsetex },
    Rule { name: "hgetdel", command: "HGETDEL", form: "HGETDEL key FIELDS n field …", since: redis(8, 0).valkey(9, 1), sent_from: None, arguments_min: 5,
           instead: "HDEL key field …", matches: hashes::has_fields, rewrite: hashes::hgetdel },
    Rule { name: "hpexpireat", command: "HPEXPIREAT", form: "HPEXPIREAT key ms [condition] FIELDS n field …", since: redis(7, 4).valkey(9, 0), sent_from: None, arguments_min: 6,
           instead: "nothing (loss hash-field-ttl); the master's HDEL at the end still arrives", matches: always, rewrite: hashes::hpexpireat },
    Rule { name: "hpersist", command: "HPERSIST", form: "HPERSIST key FIELDS n field …", since: redis(7, 4).valkey(9, 0), sent_from: None, arguments_min: 5,
           instead: "nothing: a field without a time has none to lose", matches: always, rewrite: others::nothing },

    // === sorted sets and geo ===
    Rule { name: "zadd-gt-lt", command: "ZADD", form: "ZADD key [XX] GT|LT [CH] [INCR] score member …", since: common(6, 2), sent_from: None, arguments_min: 5,
           instead: "a script that compares each score", matches: sorted_sets::has_gt_lt, rewrite: sorted_sets::zadd_gt_lt },
    Rule { name: "zdiffstore", command: "ZDIFFSTORE", form: "ZDIFFSTORE destination n key …", since: common(6, 2), sent_from: None, arguments_min: 4,
           instead: "a script: ZUNIONSTORE of the first, ZREM of the others' members", matches: sorted_sets::has_source_keys, rewrite: sorted_sets::zdiffstore },
    Rule { name: "zrangestore", command: "ZRANGESTORE", form: "ZRANGESTORE destination source min max [BYSCORE|BYLEX] [REV] [LIMIT …]", since: common(6, 2), sent_from: None, arguments_min: 5,
           instead: "a script: the range command of the time, ZADD", matches: always, rewrite: sorted_sets::zrangestore },
    Rule { name: "geosearchstore", command: "GEOSEARCHSTORE", form: "GEOSEARCHSTORE destination source … BYRADIUS …", since: common(6, 2), sent_from: None, arguments_min: 8,
           instead: "DEL destination; GEORADIUS … STORE (BYBOX: loss geo-box; ANY: loss geo-any)", matches: always, rewrite: geo::geosearchstore },
    Rule { name: "georadius-any", command: "GEORADIUS", form: "GEORADIUS … COUNT n ANY STORE …", since: common(6, 2), sent_from: None, arguments_min: 9,
           instead: "nothing (loss geo-any)", matches: geo::has_any, rewrite: geo::any },
    Rule { name: "georadius-any", command: "GEORADIUSBYMEMBER", form: "GEORADIUSBYMEMBER … COUNT n ANY STORE …", since: common(6, 2), sent_from: None, arguments_min: 8,
           instead: "nothing (loss geo-any)", matches: geo::has_any, rewrite: geo::any },
    Rule { name: "georadius-store", command: "GEORADIUS", form: "GEORADIUS … STORE|STOREDIST destination", since: common(6, 2), sent_from: Some(common(6, 2)), arguments_min: 8,
           instead: "DEL destination first: only from 6.2 on, a missing source deletes it", matches: geo::has_store, rewrite: geo::store },
    Rule { name: "georadius-store", command: "GEORADIUSBYMEMBER", form: "GEORADIUSBYMEMBER … STORE|STOREDIST destination", since: common(6, 2), sent_from: Some(common(6, 2)), arguments_min: 7,
           instead: "DEL destination first: only from 6.2 on, a missing source deletes it", matches: geo::has_store, rewrite: geo::store },

    // === streams ===
    Rule { name: "xadd-nomkstream", command: "XADD", form: "XADD key NOMKSTREAM …", since: common(6, 2), sent_from: None, arguments_min: 6,
           instead: "XADD without it (the master found the stream)", matches: streams::has_nomkstream, rewrite: streams::drop_nomkstream },
    Rule { name: "xadd-limit", command: "XADD", form: "XADD key MAXLEN|MINID = n LIMIT n …", since: common(6, 2), sent_from: None, arguments_min: 8,
           instead: "XADD without it (the master sends the length it really trimmed to)", matches: streams::has_limit, rewrite: streams::drop_limit },
    Rule { name: "xadd-minid", command: "XADD", form: "XADD key MINID [=] id …", since: common(6, 2), sent_from: None, arguments_min: 7,
           instead: "XADD without it; XTRIM MINID", matches: streams::has_minid, rewrite: streams::xadd_minid },
    Rule { name: "xtrim-limit", command: "XTRIM", form: "XTRIM key MAXLEN|MINID = n LIMIT n", since: common(6, 2), sent_from: None, arguments_min: 6,
           instead: "XTRIM without it", matches: streams::has_limit, rewrite: streams::drop_limit },
    Rule { name: "xtrim-minid", command: "XTRIM", form: "XTRIM key MINID [=] id", since: common(6, 2), sent_from: None, arguments_min: 4,
           instead: "a script: count the entries before id, XTRIM MAXLEN", matches: streams::has_minid, rewrite: streams::xtrim_minid },
    Rule { name: "xgroup-createconsumer", command: "XGROUP", form: "XGROUP CREATECONSUMER key group consumer", since: common(6, 2), sent_from: None, arguments_min: 5,
           instead: "XREADGROUP of the consumer's own history, which creates it", matches: streams::is_createconsumer, rewrite: streams::createconsumer },
    Rule { name: "xgroup-entriesread", command: "XGROUP", form: "XGROUP CREATE|SETID … ENTRIESREAD n", since: common(7, 0), sent_from: None, arguments_min: 7,
           instead: "XGROUP without it (bookkeeping stream-counters)", matches: streams::has_entriesread, rewrite: streams::drop_entriesread },
    Rule { name: "xsetid-counters", command: "XSETID", form: "XSETID key id ENTRIESADDED n MAXDELETEDID id", since: common(7, 0), sent_from: None, arguments_min: 4,
           instead: "XSETID key id (bookkeeping stream-counters)", matches: always, rewrite: streams::drop_setid_counters },
    Rule { name: "xclaim-deleted", command: "XCLAIM", form: "XCLAIM … of an entry that may be deleted", since: common(7, 0), sent_from: Some(common(7, 0)), arguments_min: 6,
           instead: "a script: XACK if the entry is gone, else XCLAIM", matches: streams::is_propagated_claim, rewrite: streams::xclaim },

    // === functions, messages, vector sets ===
    Rule { name: "function-restore", command: "FUNCTION", form: "FUNCTION RESTORE payload …", since: never(), sent_from: None, arguments_min: 3,
           instead: "FUNCTION RESTORE with the payload's version and checksum rewritten", matches: others::has_newer_functions, rewrite: others::function_restore },
    Rule { name: "function", command: "FUNCTION", form: "FUNCTION LOAD|RESTORE …", since: common(7, 0), sent_from: None, arguments_min: 2,
           instead: "nothing (loss function-library); the effects of calls still arrive", matches: others::brings_functions, rewrite: others::function },
    Rule { name: "function-remove", command: "FUNCTION", form: "FUNCTION DELETE|FLUSH …", since: common(7, 0), sent_from: None, arguments_min: 2,
           instead: "nothing: there is no library to remove", matches: always, rewrite: others::nothing },
    Rule { name: "spublish", command: "SPUBLISH", form: "SPUBLISH channel message", since: common(7, 0), sent_from: None, arguments_min: 3,
           instead: "nothing (loss shard-message)", matches: always, rewrite: others::spublish },
    Rule { name: "vadd", command: "VADD", form: "VADD key …", since: redis(8, 0), sent_from: None, arguments_min: 2,
           instead: "nothing (loss vector-set)", matches: always, rewrite: others::vector_set },
    Rule { name: "vsetattr", command: "VSETATTR", form: "VSETATTR key element json", since: redis(8, 0), sent_from: None, arguments_min: 2,
           instead: "nothing (loss vector-set)", matches: always, rewrite: others::vector_set },
    Rule { name: "vrem", command: "VREM", form: "VREM key element", since: redis(8, 0), sent_from: None, arguments_min: 2,
           instead: "nothing: the key was left out before", matches: always, rewrite: others::nothing },
];

fn always(_: &crate::resp::Command, _: &crate::releases::Pair) -> bool {
    true
}
