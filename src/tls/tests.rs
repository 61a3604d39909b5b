use std::{
    fs, io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use prometheus::{IntCounterVec, Opts};
use segue_bench::authority::{Authority, Certificate};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const LIMIT: Duration = Duration::from_secs(30);

/// A connection over loopback, and the keys of its two ends, which trust each other.
pub async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (far, listener.accept().await.unwrap().0)
}

pub fn keys(files: &Certificate, auth_clients: AuthClients, verify_name: bool) -> Keys {
    let Certificate { certificate, key, ca } = files.clone();
    Keys::read(Settings { files: Files { certificate, key, ca }, auth_clients, verify_name }).unwrap()
}

/// Both ends of a connection that speaks TLS: who dialled, who was dialled.
pub async fn linked(keys: &Keys) -> (Stream, Stream) {
    let (far, near) = pair().await;
    let (dialled, accepted) =
        tokio::join!(handshake::connect(keys, "127.0.0.1", far, LIMIT), handshake::accept(keys, near, LIMIT));
    (dialled.unwrap(), accepted.unwrap())
}

#[test]
fn tls_is_known_by_its_first_bytes() {
    for bytes in [&[0x16, 0x03, 0x01, 0x02][..], &[0x15, 0x03], &[0x16]] {
        assert!(begins_tls(bytes), "{bytes:?}");
    }
    for bytes in [&b"PING\r\n"[..], b"*1\r\n", b"", b"\n", &[0x16, 0x0d]] {
        assert!(!begins_tls(bytes), "{bytes:?}");
    }
}

#[tokio::test]
async fn one_who_says_nothing_is_given_up_in_time() {
    let authority = Authority::new("the lab").unwrap();
    let keys = keys(&authority.issue("n1").unwrap(), AuthClients::Yes, false);
    let limit = Duration::from_millis(50);
    let (_silent, near) = pair().await;
    let error = handshake::accept(&keys, near, limit).await.err().unwrap();
    assert_eq!(error.label(), Some("tls-timeout"));
    let (far, _silent) = pair().await;
    let error = handshake::connect(&keys, "127.0.0.1", far, limit).await.err().unwrap();
    assert_eq!(error.label(), Some("tls-timeout"));
}

#[tokio::test]
async fn a_dialer_is_sent_nothing_that_it_did_not_ask_for() {
    let authority = Authority::new("the lab").unwrap();
    let keys = keys(&authority.issue("n1").unwrap(), AuthClients::Yes, false);
    let (far, near) = pair().await;
    let far = far.into_std().unwrap();
    let watched = far.try_clone().unwrap();
    let far = TcpStream::from_std(far).unwrap();
    let (dialled, accepted) = tokio::join!(
        handshake::connect(&keys, "127.0.0.1", far, LIMIT),
        handshake::accept(&keys, near, LIMIT)
    );
    let _open = (dialled.unwrap(), accepted.unwrap());
    assert_eq!(watched.peek(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_name_is_checked_only_where_it_is_to_be() {
    let authority = Authority::new("the lab").unwrap();
    let files = authority.issue("n1").unwrap();
    for (verify_name, host, refused) in [
        (true, "127.0.0.1", None),
        (true, "localhost", None),
        (true, "n2.example", Some("tls-wrong-name")),
        (false, "n2.example", None),
    ] {
        let keys = keys(&files, AuthClients::Yes, verify_name);
        let (far, near) = pair().await;
        let (dialled, _accepted) =
            tokio::join!(handshake::connect(&keys, host, far, LIMIT), handshake::accept(&keys, near, LIMIT));
        assert_eq!(dialled.err().and_then(|error| error.label()), refused, "{verify_name} {host}");
    }
}

#[tokio::test]
async fn a_dialer_without_a_certificate_is_refused_unless_it_need_not_show_one() {
    use tokio_rustls::{TlsConnector, rustls};
    let authority = Authority::new("the lab").unwrap();
    let files = authority.issue("n1").unwrap();
    for (auth_clients, refused) in [
        (AuthClients::Yes, Some("tls-no-certificate")),
        (AuthClients::Optional, None),
        (AuthClients::No, None),
    ] {
        let keys = keys(&files, auth_clients, false);
        let mut bare = rustls::ClientConfig::clone(&keys.client);
        bare.client_auth_cert_resolver = Arc::new(NoCertificate);
        let (far, near) = pair().await;
        let name = "localhost".try_into().unwrap();
        let connector = TlsConnector::from(Arc::new(bare));
        let (_dialled, accepted) =
            tokio::join!(connector.connect(name, far), handshake::accept(&keys, near, LIMIT));
        assert_eq!(accepted.err().and_then(|error| error.label()), refused, "{auth_clients:?}");
    }

    #[derive(Debug)]
    struct NoCertificate;

    impl rustls::client::ResolvesClientCert for NoCertificate {
        fn resolve(
            &self,
            _issuers: &[&[u8]],
            _schemes: &[rustls::SignatureScheme],
        ) -> Option<Arc<rustls::sign::CertifiedKey>> {
            None
        }

        fn has_certs(&self) -> bool {
            false
        }
    }
}

#[test]
fn renewed_files_are_used_once_they_fit_each_other() {
    let authority = Authority::new("the lab").unwrap();
    let files = authority.issue("n1").unwrap();
    let renewals = IntCounterVec::new(Opts::new("renewals", "renewals"), &["outcome"]).unwrap();
    let first = keys(&files, AuthClients::Yes, false);
    let current = Current::new(Some(first.clone()), renewals.clone());
    let in_use = || current.keys.load_full().unwrap();
    let counted = || ["loaded", "refused"].map(|outcome| renewals.with_label_values(&[outcome]).get());
    current.follow_files(&in_use());
    assert!(*in_use() == first && counted() == [0, 0]);

    // The clock of files is too coarse to tell two writes from each other.
    let written = |file, after_s| {
        let file = fs::File::options().write(true).open(file).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(after_s)).unwrap();
    };
    // Half of a renewal: the key comes later.
    let old_key = fs::read(&files.key).unwrap();
    authority.issue("n1").unwrap();
    let new_key = fs::read(&files.key).unwrap();
    fs::write(&files.key, old_key).unwrap();
    written(&files.certificate, 10);
    written(&files.key, 10);
    current.follow_files(&in_use());
    current.follow_files(&in_use());
    assert!(*in_use() == first && counted() == [0, 1], "said more than once: {:?}", counted());

    fs::write(&files.key, new_key).unwrap();
    written(&files.key, 20);
    current.follow_files(&in_use());
    assert!(*in_use() != first && counted() == [1, 1], "{:?}", counted());
}
