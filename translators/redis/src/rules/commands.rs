//! The commands that a master sends its replicas, and the first releases that have each.
//!
//! A command that is not here is never passed on: an older replica would skip it silently.
//! Source: `COMMAND DOCS` of the servers, and what each of them was seen to send.

use crate::releases::{
    Since,
    since::{common, first, redis, redis_patch, valkey},
};

/// What 5.0 and all later releases know.
const FIRST: Since = first();
pub const ARRAYS: Since = redis(8, 8);
/// Fields of a hash that expire.
pub const FIELD_TTLS: Since = redis(7, 4).valkey(9, 0);
/// A search of a missing key that is stored deletes the destination.
pub const GEO_STORE_DELETES: Since = redis_patch(6, 2, 6).redict(7, 2).valkey(7, 2);
pub const FUNCTIONS: Since = common(7, 0);
pub const HSETEX: Since = redis(8, 0).valkey(9, 0);
pub const LMOVEM: Since = redis(8, 10);
pub const MSETEX: Since = redis(8, 4).valkey(9, 1);
/// Entries of a stream are deleted with or without what refers to them.
pub const XDELEX: Since = redis(8, 2);
pub const XNACK: Since = redis(8, 8);
pub const VECTOR_SETS: Since = redis(8, 0);

pub const COMMANDS: &[(&str, Since)] = &[
    // connection and transactions
    ("EXEC", FIRST),
    ("MULTI", FIRST),
    ("PING", FIRST),
    ("REPLCONF", FIRST),
    ("SELECT", FIRST),
    // keys
    ("COPY", common(6, 2)),
    ("DEL", FIRST),
    ("DELEX", redis(8, 4)),
    ("EXPIRE", FIRST),
    ("EXPIREAT", FIRST),
    ("FLUSHALL", FIRST),
    ("FLUSHDB", FIRST),
    ("MOVE", FIRST),
    ("PERSIST", FIRST),
    ("PEXPIRE", FIRST),
    ("PEXPIREAT", FIRST),
    ("RENAME", FIRST),
    ("RENAMENX", FIRST),
    ("RESTORE", FIRST),
    ("RESTORE-ASKING", FIRST),
    ("SORT", FIRST),
    ("SWAPDB", FIRST),
    ("UNLINK", FIRST),
    // strings, bitmaps, HyperLogLog
    ("APPEND", FIRST),
    ("BITFIELD", FIRST),
    ("BITOP", FIRST),
    ("DECR", FIRST),
    ("DECRBY", FIRST),
    ("GETSET", FIRST),
    ("INCR", FIRST),
    ("INCRBY", FIRST),
    ("INCRBYFLOAT", FIRST),
    ("MSET", FIRST),
    ("MSETEX", MSETEX),
    ("MSETNX", FIRST),
    ("PFADD", FIRST),
    ("PFCOUNT", FIRST),
    ("PFDEBUG", FIRST),
    ("PFMERGE", FIRST),
    ("PSETEX", FIRST),
    ("SET", FIRST),
    ("SETBIT", FIRST),
    ("SETEX", FIRST),
    ("SETNX", FIRST),
    ("SETRANGE", FIRST),
    // lists
    ("LINSERT", FIRST),
    ("LMOVE", common(6, 2)),
    ("LMOVEM", LMOVEM),
    ("LPOP", FIRST),
    ("LPUSH", FIRST),
    ("LPUSHX", FIRST),
    ("LREM", FIRST),
    ("LSET", FIRST),
    ("LTRIM", FIRST),
    ("RPOP", FIRST),
    ("RPOPLPUSH", FIRST),
    ("RPUSH", FIRST),
    ("RPUSHX", FIRST),
    // sets
    ("SADD", FIRST),
    ("SDIFFSTORE", FIRST),
    ("SINTERSTORE", FIRST),
    ("SMOVE", FIRST),
    ("SPOP", FIRST),
    ("SREM", FIRST),
    ("SUNIONSTORE", FIRST),
    // hashes
    ("HDEL", FIRST),
    ("HGETDEL", redis(8, 0).valkey(9, 1)),
    ("HINCRBY", FIRST),
    ("HINCRBYFLOAT", FIRST),
    ("HMSET", FIRST),
    ("HPERSIST", FIELD_TTLS),
    ("HPEXPIREAT", FIELD_TTLS),
    ("HSET", FIRST),
    ("HSETEX", HSETEX),
    ("HSETNX", FIRST),
    // sorted sets and geo
    ("GEOADD", FIRST),
    ("GEORADIUS", FIRST),
    ("GEORADIUSBYMEMBER", FIRST),
    ("GEOSEARCHSTORE", common(6, 2)),
    ("ZADD", FIRST),
    ("ZDIFFSTORE", common(6, 2)),
    ("ZINCRBY", FIRST),
    ("ZINTERSTORE", FIRST),
    ("ZPOPMAX", FIRST),
    ("ZPOPMIN", FIRST),
    ("ZRANGESTORE", common(6, 2)),
    ("ZREM", FIRST),
    ("ZREMRANGEBYLEX", FIRST),
    ("ZREMRANGEBYRANK", FIRST),
    ("ZREMRANGEBYSCORE", FIRST),
    ("ZUNIONSTORE", FIRST),
    // streams
    ("XACK", FIRST),
    ("XACKDEL", XDELEX),
    ("XADD", FIRST),
    ("XCFGSET", redis(8, 6)),
    ("XCLAIM", FIRST),
    ("XDEL", FIRST),
    ("XDELEX", XDELEX),
    ("XGROUP", FIRST),
    ("XIDMPRECORD", redis_patch(8, 6, 2)),
    ("XNACK", XNACK),
    ("XREADGROUP", FIRST),
    ("XSETID", FIRST),
    ("XTRIM", FIRST),
    // clusters: slots that move
    // A master makes its replicas set a slot before it does itself.
    ("CLUSTER", valkey(8, 0)),
    ("TRIMSLOTS", redis(8, 4)),
    // scripts, functions, messages
    ("EVAL", FIRST),
    ("EVALSHA", FIRST),
    ("FUNCTION", FUNCTIONS),
    ("PUBLISH", FIRST),
    ("SCRIPT", FIRST),
    ("SPUBLISH", common(7, 0)),
    // arrays
    ("ARDEL", ARRAYS),
    ("ARDELRANGE", ARRAYS),
    ("ARINSERT", ARRAYS),
    ("ARMSET", ARRAYS),
    ("ARRING", ARRAYS),
    ("ARSEEK", ARRAYS),
    ("ARSET", ARRAYS),
    // vector sets
    ("VADD", VECTOR_SETS),
    ("VREM", VECTOR_SETS),
    ("VSETATTR", VECTOR_SETS),
];

