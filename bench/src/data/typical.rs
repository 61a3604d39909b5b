//! Data to measure with: many small collections and texts, most of which compress to half.

use anyhow::Result;
use fastrand::Rng;
use redis::Connection;

use super::writer::Writer;
use crate::command;

/// Of so many keys, one is a list, a set or a sorted set, two are hashes, the others are strings.
const MIX: u32 = 10;
/// Words recur, as they do in real texts; more of them would compress less.
const WORDS: usize = 2000;

/// Fills the store with `keys` keys of 40 elements on average, about 2 KB each in a snapshot; the same data for
/// the same number. Returns the number of commands.
///
/// # Errors
/// The store does not answer or refuses a command.
pub fn fill_typical(connection: &mut Connection, keys: u32) -> Result<u64> {
    let mut rng = Rng::with_seed(1);
    let word = |rng: &mut Rng| (0..rng.usize(3..12)).map(|_| rng.lowercase()).collect::<String>();
    let words: Vec<String> = (0..WORDS).map(|_| word(&mut rng)).collect();
    let mut text = Text { rng, words };
    let mut writer = Writer::new(connection);
    for key in 0..keys {
        writer.send(match key % MIX {
            0 => command!("RPUSH", format!("list:{key}"), text.pieces(250, 5)),
            1 => command!("SADD", format!("set:{key}"), text.pieces(40, 2)),
            2 => command!("ZADD", format!("zset:{key}"), text.scored(60)),
            3 | 4 => command!("HSET", format!("hash:{key}"), text.fields(30)),
            _ => command!("SET", format!("string:{key}"), text.piece(150)),
        })?;
    }
    writer.finish()
}

struct Text {
    rng: Rng,
    words: Vec<String>,
}

impl Text {
    /// At most so many words.
    fn piece(&mut self, words_max: usize) -> String {
        let words = (0..self.rng.usize(1..=words_max)).filter_map(|_| self.rng.choice(&self.words));
        words.map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    fn pieces(&mut self, count: usize, words_max: usize) -> Vec<String> {
        (0..count).map(|_| self.piece(words_max)).collect()
    }

    fn fields(&mut self, count: usize) -> Vec<String> {
        (0..count).flat_map(|field| [format!("field:{field}"), self.piece(4)]).collect()
    }

    fn scored(&mut self, count: usize) -> Vec<String> {
        (0..count).flat_map(|_| [self.rng.u32(0..100_000).to_string(), self.piece(2)]).collect()
    }
}
