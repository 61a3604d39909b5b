//! Steps on lists, sets, hashes, sorted sets, places and HyperLogLogs.

use redis::Cmd;

use super::generator::Generator;
use crate::command;

impl Generator {
    pub(super) fn list_step(&mut self) -> Vec<Cmd> {
        let (key, other) = self.two_keys("q");
        let end = self.one_of(&["LEFT", "RIGHT"], "LEFT");
        let push = self.one_of(&["LPUSH", "RPUSH"], "RPUSH");
        let count = self.rng.u32(1..4);
        match self.rng.u32(0..17) {
            0..=3 => vec![command!(push, key, self.value(), self.word(), self.member())],
            4 => vec![command!(self.one_of(&["LPUSHX", "RPUSHX"], "LPUSHX"), key, self.value())],
            5 => vec![command!(self.one_of(&["LPOP", "RPOP"], "LPOP"), key)],
            6 => vec![command!(self.one_of(&["LPOP", "RPOP"], "RPOP"), key, count)],
            7 => vec![command!("LMOVE", key, other, end, self.one_of(&["LEFT", "RIGHT"], "RIGHT"))],
            8 => vec![command!("LMOVE", &key, &key, "LEFT", "RIGHT")],
            9 => vec![command!("RPOPLPUSH", key, other)],
            10 => vec![command!("LMPOP", 2, key, other, end, "COUNT", count)],
            11 => {
                let pivot = self.member();
                let place = self.one_of(&["BEFORE", "AFTER"], "AFTER");
                vec![command!("LINSERT", key, place, pivot, self.word())]
            }
            12 => vec![command!("LREM", key, self.rng.i32(-2..3), self.member())],
            // LSET needs an element to be there: in a list that neither expires nor serves the blocking client.
            13 => {
                let key = self.key("e");
                vec![
                    command!("RPUSH", &key, self.word()),
                    command!("LSET", &key, -1, self.value()),
                    command!("LTRIM", &key, -20, -1),
                ]
            }
            14 => vec![command!("RPUSH", &key, vec![b'y'; 70_000]), command!("LTRIM", &key, -5, -1)],
            _ => vec![command!("LTRIM", key, 0, self.rng.u32(5..60))],
        }
    }

    /// Sets of words (`u`) and of integers (`n`).
    pub(super) fn set_step(&mut self) -> Vec<Cmd> {
        let kind = self.one_of(&["u", "n"], "u");
        let (key, other) = self.two_keys(kind);
        let third = self.key(kind);
        let member = |generator: &mut Self| match kind {
            "n" => generator.rng.i64(-40..100_000).to_string(),
            _ => generator.member(),
        };
        vec![match self.rng.u32(0..12) {
            0..=4 => command!("SADD", key, member(self), member(self), member(self)),
            5 => command!("SREM", key, member(self), member(self)),
            6 => command!("SPOP", key),
            7 => command!("SPOP", key, self.rng.u32(1..20)),
            8 => command!("SMOVE", key, other, member(self)),
            9 => command!("SUNIONSTORE", key, other, third),
            10 => command!("SINTERSTORE", key, other, third),
            _ => command!("SDIFFSTORE", key, other, third),
        }]
    }

    pub(super) fn hash_step(&mut self) -> Vec<Cmd> {
        let (key, field) = (self.key("h"), self.member());
        vec![match self.rng.u32(0..10) {
            0..=2 => command!("HSET", key, field, self.value(), self.member(), self.value()),
            3 => command!("HMSET", key, field, self.value()),
            4 => command!("HSETNX", key, field, self.value()),
            5 => command!("HINCRBY", key, "count", self.rng.i32(-100..100)),
            6 => command!("HINCRBYFLOAT", key, "sum", f64::from(self.rng.i32(-1000..1000)) / 8.0),
            7 => command!("HDEL", key, field, self.member()),
            8 => command!("HGETDEL", key, "FIELDS", 1, field),
            _ => command!("HDEL", key, "count", "sum"),
        }]
    }

    pub(super) fn sorted_set_step(&mut self) -> Vec<Cmd> {
        let (key, other) = self.two_keys("z");
        let third = self.key("z");
        let (member, score) = (self.member(), f64::from(self.rng.i32(-1000..1000)) / 10.0);
        let flag = self.one_of(&["NX", "XX", "GT", "LT"], "GT");
        let count = self.rng.u32(1..4);
        vec![match self.rng.u32(0..20) {
            0..=3 => command!("ZADD", key, score, member, score + 1.0, self.member(), 3, self.member()),
            4 | 5 => command!("ZADD", key, flag, score, member, -score, self.member()),
            6 => command!("ZADD", key, "XX", "CH", "GT", score, member),
            7 => command!("ZADD", key, "INCR", score, member),
            // Members of their own: adding opposite infinities would be an error.
            8 => command!("ZADD", key, self.one_of(&["inf", "-inf"], "inf"), "edge"),
            9 => command!("ZINCRBY", key, score, member),
            10 => command!("ZREM", key, member, self.member()),
            11 => command!(self.one_of(&["ZPOPMIN", "ZPOPMAX"], "ZPOPMIN"), key, count),
            12 => command!("ZMPOP", 2, key, other, self.one_of(&["MIN", "MAX"], "MIN"), "COUNT", count),
            13 => command!("ZREMRANGEBYSCORE", key, score, score + 5.0),
            14 => command!("ZREMRANGEBYRANK", key, 20, -1),
            15 => command!("ZRANGESTORE", key, other, 0, self.rng.u32(1..10)),
            16 => command!("ZRANGESTORE", key, other, "(-50", 50, "BYSCORE", "LIMIT", 0, 8),
            17 => command!("ZUNIONSTORE", key, 2, other, third, "WEIGHTS", 1, 2, "AGGREGATE", "MAX"),
            18 => command!("ZINTERSTORE", key, 2, other, third),
            _ => command!("ZDIFFSTORE", key, 2, other, third),
        }]
    }

    pub(super) fn place_step(&mut self) -> Vec<Cmd> {
        let (key, target) = self.two_keys("g");
        let (longitude, latitude) = (self.rng.f64() * 20.0, self.rng.f64() * 20.0 + 40.0);
        vec![match self.rng.u32(0..5) {
            0..=2 => command!("GEOADD", key, longitude, latitude, self.member()),
            3 => command!(
                "GEOSEARCHSTORE",
                target,
                key,
                "FROMLONLAT",
                longitude,
                latitude,
                "BYRADIUS",
                500,
                "km"
            ),
            _ => command!("GEORADIUS", key, longitude, latitude, 900, "km", "STORE", target),
        }]
    }

    pub(super) fn log_step(&mut self) -> Vec<Cmd> {
        let (key, other) = self.two_keys("p");
        vec![match self.rng.u32(0..4) {
            0 => command!("PFMERGE", key, other),
            _ => command!("PFADD", key, self.value(), self.word()),
        }]
    }
}
