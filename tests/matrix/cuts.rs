//! Links cut at a chosen byte, with real stores: one replica for each kind of place.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

use anyhow::{Context, Result, ensure};
use segue_bench::{
    child::wait_for,
    reader,
    server::{Options, Server},
    stores::Store,
};

use crate::cluster::{Cluster, Plan, SYNC_TIME_MAX, WAIT_MS, follow, link_is_up};

/// Where to cut what a replica has been sent so far, once that place has come.
type Place = fn(&[u8]) -> Option<usize>;

/// So much of the way into what begins with `pattern`.
fn into(sent: &[u8], pattern: &str, bytes: usize) -> Option<usize> {
    let begin = sent.windows(pattern.len()).position(|window| window == pattern.as_bytes())?;
    (sent.len() >= begin + bytes).then_some(begin + bytes)
}

fn after_snapshot(sent: &[u8]) -> Option<usize> {
    let mark = sent.get(into(sent, "$EOF:", 5)?..)?.get(..40)?;
    let ends: Vec<_> = sent.windows(40).enumerate().filter(|(_, window)| *window == mark).collect();
    ends.get(1).map(|(begin, _)| begin + 40)
}

/// Inside the snapshot there is nothing to go on from; everywhere else the replica goes on.
const PLACES: &[(&str, Place)] = &[
    ("inside the snapshot", |sent| into(sent, "REDIS0009", 100)),
    ("right after the snapshot", after_snapshot),
    ("within padding", |sent| into(sent, "\n\n\n\n\n\n", 3)),
    ("between two commands", |sent| into(sent, "*3\r\n$3\r\nSET\r\n$5\r\nplain\r\n", 0)),
    ("inside a command", |sent| into(sent, "*3\r\n$3\r\nSET\r\n$5\r\nplain\r\n", 27)),
    ("inside a transaction", |sent| into(sent, "$6\r\nqueued", 10)),
    ("before the end of a transaction", |sent| into(sent, "$6\r\nlatter\r\n$1\r\n2\r\n", 19)),
    ("inside a translated command", |sent| into(sent, "PEXPIREAT\r\n$5\r\ntimed", 12)),
    ("inside a script", |sent| into(sent, "EVAL\r\n", 40)),
    ("after a script", |sent| into(sent, "*2\r\n$4\r\nINCR\r\n$7\r\ncounter", 0)),
];

const WRITES: &[&str] = &[
    "HSET hash f 1",
    "HSETEX hash KEEPTTL FIELDS 1 f 2",
    "SET plain 1",
    "SET timed 1 EX 1000",
    "MULTI",
    "SET queued 1 KEEPTTL",
    "SET latter 2",
    "EXEC",
    "COPY plain copied",
    "INCR counter",
    "INCR counter",
];

/// So much before the writes; it is looked through again at every read.
const KEYS: u64 = 100;

#[test]
fn cut_at_every_kind_of_place_a_replica_goes_on_there() -> Result<()> {
    let cluster = Plan::new("redis-8.0", "redis-6.0").start()?;
    let mut client = cluster.master.client()?;
    for n in 0..KEYS {
        redis::cmd("SET").arg(n).arg("value").exec(&mut client)?;
    }
    let mut cut = Vec::new();
    for (what, place) in PLACES {
        let replica = Server::start(&Store::want("redis-6.0")?, Options::new())?;
        let cutter = Cutter::start(cluster.link_port, *place)?;
        follow(&replica, cutter.port)?;
        cut.push((*what, replica, cutter));
    }
    for (what, replica, _) in &cut {
        wait_for(SYNC_TIME_MAX, || Ok(link_is_up(replica)?.then_some(())))?
            .with_context(|| format!("cut {what} it does not come back:\n{}", replica.log_text()))?;
    }
    for text in WRITES {
        let mut words = text.split(' ');
        redis::cmd(words.next().unwrap_or_default()).arg(words.collect::<Vec<_>>()).exec(&mut client)?;
    }
    let replicas: usize = redis::cmd("WAIT").arg(PLACES.len()).arg(WAIT_MS).query(&mut client)?;
    ensure!(replicas == PLACES.len(), "only {replicas} replicas have all");
    for (what, replica, cutter) in &cut {
        assert_went_on(&cluster, replica, cutter, *what == PLACES[0].0).context(*what)?;
    }
    Ok(())
}

fn assert_went_on(cluster: &Cluster, replica: &Server, cutter: &Cutter, from_nothing: bool) -> Result<()> {
    ensure!(cutter.has_cut.load(Relaxed), "the place never came");
    let log = replica.log_text();
    let full_syncs = log.matches("sync: Finished with success").count();
    let partial_syncs = log.matches("Successful partial resynchronization").count();
    let expected = if from_nothing { (1, 0) } else { (1, 1) };
    ensure!((full_syncs, partial_syncs) == expected, "full and partial syncs: {full_syncs}, {partial_syncs}");
    let comparison = reader::compare(cluster.master.port(), replica.port())?;
    ensure!(comparison.is_equal() && comparison.keys > KEYS, "{comparison:#?}");
    Ok(())
}

/// Passes connections on, and cuts the first that comes to its place, once.
struct Cutter {
    port: u16,
    has_cut: Arc<AtomicBool>,
}

impl Cutter {
    /// Its threads end with their connections, the one that accepts with the process.
    fn start(to: u16, place: Place) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let has_cut = Arc::new(AtomicBool::new(false));
        let done = has_cut.clone();
        thread::spawn(move || {
            for dialer in listener.incoming().flatten() {
                let Ok(listener) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                let done = done.clone();
                thread::spawn(move || pass(&dialer, &listener, place, &done));
            }
        });
        Ok(Self { port, has_cut })
    }
}

/// Ends when either side does; a broken connection is an end like any other.
fn pass(mut dialer: &TcpStream, mut listener: &TcpStream, place: Place, has_cut: &AtomicBool) {
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = std::io::copy(&mut &*dialer, &mut &*listener);
            let _ = listener.shutdown(Shutdown::Both);
        });
        let (mut sent, mut piece) = (Vec::new(), vec![0; 64 << 10]);
        while let Ok(count @ 1..) = listener.read(&mut piece) {
            let before = sent.len();
            sent.extend_from_slice(&piece[..count]);
            let cut = if has_cut.load(Relaxed) { None } else { place(&sent) };
            let end = cut.unwrap_or(sent.len()).max(before);
            if dialer.write_all(&sent[before..end]).is_err() || cut.is_some() {
                has_cut.fetch_or(cut.is_some(), Relaxed);
                break;
            }
        }
        // What was sent arrives: the replica sees an end, not a reset.
        let _ = dialer.shutdown(Shutdown::Write);
        let _ = listener.shutdown(Shutdown::Both);
    });
}
