//! What the service manager is told (sd_notify(3)): one datagram of `NAME=value` lines.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

/// The way to the service manager, if there is one.
#[derive(Clone, Debug, Default)]
pub struct Notifier {
    socket: Option<OsString>,
}

impl Notifier {
    /// `socket` is what `NOTIFY_SOCKET` says: a path, or `@` and an abstract name.
    #[must_use]
    pub fn new(socket: Option<OsString>) -> Self {
        Self { socket }
    }

    pub fn ready(&self) {
        self.say("READY=1");
    }

    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// Another process is the service from here on.
    pub fn main_process(&self, pid: i32) {
        self.say(&format!("MAINPID={pid}"));
    }

    fn say(&self, state: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = send(socket, state)
        {
            tracing::warn!(%error, state, "the service manager can't be told");
        }
    }
}

fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let to = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &to).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_arrive_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("segue-notify-{}", std::process::id());
        let by_name = SocketAddr::from_abstract_name(&name).unwrap();
        let sockets = [
            (path.clone().into_os_string(), UnixDatagram::bind(&path).unwrap()),
            (format!("@{name}").into(), UnixDatagram::bind_addr(&by_name).unwrap()),
        ];
        for (socket, manager) in sockets {
            let notifier = Notifier::new(Some(socket));
            notifier.ready();
            notifier.main_process(7);
            for expected in ["READY=1", "MAINPID=7"] {
                let mut state = [0; 32];
                let length = manager.recv(&mut state).unwrap();
                assert_eq!(&state[..length], expected.as_bytes());
            }
        }
    }
}
