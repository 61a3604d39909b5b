//! Streams: entries of all shapes, deleted and trimmed ones, groups, consumers, pending entries.

use anyhow::Result;

use super::core::Fill;
use super::writer::Writer;
use crate::command;

impl Fill {
    pub fn streams(&mut self, writer: &mut Writer<'_>) -> Result<()> {
        self.entries(writer)?;
        self.removed(writer)?;
        self.groups(writer)
    }

    fn entries(&mut self, writer: &mut Writer<'_>) -> Result<()> {
        // The same fields in the same order are stored once a node, others with every entry.
        for n in 1..=1000 * self.scale {
            writer.send(command!(
                "XADD",
                "stream:many",
                format!("{n}-1"),
                "sensor",
                n % 7,
                "value",
                self.word(12)
            ))?;
        }
        for n in 1..=60_u64 {
            let add = command!("XADD", "stream:mixed", format!("{}-{n}", 1_700_000_000_000 + n * n));
            let fields = 1 + n % 5;
            let fields: Vec<Vec<u8>> = (0..2 * fields).map(|i| self.bytes((i * n % 90) as usize)).collect();
            writer.send(add.clone().arg(fields).take())?;
        }
        writer.send(command!("XADD", "stream:large-entry", "5-0", "blob", self.bytes(100_000), "n", -5))?;
        writer.send(command!("XADD", "stream:high-id", "18446744073709551614-18446744073709551615", "a", "b"))
    }

    fn removed(&mut self, writer: &mut Writer<'_>) -> Result<()> {
        for n in 1..=300 {
            writer.send(command!("XADD", "stream:deleted", format!("{n}-0"), "f", n))?;
            writer.send(command!("XADD", "stream:trimmed", "MAXLEN", 50, format!("{n}-0"), "f", n))?;
            writer.send(command!(
                "XADD",
                "stream:nearly-trimmed",
                "MAXLEN",
                "~",
                50,
                format!("{n}-0"),
                "f",
                n
            ))?;
        }
        for n in (1..=300).step_by(3).chain(250..=300) {
            writer.send(command!("XDEL", "stream:deleted", format!("{n}-0")))?;
        }
        writer.send(command!("XADD", "stream:emptied", "9-9", "f", "v"))?;
        writer.send(command!("XDEL", "stream:emptied", "9-9"))
    }

    fn groups(&mut self, writer: &mut Writer<'_>) -> Result<()> {
        writer.send(command!("XGROUP", "CREATE", "stream:made-empty", "group", "$", "MKSTREAM"))?;
        for n in 1..=200 {
            writer.send(command!("XADD", "stream:groups", format!("{n}-{n}"), "job", self.word(8)))?;
        }
        writer.send(command!("XGROUP", "CREATE", "stream:groups", "unread", "$"))?;
        writer.send(command!("XGROUP", "CREATE", "stream:groups", "midway", "100-100"))?;
        writer.send(command!("XGROUP", "CREATE", "stream:groups", "workers", "0"))?;
        let read = |group: &str, consumer: &str, count: u32| {
            command!("XREADGROUP", "GROUP", group, consumer, "COUNT", count, "STREAMS", "stream:groups", ">")
        };
        for (consumer, count) in [("anna", 40), ("bert", 1), ("carl", 60), ("anna", 20)] {
            writer.send(read("workers", consumer, count))?;
        }
        writer.send(read("midway", "idle", 2))?;
        // A consumer that has nothing pending any more.
        writer.send(command!("XACK", "stream:groups", "midway", "101-101", "102-102"))?;
        for n in (1..=40).step_by(4) {
            writer.send(command!("XACK", "stream:groups", "workers", format!("{n}-{n}")))?;
        }
        // Delivered more than once: claimed by another, or read again by its own consumer.
        for n in (2..=40).step_by(8) {
            let id = format!("{n}-{n}");
            writer.send(command!("XCLAIM", "stream:groups", "workers", "dora", 0, id, "RETRYCOUNT", n))?;
        }
        writer.send(command!(
            "XREADGROUP",
            "GROUP",
            "workers",
            "carl",
            "COUNT",
            10,
            "STREAMS",
            "stream:groups",
            "0"
        ))?;
        // Pending although the entry is gone.
        writer.send(command!("XDEL", "stream:groups", "50-50", "51-51"))?;
        writer.send(command!("XGROUP", "CREATE", "stream:groups", b"bin\r\n\0\xff".as_slice(), "7-0"))
    }
}
