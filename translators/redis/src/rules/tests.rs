use std::collections::HashSet;

use bytes::BytesMut;
use segue_wire::{Limits, LossPolicy, Release};

use super::*;
use crate::{releases::RELEASES, resp};

fn rules(from: &str, to: &str) -> Rules {
    let release = |name: &str| name.parse::<Release>().unwrap();
    Rules::new(Pair::new(&release(from), &release(to)).unwrap(), LossPolicy::Degrade)
}

fn command_of(text: &str) -> Command {
    text.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
}

/// What an 8.10 master's command becomes for a release, as words; a script as its name.
fn said(to: &str, text: &str) -> Vec<String> {
    said_by("redis-8.10", to, text)
}

fn said_by(from: &str, to: &str, text: &str) -> Vec<String> {
    let rewritten = rules(from, to).rewrite(command_of(text), &Limits::default());
    let losses = rewritten.losses.iter().map(|lost| format!("!{}", lost.kind));
    let commands = rewritten.commands.iter().map(|command| {
        let words = command.iter().map(|word| match script_name(word) {
            Some(name) => name.to_owned(),
            None => String::from_utf8_lossy(word).into_owned(),
        });
        words.collect::<Vec<_>>().join(" ")
    });
    commands.chain(losses).collect()
}

fn script_name(word: &[u8]) -> Option<&'static str> {
    [
        (scripts::SET_KEEPTTL, "{SET_KEEPTTL}"),
        (scripts::COPY, "{COPY}"),
        (scripts::LMOVE, "{LMOVE}"),
        (scripts::ZADD_GT_LT, "{ZADD_GT_LT}"),
        (scripts::ZDIFFSTORE, "{ZDIFFSTORE}"),
        (scripts::ZRANGESTORE, "{ZRANGESTORE}"),
        (scripts::XTRIM_UP_TO, "{XTRIM_UP_TO}"),
        (scripts::XCLAIM, "{XCLAIM}"),
        (scripts::HSET_KEEPTTL, "{HSET_KEEPTTL}"),
        (scripts::RENAME, "{RENAME}"),
        (scripts::LMOVEM, "{LMOVEM}"),
        (scripts::BITOP, "{BITOP}"),
        (scripts::AGGREGATE_COUNT, "{AGGREGATE_COUNT}"),
        (scripts::XDELEX, "{XDELEX}"),
        (scripts::XACKDEL, "{XACKDEL}"),
        (scripts::TRIM_REFERENCES, "{TRIM_REFERENCES}"),
    ]
    .into_iter()
    .find_map(|(script, name)| (script.as_bytes() == word).then_some(name))
}

#[track_caller]
fn check(to: &str, text: &str, expected: &[&str]) {
    assert_eq!(said(to, text), expected, "{text} for {to}");
}

#[test]
fn strings() {
    check("redis-6.0", "SET k v PXAT 99", &["SET k v", "PEXPIREAT k 99"]);
    check("redis-6.0", "SET k PXAT PXAT 99", &["SET k PXAT", "PEXPIREAT k 99"]);
    check("redis-6.0", "set k v NX pxat 99", &["set k v NX", "PEXPIREAT k 99"]);
    check("redis-6.2", "SET k v PXAT 99", &["SET k v PXAT 99"]);
    check("redis-6.0", "SET k v KEEPTTL", &["SET k v KEEPTTL"]);
    check("redis-5.0", "SET k v KEEPTTL", &["EVAL {SET_KEEPTTL} 1 k v"]);
}

