//! Clients of a store that dial it over and over, to see that none is ever refused.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::child::wait_for;

const CLIENTS: usize = 4;
const BETWEEN: Duration = Duration::from_millis(2);
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
const ANSWERS_MIN: u64 = 100;
/// How long they may take to get as many.
const ANSWERS_TIME_MAX: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Clients {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Clients {
    /// They are where the caller is: in its host, if it is in one.
    #[must_use]
    pub fn start(store: SocketAddr) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..CLIENTS)
            .map(|_| {
                let (stop, answered) = (stop.clone(), answered.clone());
                thread::spawn(move || {
                    while !stop.load(Relaxed) {
                        if ping(store)? {
                            answered.fetch_add(1, Relaxed);
                        }
                        thread::sleep(BETWEEN);
                    }
                    Ok(())
                })
            })
            .collect();
        Self { stop, answered, threads }
    }

    /// Ends them, once they had answers enough.
    ///
    /// # Errors
    /// One was refused, or got no answer or a wrong one.
    pub fn assert_none_refused(self) -> Result<()> {
        wait_for(ANSWERS_TIME_MAX, || {
            let is_enough = self.answered.load(Relaxed) > ANSWERS_MIN;
            Ok((is_enough || self.threads.iter().any(JoinHandle::is_finished)).then_some(()))
        })?;
        self.stop.store(true, Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| anyhow!("a client panicked"))??;
        }
        let answered = self.answered.load(Relaxed);
        ensure!(answered > ANSWERS_MIN, "only {answered} pings were answered");
        Ok(())
    }
}

/// False where the connection was cut, which is how a link of an ending sidecar ends; never refused.
fn ping(store: SocketAddr) -> Result<bool> {
    let mut stream = TcpStream::connect(store).context("a connection was refused")?;
    stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    let mut answer = [0; 7];
    match stream.write_all(b"PING\r\n").and_then(|()| stream.read_exact(&mut answer)) {
        Ok(()) if answer == *b"+PONG\r\n" => Ok(true),
        Ok(()) => bail!("an answer of {}", answer.escape_ascii()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            bail!("no answer within {} s", ANSWER_TIME_MAX.as_secs())
        }
        Err(_) => Ok(false),
    }
}
