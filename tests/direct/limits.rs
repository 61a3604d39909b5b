//! What is bounded, at its bound: with a running sidecar, and a store that is played by the test.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use segue_bench::{authority::Authority, child::wait_for, peers::usage, sidecar::Sidecar};
use socket2::{Domain, SockRef, Socket, Type};

use crate::through::{STEP_TIME_MAX, Through};

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

fn await_metric(sidecar: &Sidecar, sample: &str, value: f64) {
    let reached = wait_for(STEP_TIME_MAX, || Ok(sidecar.metric(sample)?.filter(|now| *now >= value)));
    let now = sidecar.metric(sample);
    assert_eq!(reached.unwrap(), Some(value), "{sample} is {now:?}\n{}", sidecar.log_text());
}

/// The bytes until the end, in order or by a reset.
fn is_gone(mut stream: &TcpStream) -> bool {
    let mut piece = [0; 1024];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == ErrorKind::ConnectionReset,
        }
    }
}

/// `used` and `hits` of a limit.
fn limit(sidecar: &Sidecar, name: &str) -> (Option<u64>, u64) {
    let status = sidecar.status().unwrap();
    let limits = status["limits"].as_array().unwrap();
    let limit = limits.iter().find(|limit| limit["limit"] == name).unwrap();
    (limit["used"].as_u64(), limit["hits"].as_u64().unwrap())
}

#[test]
fn who_drips_a_command_is_cut_and_who_is_silent_is_not() {
    let through = Through::start("handshake_timeout_ms = 1000");
    let (silent, silent_store) = through.silent_link();
    // Whole commands, of which none has decided what it is: no one owes anything.
    let (mut idle, mut idle_store) = through.silent_link();
    idle.write_all(PING).unwrap();
    idle_store.read_exact(&mut [0; PING.len()]).unwrap();

    let (dripping, dripped) = through.silent_link();
    let since = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            // One byte every 100 ms, and always one more to come.
            for byte in b"*9\r\n$8\r\nREPLCONF\r\n$1000\r\n".iter().chain(&[b'1'; 1000]) {
                if (&dripping).write_all(&[*byte]).is_err() {
                    return;
                }
                thread::sleep(Duration::from_millis(100));
            }
            panic!("it may drip for ever");
        });
        assert!(is_gone(&dripping) && is_gone(&dripped));
    });
    assert!(since.elapsed() >= Duration::from_millis(1000), "too early: {:?}", since.elapsed());
    await_metric(&through.sidecar, "segue_limit_hits_total{limit=\"handshake_timeout_ms\"}", 1.0);
    await_metric(&through.sidecar, "segue_refusals_total{reason=\"handshake-timeout\"}", 1.0);
    assert_eq!(limit(&through.sidecar, "undecided_links_max"), (Some(2), 0));

    for (mut client, mut store) in [(silent, silent_store), (idle, idle_store)] {
        client.write_all(PING).unwrap();
        store.read_exact(&mut [0; PING.len()]).unwrap();
    }
}

#[test]
fn who_begins_no_tls_counts_as_undecided_and_is_cut_in_time() {
    const CERTIFICATE: &str = "segue_tls_certificate_expiry_timestamp_seconds{file=\"certificate_file\"}";
    let authority = Authority::new("the lab").unwrap();
    let tls = authority.issue("segue").unwrap().sidecar_table();
    for (timeout_ms, is_cut) in [(600_000, false), (300, true)] {
        let through = Through::start(&format!("tls_handshake_timeout_ms = {timeout_ms}\n{tls}"));
        let await_undecided = |count| {
            let reached = wait_for(STEP_TIME_MAX, || {
                Ok((limit(&through.sidecar, "undecided_links_max").0 == Some(count)).then_some(()))
            });
            assert!(reached.unwrap().is_some(), "{:?}", limit(&through.sidecar, "undecided_links_max"));
        };
        let silent = TcpStream::connect(("127.0.0.1", through.link_port)).unwrap();
        silent.set_read_timeout(Some(STEP_TIME_MAX)).unwrap();
        if is_cut {
            assert!(is_gone(&silent));
            await_metric(&through.sidecar, "segue_limit_hits_total{limit=\"tls_handshake_timeout_ms\"}", 1.0);
            await_metric(&through.sidecar, "segue_refusals_total{reason=\"tls-timeout\"}", 1.0);
        } else {
            await_undecided(1);
            assert_eq!(limit(&through.sidecar, "tls_handshake_timeout_ms"), (None, 0));
        }
        drop(silent);
        await_undecided(0);
        let expiry = through.sidecar.metric(CERTIFICATE).unwrap();
        // In the year 4096.
        assert!(expiry > Some(6e10), "{expiry:?}");
    }
}

