use super::*;
use crate::config::problem::Why;

#[test]
fn bad_syntax_is_shown_with_its_line() {
    assert_refused(
        &changed("id = \"n2\"", "id = me").replace("[metrics]", "[metrics"),
        &["segue.toml:8: TOML syntax: string values must be quoted, expected literal string"],
    );
    assert_refused(
        &changed("id = \"n1\"", "id = \"n1\"\nid = \"n3\""),
        &["segue.toml:3: TOML syntax: duplicate key"],
    );
}

#[test]
fn unknown_keys_and_tables() {
    assert_refused(
        &changed("to = \"store\"", "to = \"store\"\nlisten_on = 3").replace("[metrics]", "[metric]"),
        &[
            "segue.toml:15: [[link]] listen_on: unknown key; did you mean \"listen\"?",
            "segue.toml:29: [metric]: unknown table; did you mean \"metrics\"?",
        ],
    );
    assert_refused(
        &changed("id = \"n2\"", "id = \"n2\"\nxyz = \"hunter2\""),
        &[
            "segue.toml:9: [[peer]] xyz: unknown key; expected one of witness, mesh, dial, id, store, bus_port, release, username, password_file, tls",
        ],
    );
    assert_refused(
        &(EXAMPLE.to_owned() + "[[cluster]]\n"),
        &[
            "segue.toml:30: [[cluster]]: unknown table; expected one of node, peer, link, intercept, mesh, tls, translation, \
           upgrade, admin, metrics, state, limits, log",
        ],
    );
}

#[test]
fn a_bus_without_a_port() {
    let bus = changed("to = \"store\"", "to = \"store\"\nbus = true");
    assert_refused(
        &bus.replace("127.0.0.1:6402", "127.0.0.1:60402"),
        &[
            "segue.toml:9: [[peer]] store = \"127.0.0.1:60402\": no port is 10000 above it, for the bus; expected \
           bus_port, too",
        ],
    );
    assert_refused(
        &bus.replace("bus = true", "bus = 1"),
        &["segue.toml:15: [[link]] bus = 1: expected true or false; found a whole number"],
    );
    let config = parse(&bus.replace("127.0.0.1:6402\"", "127.0.0.1:60402\"\nbus_port = 7")).unwrap();
    assert_eq!((config.links[0].bus, config.links[1].bus), (true, false));
    assert_eq!((config.node.bus_port, config.peers[0].bus_port), (Some(16401), Some(7)));
}

#[test]
fn wrong_types() {
    assert_refused(
        &changed("store = \"127.0.0.1:6401\"", "store = 6401"),
        &["segue.toml:4: [node] store = 6401: expected a text in quotes, the address of a store, such as \
           \"127.0.0.1:6401\"; found a whole number"],
    );
    assert_refused(
        &(EXAMPLE.replacen("[node]", "[[node]]", 1)),
        &["segue.toml:1: [node]: expected a table headed [node], found an array"],
    );
    assert_refused(
        &changed("[[peer]]", "[peer]"),
        &[
            "segue.toml:7: [peer]: expected tables headed [[peer]], found a table",
            "segue.toml:15: [[link]] peer = \"n2\": no [[peer]] has this id; expected the id of a [[peer]], and \
             there is none",
            "segue.toml:19: [[link]] to = \"n2\": no [[peer]] has this id; expected \"store\" or the id of a \
             [[peer]], and there is none",
        ],
    );
}

