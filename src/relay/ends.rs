//! Both ends of a link, connected, with TLS where the route has it.

use std::io;

use segue_wire::Side;
use tokio::net::TcpStream;

use super::{Shared, route::Route};
use crate::{
    net,
    tls::{Stream, TlsError, handshake},
};

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum NoEnds {
    #[error(transparent)]
    Dial(#[from] io::Error),
    #[error("{0}: {1}")]
    Tls(Side, TlsError),
    #[error("the sidecar ends")]
    Stopped,
}

impl Route {
    /// The dialer and the store that it is led to. Who can't prove itself to us costs no store a connection.
    ///
    /// # Errors
    /// The store can't be reached, TLS is not agreed upon, or there are to be no more links.
    pub async fn open(&self, shared: &Shared, dialer: TcpStream) -> Result<[Stream; 2], NoEnds> {
        tokio::select! {
            opened = self.open_both(shared, dialer) => opened,
            () = shared.stop.cancelled() => Err(NoEnds::Stopped),
        }
    }

    async fn open_both(&self, shared: &Shared, dialer: TcpStream) -> Result<[Stream; 2], NoEnds> {
        net::prepare_accepted(&dialer)?;
        let (dial_timeout, handshake_timeout) = {
            let limits = &shared.config().limits;
            (limits.dial_timeout, limits.tls_handshake_timeout)
        };
        let dialer = if self.dialer_tls {
            let accepted = async {
                let keys = shared.tls.keys().await.ok_or(TlsError::NoKeys)?;
                handshake::accept(&keys, dialer, handshake_timeout).await
            };
            accepted.await.map_err(|error| NoEnds::Tls(Side::Dialer, error))?
        } else {
            Stream::Plain(dialer)
        };
        let listener = self.dial(dial_timeout).await?;
        let listener = if self.listener_tls {
            let connected = async {
                let keys = shared.tls.keys().await.ok_or(TlsError::NoKeys)?;
                handshake::connect(&keys, &self.host, listener, handshake_timeout).await
            };
            match connected.await {
                Err(TlsError::Io(error)) => return Err(error.into()),
                connected => connected.map_err(|error| NoEnds::Tls(Side::Listener, error))?,
            }
        } else {
            Stream::Plain(listener)
        };
        Ok([dialer, listener])
    }
}
