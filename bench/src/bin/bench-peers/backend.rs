//! The benchmark's own server, and how a client asks it for one of its services.
//!
//! The first bytes of a connection are a request of 20 bytes, `GET x` in the store's protocol: to Segue it is
//! any client of a store. The letter says what follows.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

const REQUEST_BYTES: usize = 20;
const WAIT_TIME_MAX: Duration = Duration::from_secs(20);
const BULK_PIECE_BYTES: usize = 256 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Bytes without end.
    Bulk = b'b' as isize,
    /// What comes goes back.
    Echo = b'e' as isize,
    /// One byte, and the connection is closed.
    Once = b'o' as isize,
    /// One byte, and the connection is kept until the server ends.
    Hold = b'h' as isize,
}

/// Serves for the rest of the process; its port.
pub fn start() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    let (sender, accepted) = mpsc::channel::<TcpStream>();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if sender.send(stream).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        let mut held = Vec::new();
        for stream in accepted {
            // A client that is gone again is no concern of the others.
            let _ = serve(stream, &mut held);
        }
    });
    Ok(port)
}

fn serve(mut stream: TcpStream, held: &mut Vec<TcpStream>) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(WAIT_TIME_MAX))?;
    let mut request = [0; REQUEST_BYTES];
    stream.read_exact(&mut request)?;
    let letter = request.get(REQUEST_BYTES - 3).copied().unwrap_or_default();
    match letter {
        b'b' => drop(thread::spawn(move || {
            let piece = vec![b'x'; BULK_PIECE_BYTES];
            while stream.write_all(&piece).is_ok() {}
        })),
        b'e' => drop(thread::spawn(move || {
            let mut piece = vec![0; BULK_PIECE_BYTES];
            while let Ok(count @ 1..) = stream.read(&mut piece) {
                if stream.write_all(piece.get(..count).unwrap_or_default()).is_err() {
                    return;
                }
            }
        })),
        b'o' => stream.write_all(b"o")?,
        _ => {
            stream.write_all(b"h")?;
            // Those whose clients have gone are let go before others are kept.
            if held.len() % 1000 == 999 {
                held.retain(|stream| !is_closed(stream));
            }
            held.push(stream);
        }
    }
    Ok(())
}

fn is_closed(stream: &TcpStream) -> bool {
    let closed = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
    matches!(closed, Ok(0)) || closed.is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock)
}

/// A connection on which the service has been asked for.
pub fn ask(port: u16, service: Service) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).context("the way to the server is closed")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(WAIT_TIME_MAX))?;
    let mut request = *b"*2\r\n$3\r\nGET\r\n$1\r\nx\r\n";
    if let Some(letter) = request.get_mut(REQUEST_BYTES - 3) {
        *letter = service as u8;
    }
    stream.write_all(&request)?;
    Ok(stream)
}
