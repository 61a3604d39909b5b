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
        "shifted-offsets" => "let the store make a full sync (REPLICAOF) instead of a hand-over (FAILOVER)",
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
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use segue_wire::{Grade, Loss, Refusal, Side};

    use super::*;

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
        ];
        for refusal in refusals {
            assert!(advice(refusal.label()).is_some(), "{}", refusal.label());
        }
        assert_eq!(advice("something-new"), None);
    }
}
