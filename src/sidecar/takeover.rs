//! Handing over from the running sidecar to its successor, through a Unix socket in the state folder.
//!
//! ```text
//! successor → running    SEGUEHO1             who asks, 8 bytes: the format and its version
//! running → successor    the listening sockets, as crate::net::inherit sends them
//! successor → running    R                    ready: it accepts
//! running → successor    D                    it drains, and the service manager knows the new process
//! ```
//!
//! Until `R` the running one goes on as if nothing had been, so a successor that fails costs nothing.

use std::{
    fs::{self, Permissions},
    io::{self, Read, Write},
    net::TcpListener,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::{net::sockopt::socket_peercred, process::geteuid};
use tokio::{net::UnixListener, sync::mpsc};
use tokio_util::sync::CancellationToken;

use super::notify::Notifier;
use crate::net::{Listeners, inherit};

const SOCKET: &str = "control.sock";
const ASKS: &[u8; 8] = b"SEGUEHO1";
const READY: u8 = b'R';
const DRAINS: u8 = b'D';
/// A successor must accept within this time after its start; then it is given up.
pub const READY_TIME_MAX: Duration = Duration::from_secs(30);
/// How long the running sidecar may take to answer its successor.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// The successor's end of a handing-over.
pub struct Takeover {
    running: UnixStream,
}

impl Takeover {
    /// Asks the sidecar that runs on this state folder for its listening sockets.
    ///
    /// # Errors
    /// There is none, or it does not hand over.
    pub fn begin(state_dir: &Path) -> io::Result<(Self, Vec<TcpListener>)> {
        let path = state_dir.join(SOCKET);
        let asked = || {
            let mut running = UnixStream::connect(&path)?;
            running.set_read_timeout(Some(ANSWER_TIME_MAX))?;
            running.set_write_timeout(Some(ANSWER_TIME_MAX))?;
            running.write_all(ASKS)?;
            let sockets = inherit::receive(&running)?;
            Ok((Self { running }, sockets))
        };
        asked().map_err(|error: io::Error| {
            let message = format!("no sidecar hands over at {}: {error}", path.display());
            io::Error::new(error.kind(), message)
        })
    }

    /// This process accepts: the one before may end. Returns when it is about to.
    ///
    /// # Errors
    /// It has ended already.
    pub fn ready(mut self) -> io::Result<()> {
        self.running.write_all(&[READY])?;
        read_byte(&self.running, DRAINS)
    }
}

/// The running sidecar's end: where a successor finds it.
pub struct ControlSocket {
    path: PathBuf,
    listener: UnixListener,
}

impl ControlSocket {
    /// Takes the place of the predecessor's.
    ///
    /// # Errors
    /// The system's own; a path of over 107 bytes.
    pub fn bind(state_dir: &Path) -> io::Result<Self> {
        let path = state_dir.join(SOCKET);
        // Made aside and renamed: never open to others, and never missing.
        let aside = state_dir.join(format!("{SOCKET}.{}", std::process::id()));
        let _ = fs::remove_file(&aside);
        let bound = || {
            let listener = UnixListener::bind(&aside)?;
            fs::set_permissions(&aside, Permissions::from_mode(0o600))?;
            fs::rename(&aside, &path)?;
            Ok(listener)
        };
        bound().map(|listener| Self { path: path.clone(), listener }).map_err(|error: io::Error| {
            io::Error::new(error.kind(), format!("cannot listen at {}: {error}", path.display()))
        })
    }

    /// Hands over to whoever asks, one at a time, until `stop`; tells `handed_over` once.
    pub async fn serve(
        self,
        sockets: Arc<Listeners>,
        notifier: Notifier,
        handed_over: mpsc::Sender<i32>,
        stop: CancellationToken,
    ) {
        loop {
            let asking = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            let (sockets, notifier) = (sockets.clone(), notifier.clone());
            let handing_over = tokio::task::spawn_blocking(move || {
                let (stream, _) = asking?;
                hand_over(&stream.into_std()?, &sockets, &notifier, READY_TIME_MAX)
            });
            match handing_over.await {
                Ok(Ok(pid)) => {
                    // The socket file is the successor's now.
                    let _ = handed_over.send(pid).await;
                    return;
                }
                Ok(Err(error)) => tracing::error!(%error, "a successor did not take over: going on"),
                Err(error) => tracing::error!(%error, "the handing-over ended badly"),
            }
        }
        let _ = fs::remove_file(&self.path);
    }
}

/// The successor's process id, once it accepts.
fn hand_over(
    successor: &UnixStream,
    sockets: &Listeners,
    notifier: &Notifier,
    ready_time_max: Duration,
) -> io::Result<i32> {
    let peer = socket_peercred(successor)?;
    if peer.uid != geteuid() && !peer.uid.is_root() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "asked by another user"));
    }
    successor.set_nonblocking(false)?;
    successor.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    successor.set_write_timeout(Some(ANSWER_TIME_MAX))?;
    let mut asks = [0; ASKS.len()];
    (&*successor).read_exact(&mut asks)?;
    if asks != *ASKS {
        return Err(io::Error::other("asked by something else, or by a release that hands over otherwise"));
    }
    inherit::send(successor, &sockets.copies()?)?;
    successor.set_read_timeout(Some(ready_time_max))?;
    read_byte(successor, READY)?;
    let pid = peer.pid.as_raw_nonzero().get();
    notifier.main_process(pid);
    // It runs, whether it hears this or not.
    let _ = (&*successor).write_all(&[DRAINS]);
    Ok(pid)
}

