//! Clients that write unique keys wherever they may, and remember what was acknowledged.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};
use redis::{Connection, RedisResult};
use segue_bench::{client, command};

/// These go where they are let.
const ROAMING: usize = 6;
/// Between two writes of a client.
const BETWEEN: Duration = Duration::from_millis(1);
/// Of a store that lets nobody write.
const REFUSED_PAUSE: Duration = Duration::from_millis(1);
const KEYS_PER_LOOK: usize = 500;

/// A write that was acknowledged.
pub struct Written {
    key: String,
    writer: usize,
    store: usize,
    sent: Instant,
    acknowledged: Instant,
}

/// A store that was master beside another one, for so long.
pub struct Second {
    pub store: usize,
    pub from: Instant,
    pub to: Instant,
}

impl Second {
    pub fn took(&self, write: &Written) -> bool {
        write.store == self.store && self.from <= write.sent && write.sent <= self.to
    }
}

pub struct Writers {
    stop: Arc<AtomicBool>,
    written: Arc<Mutex<Vec<Written>>>,
    threads: Vec<JoinHandle<()>>,
    /// Those of earlier epochs.
    all: Vec<Written>,
}

impl Writers {
    /// On all of these ports, some of them bound to one, and clients that wait for what never comes.
    pub fn start<const N: usize>(ports: [u16; N]) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::default()));
        let mut threads = Vec::new();
        for writer in 0..ROAMING + N {
            let bound = writer.checked_sub(ROAMING);
            let (stop, written) = (stop.clone(), written.clone());
            threads.push(thread::spawn(move || write(writer, &ports, bound, &stop, &written)));
        }
        for port in ports {
            let stop = stop.clone();
            threads.push(thread::spawn(move || wait_in_vain(port, &stop)));
        }
        Self { stop, written, threads, all: Vec::new() }
    }

    /// Of all that was acknowledged since the last call: once `to` took a write, `from` took none that was
    /// sent later. How long a client that goes where it may was without an acknowledgement at most.
    pub fn assert_never_two_masters(&mut self, from: usize, to: usize) -> Result<Duration> {
        let written = self.written_since();
        let first = written.iter().filter(|write| write.store == to).map(|write| write.acknowledged).min();
        let last = written.iter().filter(|write| write.store == from).max_by_key(|write| write.sent);
        if let (Some(first), Some(last)) = (first, last) {
            ensure!(
                last.sent <= first,
                "{} was taken by the old master {:?} after the new one had taken a write",
                last.key,
                last.sent - first
            );
        }
        let held = (0..ROAMING).filter_map(|writer| {
            let own = || written.iter().filter(|write| write.writer == writer);
            let last = own().filter(|write| write.store == from).map(|write| write.acknowledged).max()?;
            let first = own().filter(|write| write.store == to).map(|write| write.acknowledged).min()?;
            Some(first - last)
        });
        let longest = held.max().unwrap_or_default();
        self.all.extend(written);
        Ok(longest)
    }

    fn written_since(&self) -> Vec<Written> {
        std::mem::take(&mut *self.written.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on only what is written later counts.
    pub fn look(&mut self) {
        let written = self.written_since();
        self.all.extend(written);
    }

    /// Have all that go where they may written to this store since the last look?
    pub fn have_written(&self, store: usize) -> bool {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        (0..ROAMING).all(|writer| written.iter().any(|write| (write.writer, write.store) == (writer, store)))
    }

    /// Ends them. Everything that was acknowledged is in this store; how many that are.
    pub fn assert_nothing_lost(self, port: u16) -> Result<usize> {
        Ok(self.assert_lost_by(&[], port)?.0)
    }

    /// Ends them. Everything that was acknowledged is in this store, but for what second masters took; how much was
    /// acknowledged, and how much of that is lost.
    pub fn assert_lost_by(self, seconds: &[Second], port: u16) -> Result<(usize, usize)> {
        let (written, lost) = self.lost(port)?;
        let is_excused = |write: &&Written| seconds.iter().any(|second| second.took(write));
        let keys: Vec<_> = lost.iter().filter(|write| !is_excused(write)).map(|write| &write.key).collect();
        ensure!(
            keys.is_empty(),
            "{} of {written} writes are lost that no second master took: {keys:?}",
            keys.len()
        );
        Ok((written, lost.len()))
    }

    /// Ends them. How many writes were acknowledged, and those that this store does not have.
    fn lost(mut self, port: u16) -> Result<(usize, Vec<Written>)> {
        self.stop.store(true, Relaxed);
        for thread in std::mem::take(&mut self.threads) {
            thread.join().map_err(|_| anyhow!("a writer panicked"))?;
        }
        self.all.append(&mut self.written.lock().unwrap_or_else(PoisonError::into_inner));
        let (mut client, mut lost) = (client::connect(port)?, Vec::new());
        let mut all = self.all.into_iter().peekable();
        let count = all.len();
        while all.peek().is_some() {
            let some: Vec<_> = all.by_ref().take(KEYS_PER_LOOK).collect();
            let mut look = redis::pipe();
            for write in &some {
                look.cmd("EXISTS").arg(&write.key);
            }
            let found: Vec<bool> = look.query(&mut client)?;
            lost.extend(some.into_iter().zip(found).filter(|(_, found)| !found).map(|(write, _)| write));
        }
        Ok((count, lost))
    }
}

fn write(
    writer: usize,
    ports: &[u16],
    bound: Option<usize>,
    stop: &AtomicBool,
    written: &Mutex<Vec<Written>>,
) {
    let mut at = bound.unwrap_or(writer % ports.len());
    let mut connection = None;
    let mut number = 0_u64;
    while !stop.load(Relaxed) {
        let key = format!("written:{writer}:{number}");
        number += 1;
        let done = connection.take().map_or_else(|| client::connect(ports[at]), Ok).and_then(
            |mut open: Connection| {
                // Of a connection that is there: a store that is started again meanwhile does not take it.
                let sent = Instant::now();
                write_one(&mut open, number, &key)?;
                Ok((open, sent))
            },
        );
        match done {
            Ok((open, sent)) => {
                let write = Written { key, writer, store: at, sent, acknowledged: Instant::now() };
                written.lock().unwrap_or_else(PoisonError::into_inner).push(write);
                connection = Some(open);
                thread::sleep(BETWEEN);
            }
            Err(_) => {
                at = bound.unwrap_or((at + 1) % ports.len());
                thread::sleep(REFUSED_PAUSE);
            }
        }
    }
}

fn write_one(client: &mut Connection, number: u64, key: &str) -> RedisResult<()> {
    match number % 3 {
        0 => command!("SET", key, number).exec(client),
        1 => {
            let script = "redis.call('SET', KEYS[1], ARGV[1]) return redis.call('INCR', 'scripts')";
            command!("EVAL", script, 1, key, number).exec(client)
        }
        _ => {
            let mut transaction = redis::pipe();
            transaction.atomic().cmd("SET").arg(key).arg(number).cmd("INCR").arg("transactions");
            transaction.exec(client)
        }
    }
}

fn wait_in_vain(port: u16, stop: &AtomicBool) {
    while !stop.load(Relaxed) {
        let waited = client::connect(port)
            .and_then(|mut open| Ok(command!("BLPOP", "never", 1).query::<redis::Value>(&mut open)?));
        if waited.is_err() {
            thread::sleep(REFUSED_PAUSE * 10);
        }
    }
}
