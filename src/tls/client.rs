//! What only a dialer needs: a CA, and a certificate where one is asked for.

use std::{path::PathBuf, sync::Arc};

use tokio_rustls::rustls::{ClientConfig, crypto::ring};

use super::{
    KeysError,
    keys::{certificates, client, mismatch, private_key, roots},
};

/// Each in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    /// Who signs the server's certificate; one or more.
    pub ca: PathBuf,
    /// The chain that is shown, and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

impl ClientFiles {
    /// As the files are now. The server's certificate must be for the host that is dialled.
    ///
    /// # Errors
    /// A file that can't be read or is no PEM, a key that is not the certificate's.
    pub fn read(&self) -> Result<Arc<ClientConfig>, KeysError> {
        let ca_error = |why| KeysError::Ca(self.ca.clone(), why);
        let roots = certificates(&self.ca).and_then(roots).map_err(ca_error)?;
        let builder = client(Arc::new(ring::default_provider()), Arc::new(roots), true)
            .map_err(|error| ca_error(error.to_string()))?;
        let Some((certificate, key)) = &self.certificate else {
            return Ok(Arc::new(builder.with_no_client_auth()));
        };
        let chain =
            certificates(certificate).map_err(|why| KeysError::Certificate(certificate.clone(), why))?;
        let key_error = |why| KeysError::Key(key.clone(), why);
        let private_key = private_key(key).map_err(key_error)?;
        let config =
            builder.with_client_auth_cert(chain, private_key).map_err(|error| key_error(mismatch(&error)))?;
        Ok(Arc::new(config))
    }
}
