//! Keys that move between masters with `MIGRATE`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use redis::Connection;
use segue_bench::{
    child::wait_for,
    data::{self, Newer},
    port, reader,
    server::{Options, Server},
    sidecar::Sidecar,
    stores::Store,
};

use crate::cluster::SYNC_TIME_MAX;

/// Longer than a machine under load needs for any batch.
const MIGRATE_MS_MAX: u64 = 60_000;
const BATCH_KEYS: usize = 200;

/// Two masters, and a sidecar beside the first, through which it dials the second.
struct Masters {
    newer: Server,
    older: Server,
    sidecar: Sidecar,
    /// To the second one, as the first dials it; and to the first one, as the second does.
    outbound: u16,
    inbound: u16,
}

fn masters(loss: &str) -> Result<Masters> {
    let newer = Server::start(&Store::want("redis-8.0")?, Options::new())?;
    let older = Server::start(&Store::want("redis-6.0")?, Options::new())?;
    let [outbound, inbound, admin, metrics] = port::free_ports()?;
    let config = format!(
        r#"
[node]
id = "n1"
protocol = "redis"
store = "{}"
[[peer]]
id = "n2"
store = "{}"
[[link]]
listen = "127.0.0.1:{outbound}"
to = "n2"
[[link]]
listen = "127.0.0.1:{inbound}"
to = "store"
peer = "n2"
[translation]
loss = "{loss}"
[admin]
listen = "127.0.0.1:{admin}"
[metrics]
listen = "127.0.0.1:{metrics}"
"#,
        newer.address(),
        older.address(),
    );
    let sidecar = Sidecar::start(Path::new(env!("CARGO_BIN_EXE_segue")), &config)?;
    Ok(Masters { newer, older, sidecar, outbound, inbound })
}

fn migrate(from: &mut Connection, to: u16, db: u64, keys: &[Vec<u8>]) -> redis::RedisResult<()> {
    let mut migrate = redis::cmd("MIGRATE");
    migrate.arg("127.0.0.1").arg(to).arg("").arg(db).arg(MIGRATE_MS_MAX).arg("KEYS").arg(keys).exec(from)
}

/// A key that moves takes the time it has left with it, not the moment when that ends.
fn without_expiries(client: &mut Connection) -> Result<()> {
    for db in 0..16 {
        redis::cmd("SELECT").arg(db).exec(client)?;
        let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(client)?;
        for key in keys {
            redis::cmd("PERSIST").arg(key).exec(client)?;
        }
    }
    Ok(redis::cmd("SELECT").arg(0).exec(client)?)
}

/// All keys of all databases, in batches.
fn migrate_all(from: &Server, to: u16) -> Result<usize> {
    let mut client = from.client()?;
    let mut moved = 0;
    for db in 0..16 {
        redis::cmd("SELECT").arg(db).exec(&mut client)?;
        let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(&mut client)?;
        for batch in keys.chunks(BATCH_KEYS) {
            migrate(&mut client, to, db, batch)?;
        }
        moved += keys.len();
    }
    ensure!(from.info("keyspace")?.fields().count() == 0, "keys are left");
    Ok(moved)
}

