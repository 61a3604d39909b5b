//! `[tls]`: read, and its files checked.

use std::{path::Path, time::SystemTime};

use super::{
    document::{At, Section},
    problem::Problems,
};
use crate::tls::{AuthClients, Files, Keys, KeysError, Settings};

pub(super) struct WrittenTls {
    certificate_file: Option<At<String>>,
    key_file: Option<At<String>>,
    ca_file: Option<At<String>>,
    auth_clients: Option<At<AuthClients>>,
    verify_name: Option<At<bool>>,
}

pub(super) fn read(mut section: Section<'_>, problems: &mut Problems) -> WrittenTls {
    let files = read_files(&mut section, problems);
    let written = WrittenTls {
        auth_clients: section.text("auth_clients", AUTH_CLIENTS_EXPECTED, auth_clients, problems),
        verify_name: section.flag("verify_name", problems),
        ..files
    };
    section.finish(problems);
    written
}

/// Certificate, key and CA alone: for TLS where both ends show what they have.
pub(super) fn read_files(section: &mut Section<'_>, problems: &mut Problems) -> WrittenTls {
    let mut file =
        |key| section.required_text(key, "the path of a file in PEM", super::written::non_empty, problems);
    let (certificate_file, key_file, ca_file) = (file("certificate_file"), file("key_file"), file("ca_file"));
    WrittenTls { certificate_file, key_file, ca_file, auth_clients: None, verify_name: None }
}

pub(super) fn check(written: WrittenTls, folder: &Path, problems: &mut Problems) -> Option<Keys> {
    let (certificate, key, ca) = (written.certificate_file?, written.key_file?, written.ca_file?);
    let settings = Settings {
        files: Files {
            certificate: folder.join(&certificate.value),
            key: folder.join(&key.value),
            ca: folder.join(&ca.value),
        },
        auth_clients: written.auth_clients.map_or(AuthClients::Yes, |auth_clients| auth_clients.value),
        verify_name: written.verify_name.is_some_and(|verify_name| verify_name.value),
    };
    let keys = match Keys::read(settings) {
        Ok(keys) => keys,
        Err(error) => {
            let (at, file, why) = match &error {
                KeysError::Certificate(file, why) => (certificate, file, why),
                KeysError::Key(file, why) => (key, file, why),
                KeysError::Ca(file, why) => (ca, file, why),
            };
            at.problem(problems, format!("cannot use {}: {why}", file.display()));
            return None;
        }
    };
    for (name, validity) in keys.validities() {
        if let Some(fault) = validity.fault(SystemTime::now()) {
            let at = if name == "ca_file" { &ca } else { &certificate };
            at.warning(problems, format!("{fault}; the other ends of TLS will refuse it: renew it"));
        }
    }
    Some(keys)
}

/// Whether TLS is spoken there: with a `[tls]` unless the key says no, without one never.
pub(super) fn spoken(written: Option<At<bool>>, has_tls: bool, problems: &mut Problems) -> bool {
    if let Some(at) = written.as_ref().filter(|at| at.value && !has_tls) {
        at.problem(problems, "there is no [tls]; expected that table, with certificate, key and CA");
    }
    written.map_or(has_tls, |at| at.value)
}

const AUTH_CLIENTS_EXPECTED: &str = "\"yes\", \"no\" or \"optional\"";

fn auth_clients(text: &str) -> Result<AuthClients, String> {
    match text {
        "yes" => Ok(AuthClients::Yes),
        "no" => Ok(AuthClients::No),
        "optional" => Ok(AuthClients::Optional),
        _ => Err(format!("expected {AUTH_CLIENTS_EXPECTED}")),
    }
}
