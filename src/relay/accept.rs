//! From an accepted connection to the end of its link.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use segue_wire::Side;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{Shared, link::Link, opening::Opening, pump::Pump};
use crate::{
    config::{self, LinkTarget},
    net,
};

/// After a failed accept (no file descriptors left, mostly) the listener rests this long.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Accepts on one listener until `stop`, then waits for its links to end.
pub async fn run(
    shared: Arc<Shared>,
    listener: TcpListener,
    configured: config::Link,
    stop: CancellationToken,
) {
    let mut links = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = links.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((dialer, _)) => {
                links.spawn(serve(shared.clone(), configured.clone(), dialer));
            }
            Err(error) => {
                tracing::error!(listen = %configured.listen, %error, "accept failed");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
    drop(listener);
    while links.join_next().await.is_some() {}
}

/// One link, from its connection to its end.
async fn serve(shared: Arc<Shared>, configured: config::Link, dialer: TcpStream) {
    let Ok(dialer_address) = dialer.peer_addr() else { return };
    let (target, target_name) = match &configured.to {
        LinkTarget::Store => (shared.peers.own_store().clone(), shared.peers.own_name().clone()),
        LinkTarget::Peer(peer) => match shared.peers.store_of(peer) {
            Some(store) => (store.clone(), peer.clone()),
            None => return,
        },
    };
    if shared.links().len() >= shared.config.limits.links_max {
        shared.refused(
            &configured,
            None,
            "links-max",
            format!("limits.links_max = {} links are open", shared.config.limits.links_max),
        );
        return;
    }
    let opened = async {
        net::prepare(&dialer)?;
        net::dial(&target.to_string(), shared.config.limits.dial_timeout).await
    };
    let listener = match opened.await {
        Ok(listener) => listener,
        Err(error) => {
            shared.metrics.dial_failures.with_label_values(&[&*target_name]).inc();
            tracing::warn!(listen = %configured.listen, to = %target, %error, "the far end can't be reached");
            return;
        }
    };
    let id = shared.next_link.fetch_add(1, Relaxed);
    let link = Arc::new(Link::new(id, configured.listen, dialer_address, target.to_string(), &shared.stop));
    if let Some(peer) = &configured.peer {
        link.facts().dialer.name = Some(peer.clone());
    }
    shared.links().insert(id, link.clone());
    tracing::debug!(link = id, from = %dialer_address, to = %target, "link opened");

    let near = match configured.to {
        LinkTarget::Store => Side::Listener,
        LinkTarget::Peer(_) => Side::Dialer,
    };
    let session = shared.open_session(near);
    let opening = Opening::new(shared.clone(), configured);
    let stop = Pump::new(&link, &opening, session, dialer, listener).run().await;
    shared.links().remove(&id);
    link.ended.cancel();
    shared.stopped(&link, &opening.configured, stop);
}
