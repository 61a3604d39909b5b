//! Snapshots of real servers. The rewritten ones are pinned by length and checksum: each of these was
//! loaded by the real redis 5.0.6, 6.0.16, 6.2.14 (9) and 7.0.15 (10), and compared key by key. To see what
//! one holds, write it to a file:
//! `cargo run -p segue-redis --example rewrite -- translators/redis/tests/golden/F OUT redis-6.2 degrade`

use segue_wire::LossPolicy;

use crate::support::{Outcome, SMALL, rewrite};

const REDIS_7_2: &[u8] = include_bytes!("../golden/redis-7.2.6.rdb");
const REDIS_7_4: &[u8] = include_bytes!("../golden/redis-7.4.1.rdb");

const LIBRARY: &str = "data function-library: library mylib";
const COUNTERS: &str = "bookkeeping stream-counters: entries-added and max-deleted-id of a stream";
const ACTIVE: &str = "bookkeeping stream-consumer-active-time: active-time of a stream's consumers";
const TTLS: &str = "data hash-field-ttl: field TTLs of a hash";
const VECTORS: &str = "data vector-set: vector set";

fn key(loss: &str, name: &str, db: u64) -> String {
    format!("{loss} (key \"{name}\" in database {db})")
}

fn pinned(source: &[u8], version: u16, losses: &[String], len: usize, crc: u64) -> Outcome {
    let outcome = rewrite(source, version, LossPolicy::Degrade);
    assert_eq!(outcome.result, Ok(()));
    assert_eq!(outcome.losses_as_text(), losses);
    let sent = u64::from_le_bytes(*outcome.out.last_chunk().unwrap());
    assert_eq!((outcome.out.len(), sent), (len, crc), "length and checksum: {} {sent:#x}", outcome.out.len());
    assert_eq!(outcome.out[..9], *format!("REDIS{version:04}").as_bytes());

    let again = rewrite(&outcome.out, version, LossPolicy::Refuse);
    assert_eq!((again.result, again.out == outcome.out), (Ok(()), true), "the result passes as it is");
    outcome
}

#[test]
fn redis_7_2() {
    let streams = [key(ACTIVE, "x:grp", 0), key(ACTIVE, "x:nack", 0)];
    let to_9 = [
        LIBRARY.to_owned(),
        key(COUNTERS, "x:plain", 0),
        key(COUNTERS, "x:grp", 0),
        key(ACTIVE, "x:grp", 0),
        key(ACTIVE, "x:nack", 0),
    ];
    pinned(REDIS_7_2, 9, &to_9, 472_565, 0x52d4_db72_e62a_5b54);
    pinned(REDIS_7_2, 10, &streams, 245_626, 0x6222_b48b_206c_271e);
    let same = pinned(REDIS_7_2, 11, &[], 245_668, 0xa3f0_31e5_2490_10b7);
    assert!(same.out == REDIS_7_2);
    assert!(rewrite(REDIS_7_2, 12, LossPolicy::Refuse).out == REDIS_7_2, "an older source stays as it is");
}

#[test]
fn redis_7_4() {
    let ttls = [key(TTLS, "hf:ht", 0), key(TTLS, "hf:small", 0)];
    let streams = [key(ACTIVE, "x:grp", 0), key(ACTIVE, "x:nack", 0)];
    let to_9 = [
        &[LIBRARY.to_owned()],
        &ttls[..],
        &[
            key(COUNTERS, "x:plain", 0),
            key(COUNTERS, "x:grp", 0),
            key(ACTIVE, "x:grp", 0),
            key(ACTIVE, "x:nack", 0),
        ],
    ]
    .concat();
    pinned(REDIS_7_4, 9, &to_9, 472_551, 0xcb0c_1401_b4db_5449);
    pinned(REDIS_7_4, 10, &[&ttls[..], &streams].concat(), 245_589, 0x448a_13c5_4f6d_6e1d);
    pinned(REDIS_7_4, 11, &ttls, 245_631, 0x9cae_5f01_c81d_4017);
    let same = pinned(REDIS_7_4, 12, &[], 247_171, 0x2a8d_3a22_e240_fac7);
    assert!(same.out == REDIS_7_4);
}

#[test]
fn redis_8_0() {
    let ttls = [key(TTLS, "ttls:packed", 3), key(TTLS, "ttls:table", 3), key(VECTORS, "vectors", 3)];
    let to_9 =
        [&[LIBRARY.to_owned(), key(COUNTERS, "stream", 0), key(ACTIVE, "stream", 0)], &ttls[..]].concat();
    pinned(SMALL, 9, &to_9, 71_139, 0x3c7d_8cb0_e098_7eb2);
    pinned(SMALL, 10, &[&[key(ACTIVE, "stream", 0)], &ttls[..]].concat(), 1851, 0xbf7b_117a_9342_ae5b);
    pinned(SMALL, 11, &ttls, 1875, 0x6080_9e64_ba12_ad3f);
    pinned(SMALL, 12, &ttls[2..], 1932, 0x3831_231e_c638_4e31);
}
