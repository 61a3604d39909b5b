//! Holds a snapshot back on its way to a replica, for as long as a test wants it to be under way.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
};

use anyhow::{Context, Result};
use redis::Connection;
use segue_bench::{child::wait_for, command};
use socket2::SockRef;

use crate::cluster::SYNC_TIME_MAX;

/// A connection that brings more is the snapshot's.
const PASSED_BYTES_MAX: usize = 256 << 10;
/// What the system holds for the valve; the rest has to wait in the sidecar and behind it.
const RECEIVED_BYTES_MAX: usize = 64 << 10;
/// More than all buffers on the way hold.
const KEYS: u32 = 400;
const VALUE_BYTES: u32 = 100_000;

/// Passes connections on.
pub struct Valve {
    pub port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    turned: Mutex<Turned>,
    opened: Condvar,
}

#[derive(Default)]
struct Turned {
    is_open: bool,
    holds: bool,
}

impl Valve {
    /// Shut. Its threads end with their connections, the one that accepts with the process.
    pub fn start(to: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(State::default());
        let shared = state.clone();
        thread::spawn(move || {
            for dialer in listener.incoming().flatten() {
                let Ok(listener) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                let state = shared.clone();
                thread::spawn(move || pass(&dialer, &listener, &state));
            }
        });
        Ok(Self { port, state })
    }

    /// A snapshot of this master will be too large to be anywhere on the way as a whole.
    pub fn fill(master: &mut Connection) -> Result<()> {
        command!("CONFIG", "SET", "rdbcompression", "no").exec(master)?;
        Ok(command!("DEBUG", "POPULATE", KEYS, "held", VALUE_BYTES).exec(master)?)
    }

    /// From now on a snapshot is under way, until this is opened.
    pub fn await_held(&self) -> Result<()> {
        wait_for(SYNC_TIME_MAX, || Ok(self.state.turned().holds.then_some(())))?.context("no snapshot comes")
    }

    pub fn open(&self) {
        self.state.turned().is_open = true;
        self.state.opened.notify_all();
    }
}

impl Drop for Valve {
    fn drop(&mut self) {
        self.open();
    }
}

impl State {
    fn turned(&self) -> std::sync::MutexGuard<'_, Turned> {
        self.turned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self) {
        let mut turned = self.turned();
        turned.holds = true;
        drop(self.opened.wait_while(turned, |turned| !turned.is_open));
    }
}

/// Ends when either side does; a broken connection is an end like any other.
fn pass(mut dialer: &TcpStream, mut listener: &TcpStream, state: &State) {
    let _ = SockRef::from(listener).set_recv_buffer_size(RECEIVED_BYTES_MAX);
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = std::io::copy(&mut &*dialer, &mut &*listener);
            let _ = listener.shutdown(Shutdown::Write);
        });
        let (mut passed, mut piece) = (0, vec![0; RECEIVED_BYTES_MAX]);
        while let Ok(count @ 1..) = listener.read(&mut piece) {
            passed += count;
            if passed > PASSED_BYTES_MAX {
                state.wait();
            }
            if dialer.write_all(&piece[..count]).is_err() {
                break;
            }
        }
        let _ = dialer.shutdown(Shutdown::Both);
        let _ = listener.shutdown(Shutdown::Both);
    });
}
