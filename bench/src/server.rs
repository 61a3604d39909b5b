//! Real stores running on loopback.

use std::fs::{self, File};
use std::io;
use std::os::unix::{fs::chown, process::CommandExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use redis::Connection;
use tempfile::TempDir;

use crate::child::{ChildProcess, Memory, wait_for};
use crate::client::{self, Info};
use crate::port;
use crate::stores::{Family, Store, Version};

/// How long a store may take from its start to its first PONG; loading a big file counts in.
pub const START_TIME_MAX: Duration = Duration::from_secs(60);
/// How many ports are tried when others take them first.
const PORT_TRIES_MAX: u32 = 5;
const LOG_TAIL_LINES: usize = 12;

#[derive(Clone, Debug, Default)]
pub struct Options {
    /// More `--option value` words for the server; they win over the lab's own.
    pub arguments: Vec<String>,
    /// A port of the caller's choice; otherwise a free one.
    pub port: Option<u16>,
    /// A file to start from: it is copied into the data folder as `dump.rdb`.
    pub snapshot: Option<PathBuf>,
    /// An AOF to start from, a file or a folder: it is copied into the data folder, and appended to.
    pub aof: Option<PathBuf>,
    /// The number of a user to run as; otherwise the caller's own. Only root may.
    pub user: Option<u32>,
}

impl Options {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds words to the server's command line.
    #[must_use]
    pub fn arguments(mut self, words: &[&str]) -> Self {
        self.arguments.extend(words.iter().map(|word| (*word).to_owned()));
        self
    }
}

/// A running store. It is ended when this value is dropped, and its data folder removed.
#[derive(Debug)]
pub struct Server {
    store: Store,
    options: Options,
    /// Before `folder`, which is removed after it: an ended process writes nothing more there.
    child: ChildProcess,
    folder: TempDir,
    port: u16,
}

impl Server {
    /// Starts the store and waits until it answers.
    ///
    /// # Errors
    /// It exits or does not answer within [`START_TIME_MAX`]; the message holds the end of its log.
    pub fn start(store: &Store, options: Options) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix(&format!("segue-{}-", store.name())).tempdir()?;
        if let Some(snapshot) = &options.snapshot {
            fs::copy(snapshot, folder.path().join("dump.rdb"))
                .with_context(|| format!("cannot copy {}", snapshot.display()))?;
        }
        if let Some(aof) = &options.aof {
            copy_aof(aof, folder.path()).with_context(|| format!("cannot copy {}", aof.display()))?;
        }
        if options.user.is_some() {
            chown(folder.path(), options.user, None)?;
        }
        let mut tries = 1;
        loop {
            let port = options.port.map_or_else(port::free, Ok)?;
            match launch(store, &options, folder.path(), port) {
                Ok(child) => return Ok(Self { store: store.clone(), options, folder, port, child }),
                Err(error) if tries < PORT_TRIES_MAX && error.downcast_ref::<PortTaken>().is_some() => {
                    tries += 1
                }
                Err(error) => return Err(error),
            }
        }
    }

    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:<port>`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// The data folder, which also holds the log.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A new connection, database 0.
    ///
    /// # Errors
    /// The store does not answer.
    pub fn client(&self) -> Result<Connection> {
        client::connect(self.port).with_context(|| self.log_tail())
    }

    /// # Errors
    /// The store does not answer.
    pub fn info(&self, section: &str) -> Result<Info> {
        Info::ask(&mut self.client()?, section)
    }

    /// Whether it writes its append-only file anew, or is going to.
    ///
    /// # Errors
    /// The store does not answer.
    pub fn rewrites_aof(&self) -> Result<bool> {
        self.info("persistence")?.rewrites_aof()
    }

    /// Makes it a replica of whatever listens on this loopback port.
    ///
    /// # Errors
    /// The store refuses.
    pub fn replicate_from(&self, port: u16) -> Result<()> {
        Ok(redis::cmd("REPLICAOF").arg("127.0.0.1").arg(port).exec(&mut self.client()?)?)
    }

    /// All that the store wrote to its log, over restarts.
    #[must_use]
    pub fn log_text(&self) -> String {
        log_text(self.folder.path())
    }

    /// # Errors
    /// Its state cannot be asked for.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.exited()?.is_none())
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// # Errors
    /// The process is gone.
    pub fn memory(&self) -> Result<Memory> {
        self.child.memory()
    }

    /// Ends it with SIGTERM; data folder and port stay its own.
    ///
    /// # Errors
    /// The process can neither be signalled nor waited for.
    pub fn stop(&mut self) -> Result<()> {
        self.child.terminate().map(drop)
    }

    /// Ends it with SIGKILL.
    ///
    /// # Errors
    /// As [`Self::stop`].
    pub fn kill9(&mut self) -> Result<()> {
        self.child.kill().map(drop)
    }

    /// Starts it again on the same port and data folder, ending it first if it still runs.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn restart(&mut self) -> Result<()> {
        let store = self.store.clone();
        self.restart_as(&store)
    }

    /// As [`Self::restart`], with another release's programs: an upgrade or a rollback in place.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn restart_as(&mut self, store: &Store) -> Result<()> {
        self.stop()?;
        self.store = store.clone();
        self.child = launch(store, &self.options, self.folder.path(), self.port)?;
        Ok(())
    }

    /// Leaves data folder and log behind, for a person to look at; their path.
    #[must_use]
    pub fn keep_folder(mut self) -> PathBuf {
        self.folder.disable_cleanup(true);
        self.folder.path().to_owned()
    }

    fn log_tail(&self) -> String {
        log_tail(&self.store, self.folder.path())
    }
}

/// Another process took the port between its choice and the start.
#[derive(Debug)]
struct PortTaken(u16);

impl std::fmt::Display for PortTaken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "port {} is in use", self.0)
    }
}

impl std::error::Error for PortTaken {}

fn launch(store: &Store, options: &Options, folder: &Path, port: u16) -> Result<ChildProcess> {
    let output = File::options().create(true).append(true).open(folder.join("stdout"))?;
    let logged_before_bytes = log_text(folder).len();
    let mut command = Command::new(&store.server);
    if let Some(user) = options.user {
        command.uid(user);
    }
    command
        .args(lab_arguments(store, folder, port))
        .args(options.aof.is_some().then_some(["--appendonly", "yes"]).into_iter().flatten())
        .args(&options.arguments)
        .stdin(Stdio::null())
        .stderr(output.try_clone()?)
        .stdout(output);
    let mut child = ChildProcess::spawn(&mut command)?;
    let answered = wait_for(START_TIME_MAX, || {
        if let Some(status) = child.exited()? {
            let log = log_text(folder);
            // Said by every release, in these or similar words: `bind: Address already in use`.
            if log.get(logged_before_bytes..).is_some_and(|new| new.contains("Address already in use")) {
                return Err(PortTaken(port).into());
            }
            bail!("{} ended at once, {status}\n{}", store.name(), log_tail(store, folder));
        }
        Ok(client::connect(port).ok().and_then(|mut connection| is_ready(&mut connection).then_some(())))
    })?;
    answered.ok_or_else(|| {
        anyhow!("no PONG within {} s\n{}", START_TIME_MAX.as_secs(), log_tail(store, folder))
    })?;
    Ok(child)
}

/// PONG, or an error that only a running store gives (NOAUTH, MASTERDOWN); not while it loads its file.
fn is_ready(connection: &mut Connection) -> bool {
    match redis::cmd("PING").query::<String>(connection) {
        Ok(_) => true,
        Err(error) => error.code().is_some_and(|code| code != "LOADING"),
    }
}

/// To where a store with its default settings looks for it.
fn copy_aof(aof: &Path, folder: &Path) -> io::Result<()> {
    if aof.is_file() {
        return fs::copy(aof, folder.join("appendonly.aof")).map(drop);
    }
    let folder = folder.join("appendonlydir");
    fs::create_dir(&folder)?;
    for file in fs::read_dir(aof)? {
        let file = file?;
        fs::copy(file.path(), folder.join(file.file_name()))?;
    }
    Ok(())
}

fn lab_arguments(store: &Store, folder: &Path, port: u16) -> Vec<String> {
    let mut arguments: Vec<String> = Vec::new();
    let mut set = |option: &str, value: &str| arguments.extend([format!("--{option}"), value.to_owned()]);
    set("port", &port.to_string());
    set("bind", "127.0.0.1");
    set("dir", &folder.display().to_string());
    set("logfile", &log_path(folder).display().to_string());
    set("loglevel", "verbose");
    set("save", "");
    set("appendonly", "no");
    set("repl-diskless-sync-delay", "0");
    if store.family != Family::Redis || store.version >= Version::new(7, 0, 0) {
        set("enable-debug-command", "local");
    }
    arguments
}

fn log_path(folder: &Path) -> PathBuf {
    folder.join("log")
}

fn log_text(folder: &Path) -> String {
    fs::read(log_path(folder)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn log_tail(store: &Store, folder: &Path) -> String {
    let output = fs::read_to_string(folder.join("stdout")).unwrap_or_default();
    let text = log_text(folder) + &output;
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(LOG_TAIL_LINES)..).unwrap_or_default().join("\n");
    format!("end of the log of {}:\n{tail}", store.name())
}
