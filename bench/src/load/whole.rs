//! Steps on whole keys, transactions, scripts and databases.

use redis::Cmd;

use super::generator::Generator;
use crate::command;

/// Flushed now and then; nothing else is kept in it.
const SCRATCH_DATABASE: u8 = 7;

impl Generator {
    pub(super) fn whole_key_step(&mut self) -> Vec<Cmd> {
        let kind = self.one_of(&["s", "q", "u", "h", "z"], "s");
        let (key, other) = self.two_keys(kind);
        match self.rng.u32(0..8) {
            0 => vec![command!("DEL", key, other)],
            1 => vec![command!("UNLINK", key)],
            2 => vec![command!("COPY", key, other, "REPLACE")],
            3 => vec![command!("COPY", key, other, "DB", 3)],
            // RENAME needs its source to be there.
            4 => {
                vec![command!("SET", "l:source", self.value()), command!("RENAME", "l:source", self.key("s"))]
            }
            5 => vec![
                command!("SET", "l:source", self.value(), "PX", 900_000),
                command!("RENAMENX", "l:source", self.key("s")),
                command!("DEL", "l:source"),
            ],
            6 => vec![command!("MOVE", key, 3)],
            _ => vec![command!("SORT", self.key("n"), "STORE", self.key("q"))],
        }
    }

    pub(super) fn transaction_step(&mut self) -> Vec<Cmd> {
        let mut commands = vec![command!("MULTI")];
        for _ in 0..self.rng.u32(1..5) {
            let step = match self.rng.u32(0..6) {
                0 => self.string_step(),
                1 => self.number_step(),
                2 => self.list_step(),
                3 => self.hash_step(),
                4 => self.sorted_set_step(),
                _ => self.set_step(),
            };
            commands.extend(step);
        }
        // Some clients change their mind.
        commands.push(command!(if self.rng.u32(0..10) == 0 { "DISCARD" } else { "EXEC" }));
        commands
    }

    pub(super) fn script_step(&mut self) -> Vec<Cmd> {
        let one = "return redis.call('SET', KEYS[1], ARGV[1])";
        let many = "redis.call('SET', KEYS[1], ARGV[1], 'EX', 3600) redis.call('RPUSH', KEYS[2], ARGV[1], ARGV[1]) \
                    return redis.call('INCR', KEYS[3])";
        let random =
            "local m = redis.call('SPOP', KEYS[1]) if m then redis.call('SADD', KEYS[2], m) end return m";
        vec![match self.rng.u32(0..3) {
            0 => command!("EVAL", one, 1, self.key("s"), self.value()),
            1 => command!("EVAL", many, 3, self.key("s"), self.key("q"), self.key("i"), self.word()),
            _ => command!("EVAL", random, 2, self.key("u"), self.key("u")),
        }]
    }

    pub(super) fn database_step(&mut self) -> Vec<Cmd> {
        let mut commands = match self.rng.u32(0..6) {
            0..=2 => {
                let mut commands = vec![command!("SELECT", self.one_of(&[3, 5, 6], 3))];
                commands.extend(self.string_step());
                commands.extend(self.hash_step());
                commands
            }
            3 => vec![command!("SWAPDB", 5, 6)],
            4 => {
                let flush = self.one_of(&["FLUSHDB", "FLUSHDB SYNC", "FLUSHDB ASYNC"], "FLUSHDB");
                let mut words = flush.split(' ');
                let mut command = redis::cmd(words.next().unwrap_or(flush));
                command.arg(words.collect::<Vec<_>>());
                vec![command!("SELECT", SCRATCH_DATABASE), command!("SET", "l:scratch", 1), command]
            }
            _ => vec![
                command!("SELECT", SCRATCH_DATABASE),
                command!("RPUSH", self.key("q"), self.value()),
                command!("PUBLISH", "l:channel", self.word()),
            ],
        };
        commands.push(command!("SELECT", 0));
        commands
    }
}
