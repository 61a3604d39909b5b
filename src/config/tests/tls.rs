use std::fs;

use segue_bench::authority::Authority;
use tempfile::TempDir;

use super::*;
use crate::tls::AuthClients;

const FILE: &str = include_str!("../../../config/tls.toml");

/// A folder with the files that the example names.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let files = Authority::new("the lab").unwrap();
    let files = (files.issue("segue").unwrap(), files);
    for (from, to) in
        [(&files.0.certificate, "segue.crt"), (&files.0.key, "segue.key"), (&files.0.ca, "ca.crt")]
    {
        fs::copy(from, folder.path().join(to)).unwrap();
    }
    folder
}

fn parse_in(folder: &TempDir, text: &str) -> Result<Config, ConfigError> {
    let redis = KnownProtocol {
        name: "redis",
        releases: &["redis-6.0".parse().unwrap()],
        bus_port_offset: Some(10_000),
    };
    Config::parse(&folder.path().join("segue.toml"), text, &[redis])
}

#[test]
fn the_example_loads_and_its_comments_are_the_defaults() {
    let folder = folder();
    let config = parse_in(&folder, FILE).unwrap();
    let settings = config.tls.as_ref().unwrap().settings();
    assert_eq!((settings.auth_clients, settings.verify_name), (AuthClients::Yes, false));
    assert_eq!(settings.files.key, folder.path().join("segue.key"));
    assert!(config.node.tls && config.peers[0].tls && config.links[0].tls);
    let uncommented = FILE.replace("\n#tls", "\ntls").replace("\n#[", "\n[").replace("\n#auth", "\nauth");
    let uncommented = uncommented.replace("\n#verify", "\nverify");
    assert_eq!(parse_in(&folder, &uncommented).unwrap(), config);
}

#[test]
fn a_certificate_out_of_its_time_is_used_and_warned_of() {
    let (folder, authority) = (folder(), Authority::new("another").unwrap());
    assert_eq!(parse_in(&folder, FILE).unwrap().warnings, []);
    for (issued, wrong) in [
        (authority.issue_expired("expired"), "expired on 2001-01-01"),
        (authority.issue_early("early"), "not valid before 4000-01-01"),
    ] {
        let issued = issued.unwrap();
        for (from, to) in [(&issued.certificate, "segue.crt"), (&issued.key, "segue.key")] {
            fs::copy(from, folder.path().join(to)).unwrap();
        }
        let warnings = parse_in(&folder, FILE).unwrap().warnings;
        let said: Vec<_> = warnings.iter().map(ToString::to_string).collect();
        let place = "22: [tls] certificate_file = \"segue.crt\"";
        assert_eq!(said, [format!("{place}: {wrong}; the other ends of TLS will refuse it: renew it")]);
    }
}

#[test]
fn each_end_may_be_plain() {
    let folder = folder();
    let plain = FILE.replace("#tls = true", "tls = false");
    let config = parse_in(&folder, &plain).unwrap();
    assert!(!config.node.tls && !config.peers[0].tls && !config.links[0].tls);
    assert_refused(
        &changed("id = \"n2\"", "id = \"n2\"\ntls = true"),
        &[
            "segue.toml:9: [[peer]] tls = true: there is no [tls]; expected that table, with certificate, key and CA",
        ],
    );
}

#[test]
fn files_that_can_not_be_used_are_named() {
    let refused = |folder: &TempDir, text: &str, message: &str| {
        let error = parse_in(folder, text).expect_err("the config was accepted").to_string();
        assert!(error.contains(message), "{error}");
        assert!(!error.contains("BEGIN"), "the file's content is shown: {error}");
    };
    let folder = folder();
    refused(&folder, &FILE.replace("\"ca.crt\"", "\"none.crt\""), "none.crt: No such file or directory");
    refused(&folder, &FILE.replace("\"segue.key\"", "\"ca.crt\""), "no private key is in it");
    refused(&folder, &FILE.replace("\"segue.crt\"", "\"segue.key\""), "no certificate is in it");
    refused(&folder, &FILE.replace("ca_file =", "#ca_file ="), "the key \"ca_file\" is missing");
    refused(
        &folder,
        &FILE.replace("#auth_clients = \"yes\"", "auth_clients = \"maybe\""),
        "expected \"yes\", \"no\"",
    );
    let other = Authority::new("another").unwrap();
    fs::copy(other.issue("segue").unwrap().key, folder.path().join("segue.key")).unwrap();
    refused(&folder, FILE, ":23: [tls] key_file = \"segue.key\": cannot use ");
    refused(&folder, FILE, "it is not the key of the certificate in certificate_file");
    let passphrase = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    fs::write(folder.path().join("segue.key"), passphrase).unwrap();
    refused(&folder, FILE, "the key has a passphrase; expected one without");
}
