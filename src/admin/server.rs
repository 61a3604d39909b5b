//! Accepts connections, within bounds, and serves one request on each.

use std::{convert::Infallible, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Routes, Sidecar, routes};
use crate::net::bounded;

/// Most bytes of a request's body.
pub const BODY_BYTES_MAX: usize = 8 << 10;
/// Most connections of one listener at a time; the next ones wait in the kernel's backlog.
pub const CONNECTIONS_MAX: usize = 64;
/// How long a client may take to send a request's head.
pub const HEADER_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a connection may live, so that slow clients can't hold all [`CONNECTIONS_MAX`] for good.
pub const CONNECTION_TIME_MAX: Duration = Duration::from_secs(20);
/// How long a stop waits for the answers under way.
const STOP_TIME_MAX: Duration = Duration::from_secs(2);
/// Most bytes of a request's head.
const HEADER_BYTES_MAX: usize = 16 << 10;

/// Serves these routes until `stop`; then accepts no more, and lets the answers under way end.
pub async fn serve(
    listener: TcpListener,
    routes: Routes,
    sidecar: Arc<dyn Sidecar>,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    while let Some((stream, place)) = bounded::next(&listener, &places, &stop, "an admin").await {
        let (sidecar, stop) = (Arc::clone(&sidecar), stop.clone());
        connections.spawn(async move {
            let served = timeout(CONNECTION_TIME_MAX, connection(stream, routes, &*sidecar, &stop)).await;
            if served.is_err() {
                tracing::debug!("an admin connection took longer than {CONNECTION_TIME_MAX:?}");
            }
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    let _in_time = timeout(STOP_TIME_MAX, connections.wait()).await;
}

async fn connection(stream: TcpStream, routes: Routes, sidecar: &dyn Sidecar, stop: &CancellationToken) {
    let Ok(from) = stream.peer_addr() else { return };
    let service = service_fn(|request| async move {
        Ok::<_, Infallible>(routes::answer(request, from, routes, sidecar).await)
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIME_MAX)
            .max_buf_size(HEADER_BYTES_MAX)
            // One request each: an idle connection would hold a place.
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(e) = ended {
        tracing::debug!("an admin connection from {from} ended early: {e}");
    }
}
