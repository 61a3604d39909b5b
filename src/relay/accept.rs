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

use super::{
    Shared,
    link::Link,
    opening::Opening,
    pump::Pump,
    route::{Accepts, Route},
};
use crate::{config::LinkTarget, net};

/// After a failed accept (no file descriptors left, mostly) the listener rests this long.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Accepts on one listener until `stop`, then waits for its links to end.
pub async fn run(shared: Arc<Shared>, listener: TcpListener, accepts: Accepts, stop: CancellationToken) {
    let accepts = Arc::new(accepts);
    let mut links = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = links.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((dialer, _)) => {
                links.spawn(serve(shared.clone(), accepts.clone(), dialer));
            }
            Err(error) => {
                tracing::error!(listen = %accepts.listen(), %error, "accept failed");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
    drop(listener);
    while links.join_next().await.is_some() {}
}

/// One link, from its connection to its end.
async fn serve(shared: Arc<Shared>, accepts: Arc<Accepts>, dialer: TcpStream) {
    let Ok(dialer_address) = dialer.peer_addr() else { return };
    // Two numbers, and not all the limits: what is alive over an await costs each idle link its bytes.
    let (links_max, dial_timeout) = {
        let config = shared.config();
        (config.limits.links_max, config.limits.dial_timeout)
    };
    if shared.links().len() >= links_max {
        shared.refused(
            &accepts.configured(),
            None,
            "links-max",
            format!("limits.links_max = {links_max} links are open"),
        );
        return;
    }
    let route = match Box::pin(accepts.route(&shared, &dialer)).await {
        Ok(route) => route,
        Err(why) => {
            shared.refused(&accepts.configured(), None, why.label(), why.to_string());
            return;
        }
    };
    let opened = async {
        net::prepare(&dialer)?;
        Box::pin(route.dial(dial_timeout)).await
    };
    let listener = match opened.await {
        Ok(listener) => listener,
        Err(error) => {
            shared.metrics.dial_failures.with_label_values(&[&*route.label]).inc();
            tracing::warn!(listen = %accepts.listen(), to = %route.target, %error, "the far end can't be reached");
            return;
        }
    };
    let Route { configured, target, .. } = route;
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
