//! Certificate, key and CA: read from their files, ready for handshakes.

use std::{
    fmt,
    fs::{self, File},
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio_rustls::rustls::{
    self, ClientConfig, RootCertStore, ServerConfig,
    client::WebPkiServerVerifier,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

use super::{name_blind::NameBlind, validity::Validity};

/// A larger file is no certificate.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// Each in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// What is shown to dialers, and to stores that ask for it; the chain, its own certificate first.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Who signs the certificates of dialers and stores; one or more.
    pub ca: PathBuf,
}

/// Must a dialer show a certificate? As `tls-auth-clients` of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthClients {
    Yes,
    No,
    /// One that is shown must be good.
    Optional,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub files: Files,
    pub auth_clients: AuthClients,
    /// A store's certificate must be for the host that was dialled.
    pub verify_name: bool,
}

/// As the files were when they were read.
#[derive(Clone)]
pub struct Keys {
    settings: Settings,
    stamps: Stamps,
    /// Of the chain, and of the CAs.
    validities: [Option<Validity>; 2],
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
}

/// What tells one state of the three files from another.
pub(super) type Stamps = [Option<(i64, i64, u64, u64)>; 3];

/// What is wrong with which file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    #[error("certificate_file {0:?}: {1}")]
    Certificate(PathBuf, String),
    #[error("key_file {0:?}: {1}")]
    Key(PathBuf, String),
    #[error("ca_file {0:?}: {1}")]
    Ca(PathBuf, String),
}

impl Keys {
    /// # Errors
    /// A file that can't be read or is no PEM, a key that is not the certificate's.
    pub fn read(settings: Settings) -> Result<Self, KeysError> {
        // Looked at first: what changes while the files are read is read again.
        let stamps = settings.files.stamps();
        let Files { certificate, key, ca } = &settings.files;
        let certificate_error = |why| KeysError::Certificate(certificate.clone(), why);
        let chain = certificates(certificate).map_err(certificate_error)?;
        let key_error = |why| KeysError::Key(key.clone(), why);
        let private_key = private_key(key).map_err(key_error)?;
        let ca_error = |why| KeysError::Ca(ca.clone(), why);
        let ca_certificates = certificates(ca).map_err(ca_error)?;
        let validities = [
            Validity::of_all(&chain).map_err(certificate_error)?,
            Validity::of_any(&ca_certificates).map_err(ca_error)?,
        ];
        let roots = Arc::new(roots(ca_certificates).map_err(ca_error)?);
        let provider = Arc::new(ring::default_provider());

        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
        let verifier = match settings.auth_clients {
            AuthClients::Yes => verifier.build().map_err(|error| ca_error(error.to_string()))?,
            AuthClients::Optional => {
                verifier.allow_unauthenticated().build().map_err(|error| ca_error(error.to_string()))?
            }
            AuthClients::No => WebPkiClientVerifier::no_client_auth(),
        };
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| key_error(error.to_string()))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), private_key.clone_key())
            .map_err(|error| key_error(mismatch(&error)))?;
        // A ticket would come when nothing is awaited, or before it: a store takes it for the beginning of an
        // answer, and does nothing else until the end has come. Asked for its release, it would be silent.
        server.send_tls13_tickets = 0;
        let client = client(provider, roots, settings.verify_name)
            .map_err(|error| ca_error(error.to_string()))?
            .with_client_auth_cert(chain, private_key)
            .map_err(|error| key_error(mismatch(&error)))?;
        Ok(Self { settings, stamps, validities, server: Arc::new(server), client: Arc::new(client) })
    }

    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// By the key of the file.
    pub fn validities(&self) -> impl Iterator<Item = (&'static str, Validity)> {
        let named = ["certificate_file", "ca_file"].into_iter().zip(self.validities);
        named.filter_map(|(key, validity)| Some((key, validity?)))
    }

    pub(super) const fn stamps(&self) -> &Stamps {
        &self.stamps
    }
}

/// Read from the same files in the same state.
impl PartialEq for Keys {
    fn eq(&self, other: &Self) -> bool {
        (&self.settings, &self.stamps) == (&other.settings, &other.stamps)
    }
}

impl Eq for Keys {}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Files {
    pub(super) fn stamps(&self) -> Stamps {
        [&self.certificate, &self.key, &self.ca].map(|file| {
            let found = fs::metadata(file).ok()?;
            Some((found.mtime(), found.mtime_nsec(), found.size(), found.ino()))
        })
    }
}

pub(super) type ClientBuilder = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

pub(super) fn client(
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    verify_name: bool,
) -> Result<ClientBuilder, Box<dyn std::error::Error>> {
    let builder =
        ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    if verify_name {
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build()?;
        return Ok(builder.with_webpki_verifier(verifier));
    }
    let verifier = Arc::new(NameBlind::new(roots, &provider));
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier))
}

pub(super) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = text(file)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match all {
        Ok(all) if all.is_empty() => Err("no certificate is in it; expected PEM".to_owned()),
        Ok(all) => Ok(all),
        Err(_) => Err("damaged PEM".to_owned()),
    }
}

/// Nothing of the file is shown, whatever is wrong with it.
pub(super) fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let text = text(file)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
        let encrypted = String::from_utf8_lossy(&text).contains("ENCRYPTED");
        let why = if encrypted {
            "the key has a passphrase; expected one without"
        } else {
            "no private key is in it; expected PEM"
        };
        why.to_owned()
    })
}

pub(super) fn roots(certificates: Vec<CertificateDer<'static>>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|error| format!("not a CA's certificate: {error}"))?;
    }
    Ok(roots)
}

fn text(file: &Path) -> Result<Vec<u8>, String> {
    let opened = File::open(file).map_err(|error| error.to_string())?;
    let mut text = Vec::new();
    let limit = PEM_BYTES_MAX.saturating_add(1);
    opened.take(limit).read_to_end(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > PEM_BYTES_MAX {
        return Err(format!("larger than {PEM_BYTES_MAX} bytes"));
    }
    Ok(text)
}

pub(super) fn mismatch(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            "it is not the key of the certificate in certificate_file".to_owned()
        }
        other => other.to_string(),
    }
}
