//! Certificates for stores and sidecars, from authorities of the lab's own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use tempfile::TempDir;

/// Signs certificates that are good for client and server, for `127.0.0.1` and `localhost`.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

/// The files of one certificate, and of the authority that signed it; each in PEM.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub ca: PathBuf,
}

impl Authority {
    /// # Errors
    /// A file can't be written.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = params(name, &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let folder = tempfile::Builder::new().prefix("segue-ca-").tempdir()?;
        fs::write(folder.path().join("ca.crt"), issuer.pem())?;
        Ok(Self { issuer, folder })
    }

    /// Its files are `<name>.crt` and `<name>.key`; those of a certificate of the same name are replaced.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn issue(&self, name: &str) -> Result<Certificate> {
        self.sign(name, params(name, &["127.0.0.1", "localhost"])?)
    }

    /// One whose time is over.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn issue_expired(&self, name: &str) -> Result<Certificate> {
        let mut params = params(name, &["127.0.0.1", "localhost"])?;
        params.not_after = date_time_ymd(2001, 1, 1);
        self.sign(name, params)
    }

    /// One that is not good yet.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn issue_early(&self, name: &str) -> Result<Certificate> {
        let mut params = params(name, &["127.0.0.1", "localhost"])?;
        params.not_before = date_time_ymd(4000, 1, 1);
        self.sign(name, params)
    }

    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn sign(&self, name: &str, mut params: CertificateParams) -> Result<Certificate> {
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let folder = self.folder();
        let files = Certificate {
            certificate: folder.join(format!("{name}.crt")),
            key: folder.join(format!("{name}.key")),
            ca: folder.join("ca.crt"),
        };
        fs::write(&files.certificate, params.signed_by(&key, &self.issuer)?.pem())?;
        fs::write(&files.key, key.serialize_pem())?;
        Ok(files)
    }
}

impl Certificate {
    /// The options with which a store shows it, and asks for such ones.
    #[must_use]
    pub fn store_arguments(&self) -> [String; 6] {
        let path = |path: &Path| path.display().to_string();
        let [cert, key, ca] = ["--tls-cert-file", "--tls-key-file", "--tls-ca-cert-file"].map(str::to_owned);
        [cert, path(&self.certificate), key, path(&self.key), ca, path(&self.ca)]
    }

    /// A sidecar's `[tls]`.
    #[must_use]
    pub fn sidecar_table(&self) -> String {
        let Self { certificate, key, ca } = self;
        format!("[tls]\ncertificate_file = {certificate:?}\nkey_file = {key:?}\nca_file = {ca:?}\n")
    }
}

fn params(name: &str, hosts: &[&str]) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>())?;
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}
