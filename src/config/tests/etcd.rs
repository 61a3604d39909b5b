use std::{fs, time::Duration};

use segue_bench::authority::Authority;

use super::*;

const FILE: &str = include_str!("../../../config/etcd.toml");

const LOOPBACK: &str = r#"
[node]
id = "n1"
protocol = "redis"
store = "127.0.0.1:6401"
[[peer]]
id = "n2"
store = "127.0.0.1:6402"
[[link]]
listen = "127.0.0.1:7401"
to = "store"
[mesh]
etcd = ["http://127.0.0.1:2379"]
etcd_cluster = "orders"
"#;

fn with(more: &str) -> String {
    format!("{LOOPBACK}{more}\n")
}

#[test]
fn the_example_is_accepted() {
    let authority = Authority::new("the lab").unwrap();
    authority.issue("etcd-client").unwrap();
    let folder = authority.folder();
    fs::rename(folder.join("ca.crt"), folder.join("etcd-ca.crt")).unwrap();
    fs::write(folder.join("etcd.password"), "hunter2\n").unwrap();
    // Its comments in [mesh] are keys, too.
    let (before, keys) = FILE.split_once("[mesh]").unwrap();
    let every_key = format!("{before}[mesh]{}", keys.replace("\n#", "\n"));
    for text in [FILE, &every_key] {
        let redis = KnownProtocol { name: "redis", releases: &[], bus_port_offset: None };
        let config = Config::parse(&folder.join("segue.toml"), text, &[redis]).unwrap();
        let etcd = config.etcd.unwrap();
        assert_eq!((config.mesh, &*etcd.prefix, &*etcd.cluster), (None, "/segue/", "orders"));
        assert_eq!(etcd.members, ["n1", "n2", "w1"].map(PeerName::from));
        assert_eq!((etcd.lease, etcd.propose_timeout), (Duration::from_secs(5), Duration::from_secs(5)));
        let login = etcd.login.unwrap();
        assert_eq!((login.username.as_deref(), login.password.reveal()), (Some("segue"), "hunter2"));
        assert_eq!(etcd.tls.unwrap().ca, folder.join("etcd-ca.crt"));
        assert_eq!(config.warnings, []);
    }
}

#[test]
fn a_loopback_needs_no_more_than_a_name() {
    let etcd = parse(LOOPBACK).unwrap().etcd.unwrap();
    assert_eq!((etcd.login, etcd.tls, etcd.endpoints.len()), (None, None, 1));
}

#[test]
fn what_does_not_fit_is_named_with_its_line() {
    for (text, message) in [
        (
            LOOPBACK.replace("http:", "https:"),
            "segue.toml:12: [mesh] etcd: https://127.0.0.1:2379 speaks TLS; expected etcd_ca_file, to know it by",
        ),
        (
            LOOPBACK.replace("\"http://127.0.0.1:2379\"", ""),
            "segue.toml:12: [mesh] etcd: 0 endpoints; expected at least one and at most 16",
        ),
        (
            LOOPBACK.replace("etcd_cluster = \"orders\"", ""),
            "segue.toml:12: [mesh]: the key \"etcd_cluster\" is missing; expected a name that no other cluster has on this etcd, such as \"orders\"",
        ),
        (
            LOOPBACK.replace("http://", ""),
            "segue.toml:13: [mesh] etcd = [\"127.0.0.1:2379\"]: expected the URL of a member of etcd, such as \"https://10.0.0.9:2379\"",
        ),
        (
            with("etcd_prefix = \"segue\""),
            "segue.toml:15: [mesh] etcd_prefix = \"segue\": expected a text without blanks that ends in \"/\"",
        ),
        (
            with("etcd_user = \"u\""),
            "segue.toml:15: [mesh] etcd_user = \"u\": a user without a password; expected a password_file beside it",
        ),
        (
            with("etcd_password_file = \"p\""),
            "segue.toml:15: [mesh] etcd_password_file = \"p\": a password without a user; expected etcd_user beside it",
        ),
        (
            with("etcd_key_file = \"k\""),
            "segue.toml:15: [mesh] etcd_key_file = \"k\": a key without a certificate; expected etcd_certificate_file beside it",
        ),
        (
            with("etcd_lease_s = 1"),
            "segue.toml:15: [mesh] etcd_lease_s = 1: expected a whole number of seconds from 2 to 60",
        ),
        (
            with("listen = \"127.0.0.1:9902\""),
            "segue.toml:15: [mesh] listen: unknown key; expected one of etcd, etcd_ca_file, etcd_certificate_file, etcd_key_file, etcd_lease_s, etcd_prefix, etcd_cluster, etcd_user, etcd_password_file, propose_timeout_ms",
        ),
    ] {
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.contains(message), "{message}\nnot in\n{error}");
    }
}
