//! Another config while the sidecar runs: by SIGHUP and by `PUT /v1/config/reload`.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use segue_bench::{child::wait_for, port, sidecar::Sidecar};

const WAIT_MAX: Duration = Duration::from_secs(60);

/// A store that sends back what it hears, after its own name.
pub fn store(name: u8) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || {
                let (mut stream, mut heard) = (stream.unwrap(), [0; 64]);
                while let Ok(count @ 1..) = stream.read(&mut heard) {
                    let mut answer = vec![name];
                    answer.extend(&heard[..count]);
                    if stream.write_all(&answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// A client of the store behind a link: who answers, if anybody.
pub fn ask(stream: &mut TcpStream) -> Option<u8> {
    stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    stream.write_all(b"PING\r\n").ok()?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).ok()?;
    Some(answer[0])
}

pub fn dial(port: u16) -> Option<TcpStream> {
    TcpStream::connect(("127.0.0.1", port)).ok()
}

struct Running {
    sidecar: Sidecar,
    config: String,
    link: u16,
    other: u16,
    admin: u16,
}

/// The own store is called `a`, the only peer's `b`.
fn run() -> Running {
    let [link, other, admin, metrics] = port::free_ports().unwrap();
    let config = format!(
        r#"[node]
id = "n1"
protocol = "redis"
store = "127.0.0.1:{a}"
release = "redis-8.0"
[[peer]]
id = "n2"
store = "127.0.0.1:{b}"
release = "redis-6.0"
[[link]]
listen = "127.0.0.1:{link}"
to = "store"
[translation]
mode = "auto"
[limits]
probe_timeout_ms = 100
[log]
level = "info"
[admin]
listen = "127.0.0.1:{admin}"
[metrics]
listen = "127.0.0.1:{metrics}"
"#,
        a = store(b'a'),
        b = store(b'b'),
    );
    let sidecar = Sidecar::start(Path::new(env!("CARGO_BIN_EXE_segue")), &config).unwrap();
    Running { sidecar, config, link, other, admin }
}

impl Running {
    /// Changes the file; status code and answer of the reload.
    fn reload(&mut self, from: &str, to: &str) -> (u16, String) {
        assert!(self.config.contains(from), "{from}");
        self.config = self.config.replacen(from, to, 1);
        self.write();
        self.put()
    }

    fn write(&self) {
        fs::write(self.sidecar.folder().join("segue.toml"), &self.config).unwrap();
    }

    fn put(&self) -> (u16, String) {
        let mut stream = dial(self.admin).unwrap();
        stream.write_all(b"PUT /v1/config/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn reloads(&self, outcome: &str) -> f64 {
        let sample = format!("segue_config_reloads_total{{outcome=\"{outcome}\"}}");
        self.sidecar.metric(&sample).unwrap().unwrap()
    }

    /// As n2 would: from then on its release is known, and that it is older.
    fn replica_dials(&self) {
        let own = self.config.lines().filter(|line| line.starts_with("store")).nth(1).unwrap();
        let port = own.trim_end_matches('"').rsplit(':').next().unwrap();
        let mut replica = dial(self.link).unwrap();
        for command in [format!("REPLCONF listening-port {port} capa eof"), "PSYNC ? -1".to_owned()] {
            let words: Vec<_> = command.split(' ').collect();
            let bulks: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
            replica.write_all(format!("*{}\r\n{bulks}", words.len()).as_bytes()).unwrap();
        }
        let decided =
            wait_for(WAIT_MAX, || Ok(self.sidecar.log_text().contains("link decided").then_some(())));
        assert!(decided.unwrap().is_some(), "{}", self.sidecar.log_text());
    }

    /// Who answers a new client at this port.
    fn answers(port: u16) -> Option<u8> {
        ask(&mut dial(port)?)
    }
}

#[test]
fn listeners_come_and_go_and_other_links_stay() {
    let mut running = run();
    let mut stays = dial(running.link).unwrap();
    assert_eq!(ask(&mut stays), Some(b'a'));
    let added = format!("to = \"store\"\n[[link]]\nlisten = \"127.0.0.1:{}\"\nto = \"n2\"", running.other);
    assert_eq!(running.reload("to = \"store\"", &added).0, 200);
    assert_eq!(Running::answers(running.other), Some(b'b'));
    let mut ends = dial(running.other).unwrap();
    assert_eq!(ask(&mut ends), Some(b'b'));

    // The same address with another meaning: never closed in between.
    assert_eq!(running.reload("to = \"n2\"", "to = \"store\"").0, 200);
    assert_eq!(Running::answers(running.other), Some(b'a'));
    let ended = wait_for(WAIT_MAX, || Ok(ask(&mut ends).is_none().then_some(()))).unwrap();
    assert!(ended.is_some(), "the link of the old meaning goes on");

    assert_eq!(running.reload(&added.replace("to = \"n2\"", "to = \"store\""), "to = \"store\"").0, 200);
    let closed = wait_for(WAIT_MAX, || Ok(dial(running.other).is_none().then_some(()))).unwrap();
    assert!(closed.is_some(), "the removed listener still listens");
    assert_eq!(ask(&mut stays), Some(b'a'), "a link that nothing has changed for was cut");
    assert_eq!((running.reloads("loaded"), running.reloads("refused")), (3.0, 0.0));
}

#[test]
fn a_store_that_moved_is_dialled_at_its_new_address() {
    let mut running = run();
    let mut before = dial(running.link).unwrap();
    assert_eq!(ask(&mut before), Some(b'a'));
    let line = |running: &Running, nth| {
        running.config.lines().filter(|line| line.starts_with("store")).nth(nth).unwrap().to_owned()
    };
    let moved = |name| format!("store = \"127.0.0.1:{}\"", store(name));
    let (own, own_moved) = (line(&running, 0), moved(b'c'));
    assert_eq!(running.reload(&own, &own_moved).0, 200);
    assert_eq!(Running::answers(running.link), Some(b'c'));
    assert_eq!(running.sidecar.status().unwrap()["node"]["store"], own_moved[9..own_moved.len() - 1]);
    let ended = wait_for(WAIT_MAX, || Ok(ask(&mut before).is_none().then_some(()))).unwrap();
    assert!(ended.is_some(), "a link to the old address goes on");

    let added = format!("to = \"store\"\n[[link]]\nlisten = \"127.0.0.1:{}\"\nto = \"n2\"", running.other);
    assert_eq!(running.reload("to = \"store\"", &added).0, 200);
    let peer = line(&running, 1);
    assert_eq!(running.reload(&peer, &moved(b'd')).0, 200);
    assert_eq!(Running::answers(running.other), Some(b'd'));
}

#[test]
fn translation_limits_and_log_level_are_taken_over() {
    let mut running = run();
    assert_eq!(running.reload("mode = \"auto\"", "mode = \"redis-6.2\"\nloss = \"degrade\"").0, 200);
    let translation = running.sidecar.translation().unwrap();
    assert_eq!((&translation["mode"], &translation["loss"]), (&"redis-6.2".into(), &"degrade".into()));
    assert_eq!(translation["changes"][0]["who"], "config");
    // What was set by hand stays while the file says what it said.
    let by_hand = serde_json::json!({ "mode": "auto", "who": "test" });
    assert_eq!(running.sidecar.put_translation(&by_hand).unwrap().0, 200);

    assert_eq!(running.reload("[limits]", "[limits]\nlinks_max = 1").0, 200);
    assert_eq!(running.sidecar.translation().unwrap()["mode"], "auto");
    let mut first = dial(running.link).unwrap();
    assert_eq!(ask(&mut first), Some(b'a'));
    assert_eq!(Running::answers(running.link), None);
    assert_eq!(running.sidecar.status().unwrap()["refusals"][0]["reason"], "links-max");

    assert!(!running.sidecar.log_text().contains("DEBUG"));
    assert_eq!(running.reload("level = \"info\"", "level = \"debug\"").0, 200);
    drop(first);
    let logged = wait_for(WAIT_MAX, || {
        let _ = Running::answers(running.link);
        Ok(running.sidecar.log_text().contains("DEBUG").then_some(()))
    });
    assert!(logged.unwrap().is_some(), "the log's level is as it was");
}

#[test]
fn a_config_that_does_not_do_changes_nothing_and_is_told() {
    let mut running = run();
    let before = running.sidecar.status().unwrap()["config"]["loaded_at_unix_s"].clone();
    let good = running.config.clone();
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = busy.local_addr().unwrap();
    let both = format!(
        "to = \"store\"\n[[link]]\nlisten = \"127.0.0.1:{}\"\nto = \"n2\"\n\
         [[link]]\nlisten = \"{taken}\"\nto = \"n2\"",
        running.other
    );
    let cases = [
        ("id = \"n1\"", "id = \"n9\"", 409, "node.id can't change while the sidecar runs"),
        ("[limits]", "[state]\ndir = \"other\"\n[limits]", 409, "state.dir can't change"),
        ("[limits]", "[limitz]", 400, "[limitz]: unknown table"),
        (
            "mode = \"auto\"",
            "mode = \"off\"",
            409,
            "[translation]: n2 of an older release would lose its link",
        ),
        ("to = \"store\"", &both, 409, &format!("cannot listen on {taken}: ")),
    ];
    running.replica_dials();
    for (index, (from, to, code, message)) in cases.into_iter().enumerate() {
        running.config.clone_from(&good);
        let (answered, body) = running.reload(from, to);
        assert_eq!(answered, code, "{to}: {body}");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        let error = body["error"].as_str().unwrap();
        assert!(error.contains(message), "{error}");
        let status = running.sidecar.status().unwrap();
        assert_eq!(status["config"]["last_error"], error);
        assert_eq!(status["config"]["loaded_at_unix_s"], before);
        assert_eq!(status["node"]["id"], "n1");
        assert_eq!(running.sidecar.translation().unwrap()["mode"], "auto");
        assert!(dial(running.other).is_none(), "half of a refused config listens");
        assert_eq!(Running::answers(running.link), Some(b'a'));
        assert_eq!(running.reloads("refused"), index as f64 + 1.0);
    }

    // Good again, and by the signal this time.
    running.config = good.replace("[limits]", "[limits]\nlinks_max = 9");
    running.write();
    let pid = running.sidecar.pid().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    let loaded = wait_for(WAIT_MAX, || Ok((running.reloads("loaded") == 1.0).then_some(()))).unwrap();
    assert!(loaded.is_some(), "{}", running.sidecar.log_text());
    assert_eq!(running.sidecar.status().unwrap()["config"]["last_error"], serde_json::Value::Null);
}
