//! The threads that links run on. Each has a runtime of its own, and a link stays on its thread for good.
//!
//! A runtime that shares its tasks among its threads wakes a second one whenever there is something to do;
//! where a message is a few bytes, that costs more than moving it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use tokio::{
    net::TcpStream,
    runtime::{self, Handle},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// One thread for each processor that this process may use. They end when this is dropped.
pub struct Workers {
    all: Arc<[Worker]>,
    _running: DropGuard,
}

struct Worker {
    runtime: Handle,
    links: AtomicUsize,
}

/// A link's seat on a thread, until it is dropped.
pub struct Seat {
    workers: Arc<[Worker]>,
    index: usize,
}

impl Workers {
    /// # Errors
    /// The system gives no thread, or nothing to wait on.
    pub fn start() -> io::Result<Self> {
        let stop = CancellationToken::new();
        let start = |number| {
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            let worker = Worker { runtime: runtime.handle().clone(), links: AtomicUsize::new(0) };
            let stop = stop.clone();
            let thread = thread::Builder::new().name(format!("data-{number}"));
            thread.spawn(move || runtime.block_on(stop.cancelled()))?;
            Ok(worker)
        };
        let count = thread::available_parallelism()?.get();
        let all = (0..count).map(start).collect::<io::Result<_>>()?;
        Ok(Self { all, _running: stop.drop_guard() })
    }

    /// Where there are the fewest links; of equals, on the thread that asks.
    pub fn seat(&self) -> Seat {
        let here = here();
        let load = |worker: &Worker| (worker.links.load(Relaxed), Some(worker.runtime.id()) != here);
        let index = (0..self.all.len()).min_by_key(|index| load(&self.all[*index])).unwrap_or_default();
        self.all[index].links.fetch_add(1, Relaxed);
        Seat { workers: self.all.clone(), index }
    }
}

impl Seat {
    pub fn runtime(&self) -> &Handle {
        &self.workers[self.index].runtime
    }

    /// Makes a connection of another thread's one of this seat's.
    ///
    /// # Errors
    /// The system's own.
    pub fn bring(&self, stream: TcpStream) -> io::Result<TcpStream> {
        if here() == Some(self.runtime().id()) {
            return Ok(stream);
        }
        let stream = stream.into_std()?;
        let _runtime = self.runtime().enter();
        TcpStream::from_std(stream)
    }
}

fn here() -> Option<runtime::Id> {
    Handle::try_current().ok().map(|here| here.id())
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.workers[self.index].links.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    #[test]
    fn links_are_spread_evenly_and_seats_are_given_back() {
        let workers = Workers::start().unwrap();
        let links = || workers.all.iter().map(|worker| worker.links.load(Relaxed)).collect::<Vec<_>>();
        let seats: Vec<_> = (0..3 * workers.all.len()).map(|_| workers.seat()).collect();
        assert!(links().iter().all(|links| *links == 3), "{:?}", links());
        drop(seats);
        assert!(links().iter().all(|links| *links == 0), "{:?}", links());
    }

    #[tokio::test]
    async fn a_connection_is_served_where_its_seat_is() {
        let workers = Workers::start().unwrap();
        let seat = workers.seat();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let mut far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut near = seat.bring(listener.accept().await.unwrap().0).unwrap();
        let runtime = seat.runtime().clone();
        let served = runtime.spawn(async move {
            near.write_all(b"from here").await.unwrap();
            (here(), workers.seat().runtime().id())
        });
        let (mut got, asked) = ([0; 9], served.await.unwrap());
        far.read_exact(&mut got).await.unwrap();
        assert_eq!((&got, asked.0), (b"from here", Some(runtime.id())));
        // `seat` is still taken: elsewhere, where there is more than one thread.
        let only_one = thread::available_parallelism().unwrap().get() == 1;
        assert_eq!(asked.1 == runtime.id(), only_one);
    }
}
