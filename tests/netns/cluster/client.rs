//! A client of a cluster: it follows `MOVED` and `ASK`, and tries again where a node is gone.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use redis::{Connection, ErrorKind, RedisResult, ServerErrorKind};
use segue_bench::netns::Host;

/// A fail-over under load takes seconds; a machine under load takes its time.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);
const RETRY_INTERVAL: Duration = Duration::from_millis(50);
const CONNECT_TIME_MAX: Duration = Duration::from_secs(2);
const REPLY_TIME_MAX: Duration = Duration::from_secs(10);

pub struct Client {
    host: Host,
    /// `ip:port` of every node.
    nodes: Vec<String>,
    connections: HashMap<String, Connection>,
    /// Where a key was last found.
    places: HashMap<String, String>,
    tries: usize,
}

impl Client {
    pub fn new(host: &Host, nodes: Vec<String>) -> Self {
        let (connections, places) = (HashMap::new(), HashMap::new());
        Self { host: host.clone(), nodes, connections, places, tries: 0 }
    }

    /// Does something with a key, on the connection of the node that has it.
    ///
    /// # Errors
    /// Any that a retry does not help, or no answer within [`ANSWER_TIME_MAX`].
    pub fn with<T>(&mut self, key: &str, work: impl Fn(&mut Connection) -> RedisResult<T>) -> Result<T> {
        let deadline = Instant::now() + ANSWER_TIME_MAX;
        let mut asked: Option<String> = None;
        loop {
            let node = match asked.take() {
                Some(node) => node,
                None => self.place(key),
            };
            let is_asked = self.places.get(key) != Some(&node);
            let done = match self.connection(&node) {
                Ok(connection) if is_asked => {
                    redis::cmd("ASKING").exec(connection).and_then(|()| work(connection))
                }
                Ok(connection) => work(connection),
                Err(error) => Err(error),
            };
            let error = match done {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let to = error.redirect_node().map(|(to, _)| to.to_owned());
            match (error.kind(), to) {
                (ErrorKind::Server(ServerErrorKind::Moved), Some(to)) => {
                    self.places.insert(key.to_owned(), to);
                }
                (ErrorKind::Server(ServerErrorKind::Ask), Some(to)) => asked = Some(to),
                _ => {
                    ensure!(is_passing(&error), "{key} at {node}: {error}");
                    ensure!(Instant::now() < deadline, "no answer for {key}: {error}");
                    self.connections.remove(&node);
                    self.places.remove(key);
                    thread::sleep(RETRY_INTERVAL);
                }
            }
        }
    }

    fn place(&mut self, key: &str) -> String {
        let next = self.nodes[self.tries % self.nodes.len()].clone();
        self.tries += 1;
        self.places.entry(key.to_owned()).or_insert(next).clone()
    }

    fn connection(&mut self, node: &str) -> RedisResult<&mut Connection> {
        if !self.connections.contains_key(node) {
            let connection = connect(&self.host, node)?;
            self.connections.insert(node.to_owned(), connection);
        }
        self.connections.get_mut(node).ok_or_else(|| (ErrorKind::Client, "no connection").into())
    }
}

/// A connection from this host to `ip:port`.
pub fn connect(from: &Host, node: &str) -> RedisResult<Connection> {
    let connected = from.enter(|| {
        let client = redis::Client::open(format!("redis://{node}/"))?;
        let connection = client.get_connection_with_timeout(CONNECT_TIME_MAX)?;
        connection.set_read_timeout(Some(REPLY_TIME_MAX))?;
        Ok(connection)
    });
    connected.map_err(|error| (ErrorKind::Io, "connect", error.to_string()).into())
}

/// A node is gone or comes back, or slots move: another try may help.
fn is_passing(error: &redis::RedisError) -> bool {
    let passing = ["TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY", "NOREPLICAS"];
    error.is_io_error()
        || error.is_connection_dropped()
        || error.kind() == ErrorKind::Parse
        || error.code().is_some_and(|code| passing.contains(&code))
}

/// Writes counters round and round, each confirmed by a replica, until it is told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    writer: JoinHandle<Result<Written>>,
}

/// The last value of each key that a replica has confirmed, and how many writes there were.
#[derive(Debug, Default)]
pub struct Written {
    pub confirmed: HashMap<String, u64>,
    pub count: u64,
}

const LOAD_KEYS: u64 = 300;

impl Load {
    pub fn start(mut client: Client) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let writer = thread::spawn(move || {
            let mut written = Written::default();
            while !stopped.load(Relaxed) {
                let n = written.count;
                let key = format!("load:{}", n % LOAD_KEYS);
                let replicas: u64 = client.with(&key, |connection| {
                    redis::cmd("SET").arg(&key).arg(n).exec(connection)?;
                    redis::cmd("WAIT").arg(1).arg(1000).query(connection)
                })?;
                if replicas >= 1 {
                    written.confirmed.insert(key, n);
                }
                written.count += 1;
            }
            Ok(written)
        });
        Self { stop, writer }
    }

    /// # Errors
    /// A write that was not taken in time.
    pub fn stop(self) -> Result<Written> {
        self.stop.store(true, Relaxed);
        self.writer.join().map_err(|_| anyhow!("the load panicked"))?.context("the load")
    }
}

impl Written {
    /// No confirmed write is lost: each key holds it, or a later one.
    ///
    /// # Errors
    /// One is.
    pub fn assert_there(&self, client: &mut Client) -> Result<()> {
        for (key, confirmed) in &self.confirmed {
            let value: Option<u64> = client.with(key, |at| redis::cmd("GET").arg(key).query(at))?;
            ensure!(value >= Some(*confirmed), "{key} is {value:?}, and {confirmed} was confirmed");
        }
        Ok(())
    }
}
