//! What translation costs: a snapshot rewritten on one processor, and whole synchronizations.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use segue_bench::child::{ChildProcess, wait_for};
use segue_bench::client::Info;
use segue_bench::peers::usage::Pinned;
use segue_bench::server::{Options, Server};
use segue_bench::sidecar::Sidecar;
use segue_bench::stores::Store;
use segue_bench::{data, port};

use crate::results::{Metric, Sample};

const SYNC_TIME_MAX: Duration = Duration::from_secs(60);
const DISKLESS: [&str; 4] = ["--repl-diskless-sync", "yes", "--repl-diskless-load", "swapdb"];

/// A master with data, a sidecar beside it, and one replica of the master's release, one of an older one.
pub struct Translated {
    segue: PathBuf,
    master: Server,
    newer: Server,
    older: Server,
    sidecar: Sidecar,
    link_port: u16,
}

impl Translated {
    /// `keys` is that of `data::fill_typical`.
    pub fn start(segue: &Path, keys: u32) -> Result<Self> {
        let options = || Options::new().arguments(&DISKLESS);
        let master = Server::start(&Store::want("redis-8.0")?, options())?;
        let newer = Server::start(&Store::want("redis-8.0")?, options())?;
        let older = Server::start(&Store::want("redis-6.0")?, options())?;
        data::fill_typical(&mut master.client()?, keys)?;
        let [link_port, admin, metrics] = port::free_ports()?;
        let config = format!(
            r#"
[node]
id = "n1"
protocol = "redis"
store = "{}"
[[peer]]
id = "newer"
store = "{}"
[[peer]]
id = "older"
store = "{}"
[[link]]
listen = "127.0.0.1:{link_port}"
to = "store"
[log]
level = "error"
[admin]
listen = "127.0.0.1:{admin}"
[metrics]
listen = "127.0.0.1:{metrics}"
"#,
            master.address(),
            newer.address(),
            older.address()
        );
        let sidecar = Sidecar::start(segue, &config)?;
        Ok(Self { segue: segue.to_owned(), master, newer, older, sidecar, link_port })
    }

    /// How fast `segue convert` rewrites the master's data as a file, on one processor.
    pub fn rdb(&self) -> Result<Vec<Sample>> {
        redis::cmd("SAVE").exec(&mut self.master.client()?)?;
        let file = self.master.folder().join("dump.rdb");
        let file_bytes = fs::metadata(&file).context("SAVE left no dump.rdb")?.len();
        // Once unmeasured: the file is then in memory.
        drop(fs::read(&file)?);
        let mut command = Command::new(&self.segue);
        command.args(["convert", "--to", "redis-6.0"]).arg(&file).arg("-");
        command.stdin(Stdio::null()).stdout(File::create("/dev/null")?).stderr(Stdio::null());
        let here = Pinned::new(vec![std::process::id()], 0)?;
        let start = Instant::now();
        let mut child = ChildProcess::spawn(&mut command)?;
        let status = wait_for(SYNC_TIME_MAX, || child.exited())?.context("the conversion does not end")?;
        let elapsed_s = start.elapsed().as_secs_f64();
        drop(here);
        if !status.success() {
            bail!("segue convert ended with {status}");
        }
        Ok(vec![Sample(Metric::RdbGbPerS, file_bytes as f64 / 1e9 / elapsed_s)])
    }

    /// Two full synchronizations of the older replica, with compressed and with plain strings.
    pub fn to_older(&self) -> Result<Vec<Sample>> {
        self.syncs(&self.older)
    }

    /// As [`Self::to_older`], of the replica that needs no translation.
    pub fn to_newer(&self) -> Result<Vec<Sample>> {
        self.syncs(&self.newer)
    }

    fn syncs(&self, replica: &Server) -> Result<Vec<Sample>> {
        let compressed = Sample(Metric::SyncCompressedS, self.sync_s(replica, "yes")?);
        Ok(vec![compressed, Sample(Metric::SyncPlainS, self.sync_s(replica, "no")?)])
    }

    /// From the moment that the replica waits for its snapshot to a link that is up, in seconds: 6.0 dials
    /// once a second only. The replica is empty and alone again afterwards.
    fn sync_s(&self, replica: &Server, compression: &str) -> Result<f64> {
        let set = ["CONFIG", "SET", "rdbcompression", compression];
        redis::cmd(set[0]).arg(&set[1..]).exec(&mut self.master.client()?)?;
        let mut client = replica.client()?;
        replica.replicate_from(self.link_port)?;
        let mut start = None;
        let up = wait_for(SYNC_TIME_MAX, || {
            let info = Info::ask(&mut client, "replication")?;
            if info.get("master_sync_in_progress") == Some("1") {
                start.get_or_insert_with(Instant::now);
            }
            Ok((info.get("master_link_status") == Some("up")).then_some(()))
        })?;
        let start = start.context("the synchronization was over before it was seen: use more data")?;
        let elapsed_s = start.elapsed().as_secs_f64();
        if up.is_none() {
            bail!("no full synchronization within {SYNC_TIME_MAX:?}:\n{}", self.sidecar.log_text());
        }
        redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut client)?;
        redis::cmd("FLUSHALL").exec(&mut client)?;
        Ok(elapsed_s)
    }
}
