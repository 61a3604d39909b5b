//! Both kinds of handshake, each within a time.

use std::{io, sync::Arc, time::Duration};

use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{
    TlsAcceptor, TlsConnector, TlsStream,
    rustls::{ClientConfig, Error, pki_types::ServerName},
};

use super::{
    Keys, Stream, TlsError,
    stream::{Tls, Wire},
};

/// With who dialled.
///
/// # Errors
/// Plain bytes, no good certificate, no agreement, no end within the limit.
pub async fn accept(keys: &Keys, dialer: TcpStream, limit: Duration) -> Result<Stream, TlsError> {
    let wire = Wire::new(dialer);
    within(limit, TlsAcceptor::from(keys.server.clone()).accept(wire.clone()), wire).await
}

/// With the store that was dialled by this host's name or address.
///
/// # Errors
/// As [`accept`].
pub async fn connect(
    keys: &Keys,
    host: &str,
    listener: TcpStream,
    limit: Duration,
) -> Result<Stream, TlsError> {
    connect_as(&keys.client, host, listener, limit).await
}

/// With a server that is no store, as [`ClientFiles::read`](super::ClientFiles::read) says.
///
/// # Errors
/// As [`accept`].
pub async fn connect_as(
    client: &Arc<ClientConfig>,
    host: &str,
    listener: TcpStream,
    limit: Duration,
) -> Result<Stream, TlsError> {
    let name = ServerName::try_from(host.to_owned()).map_err(|error| Error::General(error.to_string()))?;
    let wire = Wire::new(listener);
    within(limit, TlsConnector::from(client.clone()).connect(name, wire.clone()), wire).await
}

async fn within<S: Into<TlsStream<Wire>>>(
    limit: Duration,
    handshake: impl Future<Output = io::Result<S>>,
    wire: Wire,
) -> Result<Stream, TlsError> {
    let stream = timeout(limit, handshake).await.map_err(|_| TlsError::TimedOut(limit))??.into();
    Ok(Stream::Tls(Box::new(Tls::new(stream, wire))))
}
