//! The data that every release from 5.0 on can hold: lists, sets, hashes, sorted sets, expiries, and what is
//! built on strings and sorted sets. Strings and streams are in files of their own.

use anyhow::Result;
use fastrand::Rng;

use super::writer::Writer;
use crate::command;

/// Elements above this length are kept outside their list's packed nodes by newer releases.
const PLAIN_ELEMENT_BYTES: usize = 64 * 1024;

pub struct Fill {
    pub rng: Rng,
    pub db: u64,
    pub scale: usize,
}

impl Fill {
    pub fn run(mut self, writer: &mut Writer<'_>) -> Result<()> {
        self.strings(writer)?;
        self.lists(writer)?;
        self.sets(writer)?;
        self.hashes(writer)?;
        self.sorted_sets(writer)?;
        self.streams(writer)?;
        self.bitmaps_and_logs(writer)?;
        self.places(writer)?;
        self.expiries(writer)
    }

    fn lists(&mut self, writer: &mut Writer<'_>) -> Result<()> {
        for n in 0..20 * self.scale {
            let elements = (0..=n % 30).map(|i| if i % 2 == 0 { i.to_string() } else { self.word(12) });
            writer.send(command!("RPUSH", format!("list:small:{n}"), elements.collect::<Vec<_>>()))?;
        }
        // Integers of every width a listpack has.
        let edges = [0, -1, 12, 127, 128, -4096, 4095, 4096, 32767, -32769, 8_388_607, -8_388_609];
        writer.send(command!("RPUSH", "list:integers", &edges, i32::MAX, i32::MIN, i64::MAX, i64::MIN))?;
        for n in 0..2000 * self.scale {
            writer.send(command!("RPUSH", "list:nodes", n, self.word(30), self.bytes(100)))?;
        }
        for length in [1, 63, 64, 253, 254, 4095, 4096, 8192, 16_384] {
            writer.send(command!("RPUSH", "list:lengths", self.bytes(length)))?;
        }
        for length in [PLAIN_ELEMENT_BYTES - 1, PLAIN_ELEMENT_BYTES, PLAIN_ELEMENT_BYTES + 1, 70_000, 300_000]
        {
            writer.send(command!(
                "RPUSH",
                "list:large",
                "before",
                self.bytes(length),
                self.text(length),
                "after"
            ))?;
        }
        writer.send(command!("LPUSH", "list:one-large", self.bytes(200_000)))?;
        writer.send(command!("RPUSH", "list:empty-elements", "", "", ""))
    }

    fn sets(&mut self, writer: &mut Writer<'_>) -> Result<()> {
        for (name, step) in [("16", 7_i64), ("32", 70_001), ("64", 70_000_000_001)] {
            let members: Vec<i64> = (-50..50).map(|n| n * step).collect();
            writer.send(command!("SADD", format!("set:integers:{name}"), members))?;
        }
        // More integers than an intset holds by default (512).
        writer.send(command!("SADD", "set:integers:many", (0..2000).collect::<Vec<i32>>()))?;
        for n in 0..20 * self.scale {
            let members: Vec<String> = (0..=n % 40).map(|_| self.word(10)).collect();
            writer.send(command!("SADD", format!("set:small:{n}"), members, n))?;
        }
        for _ in 0..20 * self.scale {
            let members: Vec<Vec<u8>> = (0..100).map(|_| self.bytes(20)).collect();
            writer.send(command!("SADD", "set:large", members))?;
        }
        writer.send(command!("SADD", "set:long-members", self.bytes(100), self.bytes(70_000), ""))
    }

    fn hashes(&mut self, writer: &mut Writer<'_>) -> Result<()> {
        for n in 0..20 * self.scale {
            let key = format!("hash:small:{n}");
            for field in 0..=n % 50 {
                writer.send(command!("HSET", &key, format!("field-{field}"), self.word(20)))?;
            }
            writer.send(command!("HSET", &key, "number", n))?;
        }
        for n in 0..1000 * self.scale {
            writer.send(command!("HSET", "hash:large", format!("field-{n}"), self.bytes(30)))?;
        }
        writer.send(command!("HSET", "hash:long-values", "short", "x"))?;
        writer.send(command!("HSET", "hash:long-values", "long", self.text(100_000)))?;
        writer.send(command!("HSET", "hash:long-values", self.bytes(1000), self.bytes(1000)))?;
        writer.send(command!("HSET", "hash:empty-parts", "", "value of the empty field"))?;
        writer.send(command!("HSET", "hash:empty-parts", "field of the empty value", ""))
    }

