//! Client traffic through a running sidecar: every byte, every way to end, and what it costs.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use segue_bench::{child::wait_for, peers::usage, port, sidecar::Sidecar};
use serde_json::Value;
use socket2::SockRef;

/// No step of these tests takes longer.
pub const STEP_TIME_MAX: Duration = Duration::from_secs(30);
/// What no replica begins with: the session lets go at once.
const CLIENT: &[u8] = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";

/// A sidecar before a store that is played by the test.
pub struct Through {
    pub sidecar: Sidecar,
    pub store: TcpListener,
    pub link_port: u16,
}

impl Through {
    pub fn start(limits: &str) -> Self {
        let [store, link_port, admin, metrics] = port::free_ports().unwrap();
        let store = TcpListener::bind(("127.0.0.1", store)).unwrap();
        let config = format!(
            r#"
[node]
id = "n1"
protocol = "redis"
store = "{store}"
release = "redis-8.0"

[[link]]
listen = "127.0.0.1:{link_port}"
to = "store"

[limits]
{limits}

[admin]
listen = "127.0.0.1:{admin}"

[metrics]
listen = "127.0.0.1:{metrics}"
"#,
            store = store.local_addr().unwrap(),
        );
        let sidecar = Sidecar::start(Path::new(env!("CARGO_BIN_EXE_segue")), &config).unwrap();
        Self { sidecar, store, link_port }
    }

    /// Both ends of one link, the first request on its way through already.
    pub fn link(&self) -> (TcpStream, TcpStream) {
        let (mut client, mut store) = self.silent_link();
        client.write_all(CLIENT).unwrap();
        let mut request = vec![0; CLIENT.len()];
        store.read_exact(&mut request).unwrap();
        assert_eq!(request, CLIENT);
        (client, store)
    }

    pub fn silent_link(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(("127.0.0.1", self.link_port)).unwrap();
        let (store, _) = self.store.accept().unwrap();
        for end in [&client, &store] {
            end.set_read_timeout(Some(STEP_TIME_MAX)).unwrap();
            end.set_write_timeout(Some(STEP_TIME_MAX)).unwrap();
        }
        (client, store)
    }

    pub fn resident_bytes(&self) -> u64 {
        self.sidecar.rss_bytes().unwrap().resident_bytes
    }

    /// Of the only link.
    fn held_bytes(&self) -> u64 {
        self.sidecar.status().unwrap()["links"][0]["held_bytes"].as_u64().unwrap()
    }

    /// Until a write has to wait for half a second and the sidecar holds some of it; how much that is.
    pub fn send_until_held(&self, mut to: &TcpStream, piece: &[u8]) -> u64 {
        to.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut sent_bytes = 0;
        let deadline = Instant::now() + STEP_TIME_MAX;
        while Instant::now() < deadline {
            match to.write(piece) {
                Ok(count) => sent_bytes += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A sidecar that has not had its turn holds nothing, and there is more room behind it.
                Err(error) if error.kind() == ErrorKind::WouldBlock => match self.held_bytes() {
                    0 => {}
                    held_bytes => return held_bytes,
                },
                Err(error) => panic!("{error}"),
            }
        }
        panic!("{sent_bytes} bytes were taken for a peer that reads none");
    }

    pub fn await_no_link(&self) {
        let gone = wait_for(STEP_TIME_MAX, || {
            let links = self.sidecar.status()?["links"].as_array().map(Vec::len);
            Ok((links == Some(0)).then_some(()))
        });
        assert!(gone.unwrap().is_some(), "a link whose ends are closed is still open");
    }
}

/// The bytes of a stream from `position` on; two streams differ by their `seed`.
fn expected(seed: u64, position: u64, into: &mut [u8]) {
    let word = |index: u64| (index ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    assert!(position.is_multiple_of(8) && into.len().is_multiple_of(8));
    for (index, bytes) in (position / 8..).zip(into.chunks_exact_mut(8)) {
        bytes.copy_from_slice(&word(index));
    }
}

const PIECE_BYTES: usize = 128 << 10;

fn send(mut to: &TcpStream, seed: u64, total_bytes: u64) {
    let mut piece = vec![0; PIECE_BYTES];
    for position in (0..total_bytes).step_by(PIECE_BYTES) {
        expected(seed, position, &mut piece);
        to.write_all(&piece).unwrap();
    }
}

fn receive(mut from: &TcpStream, seed: u64, total_bytes: u64) {
    let (mut piece, mut wanted) = (vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]);
    for position in (0..total_bytes).step_by(PIECE_BYTES) {
        from.read_exact(&mut piece).unwrap();
        expected(seed, position, &mut wanted);
        assert!(piece == wanted, "the stream of seed {seed} differs after byte {position}");
    }
}

fn is_at_end(mut stream: &TcpStream) -> bool {
    stream.read(&mut [0]).unwrap() == 0
}

