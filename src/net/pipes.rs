//! Pipes between sockets: bytes move through them by splice(2), inside the kernel.
//!
//! A pipe costs [`PIPE_FILES`] file descriptors and, while it is full, [`PIPE_BYTES`] of kernel memory: links borrow one for as long as
//! bytes come in bulk, and their number is bounded. Beyond the bound bytes are copied, which is never wrong.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// The size asked for; where the kernel grants less (`pipe-user-pages-soft`), the pipe stays as it is.
pub const PIPE_BYTES: usize = 256 << 10;
pub const PIPE_FILES: usize = 2;

/// A bounded stock of pipes.
#[derive(Debug)]
pub struct Pipes {
    /// Lent and idle.
    pipes_max: AtomicUsize,
    refused: AtomicU64,
    stock: Mutex<Stock>,
}

#[derive(Debug)]
struct Stock {
    idle: Vec<Pipe>,
    lent: usize,
}

#[derive(Debug)]
struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
}

/// A pipe in use. Dropped empty, it goes back to the stock; dropped with bytes in it, it is closed.
#[derive(Debug)]
pub struct LentPipe<'a> {
    pipes: &'a Pipes,
    /// None only while it is being dropped.
    pipe: Option<Pipe>,
    held_bytes: usize,
}

impl Pipes {
    #[must_use]
    pub const fn new(pipes_max: usize) -> Self {
        let (pipes_max, refused) = (AtomicUsize::new(pipes_max), AtomicU64::new(0));
        Self { pipes_max, refused, stock: Mutex::new(Stock { idle: Vec::new(), lent: 0 }) }
    }

    /// Beyond it, idle ones are closed now and lent ones when they come back.
    pub fn set_pipes_max(&self, pipes_max: usize) {
        self.pipes_max.store(pipes_max, Relaxed);
        let mut stock = self.stock();
        let idle_max = pipes_max.saturating_sub(stock.lent);
        stock.idle.truncate(idle_max);
    }

    /// None at the bound, and where the system gives no pipe.
    #[must_use]
    pub fn lend(&self) -> Option<LentPipe<'_>> {
        let mut stock = self.stock();
        if stock.lent >= self.pipes_max.load(Relaxed) {
            self.refused.fetch_add(1, Relaxed);
            return None;
        }
        let pipe = stock.idle.pop().map_or_else(Pipe::open, Ok).ok()?;
        stock.lent = stock.lent.saturating_add(1);
        Some(LentPipe { pipes: self, pipe: Some(pipe), held_bytes: 0 })
    }

    /// How many are in use now.
    #[must_use]
    pub fn lent(&self) -> usize {
        self.stock().lent
    }

    /// How often none was left since this was asked last.
    pub fn take_refused(&self) -> u64 {
        self.refused.swap(0, Relaxed)
    }

    fn stock(&self) -> MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pipe {
    fn open() -> io::Result<Self> {
        let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let _ = fcntl_setpipe_size(&into, PIPE_BYTES);
        Ok(Self { out, into })
    }
}

impl LentPipe<'_> {
    /// Bytes filled in and not drained yet.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Moves what the socket has into the pipe, which must be empty: a full one and a socket with nothing to
    /// read would look the same. 0 is the end of the socket's stream.
    ///
    /// # Errors
    /// The system's own; `WouldBlock` where the socket has nothing to read.
    pub fn fill(&mut self, from: impl AsFd) -> io::Result<usize> {
        let pipe = self.pipe.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        let count = splice(from, None, &pipe.into, None, PIPE_BYTES, flags())?;
        self.held_bytes = self.held_bytes.saturating_add(count);
        Ok(count)
    }

    /// Moves what the pipe holds into the socket, as far as that takes it.
    ///
    /// # Errors
    /// The system's own; `WouldBlock` where the socket takes nothing.
    pub fn drain(&mut self, to: impl AsFd) -> io::Result<usize> {
        let pipe = self.pipe.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        // Not more than there is: the kernel would keep the last segment back for what is to come.
        let count = splice(&pipe.out, None, to, None, self.held_bytes, flags())?;
        self.held_bytes = self.held_bytes.saturating_sub(count);
        Ok(count)
    }
}

fn flags() -> SpliceFlags {
    SpliceFlags::MOVE | SpliceFlags::NONBLOCK
}

impl Drop for LentPipe<'_> {
    fn drop(&mut self) {
        let mut stock = self.pipes.stock();
        stock.lent = stock.lent.saturating_sub(1);
        let pipes = stock.lent.saturating_add(stock.idle.len());
        if self.held_bytes == 0 && pipes < self.pipes.pipes_max.load(Relaxed) {
            stock.idle.extend(self.pipe.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::unix::net::UnixStream,
    };

    use super::*;

    #[test]
    fn no_more_than_the_bound_are_lent() {
        let pipes = Pipes::new(2);
        let (first, second) = (pipes.lend().unwrap(), pipes.lend().unwrap());
        assert!(pipes.lend().is_none());
        drop(first);
        assert_eq!(pipes.lent(), 1);
        let third = pipes.lend().unwrap();
        assert!(pipes.lend().is_none());
        assert_eq!((pipes.take_refused(), pipes.take_refused()), (2, 0));
        drop((second, third));
        assert_eq!((pipes.lent(), pipes.stock().idle.len()), (0, 2));
    }

    #[test]
    fn a_lower_bound_is_kept_as_pipes_come_back() {
        let pipes = Pipes::new(3);
        let lent: Vec<_> = (0..3).map_while(|_| pipes.lend()).collect();
        pipes.set_pipes_max(1);
        drop(lent);
        assert_eq!((pipes.lent(), pipes.stock().idle.len()), (0, 1));
        pipes.set_pipes_max(0);
        assert_eq!((pipes.lend().is_none(), pipes.stock().idle.len()), (true, 0));
    }

    #[test]
    fn a_pipe_with_bytes_in_it_is_not_lent_again() {
        let pipes = Pipes::new(1);
        let (mut far, near) = UnixStream::pair().unwrap();
        far.write_all(b"left over").unwrap();
        let mut pipe = pipes.lend().unwrap();
        assert_eq!(pipe.fill(&near).unwrap(), 9);
        drop(pipe);
        assert_eq!((pipes.lent(), pipes.stock().idle.len()), (0, 0));
    }

    #[test]
    fn bytes_pass_in_order_and_are_counted() {
        let pipes = Pipes::new(1);
        let (mut source, near) = UnixStream::pair().unwrap();
        let (far, mut sink) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let mut pipe = pipes.lend().unwrap();
        assert_eq!(pipe.fill(&near).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        source.write_all(b"through").unwrap();
        assert_eq!(pipe.fill(&near).unwrap(), 7);
        assert_eq!(pipe.held_bytes(), 7);
        assert_eq!(pipe.drain(&far).unwrap(), 7);
        assert_eq!(pipe.held_bytes(), 0);
        let mut got = [0; 7];
        sink.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"through");
        drop(source);
        assert_eq!(pipe.fill(&near).unwrap(), 0, "the end of the stream");
    }
}
