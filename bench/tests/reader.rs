//! The reader finds every kind of difference that is planted between two real stores, and no other.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use anyhow::Result;
use redis::{Cmd, Connection, cmd};
use segue_bench::data::{self, Newer};
use segue_bench::reader::{self, DIFFERENCES_KEPT_MAX, Options};
use segue_bench::server::{self, Server};
use segue_bench::stores::Store;

/// A redis 8.0 and an older store with the same data.
struct Lab {
    first: Server,
    second: Server,
}

impl Lab {
    fn new(second: &str) -> Result<Self> {
        let start = |name: &str| Server::start(&Store::want(name)?, server::Options::new());
        Ok(Self { first: start("redis-8.0")?, second: start(second)? })
    }

    fn both(&self, commands: &[&str]) -> Result<()> {
        run(&mut self.first.client()?, commands)?;
        run(&mut self.second.client()?, commands)
    }

    fn second(&self, commands: &[&str]) -> Result<()> {
        run(&mut self.second.client()?, commands)
    }

    /// Exactly one difference is found, at this key, and its words contain `words`.
    fn finds(&self, key: &str, words: &str) -> Result<()> {
        let comparison = reader::compare(self.first.port(), self.second.port())?;
        assert_eq!(comparison.differences_total, 1, "{comparison}");
        let difference = &comparison.differences[0];
        assert_eq!(difference.key, key.as_bytes());
        assert!(difference.what.to_string().contains(words), "{words:?} is not in: {difference}");
        Ok(())
    }
}

fn run(connection: &mut Connection, commands: &[&str]) -> Result<()> {
    for command in commands {
        let mut words = command.split(' ');
        let mut command: Cmd = cmd(words.next().unwrap());
        command.arg(words.collect::<Vec<_>>());
        command.exec(connection)?;
    }
    Ok(())
}

/// The same commands to both stores, `planted` to the second one alone.
fn planted(commands: &[&str], planted: &[&str], key: &str, words: &str) {
    planted_in("redis-6.0", commands, planted, key, words);
}

fn planted_in(second: &str, commands: &[&str], planted: &[&str], key: &str, words: &str) {
    let run = || -> Result<()> {
        let lab = Lab::new(second)?;
        lab.both(&["SET other 1", "SELECT 3", "RPUSH other 1 2 3"])?;
        lab.both(commands)?;
        let equal = reader::compare(lab.first.port(), lab.second.port())?;
        assert!(equal.is_equal() && equal.keys >= 2, "before anything was planted: {equal}");
        lab.second(planted)?;
        lab.finds(key, words)
    };
    run().unwrap();
}

#[test]
fn the_same_data_in_old_and_new_releases_is_equal() {
    let lab = Lab::new("redis-5.0").unwrap();
    // Relative expiries set twice differ by the time between: the second store copies them from the first.
    data::fill_core(&mut lab.first.client().unwrap(), 1).unwrap();
    data::fill_core(&mut lab.second.client().unwrap(), 1).unwrap();
    copy_expiries(&lab).unwrap();
    // Where "nearly" cuts depends on how a release packs its nodes.
    for db in data::DATABASES {
        lab.both(&[&format!("SELECT {db}"), "XTRIM stream:nearly-trimmed MAXLEN 50"]).unwrap();
    }
    let comparison = reader::compare(lab.first.port(), lab.second.port()).unwrap();
    assert!(comparison.is_equal(), "{comparison}");
    assert!(comparison.keys > 500, "{comparison}");
}

fn copy_expiries(lab: &Lab) -> Result<()> {
    let (mut first, mut second) = (lab.first.client()?, lab.second.client()?);
    for db in data::DATABASES {
        cmd("SELECT").arg(db).exec(&mut first)?;
        cmd("SELECT").arg(db).exec(&mut second)?;
        let keys: Vec<Vec<u8>> = cmd("KEYS").arg("ttl:*").query(&mut first)?;
        for key in keys {
            let at: i64 = cmd("PEXPIRETIME").arg(&key).query(&mut first)?;
            cmd("PEXPIREAT").arg(&key).arg(at).exec(&mut second)?;
        }
    }
    Ok(())
}

#[test]
fn a_missing_key() {
    planted(&["SET k v"], &["DEL k"], "k", "only in the first");
}

#[test]
fn a_key_too_many_in_a_database_that_the_first_store_does_not_use() {
    planted(&[], &["SELECT 9", "SET k v"], "k", "only in the second");
}

