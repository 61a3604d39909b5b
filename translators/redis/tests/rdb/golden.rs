//! Snapshots of real servers. The rewritten ones are pinned by length and checksum: each of these was
//! loaded by the real redis 5.0.6, 6.0.16, 6.2.14 (9), 7.0.15 (10), redict 7.3.6, valkey 8.1.1 (11),
//! redis 8.0.6 (12), 8.6.2 (13), 8.10.2 (15) and valkey 9.1.2 (80), and compared key by key. To see what
//! one holds, write it to a file:
//! `cargo run -p segue-redis --example rewrite -- translators/redis/tests/golden/F OUT redis-6.2 degrade`

use segue_wire::LossPolicy;

use crate::support::{NEWEST, Outcome, REDIS_8_6, SMALL, VALKEY, rewrite};

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
    let header = if version < 80 { format!("REDIS{version:04}") } else { format!("VALKEY{version:03}") };
    assert_eq!(outcome.out[..9], *header.as_bytes());

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

const NACKED: &str = "data stream-nacked: entries of a stream's group that wait for any consumer";
const PRODUCERS: &str = "bookkeeping stream-idempotence: ids of a stream's producers";
const ARRAY: &str = "data array: array";

#[test]
fn redis_8_6() {
    pinned(
        REDIS_8_6,
        9,
        &[
            LIBRARY.to_owned(),
            key(TTLS, "ttls:table", 0),
            key(TTLS, "ttls:packed", 0),
            key(COUNTERS, "stream:plain", 0),
            key(PRODUCERS, "stream:idmp", 0),
            key(ACTIVE, "stream:groups", 0),
            key(VECTORS, "vectors", 0),
            key(PRODUCERS, "stream:config", 0),
        ],
        938,
        0x932e_80de_ea4f_2ff4,
    );
    pinned(
        REDIS_8_6,
        10,
        &[
            key(TTLS, "ttls:table", 0),
            key(TTLS, "ttls:packed", 0),
            key(PRODUCERS, "stream:idmp", 0),
            key(ACTIVE, "stream:groups", 0),
            key(VECTORS, "vectors", 0),
            key(PRODUCERS, "stream:config", 0),
        ],
        1053,
        0xec8d_4577_ae93_b132,
    );
    pinned(
        REDIS_8_6,
        11,
        &[
            key(TTLS, "ttls:table", 0),
            key(TTLS, "ttls:packed", 0),
            key(PRODUCERS, "stream:idmp", 0),
            key(VECTORS, "vectors", 0),
            key(PRODUCERS, "stream:config", 0),
        ],
        1079,
        0xd53e_ee4d_38af_f4b9,
    );
    pinned(
        REDIS_8_6,
        12,
        &[key(PRODUCERS, "stream:idmp", 0), key(VECTORS, "vectors", 0), key(PRODUCERS, "stream:config", 0)],
        1139,
        0x41e0_8f3d_4e79_4fab,
    );
    let same = pinned(REDIS_8_6, 13, &[], 1305, 0xb717_d337_1c38_ed61);
    assert!(same.out == REDIS_8_6);
    assert!(rewrite(REDIS_8_6, 15, LossPolicy::Refuse).out == REDIS_8_6, "an older source stays as it is");
    pinned(
        REDIS_8_6,
        80,
        &[key(PRODUCERS, "stream:idmp", 0), key(VECTORS, "vectors", 0), key(PRODUCERS, "stream:config", 0)],
        1199,
        0x31c3_d02c_09e2_0986,
    );
}