#[test]
fn newer_strings() {
    check("valkey-9.1", "SET k w IFEQ PXAT PXAT 99", &["SET k w IFEQ PXAT PXAT 99"]);
    check("valkey-8.0", "SET k w IFEQ PXAT PXAT 99", &["SET k w PXAT 99"]);
    check("valkey-9.1", "SET k w IFNE q KEEPTTL", &["SET k w KEEPTTL"]);
    check("redis-5.0", "SET k w IFDNE 00 PXAT 99", &["SET k w", "PEXPIREAT k 99"]);
    check("valkey-9.1", "MSETEX 2 a 1 b 2 PXAT 99", &["MSETEX 2 a 1 b 2 PXAT 99"]);
    check("valkey-9.0", "MSETEX 2 a 1 b 2 NX", &["MSET a 1 b 2"]);
    check("redis-7.0", "MSETEX 2 a 1 b 2 PXAT 99", &["SET a 1 PXAT 99", "SET b 2 PXAT 99"]);
    check("redis-6.0", "MSETEX 1 a PXAT PXAT 99", &["SET a PXAT", "PEXPIREAT a 99"]);
    check("redis-7.0", "MSETEX 1 a 1 XX EXAT 99", &["SET a 1 PXAT 99000"]);
    check("redis-5.0", "MSETEX 1 a 1 KEEPTTL", &["EVAL {SET_KEEPTTL} 1 a 1"]);
    check("redis-7.0", "MSETEX 1 a 1 EX 5", &["!unknown-form"]);
    check("redis-8.0", "BITOP ONE d a b", &["BITOP XOR d a b"]);
    check("redis-8.0", "BITOP DIFF d a b c", &["BITOP OR d b c", "BITOP AND d d a", "BITOP XOR d d a"]);
    check("redis-8.0", "BITOP DIFF1 d a b", &["BITOP OR d b", "BITOP OR d d a", "BITOP XOR d d a"]);
    check("redis-8.0", "BITOP ANDOR d a b c", &["BITOP OR d b c", "BITOP AND d d a"]);
    check("redis-8.0", "BITOP ANDOR a a b", &["BITOP AND a a b"]);
    check("redis-8.0", "BITOP DIFF a a b", &["EVAL {BITOP} 3 a a b DIFF"]);
    check("redis-8.0", "BITOP one d a b c", &["EVAL {BITOP} 4 d a b c ONE"]);
    check("redis-8.2", "BITOP ONE d a b c", &["BITOP ONE d a b c"]);
}

#[test]
fn keys() {
    check("redis-6.2", "PEXPIREAT k 99 GT", &["PEXPIREAT k 99"]);
    check("redis-7.0", "PEXPIREAT k 99 GT", &["PEXPIREAT k 99 GT"]);
    check("redis-6.0", "COPY a b DB 5 REPLACE", &["EVAL {COPY} 2 a b 5"]);
    check("redis-5.0", "COPY a b", &["EVAL {COPY} 2 a b "]);
    check("valkey-9.1", "DELEX k", &["DEL k"]);
    check("redis-8.6", "RENAME a b", &["EVAL {RENAME} 2 a b RENAME"]);
    assert_eq!(said_by("valkey-9.1", "redis-8.6", "RENAME a b"), ["RENAME a b"]);
    assert_eq!(said_by("redis-8.2", "redis-8.0", "RENAME a b"), ["RENAME a b"]);
    check("redis-6.0", "FLUSHALL SYNC", &["FLUSHALL"]);
    check("redis-6.0", "FLUSHDB ASYNC", &["FLUSHDB ASYNC"]);
}

#[test]
fn lists() {
    check("redis-6.0", "LPOP k 2", &["LTRIM k 2 -1"]);
    check("redis-6.0", "RPOP k 2", &["LTRIM k 0 -3"]);
    check("redis-6.0", "RPOP k", &["RPOP k"]);
    check("redis-6.0", "LMOVE a b RIGHT LEFT", &["RPOPLPUSH a b"]);
    check("redis-6.0", "LMOVE a b LEFT RIGHT", &["EVAL {LMOVE} 2 a b 0 RPUSH LPOP"]);
    check("redis-6.0", "LMOVE a a RIGHT RIGHT", &["EVAL {LMOVE} 2 a a -1 RPUSH RPOP"]);
    check("redis-6.2", "LMOVE a b LEFT RIGHT", &["LMOVE a b LEFT RIGHT"]);
    check("redis-6.2", "LMOVEM a b LEFT RIGHT COUNT 2 OBO", &["LMOVE a b LEFT RIGHT"; 2]);
    check("redis-6.0", "LMOVEM a b RIGHT LEFT EXACTLY 3 BULK", &["RPOPLPUSH a b"; 3]);
    check("redis-8.6", "LMOVEM a b left left COUNT 2 BULK", &["EVAL {LMOVEM} 2 a b LEFT LEFT 2 KEPT"]);
    check("redis-8.6", "LMOVEM a b LEFT LEFT COUNT 9 OBO", &["EVAL {LMOVEM} 2 a b LEFT LEFT 9 REVERSED"]);
    check("redis-8.6", "LMOVEM a a LEFT RIGHT COUNT 2 OBO", &["EVAL {LMOVEM} 2 a a LEFT RIGHT 2 KEPT"]);
}