/// Write commands that masters never send by this name, and what they send.
pub const NEVER_SENT: &[(&str, &str)] = &[
    ("BLMOVE", "LMOVE"),
    ("BLMOVEM", "LMOVEM"),
    ("BLMPOP", "LPOP, RPOP"),
    ("BLPOP", "LPOP"),
    ("BRPOP", "RPOP"),
    ("BRPOPLPUSH", "RPOPLPUSH"),
    ("BZMPOP", "ZPOPMIN, ZPOPMAX"),
    ("BZPOPMAX", "ZPOPMAX"),
    ("BZPOPMIN", "ZPOPMIN"),
    ("CLUSTER|FLUSHSLOT", "DEL, UNLINK"),
    ("DELIFEQ", "DEL"),
    ("GETDEL", "DEL"),
    ("GETEX", "PEXPIREAT, PERSIST, DEL"),
    ("HEXPIRE", "HPEXPIREAT, HDEL"),
    ("HEXPIREAT", "HPEXPIREAT, HDEL"),
    ("HGETEX", "HPEXPIREAT, HPERSIST, HDEL"),
    ("HIMPORT|SET", "RESTORE"),
    ("HPEXPIRE", "HPEXPIREAT, HDEL"),
    ("INCREX", "SET"),
    ("LMPOP", "LPOP, RPOP"),
    ("MIGRATE", "DEL"),
    ("XAUTOCLAIM", "XCLAIM"),
    ("ZMPOP", "ZPOPMIN, ZPOPMAX"),
];