/// A flood of refusals is a few lines of log, and all of it is counted.
#[test]
fn undecided_links_leave_room_for_others_and_a_flood_is_said_once() {
    const FLOOD: u32 = 100;
    let through = Through::start("links_max = 40\nundecided_links_max = 20");
    let silent: Vec<_> = (0..20).map(|_| through.silent_link()).collect();
    for _ in 0..FLOOD {
        let refused = TcpStream::connect(("127.0.0.1", through.link_port)).unwrap();
        refused.set_read_timeout(Some(STEP_TIME_MAX)).unwrap();
        assert!(is_gone(&refused));
    }
    await_metric(&through.sidecar, "segue_limit_hits_total{limit=\"undecided_links_max\"}", FLOOD.into());
    await_metric(&through.sidecar, "segue_refusals_total{reason=\"undecided-links-max\"}", FLOOD.into());
    assert_eq!(limit(&through.sidecar, "undecided_links_max"), (Some(20), u64::from(FLOOD)));
    let said = through.sidecar.log_text().matches("link refused").count();
    assert_eq!(said, 1, "{}", through.sidecar.log_text());
    // They say what they are, and there is room.
    for (mut client, mut store) in silent.iter().map(|(client, store)| (client, store)) {
        client.write_all(b"*1\r\n$4\r\nINFO\r\n").unwrap();
        store.read_exact(&mut [0; 14]).unwrap();
    }
    let more: Vec<_> = (0..20).map(|_| through.link()).collect();
    let refused = TcpStream::connect(("127.0.0.1", through.link_port)).unwrap();
    refused.set_read_timeout(Some(STEP_TIME_MAX)).unwrap();
    assert!(is_gone(&refused));
    await_metric(&through.sidecar, "segue_limit_hits_total{limit=\"links_max\"}", 1.0);
    drop((silent, more));
    through.await_no_link();
    assert_eq!(limit(&through.sidecar, "links_max").0, Some(0));
}

/// A gigabyte of one line, from either end: as a handshake it is a fault after the first bytes of it.
#[test]
fn a_gigabyte_of_one_line_costs_one_link_and_no_memory() {
    const LINE_BYTES: usize = 1 << 30;
    const GROWTH_BYTES_MAX: u64 = 8 << 20;
    let through = Through::start("handshake_timeout_ms = 600000");
    let before_bytes = through.resident_bytes();
    let piece = vec![b'1'; 1 << 20];
    // An argument without an end, and a number without an end.
    for begin in [&b"*3\r\n$8\r\nREPLCONF\r\n$2000000000\r\n"[..], b"*"] {
        let (mut client, store) = through.silent_link();
        client.write_all(begin).unwrap();
        let pieces = LINE_BYTES / piece.len();
        let sent = (0..pieces).take_while(|_| client.write_all(&piece).is_ok()).count();
        assert!(sent < pieces, "all of it was taken");
        assert!(is_gone(&store));
    }
    // What is no command at all belongs to a client: it passes, and its store has to see to it.
    let (client, mut store) = through.silent_link();
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..LINE_BYTES / piece.len() {
                (&client).write_all(&piece).unwrap();
            }
        });
        let (mut got, mut into) = (0, vec![0; 1 << 20]);
        while got < LINE_BYTES {
            got += store.read(&mut into).unwrap();
        }
    });
    let memory = through.sidecar.rss_bytes().unwrap();
    let grown_bytes = memory.resident_peak_bytes.saturating_sub(before_bytes);
    assert!(grown_bytes < GROWTH_BYTES_MAX, "{grown_bytes} bytes more than before");
    await_metric(&through.sidecar, "segue_limit_hits_total{limit=\"handshake_bytes_max\"}", 1.0);
    await_metric(&through.sidecar, "segue_faults_total{kind=\"too-large\"}", 1.0);
    await_metric(&through.sidecar, "segue_faults_total{kind=\"malformed\"}", 1.0);
    drop((client, store));
    through.await_no_link();
}