#[test]
fn another_type() {
    planted(&["SET k 1"], &["DEL k", "RPUSH k 1"], "k", "type string against list");
}

#[test]
fn a_changed_string() {
    planted(&["SET k abcdef"], &["SETRANGE k 3 X"], "k", "from byte 3 on");
}

#[test]
fn one_byte_at_the_end_of_a_large_string() {
    planted(&["SETBIT k 20000000 1"], &["SETRANGE k 2500000 x"], "k", "from byte 2500000 on");
}

#[test]
fn a_longer_string() {
    planted(&["SET k abc"], &["APPEND k d"], "k", "3 against 4 bytes");
}

#[test]
fn an_expiry_that_is_missing() {
    planted(&["SET k v", "PEXPIREAT k 4102444800000"], &["PERSIST k"], "k", "against never");
}

#[test]
fn an_expiry_that_is_off_by_a_few_milliseconds() {
    planted(&["SET k v", "PEXPIREAT k 4102444800000"], &["PEXPIREAT k 4102444800005"], "k", "expiry");
}

#[test]
fn an_expiry_that_is_off_by_one_millisecond_where_the_store_says_it() {
    let commands = ["RPUSH k v", "PEXPIREAT k 4102444800000"];
    planted_in(
        "redis-7.0",
        &commands,
        &["PEXPIREAT k 4102444800001"],
        "k",
        "expiry 4102444800000 ms against",
    );
}

#[test]
fn a_list_in_another_order() {
    planted(&["RPUSH k a b c"], &["LSET k 1 c", "LSET k 2 b"], "k", "list element 1");
}

#[test]
fn a_shorter_list() {
    planted(&["RPUSH k a b c"], &["RPOP k"], "k", "3 against 2 elements");
}

#[test]
fn another_set_member() {
    planted(&["SADD k a b c"], &["SREM k b", "SADD k d"], "k", "member \"b\" only in the first");
}

#[test]
fn another_integer_in_a_set() {
    planted(&["SADD k 1 2 3"], &["SREM k 2", "SADD k 4"], "k", "member \"2\" only in the first");
}

#[test]
fn a_set_of_another_size() {
    planted(&["SADD k a b c"], &["SADD k d"], "k", "3 against 4 members");
}

#[test]
fn another_hash_value() {
    planted(&["HSET k f v", "HSET k g w"], &["HSET k g x"], "k", "field \"g\": \"w\" against \"x\"");
}

#[test]
fn another_hash_field() {
    planted(&["HSET k f v", "HSET k g w"], &["HDEL k g", "HSET k h w"], "k", "field \"g\" only in the first");
}

#[test]
fn another_score() {
    planted(&["ZADD k 0.1 a 2 b"], &["ZADD k 0.10000000000000002 a"], "k", "at 0.1 against");
}

#[test]
fn another_sorted_set_member() {
    planted(&["ZADD k 1 a 2 b"], &["ZREM k b", "ZADD k 2 c"], "k", "\"b\" at 2 against \"c\" at 2");
}

const STREAM: [&str; 5] = [
    "XADD k 1-1 f v",
    "XADD k 2-1 f v",
    "XADD k 3-1 f v",
    "XGROUP CREATE k g 0",
    "XREADGROUP GROUP g c COUNT 2 STREAMS k >",
];

#[test]
fn another_stream_entry() {
    planted(
        &["XADD k 1-1 f v", "XADD k 5-1 f w"],
        &["DEL k", "XADD k 1-1 f v", "XADD k 5-1 f x"],
        "k",
        "entry 5-1 has other fields",
    );
}

#[test]
fn a_deleted_stream_entry() {
    planted(&STREAM, &["XDEL k 1-1"], "k", "3 entries");
}

#[test]
fn another_last_id() {
    planted(&STREAM, &["XSETID k 7-7"], "k", "last id 7-7");
}

#[test]
fn an_extra_group() {
    planted(&STREAM, &["XGROUP CREATE k h 0"], "k", "group \"h\" only in the second");
}

#[test]
fn another_position_of_a_group() {
    planted(&STREAM, &["XGROUP SETID k g 3-1"], "k", "last delivered 3-1");
}

#[test]
fn an_extra_consumer() {
    planted(&STREAM, &["XREADGROUP GROUP g d STREAMS k 0"], "k", "consumer \"d\" only in the second");
}

