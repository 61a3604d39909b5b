//! Follows the cluster's keys: reads them all, then hears of each change, and begins again when that breaks off.

use std::{convert::Infallible, sync::Arc};

use tokio::time::sleep;

use super::{
    RETRY_INTERVAL,
    gateway::{Fault, Gateway},
    messages::{Range, Ranged, Watch, Watched},
    view::{Unreadable, View},
};
use crate::{cluster::Machine, seldom::Seldom};

pub(super) struct Follower<M> {
    pub view: Arc<View<M>>,
    pub gateway: Arc<Gateway>,
    pub seldom: Seldom,
}

#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// Not a fault: the keys are read again.
    #[error("revisions before {0} were compacted away")]
    Compacted(i64),
    #[error("{0}")]
    Cancelled(String),
    #[error("the endpoint was left")]
    Moved,
}

impl<M: Machine> Follower<M> {
    pub async fn run(&self) -> Infallible {
        loop {
            let Err(why) = self.follow().await;
            self.view.lost_sight();
            match why {
                Ended::Compacted(_) | Ended::Moved => tracing::debug!("etcd is followed anew: {why}"),
                why => {
                    if let Some(unsaid) = self.seldom.is_due(&why.to_string(), std::time::Instant::now()) {
                        tracing::warn!(unsaid, "etcd can't be followed now: {why}");
                    }
                }
            }
            sleep(RETRY_INTERVAL).await;
        }
    }

    async fn follow(&self) -> Result<Infallible, Ended> {
        let mut channel = self.gateway.channel();
        let range = Range::prefix(self.view.keys().prefix());
        let all: Ranged = channel.call("/v3/kv/range", &range).await?;
        let mut moves = self.gateway.moves();
        let revision = all.header.revision.0;
        self.view.learned_all(revision, all.kvs)?;
        let watch = Watch::from(range, revision.saturating_add(1));
        let mut lines = channel.stream("/v3/watch", &watch).await?;
        loop {
            let watched: Watched = tokio::select! {
                line = lines.next() => line?,
                _ = moves.changed() => return Err(Ended::Moved),
            };
            if watched.compact_revision.0 > 0 {
                return Err(Ended::Compacted(watched.compact_revision.0));
            }
            if watched.canceled {
                let why = format!("{} ends the watch: {}", lines.endpoint(), watched.cancel_reason);
                return Err(Ended::Cancelled(why));
            }
            for event in watched.events {
                self.view.happened(event)?;
            }
        }
    }
}