#[test]
fn all_types_move_to_an_older_master_and_back() -> Result<()> {
    let Masters { newer, older, sidecar, outbound, inbound } = masters("refuse")?;
    let mut client = newer.client()?;
    data::fill_core(&mut client, 1)?;
    without_expiries(&mut client)?;
    redis::cmd("SAVE").exec(&mut client)?;
    let snapshot = Some(newer.folder().join("dump.rdb"));
    let original = Server::start(&Store::want("redis-8.0")?, Options { snapshot, ..Options::new() })?;
    let one: Vec<u8> = redis::cmd("RANDOMKEY").query(&mut client)?;
    let refused = migrate(&mut client, older.port(), 0, &[one]).expect_err("no Segue is needed");
    ensure!(refused.to_string().contains("DUMP payload version or checksum are wrong"), "{refused}");

    let compare = |server: &Server| -> Result<()> {
        let comparison = reader::compare(original.port(), server.port())?;
        ensure!(comparison.is_equal() && comparison.keys > 500, "{comparison:#?}");
        Ok(())
    };
    ensure!(migrate_all(&newer, outbound)? > 500);
    compare(&older)?;
    let rewritten = sidecar.metric("segue_messages_translated_total{rule=\"migrate\"}")?;
    ensure!(rewritten > Some(500.0), "{rewritten:?} payloads were rewritten");
    ensure!(migrate_all(&older, inbound)? > 500);
    compare(&newer)?;
    let expected = ["redis-6.0".to_owned(), newer.store().name()];
    let mut decided = || -> Result<bool> {
        // A store closes a link that it has not used for 10 s.
        let one: Vec<u8> = redis::cmd("RANDOMKEY").query(&mut client)?;
        migrate(&mut client, outbound, 0, std::slice::from_ref(&one))?;
        migrate(&mut older.client()?, inbound, 0, &[one])?;
        let status = sidecar.status()?;
        let links = status["links"].as_array().into_iter().flatten();
        let mut targets: Vec<_> = links.filter_map(|link| link["target"].as_str()).collect();
        targets.sort_unstable();
        Ok(targets == expected)
    };
    wait_for(SYNC_TIME_MAX, || Ok(decided()?.then_some(())))?
        .with_context(|| format!("{:#}", sidecar.status().unwrap_or_default()))
}

/// What the older master can't hold stays where it is, and what is moved with it arrives.
#[test]
fn what_an_older_master_can_not_hold_stays() -> Result<()> {
    for loss in ["refuse", "degrade"] {
        let Masters { newer, older, sidecar, outbound, .. } = masters(loss)?;
        let mut client = newer.client()?;
        for what in [Newer::FieldTtls, Newer::VectorSets] {
            data::fill_newer(&mut client, what)?;
        }
        for key in ["first", "last"] {
            redis::cmd("SET").arg(key).arg(key).arg("PX").arg(9_000_000).exec(&mut client)?;
        }
        let mut stays = if loss == "refuse" {
            [Newer::FieldTtls.keys(), Newer::VectorSets.keys()].concat()
        } else {
            Newer::VectorSets.keys().to_vec()
        };
        let keys = [&["first"], Newer::FieldTtls.keys(), Newer::VectorSets.keys(), &["last"]].concat();
        let keys: Vec<Vec<u8>> = keys.iter().map(|key| key.as_bytes().to_vec()).collect();
        let told = migrate(&mut client, outbound, 0, &keys).expect_err("all were moved").to_string();
        ensure!(told.contains("Segue refuses the value of key"), "{told}");

        let mut left: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut client)?;
        let mut arrived: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut older.client()?)?;
        left.sort();
        stays.sort_unstable();
        ensure!(left == stays, "{loss}: {left:?} stay");
        arrived.extend(left);
        arrived.sort();
        ensure!(
            arrived == ["first", "last", "newer:hash:large", "newer:hash:small", "newer:vectors"],
            "{arrived:?}"
        );
        let fields: u64 = redis::cmd("HLEN").arg("newer:hash:large").query(&mut older.client()?)?;
        ensure!(fields == if loss == "refuse" { 0 } else { 1000 }, "{loss}: {fields} fields");

        let left_ms: i64 = redis::cmd("PTTL").arg("last").query(&mut older.client()?)?;
        ensure!((1..=9_000_000).contains(&left_ms), "{left_ms} ms");
        let lost = sidecar.metric("segue_losses_total{grade=\"data\",kind=\"hash-field-ttl\"}")?;
        ensure!(lost.is_some() == (loss == "degrade"), "{loss}: {lost:?} losses");
        let refused = sidecar.metric("segue_messages_translated_total{rule=\"migrate-refused\"}")?;
        ensure!(refused == Some(stays.len() as f64), "{loss}: {refused:?} refused");
    }
    Ok(())
}
