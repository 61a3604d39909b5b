//! The links that are listened on: they come and go while the sidecar runs.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Shared, accept, route::Accepts};
use crate::net::Listeners;

pub struct Listening {
    pub sockets: Arc<Listeners>,
    /// The relay's own runtime: a reload comes from another.
    pub runtime: Handle,
    accepting: Mutex<BTreeMap<SocketAddr, CancellationToken>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Listening {
    pub fn new(sockets: Arc<Listeners>) -> Self {
        Self {
            sockets,
            runtime: Handle::current(),
            accepting: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    fn accepting(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, CancellationToken>> {
        self.accepting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Accepts from here on, in place of what accepted at this address before.
    pub(super) fn listen(self: &Arc<Self>, listener: TcpListener, accepts: impl Into<Accepts>) {
        let accepts = accepts.into();
        let listening = &self.listening;
        let stop = listening.stop.child_token();
        let before = listening.accepting().insert(accepts.listen(), stop.clone());
        let seat = self.workers.seat();
        let accepting = accept::run(self.clone(), listener, accepts, stop);
        listening.tasks.spawn_on(accepting, seat.runtime());
        if let Some(before) = before {
            before.cancel();
        }
    }

    /// Accepts no more at this address; its links go on.
    pub(super) fn unlisten(&self, address: SocketAddr) {
        if let Some(stop) = self.listening.accepting().remove(&address) {
            stop.cancel();
        }
        self.listening.sockets.close(address);
    }

    pub(super) fn stop_listening(&self) {
        self.listening.stop.cancel();
        self.listening.sockets.close_all();
    }

    /// Every listener is closed, and all its links have ended.
    pub(super) async fn await_listeners_end(&self) {
        self.listening.tasks.close();
        self.listening.tasks.wait().await;
    }
}