#[test]
fn redis_8_10() {
    pinned(
        NEWEST,
        9,
        &[
            LIBRARY.to_owned(),
            key(NACKED, "stream:groups", 0),
            key(ACTIVE, "stream:groups", 0),
            key(TTLS, "ttls:packed", 0),
            key(ARRAY, "array", 0),
            key(PRODUCERS, "stream:idmp", 0),
            key(ARRAY, "array:cursor", 0),
            key(COUNTERS, "stream:plain", 0),
            key(VECTORS, "vectors", 0),
            key(PRODUCERS, "stream:config", 0),
            key(TTLS, "ttls:table", 0),
        ],
        1401,
        0x85a0_9f9d_8868_69af,
    );
    pinned(
        NEWEST,
        10,
        &[
            key(NACKED, "stream:groups", 0),
            key(ACTIVE, "stream:groups", 0),
            key(TTLS, "ttls:packed", 0),
            key(ARRAY, "array", 0),
            key(PRODUCERS, "stream:idmp", 0),
            key(ARRAY, "array:cursor", 0),
            key(VECTORS, "vectors", 0),
            key(PRODUCERS, "stream:config", 0),
            key(TTLS, "ttls:table", 0),
        ],
        1521,
        0x723f_3f82_8f73_13d4,
    );
    pinned(
        NEWEST,
        11,
        &[
            key(NACKED, "stream:groups", 0),
            key(TTLS, "ttls:packed", 0),
            key(ARRAY, "array", 0),
            key(PRODUCERS, "stream:idmp", 0),
            key(ARRAY, "array:cursor", 0),
            key(VECTORS, "vectors", 0),
            key(PRODUCERS, "stream:config", 0),
            key(TTLS, "ttls:table", 0),
        ],
        1563,
        0x1294_2d08_e45b_6acd,
    );
    pinned(
        NEWEST,
        12,
        &[
            key(NACKED, "stream:groups", 0),
            key(ARRAY, "array", 0),
            key(PRODUCERS, "stream:idmp", 0),
            key(ARRAY, "array:cursor", 0),
            key(VECTORS, "vectors", 0),
            key(PRODUCERS, "stream:config", 0),
        ],
        1623,
        0xa318_03c2_e73c_7358,
    );
    pinned(
        NEWEST,
        13,
        &[key(NACKED, "stream:groups", 0), key(ARRAY, "array", 0), key(ARRAY, "array:cursor", 0)],
        1727,
        0x31b7_0d3b_433d_d8e3,
    );
    let same = pinned(NEWEST, 15, &[], 1656, 0xa324_4411_6cb5_fc8b);
    assert!(same.out == NEWEST);
    pinned(
        NEWEST,
        80,
        &[
            key(NACKED, "stream:groups", 0),
            key(ARRAY, "array", 0),
            key(PRODUCERS, "stream:idmp", 0),
            key(ARRAY, "array:cursor", 0),
            key(VECTORS, "vectors", 0),
            key(PRODUCERS, "stream:config", 0),
        ],
        1683,
        0xcbbc_306e_ef6a_f229,
    );
}

#[test]
fn valkey_9_1() {
    pinned(
        VALKEY,
        9,
        &[
            LIBRARY.to_owned(),
            key(TTLS, "ttls:packed", 0),
            key(COUNTERS, "stream:plain", 0),
            key(ACTIVE, "stream:groups", 0),
            key(TTLS, "ttls:table", 0),
        ],
        852,
        0xb341_535f_adc4_98f7,
    );
    pinned(
        VALKEY,
        10,
        &[key(TTLS, "ttls:packed", 0), key(ACTIVE, "stream:groups", 0), key(TTLS, "ttls:table", 0)],
        954,
        0x89a5_f62d_1283_5a74,
    );
    pinned(
        VALKEY,
        11,
        &[key(TTLS, "ttls:packed", 0), key(TTLS, "ttls:table", 0)],
        980,
        0xb215_0cf0_286f_05f1,
    );
    pinned(VALKEY, 12, &[], 1043, 0xa7ec_138b_648b_6b10);
    pinned(VALKEY, 13, &[], 1043, 0x9770_8fac_a13d_d5af);
    pinned(VALKEY, 15, &[], 1043, 0x343b_c77c_3c8a_522d);
    let same = pinned(VALKEY, 80, &[], 1100, 0xf15b_d424_151f_9ed8);
    assert!(same.out == VALKEY);
}
