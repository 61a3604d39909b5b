//! Whom a certificate is for.

use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

/// One of its DNS names is this, or its common name.
#[must_use]
pub fn is_named(certificate: &CertificateDer<'_>, name: &str) -> bool {
    let Ok((_, parsed)) = parse_x509_certificate(certificate) else { return false };
    let alternative = parsed.subject_alternative_name().ok().flatten();
    let mut alternative = alternative.iter().flat_map(|names| &names.value.general_names);
    alternative.any(|found| matches!(found, GeneralName::DNSName(found) if found.eq_ignore_ascii_case(name)))
        || parsed.subject().iter_common_name().any(|found| found.as_str() == Ok(name))
}
