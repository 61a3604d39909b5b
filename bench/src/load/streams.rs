//! Steps on streams: `l:x:<n>` with ids of the generator's own and two groups, `l:xa:<n>` with the store's.

use anyhow::{Result, bail};
use redis::{Cmd, Connection};

use super::generator::Generator;
use crate::command;

const GROUPS: [&str; 2] = ["g1", "g2"];
const CONSUMERS: [&str; 3] = ["anna", "bert", "carl"];

/// Makes the groups that the steps rely on.
///
/// # Errors
/// The store does not answer, or refuses a group.
pub fn prepare(connection: &mut Connection, keys_per_type: u32) -> Result<()> {
    for n in 0..keys_per_type.max(2) {
        for group in GROUPS {
            let create = command!("XGROUP", "CREATE", format!("l:x:{n}"), group, 0, "MKSTREAM");
            match create.exec(connection) {
                Err(error) if error.code() != Some("BUSYGROUP") => bail!(error),
                _ => {}
            }
        }
    }
    Ok(())
}

impl Generator {
    pub(super) fn stream_step(&mut self) -> Vec<Cmd> {
        let key = self.key("x");
        let group = self.one_of(&GROUPS, "g1");
        let consumer = self.one_of(&CONSUMERS, "anna");
        let (id, past) = (self.next_id(), self.past_id());
        // An empty read makes its consumer on the master and tells no replica: a fault of the store's own.
        // A consumer that was made by name is told.
        let named = command!("XGROUP", "CREATECONSUMER", &key, group, consumer);
        match self.rng.u32(0..24) {
            0..=5 => vec![command!("XADD", key, id, "field", self.value(), "n", self.member())],
            6 => vec![command!("XADD", key, "MAXLEN", "~", 200, id, self.word(), self.value())],
            7 => vec![command!("XADD", key, "MAXLEN", 150, id, "field", self.word())],
            8 => vec![command!("XADD", key, "NOMKSTREAM", id, "field", self.word())],
            9 => vec![command!("XADD", self.key("xa"), "MINID", "~", "1000-0", "*", "field", self.value())],
            10 => vec![command!("XADD", self.key("xa"), "MAXLEN", 100, "*", self.word(), self.value())],
            11..=13 => {
                let read = command!("XREADGROUP", "GROUP", group, consumer, "COUNT", 5, "STREAMS", &key, ">");
                vec![named, read]
            }
            14 => {
                let read = command!(
                    "XREADGROUP",
                    "GROUP",
                    group,
                    consumer,
                    "COUNT",
                    2,
                    "NOACK",
                    "STREAMS",
                    &key,
                    ">"
                );
                vec![named, read]
            }
            15 | 16 => vec![command!("XACK", key, group, past, self.past_id(), self.past_id())],
            17 => vec![named, command!("XCLAIM", &key, group, consumer, 0, past, self.past_id())],
            18 => vec![named, command!("XCLAIM", &key, group, consumer, 0, past, "FORCE", "JUSTID")],
            19 => vec![named, command!("XAUTOCLAIM", &key, group, consumer, 0, 0, "COUNT", 3)],
            20 => vec![command!("XDEL", key, past)],
            21 => vec![command!("XTRIM", key, "MINID", past)],
            22 => vec![
                command!("XGROUP", "DESTROY", &key, "g3"),
                command!("XGROUP", "CREATE", &key, "g3", past),
                command!("XGROUP", "SETID", &key, "g3", 0),
            ],
            _ => vec![named, command!("XGROUP", "DELCONSUMER", &key, group, consumer)],
        }
    }

    fn next_id(&mut self) -> String {
        self.stream_clock += 1;
        format!("{}-{}", self.stream_clock, self.rng.u32(1..5))
    }

    /// An id that some stream may have had lately.
    fn past_id(&mut self) -> String {
        let back = self.rng.u64(0..2000);
        format!("{}-{}", self.stream_clock.saturating_sub(back), self.rng.u32(1..5))
    }
}