#[test]
fn missing_keys_and_tables() {
    assert_refused(
        "",
        &[
            "segue.toml:1: [node]: the table is missing; expected id, protocol and store",
            "segue.toml:1: [[link]]: there is none; expected at least one, or there is nothing to intercept",
        ],
    );
    assert_refused(
        &changed("id = \"n2\"\nstore = \"127.0.0.1:6402\"", "").replace("to = \"n2\"", "to = \"store\""),
        &[
            "segue.toml:7: [[peer]]: the key \"id\" is missing; expected a name, such as \"n1\"",
            "segue.toml:7: [[peer]]: the key \"store\" is missing; expected the address of a store, such as \
             \"127.0.0.1:6401\"",
            "segue.toml:14: [[link]] peer = \"n2\": no [[peer]] has this id; expected the id of a [[peer]], and \
             there is none",
        ],
    );
    assert_refused(
        &changed("[admin]\nlisten = \"127.0.0.1:9901\"", "[admin]"),
        &[
            "segue.toml:25: [admin]: the key \"listen\" is missing; expected an IP address and a port, such as \
           \"127.0.0.1:7401\"",
        ],
    );
}

#[test]
fn bad_addresses() {
    assert_refused(
        &changed("127.0.0.1:6402", "localhost").replace("127.0.0.1:7412", "localhost:7412"),
        &[
            "segue.toml:9: [[peer]] store = \"localhost\": expected a host and a port, such as \
             \"127.0.0.1:6401\", \"[::1]:6401\" or \"store.example:6401\"",
            "segue.toml:18: [[link]] listen = \"localhost:7412\": expected an IP address and a port, such as \
             \"127.0.0.1:7401\"",
        ],
    );
}

#[test]
fn bad_releases() {
    assert_refused(
        &changed("release = \"auto\"", "release = \"redis8\""),
        &[
            "segue.toml:5: [node] release = \"redis8\": expected \"auto\" or a release <store>-<major>.<minor>, \
           such as \"redis-8.0\"",
        ],
    );
    assert_refused(
        &EXAMPLE.replace("release = \"auto\"", "release = \"mariadb-11.4\""),
        &[
            "segue.toml:5: [node] release = \"mariadb-11.4\": \"mariadb\" is no store of protocol \"redis\"; \
             expected a release of redis or valkey",
            "segue.toml:10: [[peer]] release = \"mariadb-11.4\": \"mariadb\" is no store of protocol \"redis\"; \
             expected a release of redis or valkey",
        ],
    );
}

#[test]
fn bad_modes() {
    assert_refused(
        &changed("mode = \"auto\"", "mode = \"on\"").replace("\"refuse\"", "\"ignore\""),
        &[
            "segue.toml:22: [translation] mode = \"on\": expected \"auto\", \"off\" or a release \
             <store>-<major>.<minor>, such as \"redis-6.0\"",
            "segue.toml:23: [translation] loss = \"ignore\": expected \"refuse\" or \"degrade\"",
        ],
    );
    assert_refused(
        &changed("mode = \"auto\"", "mode = \"kvrocks-2.0\""),
        &[
            "segue.toml:22: [translation] mode = \"kvrocks-2.0\": \"kvrocks\" is no store of protocol \"redis\"; \
           expected a release of redis or valkey",
        ],
    );
    assert_refused(
        &changed("mode = \"auto\"", "mode = \"redis-6.1\""),
        &[
            "segue.toml:22: [translation] mode = \"redis-6.1\": no such release is known; expected auto, off or \
           one of redis-6.0, redis-8.0.6, valkey-9.1",
        ],
    );
    let short_name_of_a_patch = changed("mode = \"auto\"", "mode = \"redis-8.0\"");
    assert!(parse(&short_name_of_a_patch).is_ok());
}

#[test]
fn bad_protocol() {
    assert_refused(
        &changed("protocol = \"redis\"", "protocol = \"reddis\""),
        &["segue.toml:3: [node] protocol = \"reddis\": no such protocol; did you mean \"redis\"?"],
    );
    assert_refused(
        &changed("protocol = \"redis\"", "protocol = \"http\""),
        &["segue.toml:3: [node] protocol = \"http\": no such protocol; expected one of \"redis\""],
    );
}