/// How a blocked or silent stream breaks: by a read that fails.
fn read_error(mut stream: &TcpStream) -> ErrorKind {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => panic!("closed in order, where a reset was due"),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return error.kind(),
        }
    }
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
fn a_hundred_megabytes_pass_both_ways_at_once() {
    const TOTAL_BYTES: u64 = 800 * PIECE_BYTES as u64;
    let through = Through::start("");
    let (client, store) = through.link();
    thread::scope(|scope| {
        scope.spawn(|| send(&client, 1, TOTAL_BYTES));
        scope.spawn(|| send(&store, 2, TOTAL_BYTES));
        scope.spawn(|| receive(&store, 1, TOTAL_BYTES));
        scope.spawn(|| receive(&client, 2, TOTAL_BYTES));
    });
    // The last bytes are counted once they are sent.
    let link = || through.sidecar.status().unwrap()["links"][0].clone();
    let counted = |link: &Value| {
        link["bytes_from_dialer"] == TOTAL_BYTES + CLIENT.len() as u64
            && link["bytes_from_listener"] == TOTAL_BYTES
            && link["held_bytes"] == 0
    };
    let counted = wait_for(STEP_TIME_MAX, || Ok(Some(link()).filter(counted))).unwrap();
    assert_eq!(counted.unwrap_or_else(|| panic!("{}", link()))["verdict"], "client");
    drop((client, store));
    through.await_no_link();
}

#[test]
fn each_end_may_close_its_half_and_still_receive() {
    let through = Through::start("");
    for client_first in [true, false] {
        let (client, store) = through.link();
        let (mut first, mut last) = if client_first { (client, store) } else { (store, client) };
        first.write_all(b"my last").unwrap();
        first.shutdown(Shutdown::Write).unwrap();
        let mut got = String::new();
        last.read_to_string(&mut got).unwrap();
        assert_eq!(got, "my last");
        thread::scope(|scope| {
            scope.spawn(|| {
                send(&last, 3, 8 << 20);
                last.shutdown(Shutdown::Write).unwrap();
            });
            receive(&first, 3, 8 << 20);
        });
        assert!(is_at_end(&first));
    }
    through.await_no_link();
}

#[test]
fn a_client_that_only_greets_and_closes_its_half_gets_its_answer() {
    let through = Through::start("");
    let (mut client, mut store) = through.silent_link();
    client.write_all(b"PING\r\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut request = String::new();
    store.read_to_string(&mut request).unwrap();
    assert_eq!(request, "PING\r\n");
    store.write_all(b"+PONG\r\n").unwrap();
    drop(store);
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "+PONG\r\n");
    drop(client);
    through.await_no_link();
}

#[test]
fn a_reset_of_one_end_is_a_reset_of_the_other() {
    let through = Through::start("");
    for client_first in [true, false] {
        let (client, store) = through.link();
        let (broken, other) = if client_first { (client, store) } else { (store, client) };
        reset(broken);
        assert_eq!(read_error(&other), ErrorKind::ConnectionReset);
    }
    // Before the session has let go, too.
    let (mut client, mut store) = through.silent_link();
    client.write_all(b"PING\r\n").unwrap();
    store.read_exact(&mut [0; 6]).unwrap();
    reset(store);
    assert_eq!(read_error(&client), ErrorKind::ConnectionReset);
    through.await_no_link();
}

#[test]
fn tls_on_a_plain_link_is_refused_unless_nothing_need_be_understood() {
    const HELLO: &[u8] = b"\x16\x03\x01\x00\x05hello";
    let through = Through::start("");
    let (mut client, store) = through.silent_link();
    client.write_all(HELLO).unwrap();
    assert!(is_at_end(&store) && is_at_end(&client));
    let refused = wait_for(STEP_TIME_MAX, || {
        Ok((through.sidecar.status()?["refusals"][0]["reason"] == "tls-on-plain").then_some(()))
    });
    assert!(refused.unwrap().is_some(), "{}", through.sidecar.log_text());

    let off = serde_json::json!({ "mode": "off" });
    assert_eq!(through.sidecar.put_translation(&off).unwrap().0, 200);
    let (mut client, mut store) = through.silent_link();
    client.write_all(HELLO).unwrap();
    let mut got = vec![0; HELLO.len()];
    store.read_exact(&mut got).unwrap();
    assert_eq!(got, HELLO);
}

#[test]
fn a_peer_that_never_reads_blocks_the_other_and_costs_no_memory() {
    let through = Through::start("");
    let (client, store) = through.link();
    // What an answer needs, it has from here on.
    through.held_bytes();
    let before_bytes = through.resident_bytes();
    let held_bytes = through.send_until_held(&client, &[7; PIECE_BYTES]);
    let grown_bytes = through.resident_bytes().saturating_sub(before_bytes);
    assert!(grown_bytes < 1 << 20, "bytes sent to a peer that reads none cost {grown_bytes}");
    assert!(held_bytes <= 1 << 20, "held_bytes = {held_bytes}");
    // The sender gives up: the reset passes although nothing else can.
    reset(client);
    assert_eq!(read_error(&store), ErrorKind::ConnectionReset);
    through.await_no_link();
}

#[test]
fn an_idle_connection_costs_four_kibibytes_at_most() {
    const LINKS: usize = 1000;
    const LINK_BYTES_MAX: u64 = 4 << 10;
    // Two descriptors a link here and two in the sidecar, which inherits the limit.
    usage::raise_file_limit(20_000).unwrap();
    let through = Through::start("links_max = 2000");
    // What the process needs once, whatever the number of links.
    let warm: Vec<_> = (0..200).map(|_| through.link()).collect();
    let before_bytes = through.resident_bytes();
    let links: Vec<_> = (0..LINKS).map(|_| through.link()).collect();
    let link_bytes = through.resident_bytes().saturating_sub(before_bytes) / LINKS as u64;
    println!("{link_bytes} bytes an idle connection");
    assert!(link_bytes <= LINK_BYTES_MAX, "{link_bytes} bytes an idle connection");
    drop((warm, links));
    through.await_no_link();
}