fn read_byte(mut from: &UnixStream, expected: u8) -> io::Result<()> {
    let mut byte = [0];
    from.read_exact(&mut byte)?;
    if byte == [expected] { Ok(()) } else { Err(io::Error::other("it answers something else")) }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, thread};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn listening() -> (Arc<Listeners>, std::net::SocketAddr) {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = socket.local_addr().unwrap();
        let listeners = Listeners::new(vec![socket]).unwrap();
        drop(listeners.open(at).unwrap());
        (Arc::new(listeners), at)
    }

    /// The running sidecar answers on a thread; what it makes of the successor.
    fn handing_over(
        listeners: &Arc<Listeners>,
        ready_time_max: Duration,
    ) -> (UnixStream, thread::JoinHandle<io::Result<i32>>) {
        let (running, successor) = UnixStream::pair().unwrap();
        let listeners = listeners.clone();
        let hand_over = move || hand_over(&running, &listeners, &Notifier::default(), ready_time_max);
        (successor, thread::spawn(hand_over))
    }

    #[test]
    fn the_successor_gets_every_socket_and_says_ready() {
        let (listeners, at) = listening();
        let (successor, running) = handing_over(&listeners, LONG);
        (&successor).write_all(ASKS).unwrap();
        let sockets = inherit::receive(&successor).unwrap();
        assert_eq!(sockets.iter().map(|socket| socket.local_addr().unwrap()).collect::<Vec<_>>(), [at]);
        assert!(!running.is_finished(), "handed over before the successor accepts");
        Takeover { running: successor }.ready().unwrap();
        assert_eq!(running.join().unwrap().unwrap(), i32::try_from(std::process::id()).unwrap());
    }

    #[test]
    fn a_successor_that_goes_away_is_no_successor() {
        let (listeners, at) = listening();
        let (successor, running) = handing_over(&listeners, LONG);
        (&successor).write_all(ASKS).unwrap();
        inherit::receive(&successor).unwrap();
        drop(successor);
        assert_eq!(running.join().unwrap().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(std::net::TcpStream::connect(at).is_ok(), "the running one does not listen any more");
    }

    #[test]
    fn a_successor_that_is_never_ready_is_given_up() {
        let (listeners, _) = listening();
        let (successor, running) = handing_over(&listeners, Duration::from_millis(500));
        (&successor).write_all(ASKS).unwrap();
        inherit::receive(&successor).unwrap();
        assert_eq!(running.join().unwrap().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let late = Takeover { running: successor }.ready();
        assert!(late.is_err(), "it was told that the running one ends");
    }

    #[test]
    fn something_else_gets_nothing() {
        let (listeners, _) = listening();
        let (mut successor, running) = handing_over(&listeners, LONG);
        successor.write_all(b"SEGUEHO9").unwrap();
        let mut answer = Vec::new();
        successor.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"");
        let error = running.join().unwrap().unwrap_err().to_string();
        assert_eq!(error, "asked by something else, or by a release that hands over otherwise");
    }

    #[test]
    fn where_none_runs_there_is_nothing_to_take_over() {
        let folder = tempfile::tempdir().unwrap();
        let error = Takeover::begin(folder.path()).map(drop).unwrap_err().to_string();
        assert!(error.starts_with("no sidecar hands over at /"), "{error}");
    }

    #[tokio::test]
    async fn the_socket_is_for_its_owner_only_and_replaces_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let first = ControlSocket::bind(folder.path()).unwrap();
        let second = ControlSocket::bind(folder.path()).unwrap();
        let mode = fs::metadata(&second.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        drop(first);
        let _asks = UnixStream::connect(&second.path).unwrap();
        second.listener.accept().await.unwrap();
    }
}
