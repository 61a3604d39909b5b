//! `[mesh] etcd`: one that runs already, in place of the sidecars' own raft. Read and checked.

use std::{fmt, path::Path, str::FromStr, time::Duration};

use segue_wire::PeerName;

use super::{
    Credentials, StoreAddress,
    check::credentials,
    document::{At, Section},
    mesh,
    problem::Problems,
    written::{WrittenStore, non_empty},
};
use crate::tls::{ClientFiles, KeysError};

/// Most endpoints of an etcd.
pub const ENDPOINTS_MAX: usize = 16;
/// Of a prefix, or a cluster's name.
const NAME_BYTES_MAX: usize = 128;
const PREFIX_DEFAULT: &str = "/segue/";
/// Etcd itself grants no shorter lease than two seconds or so.
const LEASE_S: std::ops::RangeInclusive<u64> = 2..=60;
const LEASE_DEFAULT: Duration = Duration::from_secs(5);

/// How the sidecars reach an etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etcd {
    /// Never empty. One is used until it fails, then the next.
    pub endpoints: Vec<Endpoint>,
    /// What the keys of all clusters of this etcd begin with, such as `/segue/`.
    pub prefix: String,
    /// Tells this cluster from others on the same etcd.
    pub cluster: String,
    /// All sidecars, the own one too.
    pub members: Vec<PeerName>,
    /// With a user name.
    pub login: Option<Credentials>,
    /// There where an endpoint is `https`.
    pub tls: Option<ClientFiles>,
    /// A sidecar that is silent for this long leads no more, and is gone. In whole seconds.
    pub lease: Duration,
    /// How long it may take until something is agreed on.
    pub propose_timeout: Duration,
}

/// Where one member of an etcd answers its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub tls: bool,
    pub address: StoreAddress,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.address)
    }
}

/// `[mesh]` with the key `etcd`.
pub(super) struct WrittenEtcd {
    line: usize,
    endpoints: Option<Vec<Endpoint>>,
    prefix: Option<At<String>>,
    cluster: Option<At<String>>,
    user: Option<At<String>>,
    password_file: Option<At<String>>,
    ca_file: Option<At<String>>,
    certificate_file: Option<At<String>>,
    key_file: Option<At<String>>,
    lease: Duration,
    propose_timeout: Duration,
}

pub(super) fn read(mut section: Section<'_>, problems: &mut Problems) -> WrittenEtcd {
    let line = section.line();
    let endpoints = section.texts("etcd", "the URLs of etcd's members", str::parse, problems);
    let mut file = |key| section.text(key, "the path of a file in PEM", non_empty, problems);
    let (ca_file, certificate_file, key_file) =
        (file("etcd_ca_file"), file("etcd_certificate_file"), file("etcd_key_file"));
    let lease = section.number("etcd_lease_s", "seconds", LEASE_S, problems);
    let written = WrittenEtcd {
        line,
        endpoints,
        prefix: section.text("etcd_prefix", "what the keys begin with", prefix, problems),
        cluster: section.required_text(
            "etcd_cluster",
            "a name that no other cluster has on this etcd, such as \"orders\"",
            cluster,
            problems,
        ),
        user: section.text("etcd_user", "a user of etcd", non_empty, problems),
        password_file: section.text("etcd_password_file", "the path of a file", non_empty, problems),
        ca_file,
        certificate_file,
        key_file,
        lease: lease.map_or(LEASE_DEFAULT, Duration::from_secs),
        propose_timeout: mesh::propose_timeout(&mut section, problems),
    };
    section.finish(problems);
    written
}

