use super::*;

#[test]
fn the_example_means_what_it_says() {
    let store = |address: &str| address.parse::<StoreAddress>().unwrap();
    let config = parse(EXAMPLE).unwrap();
    let expected = Config {
        node: Node {
            id: "n1".into(),
            protocol: "redis".to_owned(),
            store: Some(store("127.0.0.1:6401")),
            bus_port: Some(16401),
            release: ReleaseSetting::Auto,
            credentials: None,
            tls: false,
            number: None,
        },
        peers: vec![Peer {
            id: "n2".into(),
            store: store("127.0.0.1:6402"),
            bus_port: Some(16402),
            release: ReleaseSetting::Auto,
            credentials: None,
            tls: false,
            dial: None,
        }],
        links: vec![
            Link {
                listen: "127.0.0.1:7401".parse().unwrap(),
                to: LinkTarget::Store,
                peer: Some("n2".into()),
                tls: false,
                bus: false,
            },
            Link {
                listen: "127.0.0.1:7412".parse().unwrap(),
                to: LinkTarget::Peer("n2".into()),
                peer: None,
                tls: false,
                bus: false,
            },
        ],
        intercept: None,
        mesh: None,
        etcd: None,
        tls: None,
        translation: Translation {
            mode: Mode::Auto,
            loss: LossPolicy::Refuse,
            second_connection: SecondConnection::Strip,
        },
        upgrade: None,
        admin: "127.0.0.1:9901".parse().unwrap(),
        metrics: "127.0.0.1:9464".parse().unwrap(),
        state: State { dir: "segue-state".into() },
        limits: Limits::default(),
        log: Log { format: LogFormat::Text, level: tracing::Level::INFO },
        warnings: Vec::new(),
    };
    assert_eq!(config, expected);
}

#[test]
fn every_other_key_is_read() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pw"), "hunter2\n").unwrap();
    let text = changed(
        "release = \"auto\"",
        "release = \"redis-8.0\"\nusername = \"u\"\npassword_file = \"pw\"",
    )
    .replace("mode = \"auto\"", "mode = \"redis-6.0\"")
    .replace("loss = \"refuse\"", "loss = \"degrade\"\nsecond_connection = \"translate\"")
    .replace("127.0.0.1:6402", "store-2.example:6402")
        + "[state]\ndir = \"/var/lib/segue\"\n\
           [limits]\nlinks_max = 7\nheld_bytes_max = 1_048_576\nhandshake_bytes_max = 0x1000\n\
           offset_marks_max = 99\nundecided_links_max = 5\npipes_max = 0\n\
           held_bytes_total_max = 1_048_576\nhandshake_timeout_ms = 900\ndial_timeout_ms = 1500\nprobe_timeout_ms = 100\ndrain_ms = 700\n\
           tls_handshake_timeout_ms = 800\npairing_timeout_ms = 600\n\
           [log]\nformat = \"json\"\nlevel = \"debug\"\n";
    let file = folder.path().join("segue.toml");
    std::fs::write(&file, text).unwrap();
    let releases = ["redis-6.0".parse().unwrap()];
    let config = Config::load(
        &file,
        &[KnownProtocol { name: "redis", releases: &releases, bus_port_offset: Some(10_000) }],
    )
    .unwrap();

    assert_eq!(config.node.release, ReleaseSetting::Fixed("redis-8.0".parse().unwrap()));
    let credentials = config.node.credentials.clone().unwrap();
    assert_eq!(credentials.username.as_deref(), Some("u"));
    assert_eq!(credentials.password.reveal(), "hunter2");
    assert_eq!(credentials.password_file, folder.path().join("pw"));
    assert!(!format!("{config:?}").contains("hunter2"));
    assert_eq!(config.peer("n2").unwrap().store.host(), "store-2.example");
    assert_eq!(config.translation.mode, Mode::Pin("redis-6.0".parse().unwrap()));
    assert_eq!(config.translation.loss, LossPolicy::Degrade);
    assert_eq!(config.translation.second_connection, SecondConnection::Translate);
    assert_eq!(config.state.dir, Path::new("/var/lib/segue"));
    let session =
        segue_wire::Limits { held_bytes_max: 1 << 20, handshake_bytes_max: 4096, offset_marks_max: 99 };
    let (dial_timeout, probe_timeout) = (Duration::from_millis(1500), Duration::from_millis(100));
    let (handshake_timeout, drain_time) = (Duration::from_millis(900), Duration::from_millis(700));
    let limits = Limits {
        links_max: 7,
        undecided_links_max: 5,
        handshake_timeout,
        held_bytes_total_max: 1 << 20,
        pipes_max: 0,
        dial_timeout,
        probe_timeout,
        tls_handshake_timeout: Duration::from_millis(800),
        pairing_timeout: Duration::from_millis(600),
        drain_time,
        session,
    };
    assert_eq!(config.limits, limits);
    assert_eq!(config.log, Log { format: LogFormat::Json, level: tracing::Level::DEBUG });
}

#[test]
fn relative_paths_start_at_the_file() {
    let config = Config::parse(
        Path::new("/etc/segue/n1.toml"),
        &(EXAMPLE.to_owned() + "[state]\ndir = \"state\"\n"),
        &[KnownProtocol { name: "redis", releases: &[], bus_port_offset: Some(10_000) }],
    );
    assert_eq!(config.unwrap().state.dir, Path::new("/etc/segue/state"));
}

/// The file that is shipped, as it stands and with every commented key switched on.
#[test]
fn the_shipped_example_loads() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/segue.toml");
    let releases = ["redis-6.0".parse().unwrap()];
    let redis = [KnownProtocol { name: "redis", releases: &releases, bus_port_offset: Some(10_000) }];
    let plain = Config::load(&shipped, &redis).unwrap();
    let example = parse(EXAMPLE).unwrap();
    assert_eq!((&plain.node, &plain.peers, &plain.links), (&example.node, &example.peers, &example.links));

    let text = std::fs::read_to_string(&shipped).unwrap();
    let uncomment = |line: &str| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()) => key.to_owned(),
        _ => line.to_owned(),
    };
    let all: Vec<String> = text.lines().map(uncomment).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("segue.toml");
    std::fs::write(&file, all.join("\n")).unwrap();
    std::fs::write(folder.path().join("segue.password"), "pw").unwrap();
    let full = Config::load(&file, &redis).unwrap();
    assert_eq!(full.limits, Limits::default(), "the commented limits are not the defaults");
    assert_eq!(full.log, plain.log, "the commented log settings are not the defaults");
    assert_eq!(full.state.dir, Path::new("/var/lib/segue"));
    assert!(full.peers.iter().all(|peer| peer.credentials.is_some()));
}

#[test]
fn a_client_needs_only_the_admin_address() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("segue.toml");
    std::fs::write(&file, "[admin]\nlisten = \"127.0.0.1:99\"\n[whatever]\n").unwrap();
    assert_eq!(Config::admin_of(&file).unwrap(), "127.0.0.1:99".parse().unwrap());
    std::fs::write(&file, "").unwrap();
    assert_eq!(Config::admin_of(&file).unwrap(), ADMIN_DEFAULT);
}
