//! Somebody who watches that never two stores take writes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use redis::Connection;

use super::site::Site;
use crate::lab::STORE_PORT;

const LOOK_PERIOD: Duration = Duration::from_millis(10);
const ANSWER_TIME_MAX: Duration = Duration::from_millis(500);

/// It ends when this is dropped: it has the stores, which end after it.
pub struct Watch {
    stop: Arc<AtomicBool>,
    looks: Arc<AtomicU64>,
    thread: Option<JoinHandle<Vec<String>>>,
}

impl Watch {
    /// It is on each store's own host: a network that is cut hides nothing from it.
    pub fn start<'a>(sites: impl Iterator<Item = &'a Arc<Site>>) -> Self {
        let (stop, looks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut stores: Vec<Watched> = sites.map(|site| Watched::new(site.clone())).collect();
        let thread = thread::spawn({
            let (stop, looks) = (stop.clone(), looks.clone());
            move || {
                let mut found = Vec::new();
                while !stop.load(Relaxed) {
                    found.extend(two_that_write(&mut stores));
                    looks.fetch_add(1, Relaxed);
                    thread::sleep(LOOK_PERIOD);
                }
                found
            }
        });
        Self { stop, looks, thread: Some(thread) }
    }

    pub fn assert_never_two(mut self) -> Result<()> {
        let found = self.end().map_err(|_| anyhow!("who watches panicked"))?;
        ensure!(self.looks.load(Relaxed) > 0, "nobody watched");
        ensure!(found.is_empty(), "two stores took writes at one time: {found:?}");
        Ok(())
    }

    fn end(&mut self) -> thread::Result<Vec<String>> {
        self.stop.store(true, Relaxed);
        self.thread.take().map_or(Ok(Vec::new()), JoinHandle::join)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _what_was_found = self.end();
    }
}

struct Watched {
    site: Arc<Site>,
    connection: Option<Connection>,
}

impl Watched {
    const fn new(site: Arc<Site>) -> Self {
        Self { site, connection: None }
    }

    fn ask<T: redis::FromRedisValue>(&mut self, command: &redis::Cmd) -> Result<T> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let answer = command.query(&mut connection);
        // One with an answer that is missing is of no use.
        if answer.as_ref().err().is_none_or(|error: &redis::RedisError| error.code().is_some()) {
            self.connection = Some(connection);
        }
        Ok(answer?)
    }

    fn connect(&self) -> Result<Connection> {
        let connection = self.site.host.enter(|| {
            let client = redis::Client::open(format!("redis://127.0.0.1:{STORE_PORT}/"))?;
            Ok(client.get_connection_with_timeout(ANSWER_TIME_MAX)?)
        })?;
        connection.set_read_timeout(Some(ANSWER_TIME_MAX))?;
        Ok(connection)
    }

    fn is_master(&mut self) -> bool {
        let role: Result<Vec<redis::Value>> = self.ask(&redis::cmd("ROLE"));
        let role = role.and_then(|role| role.into_iter().next().context("no role"));
        role.is_ok_and(|role| redis::from_redis_value::<String>(role).is_ok_and(|role| role == "master"))
    }

    fn takes_writes(&mut self) -> bool {
        self.ask::<String>(redis::cmd("SET").arg("watched").arg("by the lab")).is_ok()
    }
}

/// Two of which one took a write before the other took one and after.
fn two_that_write(stores: &mut [Watched]) -> Option<String> {
    let masters: Vec<usize> =
        stores.iter_mut().enumerate().filter_map(|(at, store)| store.is_master().then_some(at)).collect();
    let [one, other] = masters.get(..2)?.try_into().ok()?;
    let both = [one, other, one].into_iter().all(|at| stores.get_mut(at).is_some_and(Watched::takes_writes));
    let name = |at: usize| stores.get(at).map(|store| store.site.host.ipv4()).unwrap_or_default();
    both.then(|| format!("{} and {}", name(one), name(other)))
}
