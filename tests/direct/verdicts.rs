//! `segue verdicts`: the tables, for a person and for a program.

use std::process::{Command, Output};

use segue::registry;
use serde_json::Value;

fn verdicts(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_segue")).arg("verdicts").args(arguments).output().unwrap()
}

fn said(arguments: &[&str]) -> String {
    let output = verdicts(arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn json_holds_the_verdict_of_every_pair() {
    let redis = registry::protocol("redis").unwrap();
    let all: Value = serde_json::from_str(&said(&["redis", "--json"])).unwrap();
    let mut pairs = all["pairs"].as_array().unwrap().iter();
    for from in redis.releases() {
        for to in redis.releases() {
            let pair = pairs.next().unwrap();
            assert_eq!((&pair["from"], &pair["to"]), (&from.to_string().into(), &to.to_string().into()));
            assert_eq!(pair["verdict"], redis.verdict(from, to).label(), "{from} to {to}");
        }
    }
    assert!(pairs.next().is_none());
}

#[test]
fn one_pair_is_told_with_what_it_rewrites_and_loses() {
    let text = said(&["redis", "--from", "redis-8.0", "--to", "redis-6.0"]);
    for part in [
        "from redis-8.0 to redis-6.0: rewrite: what is not listed passes unchanged\n\nin the snapshot:\n",
        "\n  hash with field TTLs\n    → plain hash\n    loss hash-field-ttl (data)\n",
        "\nin the stream:\n",
        "\n  LPOP key count\n    → LTRIM key count -1\n",
        "\n    loss stream-counters (bookkeeping)\n",
        "\n  loss = \"refuse\": the link is closed before the receiver has anything incomplete\n",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let same = said(&["redis", "--from", "redis-6.0", "--to", "redis-8.0"]);
    assert_eq!(same, "from redis-6.0 to redis-8.0: same: all bytes pass unchanged\n");

    let json: Value =
        serde_json::from_str(&said(&["redis", "--from", "redis-8.0", "--to", "redis-6.0", "--json"]))
            .unwrap();
    let changes = json["pairs"][0]["changes"].as_array().unwrap();
    let lpop = changes.iter().find(|change| change["form"] == "LPOP key count").unwrap();
    assert_eq!((&lpop["part"], &lpop["instead"]), (&"stream".into(), &"LTRIM key count -1".into()));
    assert!(text.contains(&format!("  {}\n", changes[0]["form"].as_str().unwrap())), "{text}");
}

#[test]
fn one_sender_or_receiver_makes_one_row_or_column() {
    let words = |arguments: &[&str]| -> Vec<String> {
        said(arguments).lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    let row = words(&["redis", "--from", "redis-7.0"]);
    assert!(row[1].starts_with("redis-7.0 same redis 7.0 to 8."), "{row:?}");
    assert!(row.contains(&"rewrite redis 5.0 to 6.2".to_owned()), "{row:?}");
    let column = words(&["redis", "--to", "redis-6.0"]);
    for line in ["redis-5.0 same redis 6.0", "redis-8.0 rewrite redis 6.0"] {
        assert!(column.contains(&line.to_owned()), "{column:?}");
    }
}

#[test]
fn a_protocol_without_releases_says_so() {
    let text = said(&["passthrough"]);
    assert_eq!(text, "passthrough: no release is told from another, all bytes pass unchanged\n");
    assert!(said(&["passthrough", "--json"]).contains("\"pairs\": []"));
}

#[test]
fn what_is_not_known_is_a_wrong_command_line() {
    for arguments in [&["mariadb"][..], &["redis", "--to", "redis-9.9"], &["redis", "--from", "other-1.0"]] {
        let output = verdicts(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.starts_with("segue: ") && said.contains("know"), "{said}");
    }
}
