//! The files under `config/` name only what is there.

use std::{collections::BTreeSet, fs, path::Path};

/// An alert on a metric that does not exist never fires, and no one is told.
#[test]
fn alerts_name_only_metrics_that_exist() {
    let alerts = metrics_in("config/prometheus-alerts.yml");
    let mut registered = metrics_in("src/relay/metrics.rs");
    registered.extend(metrics_in("src/cluster/raft/metrics.rs"));
    registered.extend(metrics_in("src/admin/metrics.rs"));
    registered.extend(metrics_in("src/hands/metrics.rs"));
    assert!(alerts.len() >= 7, "alerts on so few metrics: {alerts:?}");
    let missing: Vec<_> = alerts.difference(&registered).collect();
    assert!(missing.is_empty(), "no such metrics: {missing:?}; there are {registered:?}");
}

/// A socket unit that the config does not match keeps the sidecar from starting.
#[test]
fn the_socket_unit_listens_where_the_config_does() {
    let listens = |file: &str, key: &str| -> BTreeSet<String> {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        let values = text.lines().filter_map(|line| line.strip_prefix(key));
        values.map(|value| value.trim_matches([' ', '=', '"']).to_owned()).collect()
    };
    let unit = listens("config/segue.socket", "ListenStream");
    assert_eq!(unit.len(), 2);
    let config = listens("config/segue.toml", "listen");
    assert!(config.is_superset(&unit), "{unit:?} are not all in {config:?}");
}

/// Every word of a file that has the form of a metric's name.
fn metrics_in(file: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("segue_"))
        .map(str::to_owned)
        .collect()
}
