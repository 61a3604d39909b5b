use std::fs;

use segue_bench::authority::Authority;
use tempfile::TempDir;

use super::*;

const FILE: &str = include_str!("../../../config/mesh.toml");

/// Where all are on loopback and the third is a witness.
const LOOPBACK: &str = r#"
[node]
id = "n1"
protocol = "redis"
store = "127.0.0.1:6401"
[[peer]]
id = "n2"
store = "127.0.0.1:6402"
mesh = "localhost:9912"
[[peer]]
id = "w"
witness = true
mesh = "127.0.0.1:9922"
[[link]]
listen = "127.0.0.1:7401"
to = "store"
[mesh]
listen = "127.0.0.1:9902"
"#;

const WITNESS: &str = r#"
[node]
id = "w"
witness = true
[[peer]]
id = "n1"
store = "127.0.0.1:6401"
mesh = "127.0.0.1:9902"
[mesh]
listen = "127.0.0.1:9922"
"#;

/// With the files that `[mesh]` names.
pub(super) fn folder_with_keys() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("the lab").unwrap();
    let files = authority.issue("n1").unwrap();
    for (from, to) in
        [(&files.certificate, "segue.crt"), (&files.key, "segue.key"), (&files.ca, "mesh-ca.crt")]
    {
        fs::copy(from, folder.path().join(to)).unwrap();
    }
    folder
}

pub(super) fn parse_in(folder: &TempDir, text: &str) -> Config {
    let redis = KnownProtocol { name: "redis", releases: &[], bus_port_offset: Some(10_000) };
    Config::parse(&folder.path().join("segue.toml"), text, &[redis]).unwrap()
}

#[test]
fn the_example_loads_and_its_comments_are_the_defaults() {
    let folder = folder_with_keys();
    let parse_in = |text: &str| parse_in(&folder, text);
    let config = parse_in(FILE);
    let mesh = config.mesh.as_ref().unwrap();
    let members: Vec<_> = mesh.members.iter().map(|member| (&*member.id, member.witness)).collect();
    assert_eq!(members, [("n1", false), ("n2", false), ("w1", true)]);
    assert_eq!(mesh.keys.as_ref().unwrap().settings().files.ca, folder.path().join("mesh-ca.crt"));
    // A witness has no store that links could lead to.
    assert_eq!(config.peers.len(), 1);
    let uncommented = FILE.replace("\n#verify", "\nverify").replace("\n#election", "\nelection");
    let uncommented = uncommented.replace("\n#propose", "\npropose");
    assert_eq!(parse_in(&uncommented), config);
}

#[test]
fn on_loopback_no_certificates_are_needed() {
    let mesh = parse(LOOPBACK).unwrap().mesh.unwrap();
    assert_eq!((mesh.keys, mesh.members.len()), (None, 3));
    let without = LOOPBACK.replace("\nmesh = \"localhost:9912\"", "");
    assert_eq!(parse(&without).unwrap().mesh.unwrap().members.len(), 2);
}

#[test]
fn a_witness_has_neither_store_nor_link() {
    let config = parse(WITNESS).unwrap();
    assert_eq!((config.node.store, config.links.len()), (None, 0));
    assert!(config.mesh.unwrap().members[0].witness);
    let with = |line: &str| WITNESS.replace("witness = true", &format!("witness = true\n{line}"));
    assert_refused(
        &with("store = \"127.0.0.1:6401\""),
        &["segue.toml:5: [node] store: unknown key; expected one of id, witness"],
    );
    assert_refused(
        &(WITNESS.to_owned() + "[[link]]\nlisten = \"127.0.0.1:7401\"\nto = \"store\"\n"),
        &[
            "segue.toml:12: [[link]] listen = \"127.0.0.1:7401\": a witness has no store; expected no link to it",
        ],
    );
    let end = WITNESS.find("[mesh]").unwrap();
    assert_refused(
        &WITNESS[..end].replace("mesh = \"127.0.0.1:9902\"\n", ""),
        &[
            "segue.toml:3: [node] witness: a witness is there for the mesh alone; expected a table [mesh], with listen",
        ],
    );
}

#[test]
fn a_mesh_that_can_not_be_is_refused() {
    assert_refused(
        &LOOPBACK.replace("localhost:9912", "10.0.0.2:9912"),
        &[
            "segue.toml:17: [mesh]: \"n2\" is a member at 10.0.0.2:9912, and without TLS all have to be on loopback; \
           expected certificate_file, key_file and ca_file",
        ],
    );
    assert_refused(
        &(LOOPBACK.to_owned() + "key_file = \"x\"\n"),
        &[
            "segue.toml:17: [mesh]: the key \"certificate_file\" is missing; expected the path of a file in PEM",
            "segue.toml:17: [mesh]: the key \"ca_file\" is missing; expected the path of a file in PEM",
        ],
    );
    assert_refused(
        &(LOOPBACK.to_owned() + "verify_name = true\n"),
        &["segue.toml:17: [mesh] verify_name: there are no certificates; expected certificate_file"],
    );
    assert_refused(
        &LOOPBACK.replace("[mesh]\nlisten = \"127.0.0.1:9902\"\n", ""),
        &[
            "segue.toml:9: [[peer]] mesh = \"localhost:9912\": there is no [mesh]; expected that table, with listen",
            "segue.toml:13: [[peer]] mesh = \"127.0.0.1:9922\": there is no [mesh]; expected that table, with listen",
        ],
    );
    assert_refused(
        &LOOPBACK.replace("127.0.0.1:9902", "127.0.0.1:7401"),
        &[
            "segue.toml:18: [mesh] listen = \"127.0.0.1:7401\": the port is already used by the link at line 15; \
           give each its own",
        ],
    );
}
