//! Every rule: form, first releases that understand it, what is said instead, what may be lost.
//!
//! Each was verified by replaying the form into real replicas of the other releases and comparing the
//! data: tests/matrix/forms. Order matters within a command: the first rule that matches rewrites, and what
//! it gives is looked up again.

use super::{
    bits,
    commands::{
        ARRAYS, FIELD_TTLS, FUNCTIONS, GEO_STORE_DELETES, HSETEX, LMOVEM, MSETEX, VECTOR_SETS, XDELEX, XNACK,
    },
    geo, hashes, keys, lists, others,
    rule::{Rule, rule},
    sorted_sets, streams, strings,
};
use crate::releases::since::{common, never, redis, redis_patch, valkey};

#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    // === strings and bitmaps ===
    rule("set-condition", "SET key value IFEQ value", redis(8, 4).valkey(8, 1)).arguments(5).when(strings::has_ifeq)
        .say("SET without it (the master found the condition true)", strings::drop_condition),
    rule("set-condition", "SET key value IFNE value|IFDEQ digest|IFDNE digest", redis(8, 4)).arguments(5).when(strings::has_other_condition)
        .say("SET without it (the master found the condition true)", strings::drop_condition),
    rule("set-pxat", "SET key value PXAT ms", common(6, 2)).arguments(5).when(strings::has_pxat)
        .say("SET key value; PEXPIREAT key ms", strings::set_pxat),
    rule("set-keepttl", "SET key value KEEPTTL", common(6, 0)).arguments(4).when(strings::has_keepttl)
        .say("a script: SET, then PEXPIREAT with the key's own time", strings::set_keepttl),
    rule("msetex", "MSETEX n key value … [NX|XX] [PXAT ms|EXAT s|KEEPTTL]", MSETEX).arguments(4).when(strings::has_pairs)
        .say("MSET; with an expiry or KEEPTTL a SET for each key", strings::msetex),
    rule("bitop", "BITOP DIFF|DIFF1|ANDOR|ONE destination key …", redis(8, 2)).arguments(4).when(bits::is_newer)
        .say("BITOP OR, AND, XOR in turn; a script where the destination is a source, or for ONE of more than two", bits::bitop),

    // === keys ===
    rule("delex", "DELEX key [IFEQ|IFNE|IFDEQ|IFDNE …]", redis(8, 4)).arguments(2)
        .say("DEL key (the master found the condition true)", keys::delex),
    rule("expire-condition", "PEXPIREAT key ms NX|XX|GT|LT", common(7, 0)).arguments(4)
        .say("PEXPIREAT key ms (the master found the condition true)", keys::drop_condition),
    rule("expire-condition", "EXPIREAT key s NX|XX|GT|LT", common(7, 0)).arguments(4)
        .say("EXPIREAT key s (the master found the condition true)", keys::drop_condition),
    rule("copy", "COPY source destination [DB n] [REPLACE]", common(6, 2)).arguments(3)
        .say("a script: DUMP, RESTORE with the source's own time", keys::copy),
    rule("flush-mode", "FLUSHDB SYNC", common(6, 2)).arguments(2).when(keys::has_sync)
        .say("FLUSHDB", keys::drop_mode),
    rule("flush-mode", "FLUSHALL SYNC", common(6, 2)).arguments(2).when(keys::has_sync)
        .say("FLUSHALL", keys::drop_mode),
    rule("rename-lost", "RENAME key newkey", ARRAYS).measured().degraded_only().arguments(3).when(keys::may_be_lost)
        .say("with `loss = \"degrade\"` a script: RENAME, or DEL newkey where the key was left out before", keys::rename),
    rule("rename-lost", "RENAMENX key newkey", ARRAYS).measured().degraded_only().arguments(3).when(keys::may_be_lost)
        .say("with `loss = \"degrade\"` a script: RENAMENX, unless the key was left out before", keys::rename),
    rule("restore-payload", "RESTORE key ttl payload …", never()).measured().arguments(4).when(keys::has_newer_payload)
        .say("RESTORE with the payload rewritten, its version and checksum too; losses as in the snapshot", keys::restore).losing(&["restore-payload"]),
    rule("restore-payload", "RESTORE-ASKING key ttl payload …", never()).measured().arguments(4).when(keys::has_newer_payload)
        .say("the same: what MIGRATE sends in a cluster", keys::restore).losing(&["restore-payload"]),

    // === lists ===
    rule("lpop-count", "LPOP key count", common(6, 2)).arguments(3)
        .say("LTRIM key count -1", lists::lpop_count),
    rule("rpop-count", "RPOP key count", common(6, 2)).arguments(3)
        .say("LTRIM key 0 -(count+1)", lists::rpop_count),
    rule("lmove", "LMOVE source destination LEFT|RIGHT LEFT|RIGHT", common(6, 2)).arguments(5)
        .say("RPOPLPUSH (RIGHT LEFT), else a script: push, pop", lists::lmove),
    rule("lmovem", "LMOVEM source destination LEFT|RIGHT LEFT|RIGHT [COUNT|EXACTLY n OBO|BULK]", LMOVEM).arguments(5)
        .say("LMOVE of each, or a script for many: LRANGE, push, LTRIM", lists::lmovem),

    // === hashes ===
    rule("hsetex-keepttl", "HSETEX key KEEPTTL FIELDS n field value …", HSETEX).arguments(6).when(hashes::has_keepttl)
        .say("HSET; where fields expire, a script that puts their times back", hashes::hsetex_keepttl),
    rule("hsetex", "HSETEX key [FNX|FXX] [PXAT ms] FIELDS n field value …", HSETEX).arguments(5).when(hashes::is_sent)
        .say("HSET; HPEXPIREAT", hashes::hsetex),
    rule("hgetdel", "HGETDEL key FIELDS n field …", redis(8, 0).valkey(9, 1)).arguments(5).when(hashes::has_fields)
        .say("HDEL key field …", hashes::hgetdel),
    rule("hpexpireat", "HPEXPIREAT key ms [condition] FIELDS n field …", FIELD_TTLS).arguments(6)
        .say("nothing; the master's HDEL at the end still arrives", hashes::hpexpireat).losing(&["hash-field-ttl"]),
    rule("hpersist", "HPERSIST key FIELDS n field …", FIELD_TTLS).arguments(5)
        .say("nothing: a field without a time has none to lose", others::nothing),

    // === sorted sets and geo ===
    rule("zadd-gt-lt", "ZADD key [XX] GT|LT [CH] [INCR] score member …", common(6, 2)).arguments(5).when(sorted_sets::has_gt_lt)
        .say("a script that compares each score", sorted_sets::zadd_gt_lt),
    rule("zdiffstore", "ZDIFFSTORE destination n key …", common(6, 2)).arguments(4).when(sorted_sets::has_source_keys)
        .say("a script: ZUNIONSTORE of the first, ZREM of the others' members", sorted_sets::zdiffstore),
    rule("zrangestore", "ZRANGESTORE destination source min max [BYSCORE|BYLEX] [REV] [LIMIT …]", common(6, 2)).arguments(5)
        .say("a script: the range command of the time, ZADD", sorted_sets::zrangestore),
    rule("aggregate-count", "ZUNIONSTORE destination n key … AGGREGATE COUNT", redis(8, 8)).arguments(6).when(sorted_sets::counts)
        .say("a script: adds up the weights of the keys that hold a member", sorted_sets::aggregate_count),
    rule("aggregate-count", "ZINTERSTORE destination n key … AGGREGATE COUNT", redis(8, 8)).arguments(6).when(sorted_sets::counts)
        .say("a script: adds up the weights of the keys that hold a member", sorted_sets::aggregate_count),
    rule("geosearchstore-polygon", "GEOSEARCHSTORE destination source BYPOLYGON …", valkey(9, 0)).arguments(6).when(geo::has_polygon)
        .say("nothing: a search by polygon has no other form", geo::lose_polygon).losing(&["geo-polygon"]),
    rule("geosearchstore", "GEOSEARCHSTORE destination source … BYRADIUS|BYBOX …", common(6, 2)).arguments(8)
        .say("DEL destination; GEORADIUS … STORE; nothing for BYBOX and ANY", geo::geosearchstore).losing(&["geo-box", "geo-any"]),
    rule("georadius-store", "GEOSEARCHSTORE destination source …", GEO_STORE_DELETES).measured().sent_from(GEO_STORE_DELETES).arguments(8)
        .say("DEL destination first: only from 6.2.6 on, a missing source deletes it", geo::search_store),
    rule("georadius-any", "GEORADIUS … COUNT n ANY STORE …", common(6, 2)).arguments(9).when(geo::has_any)
        .say("nothing: what is found first differs from server to server", geo::any).losing(&["geo-any"]),
    rule("georadius-any", "GEORADIUSBYMEMBER … COUNT n ANY STORE …", common(6, 2)).arguments(8).when(geo::has_any)
        .say("nothing: what is found first differs from server to server", geo::any).losing(&["geo-any"]),
    rule("georadius-store", "GEORADIUS … STORE|STOREDIST destination", GEO_STORE_DELETES).measured().sent_from(GEO_STORE_DELETES).arguments(8).when(geo::has_store)
        .say("DEL destination first: only from 6.2.6 on, a missing source deletes it", geo::store),
    rule("georadius-store", "GEORADIUSBYMEMBER … STORE|STOREDIST destination", GEO_STORE_DELETES).measured().sent_from(GEO_STORE_DELETES).arguments(7).when(geo::has_store)
        .say("DEL destination first: only from 6.2.6 on, a missing source deletes it", geo::store),

    // === streams ===
    rule("xadd-idempotent", "XADD key … IDMP producer id|IDMPAUTO producer …", redis(8, 6)).arguments(7).when(streams::is_idempotent)
        .say("XADD without it; nothing for a refused duplicate, which has the id `*`", streams::xadd_idempotent).losing(&["stream-idempotence"]),
    rule("xadd-references", "XADD key … KEEPREF|DELREF|ACKED …", XDELEX).arguments(6).when(streams::has_references)
        .say("XADD; KEEPREF needs no other word, DELREF and ACKED become a script: XACK, XDEL of what is trimmed", streams::xadd_references),
    rule("xadd-nomkstream", "XADD key NOMKSTREAM …", common(6, 2)).arguments(6).when(streams::has_nomkstream)
        .say("XADD without it (the master found the stream)", streams::drop_nomkstream),
    rule("xadd-limit", "XADD key MAXLEN|MINID = n LIMIT n …", common(6, 2)).arguments(8).when(streams::has_limit)
        .say("XADD without it (the master sends the length it really trimmed to)", streams::drop_limit),
    rule("xadd-minid", "XADD key MINID [=] id …", common(6, 2)).arguments(7).when(streams::has_minid)
        .say("XADD without it; XTRIM MINID", streams::xadd_minid),
    rule("xtrim-references", "XTRIM key MAXLEN|MINID n KEEPREF|DELREF|ACKED", XDELEX).arguments(5).when(streams::has_references)
        .say("XTRIM; DELREF and ACKED become a script: XACK, XDEL of what is trimmed", streams::xtrim_references),
    rule("xtrim-limit", "XTRIM key MAXLEN|MINID = n LIMIT n", common(6, 2)).arguments(6).when(streams::has_limit)
        .say("XTRIM without it", streams::drop_limit),
    rule("xtrim-minid", "XTRIM key MINID [=] id", common(6, 2)).arguments(4).when(streams::has_minid)
        .say("a script: count the entries before id, XTRIM MAXLEN", streams::xtrim_minid),
    rule("xdelex", "XDELEX key [KEEPREF|DELREF|ACKED] IDS n id …", XDELEX).arguments(5).when(streams::has_ids)
        .say("XDEL; DELREF and ACKED become a script: XACK in every group, XDEL", streams::xdelex),
    rule("xackdel", "XACKDEL key group [KEEPREF|DELREF|ACKED] IDS n id …", XDELEX).arguments(6).when(streams::has_ids)
        .say("a script: XDEL of what XACK finds", streams::xackdel),
    rule("xcfgset", "XCFGSET key IDMP-DURATION s IDMP-MAXSIZE n", redis(8, 6)).arguments(3)
        .say("nothing", streams::forget_idempotency).losing(&["stream-idempotence"]),
    rule("xidmprecord", "XIDMPRECORD key producer id entry", redis_patch(8, 6, 2)).arguments(3)
        .say("nothing", streams::forget_idempotency).losing(&["stream-idempotence"]),
    rule("xnack", "XNACK key group SILENT|FAIL|FATAL IDS n id …", XNACK).arguments(6)
        .say("nothing: the entries stay with their consumer", streams::xnack).losing(&["stream-nacked"]),
    rule("xgroup-createconsumer", "XGROUP CREATECONSUMER key group consumer", common(6, 2)).arguments(5).when(streams::is_createconsumer)
        .say("XREADGROUP of the consumer's own history, which creates it", streams::createconsumer),
    rule("xgroup-entriesread", "XGROUP CREATE|SETID … ENTRIESREAD n", common(7, 0)).arguments(7).when(streams::has_entriesread)
        .say("XGROUP without it", streams::drop_entriesread).losing(&["stream-counters"]),
    rule("xsetid-counters", "XSETID key id ENTRIESADDED n MAXDELETEDID id", common(7, 0)).arguments(4)
        .say("XSETID key id", streams::drop_setid_counters).losing(&["stream-counters"]),
    rule("xclaim-deleted", "XCLAIM … of an entry that may be deleted", common(7, 0)).measured().sent_from(common(7, 0)).arguments(6).when(streams::is_propagated_claim)
        .say("a script: XACK if the entry is gone, else XCLAIM", streams::xclaim),

    // === functions, scripts, messages, clusters ===
    rule("function-restore", "FUNCTION RESTORE payload …", never()).measured().arguments(3).when(others::has_newer_functions)
        .say("FUNCTION RESTORE with the payload's version and checksum rewritten", others::function_restore).losing(&["function-library"]),
    rule("function", "FUNCTION LOAD|RESTORE …", FUNCTIONS).arguments(2).when(others::brings_functions)
        .say("nothing; the effects of calls still arrive", others::function).losing(&["function-library"]),
    rule("function-remove", "FUNCTION DELETE|FLUSH …", FUNCTIONS).arguments(2)
        .say("nothing: there is no library to remove", others::nothing),
    rule("script-flush", "SCRIPT FLUSH SYNC|ASYNC", common(6, 2)).arguments(3).when(others::is_script_flush)
        .say("SCRIPT FLUSH", others::script_flush),
    rule("spublish", "SPUBLISH channel message", common(7, 0)).arguments(3)
        .say("nothing", others::spublish).losing(&["shard-message"]),

    rule("slots-trim", "TRIMSLOTS RANGES n start end …", redis(8, 4)).arguments(2)
        .say("nothing: the keys of slots that moved away stay", others::trim_slots).losing(&["slot-trim"]),
    rule("slots-set", "CLUSTER SETSLOT slot …", valkey(8, 0)).measured().arguments(3).when(others::sets_slot)
        .say("nothing: the replica learns of it on the bus", others::nothing),
    rule("slots-sync", "CLUSTER SYNCSLOTS …", valkey(9, 0)).measured().arguments(2).when(others::syncs_slots)
        .say("nothing: the replica does not know that slots are on their way", others::sync_slots).losing(&["slot-migration"]),

    // === types that only Redis has ===
    rule("vadd", "VADD key …", VECTOR_SETS).arguments(2)
        .say("nothing", others::vector_set).losing(&["vector-set"]),
    rule("vsetattr", "VSETATTR key element json", VECTOR_SETS).arguments(2)
        .say("nothing", others::vector_set).losing(&["vector-set"]),
    rule("vrem", "VREM key element", VECTOR_SETS).arguments(2)
        .say("nothing: the key was left out before", others::nothing),
    rule("array", "ARSET key index value …", ARRAYS).arguments(2)
        .say("nothing", others::array).losing(&["array"]),
    rule("array", "ARMSET key index value …", ARRAYS).arguments(2)
        .say("nothing", others::array).losing(&["array"]),
    rule("array", "ARINSERT key value …", ARRAYS).arguments(2)
        .say("nothing", others::array).losing(&["array"]),
    rule("array", "ARRING key size value …", ARRAYS).arguments(2)
        .say("nothing", others::array).losing(&["array"]),
    rule("array-remove", "ARDEL key index …", ARRAYS).arguments(2)
        .say("nothing: the key was left out before", others::nothing),
    rule("array-remove", "ARDELRANGE key start end …", ARRAYS).arguments(2)
        .say("nothing: the key was left out before", others::nothing),
    rule("array-remove", "ARSEEK key index", ARRAYS).arguments(2)
        .say("nothing: the key was left out before", others::nothing),
];
