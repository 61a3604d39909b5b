//! What a config may say (`accepted`) and what it may not, with the whole message (`refused`).

use super::*;

mod accepted;
mod etcd;
mod intercept;
mod mesh;
mod refused;
mod tls;
mod upgrade;

/// The config of the first issue, which must work for good.
const EXAMPLE: &str = r#"[node]
id = "n1"
protocol = "redis"
store = "127.0.0.1:6401"      # where this node's store listens
release = "auto"              # or a fixed one, such as "redis-8.0"

[[peer]]
id = "n2"
store = "127.0.0.1:6402"      # the address the peer's store is known by
release = "auto"              # or a hint for a peer that announces nothing

[[link]]                      # explicit interception, inbound: peers dial 7401 to reach this node's store
listen = "127.0.0.1:7401"
to = "store"
peer = "n2"                   # optional: who dials here, where the address can't tell

[[link]]                      # explicit interception, outbound: the own store dials 7412 to reach n2
listen = "127.0.0.1:7412"
to = "n2"

[translation]
mode = "auto"                 # auto | off | "redis-6.0" (pin)
loss = "refuse"               # refuse | degrade

[admin]
listen = "127.0.0.1:9901"

[metrics]
listen = "127.0.0.1:9464"
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    let releases = ["redis-6.0", "redis-8.0.6", "valkey-9.1"].map(|name| name.parse().unwrap());
    let redis = KnownProtocol { name: "redis", releases: &releases, bus_port_offset: Some(10_000) };
    Config::parse(Path::new("segue.toml"), text, &[redis])
}

/// The example with one part replaced, which must be there.
fn changed(from: &str, to: &str) -> String {
    assert!(EXAMPLE.contains(from), "the example has no {from:?}");
    EXAMPLE.replacen(from, to, 1)
}

#[track_caller]
fn assert_refused(text: &str, messages: &[&str]) {
    let error = parse(text).expect_err("the config was accepted").to_string();
    assert_eq!(error.lines().collect::<Vec<_>>(), messages);
}