pub(super) fn check(
    written: WrittenEtcd,
    node: Option<&WrittenStore>,
    peers: &[WrittenStore],
    folder: &Path,
    problems: &mut Problems,
) -> Option<Etcd> {
    let line = written.line;
    let endpoints = written.endpoints?;
    if endpoints.is_empty() || endpoints.len() > ENDPOINTS_MAX {
        let message =
            format!("{} endpoints; expected at least one and at most {ENDPOINTS_MAX}", endpoints.len());
        problems.add(line, "[mesh] etcd", message);
    }
    if let (Some(file), None) = (&written.password_file, &written.user) {
        file.problem(problems, "a password without a user; expected etcd_user beside it");
    }
    if let Some(far) =
        endpoints.iter().find(|endpoint| !endpoint.tls && !mesh::is_loopback(&endpoint.address))
        && let Some(user) = &written.user
    {
        user.warning(problems, format!("its password goes to {far} as it is; use https"));
    }
    let login = credentials(written.user, written.password_file, folder, problems);
    let certificate = match (written.certificate_file, written.key_file) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(at), None) => {
            at.problem(problems, "a certificate without a key; expected etcd_key_file beside it");
            None
        }
        (None, Some(at)) => {
            at.problem(problems, "a key without a certificate; expected etcd_certificate_file beside it");
            None
        }
    };
    let tls = client_files(written.ca_file, certificate, folder, problems);
    if tls.is_none()
        && let Some(endpoint) = endpoints.iter().find(|endpoint| endpoint.tls)
    {
        let message = format!("{endpoint} speaks TLS; expected etcd_ca_file, to know it by");
        problems.add(line, "[mesh] etcd", message);
    }
    for unused in peers.iter().filter_map(|peer| peer.mesh.as_ref()) {
        unused.warning(problems, "nobody is asked there: the sidecars agree by etcd");
    }
    let names = node.into_iter().chain(peers).filter_map(|store| Some(store.id.as_ref()?.value.clone()));
    Some(Etcd {
        endpoints,
        prefix: written.prefix.map_or_else(|| PREFIX_DEFAULT.to_owned(), |prefix| prefix.value),
        cluster: written.cluster?.value,
        members: names.collect(),
        login,
        tls,
        lease: written.lease,
        propose_timeout: written.propose_timeout,
    })
}

/// They are read once, so that what is wrong with them shows now.
fn client_files(
    ca: Option<At<String>>,
    certificate: Option<(At<String>, At<String>)>,
    folder: &Path,
    problems: &mut Problems,
) -> Option<ClientFiles> {
    let Some(ca) = ca else {
        if let Some((certificate, _)) = certificate {
            certificate.problem(problems, "a certificate without a CA; expected etcd_ca_file beside it");
        }
        return None;
    };
    let path = |at: &At<String>| folder.join(&at.value);
    let files = ClientFiles {
        ca: path(&ca),
        certificate: certificate.as_ref().map(|(certificate, key)| (path(certificate), path(key))),
    };
    if let Err(error) = files.read() {
        let (certificate, key) = certificate.unzip();
        let (at, file, why) = match &error {
            KeysError::Certificate(file, why) => (certificate, file, why),
            KeysError::Key(file, why) => (key, file, why),
            KeysError::Ca(file, why) => (Some(ca), file, why),
        };
        if let Some(at) = at {
            at.problem(problems, format!("cannot use {}: {why}", file.display()));
        }
    }
    Some(files)
}

fn prefix(text: &str) -> Result<String, &'static str> {
    let good =
        text.len() <= NAME_BYTES_MAX && text.ends_with('/') && text.bytes().all(|b| b.is_ascii_graphic());
    if good { Ok(text.to_owned()) } else { Err("expected a text without blanks that ends in \"/\"") }
}

fn cluster(text: &str) -> Result<String, &'static str> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.bytes().all(good) {
        Ok(text.to_owned())
    } else {
        Err("expected a name of letters, digits, \"-\", \"_\" and \".\"")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the URL of a member of etcd, such as \"https://10.0.0.9:2379\"")]
pub struct ParseEndpointError;

impl FromStr for Endpoint {
    type Err = ParseEndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once("://").ok_or(ParseEndpointError)?;
        let tls = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(ParseEndpointError),
        };
        let address = rest.strip_suffix('/').unwrap_or(rest).parse().map_err(|_| ParseEndpointError)?;
        Ok(Self { tls, address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_urls_with_a_port() {
        for text in ["http://127.0.0.1:2379", "https://etcd-0.etcd:2379", "https://[::1]:1"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        assert_eq!("http://a:1/".parse::<Endpoint>().unwrap().to_string(), "http://a:1");
        for text in ["", "127.0.0.1:2379", "http://a", "ftp://a:1", "http://a:1/v3", "http://u@a:1"] {
            assert_eq!(text.parse::<Endpoint>(), Err(ParseEndpointError), "{text}");
        }
    }
}