#[test]
fn an_acknowledged_entry() {
    planted(&STREAM, &["XACK k g 1-1"], "k", "2 pending");
}

#[test]
fn another_owner_of_pending_entries() {
    let commands = [&STREAM[..], &["XREADGROUP GROUP g d COUNT 1 STREAMS k >"]].concat();
    let swap = ["XCLAIM k g d 0 1-1 RETRYCOUNT 1", "XCLAIM k g c 0 3-1 RETRYCOUNT 1"];
    planted(&commands, &swap, "k", "pending 1-1 of \"c\", delivered 1 times, against 1-1 of \"d\"");
}

#[test]
fn another_delivery_count() {
    planted(&STREAM, &["XCLAIM k g c 0 2-1 RETRYCOUNT 5"], "k", "against 2-1 of \"c\", 5 times");
}

#[test]
fn keys_that_have_expired_are_no_difference() {
    let lab = Lab::new("redis-6.0").unwrap();
    lab.both(&["SET stays 1"]).unwrap();
    // Neither store removes them by itself; the second keeps them as a replica does.
    lab.second(&["DEBUG SET-ACTIVE-EXPIRE 0", "SET k v PX 1", "RPUSH l 1", "PEXPIRE l 1"]).unwrap();
    run(&mut lab.first.client().unwrap(), &["DEBUG SET-ACTIVE-EXPIRE 0", "SET j v PX 1"]).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    let comparison = reader::compare(lab.first.port(), lab.second.port()).unwrap();
    assert!(comparison.is_equal(), "{comparison}");
    assert_eq!(comparison.keys, 1);
}

#[test]
fn field_expiries_are_compared_where_asked() {
    let lab = Lab::new("redis-7.0").unwrap();
    data::fill_newer(&mut lab.first.client().unwrap(), Newer::FieldTtls).unwrap();
    for key in Newer::FieldTtls.keys() {
        let mut first = lab.first.client().unwrap();
        let fields: Vec<(String, String)> = cmd("HGETALL").arg(key).query(&mut first).unwrap();
        let mut second = lab.second.client().unwrap();
        cmd("HSET").arg(key).arg(fields).exec(&mut second).unwrap();
    }
    let (first, second) = (lab.first.port(), lab.second.port());
    let without = reader::compare(first, second).unwrap();
    assert!(without.is_equal(), "{without}");
    let with = reader::compare_with(first, second, Options { field_ttls: true }).unwrap();
    assert_eq!(with.differences_total, 2, "{with}");
}

#[test]
fn vector_sets_are_compared() {
    let lab = Lab::new("redis-8.0").unwrap();
    data::fill_newer(&mut lab.first.client().unwrap(), Newer::VectorSets).unwrap();
    data::fill_newer(&mut lab.second.client().unwrap(), Newer::VectorSets).unwrap();
    let (first, second) = (lab.first.port(), lab.second.port());
    let equal = reader::compare(first, second).unwrap();
    assert!(equal.is_equal(), "{equal}");
    let key = Newer::VectorSets.keys()[0];
    let set = |name: &str, json: &str| {
        cmd("VSETATTR").arg(key).arg(name).arg(json).exec(&mut lab.second.client().unwrap()).unwrap();
    };
    set("vector-3", "{}");
    let unequal = reader::compare(first, second).unwrap();
    assert!(unequal.to_string().contains("attributes of vector \"vector-3\""), "{unequal}");
    let add = ["VALUES", "3", "5", "5", "5", "vector-4"];
    cmd("VADD").arg(key).arg(&add).exec(&mut lab.second.client().unwrap()).unwrap();
    let unequal = reader::compare(first, second).unwrap();
    assert!(unequal.to_string().contains("vector \"vector-4\""), "{unequal}");
}

#[test]
fn many_differences_are_all_counted() {
    let lab = Lab::new("redis-6.0").unwrap();
    let mut first = lab.first.client().unwrap();
    for n in 0..DIFFERENCES_KEPT_MAX + 50 {
        cmd("SET").arg(n).arg(n).exec(&mut first).unwrap();
    }
    let comparison = reader::compare(lab.first.port(), lab.second.port()).unwrap();
    assert_eq!(comparison.differences.len(), DIFFERENCES_KEPT_MAX);
    assert_eq!(comparison.differences_total, 150);
}