#[test]
fn hashes() {
    for to in ["redis-5.0", "redis-7.2"] {
        check(to, "HSETEX k KEEPTTL FIELDS 1 f v", &["HSET k f v"]);
        check(to, "HSETEX k FNX FIELDS 1 f v", &["HSET k f v"]);
        check(to, "HSETEX k PXAT 99 FIELDS 2 f v g w", &["HSET k f v g w", "!hash-field-ttl"]);
        check(to, "HPEXPIREAT k 99 FIELDS 1 f", &["!hash-field-ttl"]);
        check(to, "HPERSIST k FIELDS 1 f", &[]);
    }
    check("redis-7.4", "HSETEX k KEEPTTL FIELDS 1 f v", &["EVAL {HSET_KEEPTTL} 1 k f v"]);
    check("redis-7.4", "HSETEX k PXAT 99 FIELDS 1 f v", &["HSET k f v", "HPEXPIREAT k 99 FIELDS 1 f"]);
    check("redis-7.4", "HGETDEL k FIELDS 2 f g", &["HDEL k f g"]);
    check("valkey-9.0", "HGETDEL k FIELDS 1 f", &["HDEL k f"]);
    check("valkey-9.0", "HSETEX k FNX PXAT 99 FIELDS 1 f v", &["HSETEX k FNX PXAT 99 FIELDS 1 f v"]);
    check("valkey-8.1", "HSETEX k KEEPTTL FIELDS 1 f v", &["HSET k f v"]);
    check("redict-7.3", "HPEXPIREAT k 99 FIELDS 1 f", &["!hash-field-ttl"]);
    check("redis-7.4", "HSETEX k EX 9 FIELDS 1 f v", &["!unknown-form"]);
}

#[test]
fn sorted_sets_and_geo() {
    check("redis-6.0", "ZADD k GT 5 a", &["EVAL {ZADD_GT_LT} 1 k GT 0 0 5 a"]);
    check("redis-6.0", "ZADD k XX LT CH INCR 5 a", &["EVAL {ZADD_GT_LT} 1 k LT 1 1 5 a"]);
    check("redis-6.0", "ZADD k NX CH 5 GT", &["ZADD k NX CH 5 GT"]);
    check("redis-6.0", "ZDIFFSTORE d 2 a b", &["EVAL {ZDIFFSTORE} 3 d a b"]);
    check("redis-6.0", "ZRANGESTORE d s 0 1", &["EVAL {ZRANGESTORE} 2 d s ZRANGE 0 1"]);
    check(
        "redis-6.0",
        "ZRANGESTORE d s 9 (1 BYSCORE REV LIMIT 0 1",
        &["EVAL {ZRANGESTORE} 2 d s ZREVRANGEBYSCORE 9 (1 LIMIT 0 1"],
    );
    check(
        "redis-6.0",
        "GEOSEARCHSTORE d s FROMLONLAT 15 37 BYRADIUS 200 km ASC COUNT 3 STOREDIST",
        &["DEL d", "GEORADIUS s 15 37 200 km ASC COUNT 3 STOREDIST d"],
    );
    check(
        "redis-6.0",
        "GEOSEARCHSTORE d s BYRADIUS 200 km FROMMEMBER m",
        &["DEL d", "GEORADIUSBYMEMBER s m 200 km STORE d"],
    );
    check(
        "redis-6.0",
        "GEOSEARCHSTORE s s BYRADIUS 200 km FROMMEMBER m",
        &["GEORADIUSBYMEMBER s m 200 km STORE s"],
    );
    check("redis-6.0", "GEORADIUS s 1 2 3 km STORE d", &["DEL d", "GEORADIUS s 1 2 3 km STORE d"]);
    check("redis-6.0", "GEOSEARCHSTORE d s FROMMEMBER m BYBOX 4 4 km", &["!geo-box"]);
    check(
        "redis-8.6",
        "ZUNIONSTORE d 2 a b AGGREGATE COUNT",
        &["EVAL {AGGREGATE_COUNT} 3 d a b ZUNIONSTORE 1 1"],
    );
    check(
        "redis-5.0",
        "zinterstore d 1 a WEIGHTS 2.5 AGGREGATE count",
        &["EVAL {AGGREGATE_COUNT} 2 d a ZINTERSTORE 2.5"],
    );
    let polygon = "GEOSEARCHSTORE d s BYPOLYGON 3 1 2 3 4 5 6";
    assert_eq!(said_by("valkey-9.1", "redis-8.10", polygon), ["!geo-polygon"]);
    assert_eq!(said_by("valkey-9.1", "redis-6.0", polygon), ["!geo-polygon"]);
    check("redis-6.0", "GEORADIUS k 15 37 200 km COUNT 1 ANY STORE d", &["!geo-any"]);
}

