//! The load: every write is told from every other, and each one that was acknowledged is remembered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use redis::{Cmd, Connection, FromRedisValue, Value, cmd};

const WRITERS: usize = 4;
const CONNECT_TIME_MAX: Duration = Duration::from_millis(500);
const REPLY_TIME_MAX: Duration = Duration::from_secs(3);
/// Between two looks for who is master now.
const SEARCH_INTERVAL: Duration = Duration::from_millis(5);
/// Writes a key holds, where it holds many.
const WRITES_PER_KEY: u64 = 128;
/// Commands sent at a time when all is read again.
const CHECKS_PER_PAGE: usize = 500;

/// Clients that write without a break, wherever the master is.
#[derive(Debug)]
pub struct Writers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Vec<Write>>>,
}

#[derive(Debug)]
struct Shared {
    stores: Vec<SocketAddr>,
    interval: Duration,
    started: Instant,
    stop: AtomicBool,
    acknowledged: AtomicU64,
    longest_pause_us: AtomicU64,
}

/// One that was acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    writer: usize,
    number: u64,
    /// When it was begun, since the writers' start.
    pub at: Duration,
}

#[derive(Debug)]
pub struct History {
    pub writes: Vec<Write>,
    pub longest_pause: Duration,
}

impl Writers {
    /// Writes `rate_per_s` times a second to whichever of the stores is the master, from where the caller is: from
    /// its host, if it is in one.
    #[must_use]
    pub fn start(stores: Vec<SocketAddr>, rate_per_s: u32) -> Self {
        let interval = Duration::from_secs(1) * u32::try_from(WRITERS).unwrap_or(1) / rate_per_s.max(1);
        let shared = Arc::new(Shared {
            stores,
            interval,
            started: Instant::now(),
            stop: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            longest_pause_us: AtomicU64::new(0),
        });
        let threads = (0..WRITERS)
            .map(|writer| {
                let shared = shared.clone();
                thread::spawn(move || shared.write(writer))
            })
            .collect();
        Self { shared, threads }
    }

    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Relaxed)
    }

    /// Since their start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.shared.started.elapsed()
    }

    #[must_use]
    pub fn longest_pause(&self) -> Duration {
        Duration::from_micros(self.shared.longest_pause_us.load(Relaxed))
    }

    /// Ends them.
    ///
    /// # Errors
    /// One of them ended badly.
    pub fn stop(self) -> Result<History> {
        self.shared.stop.store(true, Relaxed);
        let mut writes = Vec::new();
        for thread in self.threads {
            let Ok(written) = thread.join() else { bail!("a writer ended badly") };
            writes.extend(written);
        }
        let longest_pause = Duration::from_micros(self.shared.longest_pause_us.load(Relaxed));
        Ok(History { writes, longest_pause })
    }
}

impl Shared {
    fn write(&self, writer: usize) -> Vec<Write> {
        let mut written = Vec::new();
        let mut connection = None;
        // Since when this client wants to write.
        let mut wanted = Instant::now();
        for number in 0_u64.. {
            if self.stop.load(Relaxed) {
                break;
            }
            let write = Write { writer, number, at: self.started.elapsed() };
            if connection.is_none() {
                connection = self.stores.iter().find_map(|store| master(*store));
            }
            // Whether an unanswered one was done is not known: its number is not used again.
            let done = connection.as_mut().is_some_and(|connection| write.command().exec(connection).is_ok());
            if !done {
                connection = None;
                thread::sleep(SEARCH_INTERVAL);
                continue;
            }
            let pause_us = u64::try_from(wanted.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.longest_pause_us.fetch_max(pause_us, Relaxed);
            self.acknowledged.fetch_add(1, Relaxed);
            written.push(write);
            thread::sleep((wanted + self.interval).saturating_duration_since(Instant::now()));
            wanted = Instant::now();
        }
        written
    }
}

/// A connection to this store, if it is a master.
fn master(store: SocketAddr) -> Option<Connection> {
    let client = redis::Client::open(format!("redis://{store}/")).ok()?;
    let mut connection = client.get_connection_with_timeout(CONNECT_TIME_MAX).ok()?;
    connection.set_read_timeout(Some(REPLY_TIME_MAX)).ok()?;
    connection.set_write_timeout(Some(REPLY_TIME_MAX)).ok()?;
    let role: Vec<Value> = cmd("ROLE").query(&mut connection).ok()?;
    let role = String::from_redis_value_ref(role.first()?).ok()?;
    (role == "master").then_some(connection)
}

impl Write {
    fn value(&self) -> String {
        format!("writer {}, write {}", self.writer, self.number)
    }

    fn key(&self) -> String {
        let Self { writer, number, .. } = self;
        match number % 4 {
            0 => format!("demo:{writer}:string:{number}"),
            1 => format!("demo:{writer}:hash:{}", number / WRITES_PER_KEY),
            2 => format!("demo:{writer}:sorted-set:{}", number / WRITES_PER_KEY),
            _ => format!("demo:{writer}:stream:{}", number / WRITES_PER_KEY),
        }
    }

    fn command(&self) -> Cmd {
        let (key, value, number) = (self.key(), self.value(), self.number);
        match number % 4 {
            0 => cmd("SET").arg(key).arg(value).take(),
            1 => cmd("HSET").arg(key).arg(number).arg(value).take(),
            2 => cmd("ZADD").arg(key).arg(number).arg(value).take(),
            _ => cmd("XADD").arg(key).arg(format!("{number}-1")).arg("value").arg(value).take(),
        }
    }

    /// Asks for what was written.
    fn question(&self) -> Cmd {
        let (key, number) = (self.key(), self.number);
        match number % 4 {
            0 => cmd("GET").arg(key).take(),
            1 => cmd("HGET").arg(key).arg(number).take(),
            2 => cmd("ZSCORE").arg(key).arg(self.value()).take(),
            _ => cmd("XRANGE").arg(key).arg(format!("{number}-1")).arg(format!("{number}-1")).take(),
        }
    }

    fn is_answer(&self, answer: &Value) -> bool {
        match self.number % 4 {
            0 | 1 => String::from_redis_value_ref(answer).is_ok_and(|found| found == self.value()),
            2 => u64::from_redis_value_ref(answer).is_ok_and(|found| found == self.number),
            _ => {
                type Entries = Vec<(String, Vec<String>)>;
                let entries = Entries::from_redis_value_ref(answer).unwrap_or_default();
                entries.iter().any(|(_, fields)| fields.get(1) == Some(&self.value()))
            }
        }
    }
}

impl std::fmt::Display for Write {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {:.3} s ({})", self.value(), self.at.as_secs_f64(), self.key())
    }
}

impl History {
    /// The acknowledged writes that the store on this port of loopback does not have.
    ///
    /// # Errors
    /// It can't be asked.
    pub fn lost(&self, port: u16) -> Result<Vec<Write>> {
        let mut connection = crate::client::connect(port)?;
        let mut lost = Vec::new();
        for page in self.writes.chunks(CHECKS_PER_PAGE) {
            let mut questions = redis::pipe();
            for write in page {
                questions.add_command(write.question());
            }
            let answers: Vec<Value> =
                questions.query(&mut connection).context("the writes can't be read again")?;
            if answers.len() != page.len() {
                bail!("{} answers to {} questions", answers.len(), page.len());
            }
            let missing = page.iter().zip(&answers).filter(|(write, answer)| !write.is_answer(answer));
            lost.extend(missing.map(|(write, _)| *write));
        }
        Ok(lost)
    }
}
