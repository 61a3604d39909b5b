//! Why there is no TLS, by a stable label.

use std::{io, time::Duration};

use tokio_rustls::rustls::{self, AlertDescription, CertificateError, InvalidMessage};

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("no TLS handshake within {0:?} (limits.tls_handshake_timeout_ms): is TLS spoken there?")]
    TimedOut(Duration),
    #[error("plain bytes came where the config says TLS")]
    Plain,
    #[error("TLS came where the config says plain bytes")]
    NotPlain,
    #[error("no certificate was shown, and tls.auth_clients asks for one")]
    NoCertificate,
    #[error("the certificate that was shown is not accepted: {0}")]
    Certificate(CertificateError),
    /// It is the other end that does not agree, to our certificate mostly.
    #[error("the other end ends the handshake: {0:?}")]
    Alert(AlertDescription),
    #[error("TLS failed: {0}")]
    Other(rustls::Error),
    #[error("the config has no [tls] any more")]
    NoKeys,
    #[error(transparent)]
    Io(io::Error),
}

impl TlsError {
    /// A stable label, as in `segue_refusals_total{reason}`; `None` where only the connection broke.
    #[must_use]
    pub const fn label(&self) -> Option<&'static str> {
        Some(match self {
            Self::TimedOut(_) => "tls-timeout",
            Self::Plain => "plain-on-tls",
            Self::NotPlain => "tls-on-plain",
            Self::NoCertificate => "tls-no-certificate",
            Self::Certificate(error) => match error {
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => "tls-certificate-expired",
                CertificateError::UnknownIssuer | CertificateError::BadSignature => "tls-unknown-ca",
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    "tls-wrong-name"
                }
                _ => "tls-certificate",
            },
            Self::Alert(_) => "tls-alert",
            Self::Other(_) => "tls-failed",
            Self::NoKeys => "tls-no-keys",
            Self::Io(_) => return None,
        })
    }

    /// What TLS itself says in an error of a stream, if it does.
    #[must_use]
    pub fn in_error(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref::<rustls::Error>().map(|error| error.clone().into())
    }
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        match error {
            rustls::Error::NoCertificatesPresented => Self::NoCertificate,
            rustls::Error::InvalidCertificate(error) => Self::Certificate(error),
            rustls::Error::AlertReceived(alert) => Self::Alert(alert),
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::Plain,
            other => Self::Other(other),
        }
    }
}

impl From<io::Error> for TlsError {
    fn from(error: io::Error) -> Self {
        Self::in_error(&error).unwrap_or(Self::Io(error))
    }
}
