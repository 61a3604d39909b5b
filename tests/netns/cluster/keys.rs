//! Keys of every type that all releases have, spread over all slots.

use anyhow::{Result, ensure};
use redis::{Cmd, Value};

use super::client::Client;

/// Of 16,384 slots, so that 1,000 slots hold some hundred.
const KEYS: u32 = 4000;

/// What each key holds.
pub struct Keys(Vec<(String, Value)>);

impl Keys {
    pub fn write(client: &mut Client) -> Result<Self> {
        let mut keys = Vec::new();
        for n in 0..KEYS {
            let key = format!("key:{n}");
            for command in writes(n, &key) {
                client.with(&key, |at| command.exec(at))?;
            }
            let held = client.with(&key, |at| read(n, &key).query::<Value>(at))?;
            keys.push((key, held));
        }
        Ok(Self(keys))
    }

    pub fn assert_there(&self, client: &mut Client) -> Result<()> {
        for (n, (key, held)) in (0..).zip(&self.0) {
            let now = client.with(key, |at| read(n, key).query::<Value>(at))?;
            ensure!(now == *held, "{key} was {held:?} and is {now:?}");
        }
        Ok(())
    }
}

fn writes(n: u32, key: &str) -> Vec<Cmd> {
    let command = |name: &str, words: &[String]| redis::cmd(name).arg(key).arg(words).take();
    let words = |more: &[&str]| -> Vec<String> { more.iter().map(|word| format!("{word}{n}")).collect() };
    match n % 6 {
        0 => vec![command("SET", &words(&["v"])), command("PEXPIRE", &["9000000".to_owned()])],
        1 => vec![command("HSET", &words(&["a", "1", "b", "2", "c", "3"]))],
        2 => vec![command("RPUSH", &words(&["x", "y", "z", "x"]))],
        3 => vec![command("SADD", &words(&["p", "q", "r"]))],
        4 => vec![command("ZADD", &["1".to_owned(), format!("m{n}"), "2.5".to_owned(), format!("o{n}")])],
        _ => {
            let add = |id: &str| redis::cmd("XADD").arg(key).arg(id).arg("f").arg(n).take();
            let group = redis::cmd("XGROUP").arg("CREATE").arg(key).arg("g").arg("0").take();
            vec![add("1-1"), add("2-1"), group]
        }
    }
}

/// An answer that does not depend on how a release packs the value.
fn read(n: u32, key: &str) -> Cmd {
    let command = |name: &str| redis::cmd(name).arg(key).take();
    match n % 6 {
        0 => command("GET"),
        1 => command("HMGET").arg(format!("a{n}")).arg(format!("b{n}")).arg(format!("c{n}")).take(),
        2 => command("LRANGE").arg(0).arg(-1).take(),
        3 => command("SORT").arg("ALPHA").take(),
        4 => command("ZRANGE").arg(0).arg(-1).arg("WITHSCORES").take(),
        _ => command("XRANGE").arg("-").arg("+").take(),
    }
}