#[test]
fn names_that_no_one_has() {
    assert_refused(
        &changed("to = \"n2\"", "to = \"n3\"").replace("peer = \"n2\"", "peer = \"qq\""),
        &[
            "segue.toml:15: [[link]] peer = \"qq\": no [[peer]] has this id; expected one of \"n2\"",
            "segue.toml:19: [[link]] to = \"n3\": no [[peer]] has this id; expected \"store\" or one of \"n2\"",
        ],
    );
    assert_refused(
        &EXAMPLE.replace("\"n2\"", "\"replica-2\"").replacen("to = \"replica-2\"", "to = \"replica-3\"", 1),
        &["segue.toml:19: [[link]] to = \"replica-3\": no [[peer]] has this id; did you mean \"replica-2\"?"],
    );
    assert_refused(
        &changed("to = \"n2\"", "to = \"n2\"\npeer = \"n2\""),
        &[
            "segue.toml:20: [[link]] peer = \"n2\": only the own store dials an outbound link; expected no peer \
           here",
        ],
    );
}

#[test]
fn ids_that_do_not_name_one_node() {
    assert_refused(
        &changed("[[link]] ", "[[peer]]\nid = \"n2\"\nstore = \"a:1\"\n\n[[link]]"),
        &[
            "segue.toml:13: [[peer]] id = \"n2\": the id is already used by the [[peer]] at line 8; give each \
           node its own",
        ],
    );
    assert_refused(
        &EXAMPLE.replace("\"n2\"", "\"n1\""),
        &[
            "segue.toml:8: [[peer]] id = \"n1\": the id is already used by this [node] itself at line 2; give \
           each node its own",
        ],
    );
    assert_refused(
        &changed("id = \"n1\"", "id = \"store\""),
        &[
            "segue.toml:2: [node] id = \"store\": \"store\" means the own store in [[link]] to; expected another \
           name",
        ],
    );
    assert_refused(
        &changed("id = \"n1\"", "id = \"../n1\""),
        &[
            "segue.toml:2: [node] id = \"../n1\": expected a name of letters, digits, \"-\", \"_\" and \".\" that \
           starts with a letter or digit, at most 64 bytes",
        ],
    );
}

#[test]
fn listeners_that_clash() {
    assert_refused(
        &changed("127.0.0.1:7412", "127.0.0.1:7401"),
        &[
            "segue.toml:18: [[link]] listen = \"127.0.0.1:7401\": the port is already used by the link at line \
           13; give each its own",
        ],
    );
    assert_refused(
        &changed("127.0.0.1:7412", "0.0.0.0:7401").replace("127.0.0.1:9464", "[::]:9901"),
        &[
            "segue.toml:18: [[link]] listen = \"0.0.0.0:7401\": the port is already used by the link at line 13; \
             give each its own",
            "segue.toml:29: [metrics] listen = \"[::]:9901\": the port is already used by [admin] at line 26; \
             give each its own",
        ],
    );
    assert_refused(
        &changed("127.0.0.1:7412", "0.0.0.0:6401"),
        &["segue.toml:18: [[link]] listen = \"0.0.0.0:6401\": the port is already used by the own store at \
           line 4; give each its own"],
    );
    assert_refused(
        &changed("[admin]\nlisten = \"127.0.0.1:9901\"", "").replace("127.0.0.1:7412", "127.0.0.1:9901"),
        &["segue.toml:18: [[link]] listen = \"127.0.0.1:9901\": the port is already used by [admin], which \
           listens there unless told otherwise; give each its own"],
    );
    assert_refused(
        &changed("127.0.0.1:7412", "127.0.0.1:6402"),
        &[
            "segue.toml:18: [[link]] listen = \"127.0.0.1:6402\": the link would dial itself: this is the store \
           of peer \"n2\" at line 9; expected an address of this node",
        ],
    );
    let other_addresses_of_one_port = changed("127.0.0.1:7412", "127.0.0.2:7401");
    assert!(parse(&other_addresses_of_one_port).is_ok());
    let any_free_port = changed("127.0.0.1:7412", "127.0.0.1:0").replace("127.0.0.1:7401", "127.0.0.1:0");
    assert!(parse(&any_free_port).is_ok());
}