/// Beginnings of commands fill what all links may hold.
#[test]
fn at_the_total_of_held_bytes_new_links_are_refused_and_one_at_a_time_goes_on() {
    const HITS: &str = "segue_limit_hits_total{limit=\"held_bytes_total_max\"}";
    const HELD_BYTES_MAX: usize = 1 << 20;
    const LINKS: usize = 30;
    const VALUE_BYTES: usize = 60_000;
    let through = Through::start(&format!(
        "held_bytes_max = {HELD_BYTES_MAX}\nheld_bytes_total_max = {HELD_BYTES_MAX}\n\
         handshake_bytes_max = 65536\nhandshake_timeout_ms = 600000"
    ));
    let mut begun = format!("*2\r\n$8\r\nREPLCONF\r\n${VALUE_BYTES}\r\n").into_bytes();
    begun.extend(vec![b'1'; VALUE_BYTES]);
    let links: Vec<_> = (0..LINKS).map(|_| through.silent_link()).collect();
    for (mut client, _) in links.iter().map(|(client, store)| (client, store)) {
        client.write_all(&begun).unwrap();
    }
    let full = wait_for(STEP_TIME_MAX, || {
        let (used, _) = limit(&through.sidecar, "held_bytes_total_max");
        Ok(used.filter(|used| *used >= HELD_BYTES_MAX as u64))
    });
    let used = full.unwrap().expect("it does not fill");
    let most = HELD_BYTES_MAX + 2 * begun.len() + LINKS * 1024;
    assert!(used <= most as u64, "{used} bytes are held");

    let refused = TcpStream::connect(("127.0.0.1", through.link_port)).unwrap();
    refused.set_read_timeout(Some(STEP_TIME_MAX)).unwrap();
    assert!(is_gone(&refused));
    await_metric(&through.sidecar, "segue_refusals_total{reason=\"held-bytes-total-max\"}", 1.0);

    // The one whose turn it is does not come to an end, either, and then perhaps the next.
    let hits = wait_for(STEP_TIME_MAX, || Ok(through.sidecar.metric(HITS)?.filter(|hits| *hits >= 2.0)));
    assert!(hits.unwrap().is_some(), "{}", through.sidecar.log_text());
    // All others do, one at a time, until there is room for all.
    let passed = thread::scope(|scope| {
        let ends: Vec<_> = links.iter().map(|link| scope.spawn(|| ends_and_passes(link, &begun))).collect();
        ends.into_iter().map(|end| end.join().unwrap()).filter(|passed| *passed).count()
    });
    let cut = limit(&through.sidecar, "held_bytes_total_max").1 - 1;
    assert!(cut >= 1 && passed as u64 + cut == LINKS as u64, "{passed} passed, {cut} were cut");
    drop(links);
    through.await_no_link();
    assert_eq!(limit(&through.sidecar, "held_bytes_total_max").0, Some(0));
}

/// Ends the command; true where the store gets all of it, false where the link is gone.
fn ends_and_passes((client, store): &(TcpStream, TcpStream), begun: &[u8]) -> bool {
    let (mut client, mut store) = (client, store);
    let ended = client.write_all(b"\r\n");
    ended.and_then(|()| store.read_exact(&mut vec![0; begun.len() + 2])).is_ok()
}

/// The master says that its snapshot comes on a second connection, which does not come through here.
#[test]
fn a_stream_without_its_snapshot_is_cut() {
    let through = Through::start("pairing_timeout_ms = 300");
    let (mut replica, mut master) = through.silent_link();
    // A Valkey says itself what it is.
    let steps: [(&[u8], &[u8]); 2] = [
        (
            b"*7\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$4\r\ncapa\r\n$6\r\npsync2\r\n$7\r\nversion\r\n$5\r\n8.0.1\r\n",
            b"+OK\r\n",
        ),
        (b"*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n", b"+RDBCHANNELSYNC 7\r\n"),
    ];
    for (said, answer) in steps {
        replica.write_all(said).unwrap();
        master.read_exact(&mut vec![0; said.len()]).unwrap();
        master.write_all(answer).unwrap();
        replica.read_exact(&mut vec![0; answer.len()]).unwrap();
    }
    master.write_all(PING).unwrap();
    assert!(is_gone(&replica) && is_gone(&master));
    await_metric(&through.sidecar, "segue_limit_hits_total{limit=\"pairing_timeout_ms\"}", 1.0);
    await_metric(&through.sidecar, "segue_refusals_total{reason=\"missing-connection\"}", 1.0);
}

