//! Steps on strings, numbers, bits and expiries.

use redis::Cmd;

use super::generator::Generator;
use crate::command;

impl Generator {
    pub(super) fn string_step(&mut self) -> Vec<Cmd> {
        let (key, value) = (self.key("s"), self.value());
        let ttl_s = self.ttl_s();
        vec![match self.rng.u32(0..22) {
            0..=5 => command!("SET", key, value),
            6 => command!("SETEX", key, ttl_s, value),
            7 => command!("PSETEX", key, ttl_s * 1000, value),
            8 => command!("SET", key, value, "EX", ttl_s),
            9 => command!("SET", key, value, "KEEPTTL"),
            10 => command!("SET", key, value, self.one_of(&["NX", "XX"], "NX"), "PX", ttl_s * 1000),
            11 => command!("SET", key, value, "GET"),
            12 => command!("SETNX", key, value),
            13 => command!("GETSET", key, value),
            14 => command!("APPEND", key, self.word()),
            15 => command!("SETRANGE", key, self.rng.u32(0..100), self.word()),
            16 => command!("GETDEL", key),
            17 => command!("GETEX", key, "EX", ttl_s),
            18 => command!("GETEX", key, "PERSIST"),
            19 => command!("MSET", key, value, self.key("s"), self.value(), self.key("s"), self.value()),
            20 => command!("MSETNX", key, value, self.key("s"), self.value()),
            _ => command!("SET", key, value, "PXAT", 4_102_444_800_000_u64 + u64::from(ttl_s)),
        }]
    }

    pub(super) fn number_step(&mut self) -> Vec<Cmd> {
        let (integer, float) = (self.key("i"), self.key("f"));
        vec![match self.rng.u32(0..8) {
            0 => command!("SET", integer, self.rng.i32(..)),
            1 => command!("INCR", integer),
            2 => command!("DECR", integer),
            3 => command!("INCRBY", integer, self.rng.i32(..)),
            4 => command!("DECRBY", integer, self.rng.i32(-1000..1000)),
            5 => command!("SET", float, "10.5", "EX", self.ttl_s()),
            _ => command!("INCRBYFLOAT", float, f64::from(self.rng.i32(-10_000..10_000)) / 64.0),
        }]
    }

    pub(super) fn bits_step(&mut self) -> Vec<Cmd> {
        let key = self.key("b");
        let offset = self.rng.u32(0..4000);
        vec![match self.rng.u32(0..6) {
            0 | 1 => command!("SETBIT", key, offset, self.rng.u8(0..2)),
            2 => command!("BITFIELD", key, "SET", "u8", offset, self.rng.u8(..)),
            3 => command!("BITFIELD", key, "OVERFLOW", "SAT", "INCRBY", "i5", offset, 1, "GET", "u4", 0),
            4 => {
                let operation = self.one_of(&["AND", "OR", "XOR"], "OR");
                command!("BITOP", operation, key, self.key("b"), self.key("b"))
            }
            _ => command!("BITOP", "NOT", key, self.key("b")),
        }]
    }

    /// Expiries on keys of all types except streams, which the load keeps.
    pub(super) fn expiry_step(&mut self) -> Vec<Cmd> {
        let kind = self.one_of(&["s", "s", "i", "f", "b", "q", "u", "n", "h", "z", "g", "p"], "s");
        let (key, ttl_s) = (self.key(kind), self.ttl_s());
        let at_s = 4_102_444_800_u64 + u64::from(self.rng.u32(0..10_000));
        let condition = self.one_of(&["NX", "XX", "GT", "LT"], "NX");
        vec![match self.rng.u32(0..10) {
            0 | 1 => command!("EXPIRE", key, ttl_s),
            2 => command!("PEXPIRE", key, ttl_s * 1000),
            3 => command!("EXPIREAT", key, at_s),
            4 => command!("PEXPIREAT", key, at_s * 1000 + 1),
            5 => command!("EXPIRE", key, ttl_s, condition),
            6 => command!("PEXPIREAT", key, at_s * 1000, condition),
            7 => command!("PEXPIRE", key, -1),
            _ => command!("PERSIST", key),
        }]
    }
}
