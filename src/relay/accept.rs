//! From an accepted connection to the end of its link.

use std::{
    io,
    net::{self as std_net, SocketAddr},
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
    bounds::{Limit, Place},
    ends::NoEnds,
    link::Link,
    opening::Opening,
    pump::Pump,
    route::{Accepts, Route},
    workers::Seat,
};
use crate::{config::LinkTarget, tls::Stream};

/// After a failed accept (no file descriptors left, mostly) the listener rests this long.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// ENFILE and EMFILE: neither the system nor the process may open another file.
const OUT_OF_FILES: [i32; 2] = [23, 24];

/// Accepts on one listener until `stop`, then waits for its links to end.
pub async fn run(
    shared: Arc<Shared>,
    listener: std_net::TcpListener,
    accepts: Accepts,
    stop: CancellationToken,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(listen = %accepts.listen(), %error, "a listener is lost");
            return;
        }
    };
    let accepts = Arc::new(accepts);
    let mut links = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            // First of all: what comes after the stop is another's.
            biased;
            () = stop.cancelled() => break,
            Some(_) = links.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let seat = shared.workers.seat();
        match accepted.and_then(|(dialer, from)| Ok((seat.bring(dialer)?, from))) {
            Ok(dialer) => {
                let runtime = seat.runtime().clone();
                links.spawn_on(serve(shared.clone(), accepts.clone(), dialer, seat), &runtime);
            }
            Err(error) => {
                accept_failed(&shared, &accepts, &error);
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
    drop(listener);
    while links.join_next().await.is_some() {}
}

fn accept_failed(shared: &Shared, accepts: &Accepts, error: &io::Error) {
    let listen = accepts.listen();
    shared.metrics.accept_failures.with_label_values(&[&listen.to_string()]).inc();
    if OUT_OF_FILES.iter().any(|code| error.raw_os_error() == Some(*code)) {
        shared.hit(Limit::OpenFiles);
    }
    if let Some(unsaid) = shared.due(&format!("accept {listen}")) {
        tracing::error!(%listen, %error, unsaid, "accept failed");
    }
}

/// One link, from its connection to its end.
async fn serve(
    shared: Arc<Shared>,
    accepts: Arc<Accepts>,
    (dialer, dialer_address): (TcpStream, SocketAddr),
    _seat: Seat,
) {
    let (_open, undecided) = match admit(&shared) {
        Ok(places) => places,
        Err((limit, detail)) => {
            shared.refused_at(&accepts.configured(), None, limit, detail);
            return;
        }
    };
    // Apart, and gone with what it needs: what is alive over an await here costs each idle link its bytes.
    let opened = Box::pin(open(&shared, &accepts, dialer, dialer_address)).await;
    let Some((link, opening, streams)) = opened else { return };
    let near = match opening.configured.to {
        LinkTarget::Store => Side::Listener,
        LinkTarget::Peer(_) => Side::Dialer,
    };
    let session = shared.open_session(near, opening.configured.bus);
    let stop = Pump::new(&link, &opening, session, undecided, streams).run().await;
    shared.links().remove(&link.id);
    shared.pairing.withdraw(link.id);
    link.ended.cancel();
    shared.stopped(&link, &opening.configured, stop);
}

/// A link and its two ends. Why there is none has been said.
async fn open(
    shared: &Arc<Shared>,
    accepts: &Accepts,
    dialer: TcpStream,
    dialer_address: SocketAddr,
) -> Option<(Arc<Link>, Box<Opening>, Box<[Stream; 2]>)> {
    let route = match accepts.route(shared, &dialer).await {
        Ok(route) => route,
        Err(why) => {
            shared.refused(&accepts.configured(), None, why.label(), why.to_string());
            return None;
        }
    };
    let streams = match route.open(shared, dialer).await {
        Ok(streams) => streams,
        Err(NoEnds::Stopped) => return None,
        Err(NoEnds::Dial(error)) => {
            dial_failed(shared, accepts, &route, &error);
            return None;
        }
        Err(NoEnds::Tls(side, error)) => {
            let (peer, address) = match side {
                Side::Dialer => (route.configured.peer.clone(), dialer_address.to_string()),
                Side::Listener => (Some(route.label.clone()), route.target.to_string()),
            };
            shared.no_tls(&route.configured, peer, (side, &address), &error);
            return None;
        }
    };
    let link = register(shared, &route, dialer_address, &streams);
    let opening = Opening::new(shared.clone(), route.configured.clone(), route.hides_dialer());
    Some((link, Box::new(opening), Box::new(streams)))
}

/// A new link, for all to see.
fn register(
    shared: &Shared,
    route: &Route,
    dialer_address: SocketAddr,
    [dialer, listener]: &[Stream; 2],
) -> Arc<Link> {
    let Route { configured, target, label, .. } = route;
    let id = shared.next_link.fetch_add(1, Relaxed);
    let all_held = shared.bounds.held.clone();
    let link = Link::new(id, configured.listen, dialer_address, target.to_string(), all_held, &shared.stop);
    let link = Arc::new(link);
    {
        let mut facts = link.facts();
        facts.bus = configured.bus;
        facts.dialer.name.clone_from(&configured.peer);
        if let LinkTarget::Peer(peer) = &configured.to
            && label == peer
        {
            facts.listener.name = Some(peer.clone());
        }
        (facts.dialer.tls, facts.listener.tls) = (dialer.version(), listener.version());
    }
    shared.links().insert(id, link.clone());
    tracing::debug!(link = id, from = %dialer_address, to = %target, "link opened");
    link
}

/// Its place among the links and among the undecided ones; or which limit leaves it none.
fn admit(shared: &Shared) -> Result<(Place<'_>, Place<'_>), (Limit, String)> {
    let config = shared.config();
    let (links_max, undecided_links_max) = (config.limits.links_max, config.limits.undecided_links_max);
    let bounds = &shared.bounds;
    if bounds.held.is_full() {
        let detail =
            format!("limits.held_bytes_total_max = {} bytes are held of all links", bounds.held.bytes_max());
        return Err((Limit::HeldBytesTotal, detail));
    }
    let open = bounds.open.take(links_max);
    let open =
        open.ok_or_else(|| (Limit::Links, format!("limits.links_max = {links_max} links are open")))?;
    let undecided = bounds.undecided.take(undecided_links_max).ok_or_else(|| {
        let detail = format!(
            "limits.undecided_links_max = {undecided_links_max} links are open whose dialers have not said enough \
             to tell what they are"
        );
        (Limit::UndecidedLinks, detail)
    })?;
    Ok((open, undecided))
}

fn dial_failed(shared: &Shared, accepts: &Accepts, route: &Route, error: &io::Error) {
    shared.metrics.dial_failures.with_label_values(&[&*route.label]).inc();
    if error.kind() == io::ErrorKind::TimedOut {
        shared.hit(Limit::DialTime);
    }
    if let Some(unsaid) = shared.due(&format!("dial {} {:?}", route.target, error.kind())) {
        tracing::warn!(listen = %accepts.listen(), to = %route.target, %error, unsaid,
            "the far end can't be reached");
    }
}
