/// What an operator can do about a refusal, by its label (`segue_refusals_total{reason}`).
pub(super) fn advice(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "unknown-release" => {
            "set `release` of that [[peer]] in the config, or let the sidecar log in to ask it (password_file)"
        }
        "unsupported-pair" => "bring one of the two ends to a release in between",
        "loss" => {
            "remove that content from the sending store, or let it be left out and counted: segue translate MODE \
             --loss degrade"
        }
        "missing-capability" => {
            "check that a store of the named release dials there, and not some other client"
        }
        "shifted-offsets" => {
            "let the store make a full sync (REPLICAOF) instead of a hand-over (FAILOVER); in a cluster stop the \
         writes, wait until the replica has all, and use CLUSTER FAILOVER FORCE"
        }
        "slot-migration" => "reshard by MIGRATE (redis-cli --cluster reshard) until both are of one release",
        "links-max" => "find out who dials so often, or raise links_max under [limits] in the config",
        "undecided-links-max" => {
            "find out who dials and says nothing, or raise undecided_links_max under [limits]"
        }
        "held-bytes-total-max" => {
            "find the link that holds so much (segue status) and why its receiver is slow, or raise \
             held_bytes_total_max under [limits]"
        }
        "handshake-timeout" => {
            "find out who dials there and stops in the middle of a command, or raise handshake_timeout_ms under [limits]"
        }
        "plain-on-tls" => {
            "let it speak TLS (tls-replication yes), or say tls = false in that [[link]]; an intercepted port: in \
             [intercept] plain_ports"
        }
        "tls-on-plain" => {
            "give the config a [tls], or take tls = false out of that [[link]], [[peer]] or [node]; or let plain \
             bytes come"
        }
        "tls-no-certificate" => {
            "let it show one (tls-cert-file, tls-key-file), or say auth_clients = \"optional\" under [tls]"
        }
        "tls-certificate-expired" => "renew the certificate of that end; are the clocks right?",
        "tls-unknown-ca" => "put the certificate of the CA that signed it into ca_file under [tls]",
        "tls-wrong-name" => {
            "use the name that the certificate is for in `store`, or take verify_name out of [tls]"
        }
        "tls-certificate" => "issue another certificate for that end: X.509 v3, for servers and clients",
        "tls-alert" => {
            "its log says more; mostly it must know the CA that signed certificate_file under [tls] (tls-ca-cert-file)"
        }
        "tls-timeout" => "check that TLS is spoken at that address, or say tls = false there",
        "tls-failed" => "compare the TLS versions and ciphers of both ends: Segue speaks 1.2 and 1.3",
        "tls-no-keys" => "nothing: the link was opened while the config lost its [tls]",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use segue_wire::{Grade, Loss, Refusal, Side};

    use tokio_rustls::rustls::CertificateError;

    use super::*;
    use crate::tls::TlsError;

    #[test]
    fn every_refusal_has_advice() {
        let release = || "redis-6.0".parse().unwrap();
        let loss = Loss { kind: "k", grade: Grade::Data, what: String::new(), key: None, db: 0 };
        let refusals = [
            Refusal::UnknownRelease { side: Side::Dialer },
            Refusal::UnsupportedPair { from: release(), to: release() },
            Refusal::Loss { to: release(), loss: Box::new(loss) },
            Refusal::MissingCapability { capability: "eof" },
            Refusal::ShiftedOffsets,
            Refusal::SlotMigration { from: release(), to: release() },
        ];
        for refusal in refusals {
            assert!(advice(refusal.label()).is_some(), "{}", refusal.label());
        }
        let expired = TlsError::Certificate(CertificateError::Expired);
        for error in [TlsError::Plain, TlsError::NotPlain, TlsError::NoCertificate, TlsError::NoKeys, expired]
        {
            assert!(advice(error.label().unwrap()).is_some(), "{error}");
        }
        assert_eq!(advice("something-new"), None);
    }
}
