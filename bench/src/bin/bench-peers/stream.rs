//! A stream of commands through the translation, between a master and a replica that only play their parts:
//! real ones would be slower than what lies between them.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use segue_bench::port;
use segue_bench::server::{Options, Server};
use segue_bench::sidecar::Sidecar;
use segue_bench::stores::Store;

use crate::results::{Metric, Sample};

const PIPELINE: u64 = 64;
const WAIT_TIME_MAX: Duration = Duration::from_secs(20);
/// `SET` of 64 bytes, as a master writes it.
const COMMAND: &str = "*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000000\r\n$64\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n";
const MARK: &str = "0123456789012345678901234567890123456789";

/// A sidecar whose store is a listener of ours.
pub struct Stream {
    listener: TcpListener,
    sidecar: Sidecar,
    link_port: u16,
    /// The snapshot of an empty 8.0.
    snapshot: Vec<u8>,
}

impl Stream {
    pub fn start(segue: &Path) -> Result<Self> {
        let store = Server::start(&Store::want("redis-8.0")?, Options::new())?;
        redis::cmd("SAVE").exec(&mut store.client()?)?;
        let snapshot = fs::read(store.folder().join("dump.rdb"))?;
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let [link_port, replica_port, admin, metrics] = port::free_ports()?;
        let config = format!(
            r#"
[node]
id = "n1"
protocol = "redis"
store = "{}"
release = "redis-8.0"
[[peer]]
id = "older"
store = "127.0.0.1:{replica_port}"
release = "redis-6.0"
[[link]]
listen = "127.0.0.1:{link_port}"
to = "store"
peer = "older"
[log]
level = "error"
[admin]
listen = "127.0.0.1:{admin}"
[metrics]
listen = "127.0.0.1:{metrics}"
"#,
            listener.local_addr()?
        );
        Ok(Self { listener, sidecar: Sidecar::start(segue, &config)?, link_port, snapshot })
    }

    /// Commands a second, counted where they arrive.
    pub fn commands(&self, count: u64) -> Result<Vec<Sample>> {
        thread::scope(|scope| {
            let master = scope.spawn(|| self.play_master(count));
            let elapsed_s = self.play_replica(count).with_context(|| self.sidecar.log_text());
            let master = master.join().map_err(|_| anyhow!("the master's thread panicked"))?;
            let elapsed_s = elapsed_s?;
            drop(master?);
            Ok(vec![Sample(Metric::StreamPerS, count as f64 / elapsed_s)])
        })
    }

    /// The stream's connection, to be kept until the replica has everything.
    fn play_master(&self, count: u64) -> Result<TcpStream> {
        let (mut link, _) = self.listener.accept()?;
        link.set_read_timeout(Some(WAIT_TIME_MAX))?;
        let mut heard = String::new();
        for (step, answer) in
            [("PING\r\n", "+PONG\r\n"), ("$1\r\n1\r\n", "+OK\r\n"), ("psync2\r\n", "+OK\r\n")]
        {
            hear(&mut link, &mut heard, step)?;
            link.write_all(answer.as_bytes())?;
        }
        hear(&mut link, &mut heard, "-1\r\n")?;
        let stream_id = "a".repeat(40);
        write!(link, "+FULLRESYNC {stream_id} 0\r\n$EOF:{MARK}\r\n")?;
        link.write_all(&self.snapshot)?;
        link.write_all(MARK.as_bytes())?;
        let pipelined = COMMAND.repeat(PIPELINE as usize);
        for _ in 0..count / PIPELINE {
            link.write_all(pipelined.as_bytes())?;
        }
        Ok(link)
    }

    /// The seconds from the first acknowledgement, which opens the stream, to the last command.
    fn play_replica(&self, count: u64) -> Result<f64> {
        let mut link = TcpStream::connect(("127.0.0.1", self.link_port))?;
        link.set_read_timeout(Some(WAIT_TIME_MAX))?;
        let mut heard = String::new();
        for (step, answer) in [
            ("*1\r\n$4\r\nPING\r\n", "+PONG\r\n"),
            ("*3\r\n$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n$1\r\n1\r\n", "+OK\r\n"),
            ("*5\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$4\r\ncapa\r\n$6\r\npsync2\r\n", "+OK\r\n"),
        ] {
            link.write_all(step.as_bytes())?;
            hear(&mut link, &mut heard, answer)?;
            heard.clear();
        }
        link.write_all(b"*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n")?;
        hear(&mut link, &mut heard, "$EOF:")?;
        hear(&mut link, &mut heard, "\r\n")?;
        let (_, mark) = heard.rsplit_once("$EOF:").context("no snapshot")?;
        let mark = mark.get(..40).context("no mark")?.to_owned();
        hear(&mut link, &mut heard, &mark)?;
        link.write_all(b"*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$1\r\n0\r\n")?;
        let start = Instant::now();
        let wanted_bytes = count / PIPELINE * PIPELINE * COMMAND.len() as u64;
        let (mut got_bytes, mut piece) = (0, vec![0; 256 << 10]);
        while got_bytes < wanted_bytes {
            match link.read(&mut piece)? {
                0 => bail!("the stream ended after {got_bytes} of {wanted_bytes} bytes"),
                bytes => got_bytes += bytes as u64,
            }
        }
        Ok(start.elapsed().as_secs_f64())
    }
}

/// Reads on until what is read ends with `end`.
fn hear(from: &mut TcpStream, heard: &mut String, end: &str) -> Result<()> {
    let mut byte = [0];
    loop {
        from.read_exact(&mut byte).with_context(|| format!("after {heard:?}"))?;
        heard.push(char::from(byte[0]));
        if heard.ends_with(end) {
            return Ok(());
        }
    }
}