#[test]
fn streams() {
    check("redis-6.0", "XADD k NOMKSTREAM 1-3 f v", &["XADD k 1-3 f v"]);
    check("redis-6.0", "XADD k MAXLEN = 2 LIMIT 10 1-3 f v", &["XADD k MAXLEN = 2 1-3 f v"]);
    check("redis-6.0", "XADD k MINID 1-2 1-3 f v", &["XADD k 1-3 f v", "EVAL {XTRIM_UP_TO} 1 k 1-1"]);
    check("redis-6.0", "XTRIM k MINID = 2", &["EVAL {XTRIM_UP_TO} 1 k 1-18446744073709551615"]);
    check("redis-6.0", "XTRIM k MINID 0", &[]);
    check("redis-6.0", "XTRIM k MAXLEN = 50 LIMIT 1000", &["XTRIM k MAXLEN = 50"]);
    check("redis-6.0", "XADD k 1-3 MINID LIMIT", &["XADD k 1-3 MINID LIMIT"]);
    check("redis-6.0", "XGROUP CREATECONSUMER k g c", &["XREADGROUP GROUP g c COUNT 1 STREAMS k 0"]);
    check("redis-6.2", "XGROUP SETID k g 1-1 ENTRIESREAD 1", &["XGROUP SETID k g 1-1", "!stream-counters"]);
    check("redis-6.2", "XSETID k 7-7 ENTRIESADDED 9 MAXDELETEDID 3-3", &["XSETID k 7-7", "!stream-counters"]);
    check(
        "redis-6.2",
        "XCLAIM k g c 0 1-1 TIME 99 RETRYCOUNT 1 FORCE JUSTID LASTID 1-1",
        &["EVAL {XCLAIM} 1 k g c 0 1-1 TIME 99 RETRYCOUNT 1 FORCE JUSTID LASTID 1-1"],
    );
    check("redis-7.0", "XGROUP SETID k g 1-1 ENTRIESREAD 1", &["XGROUP SETID k g 1-1 ENTRIESREAD 1"]);
}

