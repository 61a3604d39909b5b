//! Answers the other members, within bounds.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    member::Member,
    routes,
    wire::{HANDSHAKE_TIME_MAX, HEADER_BYTES_MAX, IDLE_TIME_MAX},
};
use crate::{
    net::{self, bounded},
    tls::{self, Stream, TlsError},
};

/// Most connections at a time; the next ones wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 256;

pub async fn serve(listener: TcpListener, member: Arc<Member>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    while let Some((stream, place)) = bounded::next(&listener, &places, &stop, "a mesh").await {
        let (member, stop) = (member.clone(), stop.clone());
        connections.spawn(async move {
            tokio::select! {
                () = connection(stream, &member) => {}
                () = stop.cancelled() => {}
            }
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn connection(tcp: TcpStream, member: &Member) {
    let Ok(from) = tcp.peer_addr() else { return };
    let stream = match opened(tcp, member).await {
        Ok(stream) => stream,
        Err(error) => return member.refuse("tls", from, &error.to_string()),
    };
    let certificate = stream.certificate();
    let (duplex, _) = stream.into_parts();
    let service = service_fn(|request| {
        let certificate: Option<&CertificateDer<'_>> = certificate.as_ref();
        async move { Ok::<_, Infallible>(routes::answer(request, from, certificate, member).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIME_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(duplex), service)
        .await;
    if let Err(error) = served {
        tracing::debug!("a mesh connection from {from} ended early: {error}");
    }
}

async fn opened(tcp: TcpStream, member: &Member) -> Result<Stream, TlsError> {
    net::prepare(&tcp)?;
    let Some(current) = &member.tls else { return Ok(Stream::Plain(tcp)) };
    let keys = current.keys().await.ok_or(TlsError::NoKeys)?;
    tls::handshake::accept(&keys, tcp, HANDSHAKE_TIME_MAX).await
}

impl Member {
    pub fn refuse(&self, reason: &'static str, from: SocketAddr, why: &str) {
        self.metrics.refusals.with_label_values(&[reason]).inc();
        if let Some(unsaid) = self.seldom.is_due(reason, std::time::Instant::now()) {
            tracing::warn!(%from, reason, why, unsaid, "refused in the mesh");
        }
    }
}
