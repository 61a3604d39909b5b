//! Accepts links, gives each to a session, moves its bytes. Sees only [`segue_wire::Protocol`].
//!
//! | module | holds |
//! |---|---|
//! | here | [`Relay`]: the listeners, bound and running |
//! | `accept` | from an accepted connection to the end of its link |
//! | `shared` | what all links share |
//! | `view` | what the admin API sees, and changes |
//! | `pump` | the bytes of one link |
//! | `opening` | what a session asks for, and what becomes of its notes |
//! | `link` | one live link, as others see it |
//! | `refusals` | what was refused lately |
//! | `translation` | mode and loss policy, and who changed them |
//! | `metrics` | the relay's metrics |

mod accept;
mod link;
mod metrics;
mod opening;
mod pump;
mod refusals;
mod shared;
mod translation;
mod view;

use std::{io, sync::Arc, time::Duration};

use segue_wire::Protocol;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{self, Config},
    net,
};
pub use shared::Shared;
pub use view::ChangeError;

/// How often the own store's release is asked, for the status; each link asks for itself.
const OWN_RELEASE_PERIOD: Duration = Duration::from_secs(10);

/// The listeners, bound and not yet accepting.
pub struct Relay {
    shared: Arc<Shared>,
    listeners: Vec<(TcpListener, config::Link)>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl Relay {
    /// Binds every configured link.
    ///
    /// # Errors
    /// An address that can't be listened on, a state folder that can't be made.
    pub async fn bind(config: Config, protocol: Arc<dyn Protocol>) -> Result<Self, StartError> {
        let mut listeners = Vec::new();
        for link in &config.links {
            listeners.push((net::listen(link.listen).await?, link.clone()));
        }
        Ok(Self { shared: Arc::new(Shared::new(config, protocol)?), listeners })
    }

    pub fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Accepts until `stop`, then ends every link, each with its state saved.
    pub async fn run(self, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        for (listener, configured) in self.listeners {
            tasks.spawn(accept::run(self.shared.clone(), listener, configured, stop.clone()));
        }
        tasks.spawn(watch_own_release(self.shared.clone(), stop.clone()));
        stop.cancelled().await;
        self.shared.stop.cancel();
        while tasks.join_next().await.is_some() {}
    }
}

async fn watch_own_release(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = shared.peers.own_release() => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(OWN_RELEASE_PERIOD) => {}
        }
    }
}