#[test]
fn bad_limits_and_log() {
    let more =
        "[limits]\nlinks_max = 0\nheld_bytes_max = \"64M\"\ndial_timeout_ms = -1\n[log]\nlevel = \"all\"\n";
    assert_refused(
        &(EXAMPLE.to_owned() + more),
        &[
            "segue.toml:31: [limits] links_max = 0: expected a whole number of links from 1 to 65535",
            "segue.toml:32: [limits] held_bytes_max = \"64M\": expected a whole number of bytes from 65536 to \
             17179869184",
            "segue.toml:33: [limits] dial_timeout_ms = -1: expected a whole number of milliseconds from 1 to \
             3600000",
            "segue.toml:35: [log] level = \"all\": expected \"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
        ],
    );
}

#[test]
fn all_links_may_hold_what_one_may() {
    let more = "[limits]\nheld_bytes_total_max = 1_048_576\n";
    assert_refused(
        &(EXAMPLE.to_owned() + more),
        &["segue.toml:30: [limits] held_bytes_total_max: less than what one link may hold; expected \
             held_bytes_max = 67108864 or more"],
    );
    let large = parse(&(EXAMPLE.to_owned() + "[limits]\nheld_bytes_max = 4_294_967_296\n")).unwrap();
    assert_eq!(large.limits.held_bytes_total_max, 4 << 30);
}

#[test]
fn a_protocol_without_releases_takes_none() {
    let text = changed("\"redis\"", "\"passthrough\"").replace("mode = \"auto\"", "mode = \"redis-6.0\"");
    let passthrough = KnownProtocol { name: "passthrough", releases: &[], bus_port_offset: None };
    let error = Config::parse(Path::new("segue.toml"), &text, &[passthrough]).unwrap_err().to_string();
    let expected =
        "mode = \"redis-6.0\": protocol \"passthrough\" knows no releases; expected no release here";
    assert!(error.contains(expected), "{error}");
    let text = changed("\"redis\"", "\"passthrough\"").replace("to = \"n2\"", "to = \"n2\"\nbus = true");
    let error = Config::parse(Path::new("segue.toml"), &text, &[passthrough]).unwrap_err().to_string();
    assert!(
        error.contains("stores of protocol \"passthrough\" have no bus; expected bus = false"),
        "{error}"
    );
}

#[test]
fn bad_credentials() {
    assert_refused(
        &changed("id = \"n2\"", "id = \"n2\"\nusername = \"u\"").replacen(
            "id = \"n1\"",
            "id = \"n1\"\npassword_file = \"no-such-file\"",
            1,
        ),
        &[
            "segue.toml:3: [node] password_file = \"no-such-file\": cannot read no-such-file: No such file or \
             directory (os error 2); expected a file that holds the password",
            "segue.toml:10: [[peer]] username = \"u\": a user without a password; expected a password_file \
             beside it",
        ],
    );
}

#[test]
fn an_unreadable_file() {
    let missing = Config::load(Path::new("/no/such/segue.toml"), &[]).unwrap_err();
    assert_eq!(
        missing.to_string(),
        "/no/such/segue.toml: cannot read the config file: No such file or directory (os error 2)"
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("segue.toml");
    std::fs::write(&file, vec![b'#'; 1 << 20]).unwrap();
    assert!(matches!(Config::load(&file, &[]).unwrap_err().why, Why::Problems(_)), "1 MiB is not too large");
    std::fs::write(&file, vec![b'#'; (1 << 20) + 1]).unwrap();
    let large = Config::load(&file, &[]).unwrap_err();
    assert_eq!(large.why, Why::Unreadable("larger than 1048576 bytes".to_owned()));
}