#[test]
fn newer_streams() {
    check("redis-8.2", "XADD k IDMP p i 5-0 f v", &["XADD k 5-0 f v", "!stream-idempotence"]);
    check(
        "redis-8.2",
        "XADD k NOMKSTREAM IDMPAUTO p 5-0 f v",
        &["XADD k NOMKSTREAM 5-0 f v", "!stream-idempotence"],
    );
    check("redis-8.2", "XADD k IDMP p * * f v", &[]);
    check("redis-8.2", "XADD k IDMP p * 5-0 f v", &["XADD k 5-0 f v", "!stream-idempotence"]);
    check("valkey-9.1", "XADD k KEEPREF MAXLEN 1 1-3 f v", &["XADD k MAXLEN 1 1-3 f v"]);
    check("valkey-9.1", "XADD k DELREF 1-3 f v", &["XADD k 1-3 f v"]);
    check(
        "redis-6.0",
        "XADD k NOMKSTREAM ACKED MINID = 1-2 LIMIT 5 1-3 f v",
        &["XADD k 1-3 f v", "EVAL {TRIM_REFERENCES} 1 k MINID 1-2 ACKED"],
    );
    check("redis-7.0", "XTRIM k MAXLEN 1 DELREF", &["EVAL {TRIM_REFERENCES} 1 k MAXLEN 1 DELREF"]);
    check("redis-7.0", "XTRIM k KEEPREF MAXLEN 1", &["XTRIM k MAXLEN 1"]);
    check("redis-8.0", "XDELEX k IDS 2 1-1 1-2", &["XDEL k 1-1 1-2"]);
    check("redis-8.0", "XDELEX k acked IDS 1 1-1", &["EVAL {XDELEX} 1 k ACKED 1-1"]);
    check("redis-8.0", "XACKDEL k g IDS 1 1-1", &["EVAL {XACKDEL} 1 k KEEPREF g 1-1"]);
    check("redis-8.0", "XACKDEL k g DELREF IDS 1 1-1", &["EVAL {XACKDEL} 1 k DELREF g 1-1"]);
    check("redis-8.6", "XNACK k g FAIL IDS 1 1-1", &["!stream-nacked"]);
    check("redis-8.2", "XCFGSET k IDMP-DURATION 7", &["!stream-idempotence"]);
}

#[test]
fn an_option_that_is_not_known_there_is_a_loss() {
    check("redis-8.2", "SET k v SOON", &["!unknown-form"]);
    check("redis-8.2", "XADD k SOON 1-1 f v", &["!unknown-form"]);
    check("redis-7.0", "SET k v EXAT 99", &["SET k v EXAT 99"]);
    check("redis-6.0", "SET k v EXAT 99", &["!unknown-form"]);
    check("redis-7.0", "BITOP NEWER d a", &["!unknown-form"]);
    check("redis-6.0", "XGROUP NEWER k g", &["!unknown-form"]);
}

#[test]
fn a_rule_names_no_loss_that_it_does_not_declare() {
    let samples = [
        "HPEXPIREAT k 99 FIELDS 1 f",
        "GEOSEARCHSTORE d s FROMMEMBER m BYBOX 4 4 km",
        "GEOSEARCHSTORE d s FROMMEMBER m BYRADIUS 4 km COUNT 1 ANY",
        "GEORADIUS k 15 37 200 km COUNT 1 ANY STORE d",
        "XADD k IDMP p i 5-0 f v",
        "XCFGSET k IDMP-DURATION 7",
        "XNACK k g FAIL IDS 1 1-1",
        "XGROUP SETID k g 1-1 ENTRIESREAD 1",
        "XSETID k 7-7 ENTRIESADDED 9",
        "FUNCTION LOAD #!lua",
        "SPUBLISH c m",
        "VADD k VALUES 1 1 e",
        "ARSET k 0 v",
    ];
    for text in samples {
        let rewritten = rules("redis-8.10", "redis-6.0").rewrite(command_of(text), &Limits::default());
        let declared = table::RULES.iter().filter(|rule| rewritten.rules.contains(&rule.name));
        let declared: Vec<_> = declared.flat_map(|rule| rule.losses).collect();
        assert!(!rewritten.losses.is_empty(), "{text}");
        assert!(rewritten.losses.iter().all(|lost| declared.contains(&&lost.kind)), "{text}: {declared:?}");
    }
}

#[test]
fn what_has_no_older_form_is_a_loss() {
    check("redis-6.2", "FUNCTION LOAD #!lua", &["!function-library"]);
    check("redis-6.2", "FUNCTION DELETE lib", &[]);
    check("redis-6.2", "SPUBLISH c m", &["!shard-message"]);
    check("redis-7.0", "CLUSTER SETSLOT 7 NODE x", &[]);
    check("redis-7.0", "CLUSTER SYNCSLOTS x", &["!slot-migration"]);
    check("redis-7.4", "VADD k VALUES 1 1 e", &["!vector-set"]);
    check("redis-7.4", "VREM k e", &[]);
    check("redis-7.4", "JSON.SET k $ 1", &["!unknown-command"]);
    check("valkey-9.1", "ARSET k 0 a", &["!array"]);
    check("valkey-9.1", "ARDEL k 0", &[]);
    assert_eq!(said_by("redis-6.2", "redis-6.0", "SCRIPT FLUSH SYNC"), ["SCRIPT FLUSH"]);
}

