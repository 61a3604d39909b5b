//! The commands that a master sends its replicas, and the first releases that have each.
//!
//! A command that is not here is never passed on: an older replica would skip it silently.
//! Source: `COMMAND DOCS` of the servers, and what each of them was seen to send.

use crate::releases::{
    Since,
    since::{common, first, redis},
};

/// What 5.0 and all later releases know.
const FIRST: Since = first();
const ARRAYS: Since = redis(8, 10);
/// Fields of a hash that expire.
pub const FIELD_TTLS: Since = redis(7, 4).valkey(9, 0);
pub const FUNCTIONS: Since = common(7, 0);
const VECTOR_SETS: Since = redis(8, 0);

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
    ("MSETEX", redis(8, 6).valkey(9, 1)),
    ("MSETNX", FIRST),
    ("PFADD", FIRST),
    ("PFCOUNT", FIRST),
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
    ("LMOVEM", redis(8, 10)),
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
    ("HSETEX", redis(8, 0).valkey(9, 0)),
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
    ("XACKDEL", redis(8, 2)),
    ("XADD", FIRST),
    ("XCFGSET", redis(8, 6)),
    ("XCLAIM", FIRST),
    ("XDEL", FIRST),
    ("XDELEX", redis(8, 2)),
    ("XGROUP", FIRST),
    ("XNACK", redis(8, 10)),
    ("XREADGROUP", FIRST),
    ("XSETID", FIRST),
    ("XTRIM", FIRST),
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
