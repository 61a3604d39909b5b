//! The files under `config/` name only what is there.

use std::{collections::BTreeSet, fs, path::Path};

/// An alert on a metric that does not exist never fires, and no one is told.
#[test]
fn alerts_name_only_metrics_that_exist() {
    let alerts = metrics_in("config/prometheus-alerts.yml");
    let registered = metrics_in("src/relay/metrics.rs");
    assert!(alerts.len() >= 7, "alerts on so few metrics: {alerts:?}");
    let missing: Vec<_> = alerts.difference(&registered).collect();
    assert!(missing.is_empty(), "no such metrics: {missing:?}; there are {registered:?}");
}

/// Every word of a file that has the form of a metric's name.
fn metrics_in(file: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("segue_"))
        .map(str::to_owned)
        .collect()
}