#[test]
fn a_library_is_named_by_its_shebang() {
    let code = "#!lua name=mylib engine=x\nreturn 1";
    let command = vec!["FUNCTION".into(), "LOAD".into(), Bytes::from_static(code.as_bytes())];
    let rewritten = rules("redis-8.0", "redis-6.0").rewrite(command, &Limits::default());
    assert_eq!(rewritten.losses[0].what, "function library mylib");
}

#[test]
fn a_restore_payload_gets_the_version_of_the_release() {
    // DUMP of the string `a` on 8.0: type 0, length 1, RDB 12, checksum.
    let payload = b"\x00\x01a\x0c\x00t\x88\xdb[u\x1c\xe3\xfd";
    let command: Command =
        vec!["RESTORE".into(), "k".into(), "0".into(), Bytes::from_static(payload), "REPLACE".into()];
    let rewritten = rules("redis-8.0", "redis-5.0").rewrite(command, &Limits::default());
    assert_eq!(rewritten.rules, ["restore-payload"]);
    // The same DUMP on 5.0.6.
    assert_eq!(rewritten.commands[0][3], &b"\x00\x01a\x09\x00o\x0c\xbeW\xdb\xb0\x1e\x05"[..]);
    assert_eq!(rewritten.commands[0][4], "REPLACE");
    // What a master of a cluster makes of a key that came with its slot.
    let asking = [&["RESTORE-ASKING".into()], &rewritten.commands[0][1..3], &[Bytes::from_static(payload)]];
    let rewritten = rules("redis-8.0", "redis-5.0").rewrite(asking.concat(), &Limits::default());
    assert_eq!(rewritten.rules, ["restore-payload"]);
    assert_eq!(rewritten.commands[0][3], &b"\x00\x01a\x09\x00o\x0c\xbeW\xdb\xb0\x1e\x05"[..]);
}

#[test]
fn no_release_is_sent_a_command_that_it_does_not_know() {
    for to in RELEASES.iter().map(ToString::to_string) {
        let level = rules("redis-8.10", &to).pair().to;
        for (name, since) in commands::COMMANDS {
            let arguments = format!("{name} k 1 2 3 4 FIELDS 1 f v BYRADIUS 1 m");
            for text in said(&to, &arguments) {
                let said = text.split(' ').next().unwrap();
                let known = commands::COMMANDS.iter().find(|(known, _)| *known == said);
                let older = said.starts_with('!') || known.is_some_and(|(_, since)| since.has(level));
                assert!(older, "{name} (since {since}) became {text:?} for {to}");
            }
        }
    }
}

#[test]
fn the_table_is_sound() {
    let known: HashSet<_> = commands::COMMANDS.iter().map(|(name, _)| *name).collect();
    assert_eq!(known.len(), commands::COMMANDS.len(), "a command stands twice");
    for rule in table::RULES {
        assert!(known.contains(rule.command()), "{} is for an unknown command", rule.name);
        assert!(!rule.instead.is_empty(), "{} says nothing", rule.name);
    }
}

#[test]
fn plain_commands_are_not_held() {
    let rules = rules("redis-8.0", "redis-5.0");
    assert_eq!(rules.handling(b"SET", 3), Handling::Pass);
    assert_eq!(rules.handling(b"set", 5), Handling::Collect);
    assert_eq!(rules.handling(b"MSET", 1001), Handling::Pass);
    assert_eq!(rules.handling(b"JSON.SET", 4), Handling::Collect);
}

#[test]
fn scripts_are_written_as_commands_that_read_back() {
    let rewritten = rules("redis-8.0", "redis-5.0").rewrite(command_of("COPY a b"), &Limits::default());
    let mut out = BytesMut::new();
    resp::write(&mut out, &rewritten.commands[0]);
    let (_, read) = resp::Collect::default().take(&mut out, "x", 1 << 20).unwrap().unwrap();
    assert_eq!(read, rewritten.commands[0]);
}