    fn sorted_sets(&mut self, writer: &mut Writer<'_>) -> Result<()> {
        let scores = [
            "inf",
            "-inf",
            "0",
            "-0",
            "1",
            "-1",
            "0.1",
            "0.30000000000000004",
            "3.141592653589793",
            "1e300",
            "-1e300",
            "5e-324",
            "1.7976931348623157e308",
            "9007199254740993",
            "4294967296",
            "-2147483649.5",
        ];
        let huge: Vec<String> = (0..200).map(|n| format!("filler-{n}")).collect();
        for (n, score) in scores.iter().enumerate() {
            writer.send(command!("ZADD", "zset:scores:small", score, format!("member-{n}")))?;
            writer.send(command!("ZADD", "zset:scores:large", score, format!("member-{n}")))?;
        }
        for (n, member) in huge.iter().enumerate() {
            writer.send(command!("ZADD", "zset:scores:large", n, member))?;
        }
        for n in 0..20 * self.scale {
            let key = format!("zset:small:{n}");
            for member in 0..=n % 40 {
                writer.send(command!("ZADD", &key, self.rng.i32(-1000..1000), format!("m{member}")))?;
            }
        }
        for _ in 0..1000 * self.scale {
            let score = self.rng.f64() * 1e6 - 5e5;
            writer.send(command!("ZADD", "zset:large", score, self.bytes(16)))?;
        }
        for member in ["b", "a", "", "ab", "\u{fc}"] {
            writer.send(command!("ZADD", "zset:equal-scores", 7, member))?;
        }
        writer.send(command!("ZADD", "zset:long-member", 1.5, self.bytes(70_000)))
    }

    fn bitmaps_and_logs(&mut self, writer: &mut Writer<'_>) -> Result<()> {
        for _ in 0..200 {
            writer.send(command!("SETBIT", "bitmap:sparse", self.rng.u32(0..500_000), 1))?;
        }
        for n in 0..50 {
            let offset = format!("#{n}");
            writer.send(command!(
                "BITFIELD",
                "bitmap:fields",
                "SET",
                "i13",
                offset,
                self.rng.i32(-4096..4096)
            ))?;
        }
        writer.send(command!("PFADD", "hll:sparse", "a", "b", "c"))?;
        for _ in 0..100 {
            let elements: Vec<Vec<u8>> = (0..100).map(|_| self.bytes(8)).collect();
            writer.send(command!("PFADD", "hll:dense", elements))?;
        }
        writer.send(command!("PFMERGE", "hll:merged", "hll:sparse", "hll:dense"))
    }

    fn places(&mut self, writer: &mut Writer<'_>) -> Result<()> {
        for n in 0..300 {
            let (longitude, latitude) = (self.rng.f64() * 360.0 - 180.0, self.rng.f64() * 170.0 - 85.0);
            writer.send(command!("GEOADD", "geo:world", longitude, latitude, format!("place-{n}")))?;
        }
        Ok(())
    }

    /// Expiries on every type: within the hour, in years, and at a round second.
    fn expiries(&mut self, writer: &mut Writer<'_>) -> Result<()> {
        /// 2100-01-01, in seconds since the epoch.
        const YEAR_2100_S: u64 = 4_102_444_800;
        writer.send(command!("RPUSH", "ttl:list", 1, 2, 3))?;
        writer.send(command!("SADD", "ttl:set", "a", "b"))?;
        writer.send(command!("SADD", "ttl:intset", 1, 2, 3))?;
        writer.send(command!("HSET", "ttl:hash", "field", "value"))?;
        writer.send(command!("ZADD", "ttl:zset", 1, "one"))?;
        writer.send(command!("XADD", "ttl:stream", "1-1", "field", "value"))?;
        for key in ["ttl:list", "ttl:set", "ttl:intset", "ttl:hash", "ttl:zset", "ttl:stream"] {
            writer.send(command!("PEXPIRE", key, self.rng.u32(3_000_000..3_600_000)))?;
        }
        for n in 0..50 * self.scale {
            let key = format!("ttl:string:{n}");
            writer.send(command!("SET", &key, self.word(20), "PX", self.rng.u32(3_000_000..3_600_000)))?;
        }
        writer.send(command!("SET", "ttl:far", "2100"))?;
        writer.send(command!("EXPIREAT", "ttl:far", YEAR_2100_S))
    }

    /// Lower-case letters.
    pub fn word(&mut self, length_max: usize) -> String {
        let length = self.rng.usize(1..=length_max);
        (0..length).map(|_| self.rng.lowercase()).collect()
    }

    /// Bytes that do not compress.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.rng.fill(&mut bytes);
        bytes
    }

    /// Text that compresses well, unlike any other.
    pub fn text(&mut self, length: usize) -> String {
        let word = self.word(20) + " ";
        word.chars().cycle().take(length).collect()
    }
}
