//! Accepts links, gives each to a session, moves its bytes. Sees only [`segue_wire::Protocol`].
//!
//! | module | holds |
//! |---|---|
//! | here | [`Relay`]: the listeners, bound and running |
//! | `bounds` | the limits that all links share |
//! | `accept` | from an accepted connection to the end of its link |
//! | `route` | where an accepted connection goes |
//! | `ends` | both ends of a link, connected, with TLS where it is spoken |
//! | `listening` | the listeners, as they come and go |
//! | `shared` | what all links share |
//! | `reload` | another config while links are up |
//! | `drain` | the end of links, those with a snapshot under way last |
//! | `view` | what the admin API sees, and changes |
//! | `pump` | the bytes of one link, as long as a session sees them |
//! | `through` | bytes that pass unchanged, at the kernel's speed |
//! | `sealed` | the same where an end speaks TLS |
//! | `opening` | what a session asks for, and what becomes of its notes |
//! | `link` | one live link, as others see it |
//! | `glance` | what an upgrade's gates look at |
//! | `pairing` | two links that carry one sync |
//! | `refusals` | what was refused lately |
//! | `workers` | the threads that links run on |
//! | `spoken` | what an upgrade holds the links to |
//! | `translation` | mode and loss policy, and who changed them |
//! | `metrics` | the relay's metrics |

mod accept;
mod bounds;
mod drain;
mod ends;
mod glance;
mod link;
mod listening;
mod metrics;
mod opening;
mod pairing;
mod pump;
mod refusals;
mod reload;
mod route;
mod sealed;
mod shared;
mod spoken;
mod through;
mod translation;
mod view;
mod workers;

use std::{io, net::TcpListener, sync::Arc, time::Duration};

use segue_wire::Protocol;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    net::{Listeners, transparent},
};
pub use glance::{Glance, Replication};
pub use reload::ReloadError;
use route::Accepts;
pub use shared::Shared;
pub use view::ChangeError;

/// How often the own store's release is asked, for the status; each link asks for itself.
const OWN_RELEASE_PERIOD: Duration = Duration::from_secs(10);

/// The listeners, bound and not yet accepting.
pub struct Relay {
    shared: Arc<Shared>,
    listeners: Vec<(TcpListener, Accepts)>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl Relay {
    /// Opens a socket for every configured link and way of interception, and starts the threads that links
    /// run on. To be called on the runtime that the relay runs on.
    ///
    /// # Errors
    /// An address that can't be listened on, a state folder that can't be made, no threads.
    pub fn bind(
        config: Config,
        protocol: Arc<dyn Protocol>,
        sockets: Arc<Listeners>,
    ) -> Result<Self, StartError> {
        let mut listeners = Vec::new();
        for link in &config.links {
            listeners.push((sockets.open(link.listen)?, link.clone().into()));
        }
        for (accepts, is_transparent) in config.intercept.iter().flat_map(Accepts::intercepted) {
            let socket = sockets.open_or(accepts.listen(), |at| transparent::bind(at, is_transparent))?;
            listeners.push((socket, accepts));
        }
        Ok(Self { shared: Arc::new(Shared::new(config, protocol, sockets)?), listeners })
    }

    pub fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Accepts until `stop`, then ends every link, each with its state saved; snapshots under way may
    /// finish within `limits.drain_ms`.
    pub async fn run(self, stop: CancellationToken) {
        self.shared.say_warnings();
        self.shared.raise_files_limit();
        for (listener, accepts) in self.listeners {
            self.shared.listen(listener, accepts);
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(watch_own_release(self.shared.clone(), stop.clone()));
        stop.cancelled().await;
        self.shared.stop_listening();
        self.shared.drain(|_| true).await;
        self.shared.end_links();
        self.shared.await_listeners_end().await;
        while tasks.join_next().await.is_some() {}
    }
}

async fn watch_own_release(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = shared.peers.own_release() => {}
        }
        shared.report_pipes();
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(OWN_RELEASE_PERIOD) => {}
        }
    }
}
