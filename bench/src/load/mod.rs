//! A write load such as applications send, by a seeded generator: the same seed gives the same commands.
//!
//! It is at the level of redis 8.0 and holds nothing that 5.0 cannot represent (no functions, no field
//! expiries, no vector sets, no search by box). Every key begins with `l:`, so that it can run over a filled
//! store; databases 0, 3, 5, 6 and 7 are used, and 7 is flushed now and then. Streams of the load are
//! created once and never removed.

mod blocking;
mod collections;
mod generator;
mod streams;
mod strings;
mod whole;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use redis::{Cmd, Connection, ConnectionLike, Value};

pub use generator::Generator;
pub use streams::prepare;

use crate::client;
use crate::reader::show;

/// Commands sent before their answers are read.
const PIPELINE_COMMANDS: usize = 32;
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub seed: u64,
    /// Commands a second, roughly; as fast as the store takes them when absent.
    pub rate_per_s: Option<u32>,
    /// How many keys of every type are written to.
    pub keys_per_type: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { seed: 1, rate_per_s: None, keys_per_type: 100 }
    }
}

/// A load under way. Dropping it stops it; a thread that panics while it runs prints the seed.
#[derive(Debug)]
pub struct Load {
    seed: u64,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What has been sent so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Commands that the store answered without an error.
    pub acknowledged: u64,
    /// Commands that the store answered with an error.
    pub errors: u64,
    /// Connections lost, and commands with them whose fate is not known.
    pub disconnects: u64,
    /// The newest error.
    pub last_error: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    stopping: AtomicBool,
    acknowledged: AtomicU64,
    errors: AtomicU64,
    disconnects: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl Load {
    /// Prepares the load's streams and starts writing to the store on this loopback port, from one connection
    /// of ordinary commands and one of blocking ones.
    ///
    /// # Errors
    /// The store does not answer, or refuses a group of a stream.
    pub fn start(port: u16, options: Options) -> Result<Self> {
        streams::prepare(&mut client::connect(port)?, options.keys_per_type)?;
        let shared = Arc::new(Shared::default());
        let (writing, waiting) = (Arc::clone(&shared), Arc::clone(&shared));
        let writer =
            thread::Builder::new().name("load".to_owned()).spawn(move || write(port, options, &writing))?;
        let mut load = Self { seed: options.seed, shared, threads: vec![writer] };
        let waiter = thread::Builder::new().name("load-blocking".to_owned());
        load.threads.push(waiter.spawn(move || blocking::write(port, options, &waiting))?);
        Ok(load)
    }

    /// # Panics
    /// Never: a poisoned lock is read all the same.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    /// Stops after the commands under way; what was sent in all.
    ///
    /// # Errors
    /// A thread of the load panicked.
    pub fn stop(mut self) -> Result<Counts> {
        let seed = self.seed;
        self.join().map_err(|()| anyhow!("the load with seed {seed} panicked"))?;
        Ok(self.counts())
    }

    fn join(&mut self) -> Result<(), ()> {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.threads.drain(..).map(|thread| thread.join().map_err(drop)).fold(Ok(()), Result::and)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the load ran with seed {}", self.seed);
        }
        // A load that is dropped is not asked for its outcome.
        let _ = self.join();
    }
}

impl Shared {
    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn count(&self, commands: &[Cmd], answers: &[Value]) {
        for (command, answer) in commands.iter().zip(answers) {
            match first_error(answer) {
                Some(error) => {
                    self.errors.fetch_add(1, Ordering::Relaxed);
                    self.remember(format!("{error}, answering {}", show(&command.get_packed_command())));
                }
                None => {
                    self.acknowledged.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    fn count_disconnect(&self, error: &dyn std::fmt::Display) {
        self.disconnects.fetch_add(1, Ordering::Relaxed);
        self.remember(error.to_string());
    }

    fn remember(&self, error: String) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    fn counts(&self) -> Counts {
        Counts {
            acknowledged: self.acknowledged.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            disconnects: self.disconnects.load(Ordering::Relaxed),
            last_error: self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

/// An error, also one inside the answer to EXEC.
fn first_error(answer: &Value) -> Option<String> {
    match answer {
        Value::ServerError(error) => Some(error.to_string()),
        Value::Array(answers) => answers.iter().find_map(first_error),
        _ => None,
    }
}

fn write(port: u16, options: Options, shared: &Shared) {
    let mut generator = Generator::new(options.seed, options.keys_per_type);
    let mut pace = Pace::new(options.rate_per_s);
    let mut connection = None;
    while !shared.is_stopping() {
        let Some(store) = connected(&mut connection, port, shared) else { continue };
        // A step is never cut: its MULTI has its EXEC, its SELECT leads back to database 0.
        let mut commands = Vec::new();
        while commands.len() < PIPELINE_COMMANDS {
            commands.extend(generator.step());
        }
        let mut packed = Vec::new();
        commands.iter().for_each(|command| command.write_packed_command(&mut packed));
        match store.req_packed_commands(&packed, 0, commands.len()) {
            Ok(answers) => shared.count(&commands, &answers),
            Err(error) => {
                shared.count_disconnect(&error);
                connection = None;
            }
        }
        pace.sent(commands.len());
    }
}

/// The connection, made again after a pause if it was lost.
fn connected<'a>(
    connection: &'a mut Option<Connection>,
    port: u16,
    shared: &Shared,
) -> Option<&'a mut Connection> {
    if connection.is_none() {
        match client::connect(port) {
            Ok(new) => *connection = Some(new),
            Err(error) => {
                shared.count_disconnect(&error);
                thread::sleep(RECONNECT_PAUSE);
            }
        }
    }
    connection.as_mut()
}

/// Holds a rate over the whole run, without bursts to catch up after a pause.
struct Pace {
    per_command: Option<Duration>,
    due: Instant,
}

impl Pace {
    fn new(rate_per_s: Option<u32>) -> Self {
        let per_command = rate_per_s.and_then(|rate| Duration::from_secs(1).checked_div(rate));
        Self { per_command, due: Instant::now() }
    }

    fn sent(&mut self, commands: usize) {
        let Some(per_command) = self.per_command else { return };
        let now = Instant::now();
        self.due =
            self.due.max(now) + per_command.saturating_mul(u32::try_from(commands).unwrap_or(u32::MAX));
        thread::sleep(self.due.saturating_duration_since(now));
    }
}
