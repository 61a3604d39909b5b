//! From when to when certificates are good.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::{parse_x509_certificate, time::ASN1Time};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    from: ASN1Time,
    to: ASN1Time,
}

impl Validity {
    /// While all of them are good; `None` of none.
    pub(super) fn of_all(certificates: &[CertificateDer<'_>]) -> Result<Option<Self>, String> {
        merged(certificates, |one, other| Self { from: one.from.max(other.from), to: one.to.min(other.to) })
    }

    /// Until none of them is good any more; `None` of none.
    pub(super) fn of_any(certificates: &[CertificateDer<'_>]) -> Result<Option<Self>, String> {
        merged(certificates, |one, other| Self { from: one.from.min(other.from), to: one.to.max(other.to) })
    }

    #[must_use]
    pub fn end_unix_s(&self) -> i64 {
        self.to.timestamp()
    }

    /// What is wrong at that time, with the date.
    #[must_use]
    pub fn fault(&self, now: SystemTime) -> Option<String> {
        let now_s = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let now_s = i64::try_from(now_s).unwrap_or(i64::MAX);
        let date = |time: ASN1Time| time.to_datetime().date();
        if now_s > self.to.timestamp() {
            Some(format!("expired on {}", date(self.to)))
        } else if now_s < self.from.timestamp() {
            Some(format!("not valid before {}", date(self.from)))
        } else {
            None
        }
    }
}

fn merged(
    certificates: &[CertificateDer<'_>],
    merge: impl Fn(Validity, Validity) -> Validity,
) -> Result<Option<Validity>, String> {
    let mut all = None;
    for certificate in certificates {
        let (_, parsed) =
            parse_x509_certificate(certificate).map_err(|error| format!("not X.509: {error}"))?;
        let one = Validity { from: parsed.validity.not_before, to: parsed.validity.not_after };
        all = Some(all.map_or(one, |all| merge(all, one)));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_chain_is_good_while_all_of_it_is_and_a_bundle_while_any_is() {
        let at = |s| ASN1Time::from_timestamp(s).unwrap();
        let of = |from, to| Validity { from: at(from), to: at(to) };
        let fault = |validity: Validity, s| validity.fault(UNIX_EPOCH + Duration::from_secs(s));
        let validity = of(86_400, 172_800);
        assert_eq!(fault(validity, 86_399).unwrap(), "not valid before 1970-01-02");
        assert_eq!((fault(validity, 86_400), fault(validity, 172_800)), (None, None));
        assert_eq!(fault(validity, 172_801).unwrap(), "expired on 1970-01-03");
        assert_eq!(validity.end_unix_s(), 172_800);
    }
}