/// While a session still sees the bytes: what waits for a store that reads nothing is bounded.
#[test]
fn an_undecided_link_to_a_store_that_never_reads_blocks_its_dialer() {
    let through = Through::start("");
    let (client, store) = through.silent_link();
    let held_bytes = through.send_until_held(&client, &PING.repeat(10_000));
    assert!(held_bytes <= 2 << 20, "held_bytes = {held_bytes}");
    drop((client, store));
    through.await_no_link();
}

#[test]
fn ten_thousand_idle_connections_through_one_sidecar() {
    const WANTED: u64 = 10_000;
    const LINK_BYTES_MAX: u64 = 5 << 10;
    /// The tests beside this one, and what a process needs anyway.
    const OTHER_FILES: u64 = 3_000;
    let files = usage::raise_file_limit(2 * WANTED + OTHER_FILES).unwrap();
    let count = WANTED.min(files.saturating_sub(OTHER_FILES) / 2);
    if count < WANTED {
        println!("only {count} connections: this machine gives a process {files} files (ulimit -Hn)");
    }
    let through = Through::start("");
    let before_bytes = through.resident_bytes();
    let links: Vec<_> = (0..count).map(|_| through.link()).collect();
    assert_eq!(limit(&through.sidecar, "links_max").0, Some(count));
    assert_eq!(limit(&through.sidecar, "undecided_links_max").0, Some(0));
    let (open_files, _) = limit(&through.sidecar, "open_files");
    assert!(open_files >= Some(2 * count), "{open_files:?} files");
    let link_bytes = through.resident_bytes().saturating_sub(before_bytes) / count;
    assert!(link_bytes <= LINK_BYTES_MAX, "{link_bytes} bytes an idle connection");

    for (mut client, mut store) in links.iter().step_by(97).map(|(client, store)| (client, store)) {
        store.write_all(b"still there").unwrap();
        client.read_exact(&mut [0; 11]).unwrap();
    }
    drop(through.link());
    drop(links);
    through.await_no_link();
    assert_eq!(limit(&through.sidecar, "links_max").0, Some(0));
}

#[test]
fn without_a_pipe_bytes_are_copied_and_that_is_counted() {
    let through = Through::start("pipes_max = 0");
    let (client, mut store) = through.link();
    thread::scope(|scope| {
        scope.spawn(|| (&client).write_all(&vec![7; 16 << 20]).unwrap());
        store.read_exact(&mut vec![0; 16 << 20]).unwrap();
    });
    let hit = wait_for(STEP_TIME_MAX, || {
        let (used, hits) = limit(&through.sidecar, "pipes_max");
        assert_eq!(used, Some(0));
        Ok((hits > 0 && through.sidecar.log_text().contains("all pipes are in use")).then_some(()))
    });
    assert!(hit.unwrap().is_some(), "{}", through.sidecar.log_text());
}

#[test]
fn a_store_that_is_down_is_told_at_once_and_found_again() {
    const TRIES: u32 = 50;
    let mut through = Through::start("dial_timeout_ms = 500");
    let dial = |through: &Through| {
        let client = TcpStream::connect(("127.0.0.1", through.link_port)).unwrap();
        client.set_read_timeout(Some(STEP_TIME_MAX)).unwrap();
        client
    };
    let address = through.store.local_addr().unwrap();
    // Another socket in its place: the store's own is closed.
    through.store = TcpListener::bind("127.0.0.1:0").unwrap();
    for _ in 0..TRIES {
        assert!(is_gone(&dial(&through)));
    }
    await_metric(&through.sidecar, "segue_dial_failures_total{peer=\"n1\"}", TRIES.into());
    assert_eq!(limit(&through.sidecar, "dial_timeout_ms"), (None, 0));
    let said = through.sidecar.log_text().matches("can't be reached").count();
    assert_eq!(said, 1, "{}", through.sidecar.log_text());

    through.store = TcpListener::bind(address).unwrap();
    let (client, store) = through.link();
    drop((client, store));

    // It is there, and takes no connection any more: the kernel drops what would open one.
    SockRef::from(&through.store).listen(0).unwrap();
    let held: Vec<_> = (0..2).map(|_| dial_without_waiting(address)).collect();
    let since = Instant::now();
    let late = (0..3).map(|_| dial(&through)).filter(is_gone).count();
    assert_eq!(late, 3);
    assert!(since.elapsed() >= Duration::from_millis(500));
    await_metric(&through.sidecar, "segue_limit_hits_total{limit=\"dial_timeout_ms\"}", 3.0);
    drop(held);
}

fn dial_without_waiting(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    // In progress, at most.
    let _ = socket.connect(&address.into());
    socket
}
