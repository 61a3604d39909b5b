//! What stands on one node's host: the store's programs, its data, and who is asked to start and stop it.
//!
//! The sidecar's hooks run this program again, as `demo hook …`: it stands where a real host has its service
//! manager and its package manager.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use rustix::process::{Pid, Signal, kill_process};
use segue_bench::child::wait_for;
use segue_bench::client;
use segue_bench::stores::Store;

const START_TIME_MAX: Duration = Duration::from_secs(20);
const STOP_TIME_MAX: Duration = Duration::from_secs(20);
const LOG_TAIL_LINES: usize = 12;

#[derive(Args)]
pub struct HookArguments {
    /// The folder of the node.
    #[arg(long)]
    home: PathBuf,
    #[command(subcommand)]
    what: Hook,
}

#[derive(Subcommand)]
enum Hook {
    Stop,
    Install { release: String },
    Start { master: Option<String> },
    SetAside { data: String },
}

/// What a hook is asked to do. Each may be asked again.
pub fn run(arguments: &HookArguments) -> Result<()> {
    let home = Home { folder: arguments.home.clone() };
    match &arguments.what {
        Hook::Stop => home.stop(),
        Hook::Install { release } => {
            home.install(release)?;
            println!("{release} is installed");
            Ok(())
        }
        Hook::Start { master } => home.start(master.as_deref()),
        Hook::SetAside { data } => home.set_aside(data),
    }
}

pub struct Home {
    folder: PathBuf,
}

impl Home {
    /// A host with these releases at hand, the first one installed.
    pub fn furnish(folder: PathBuf, port: u16, stores: &[(&str, &Store)]) -> Result<Self> {
        fs::create_dir_all(folder.join("data"))?;
        fs::create_dir_all(folder.join("programs"))?;
        fs::write(folder.join("port"), port.to_string())?;
        for (release, store) in stores {
            fs::write(folder.join("programs").join(release), store.server.as_os_str().as_encoded_bytes())?;
        }
        let home = Self { folder };
        home.install(stores.first().context("no store")?.0)?;
        Ok(home)
    }

    /// The words of a hook, as a list in TOML.
    pub fn hook(&self, program: &Path, words: &[&str]) -> String {
        let folder = self.folder.display().to_string();
        let program = program.display().to_string();
        let all = [&program, "hook", "--home", &folder].into_iter().chain(words.iter().copied());
        format!("[{}]", all.map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", "))
    }

    fn port(&self) -> Result<u16> {
        Ok(self.read("port")?.parse()?)
    }

    fn install(&self, release: &str) -> Result<()> {
        let program = self.read(&format!("programs/{release}"))?;
        fs::write(self.folder.join("installed"), program)?;
        Ok(())
    }

    pub fn start(&self, master: Option<&str>) -> Result<()> {
        if self.running()?.is_some() {
            println!("it runs already");
            return Ok(());
        }
        let port = self.port()?;
        let output = File::options().create(true).append(true).open(self.folder.join("output"))?;
        let mut command = Command::new(self.read("installed")?);
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--repl-diskless-sync-delay", "0"]);
        command.args(["--dir", &self.path("data")?, "--logfile", &self.path("log")?, "--save", "3600 1"]);
        if let Some((host, port)) = master.and_then(|master| master.rsplit_once(':')) {
            command.args(["--replicaof", host, port]);
        }
        // It outlives this process.
        command.process_group(0).stdin(Stdio::null()).stderr(output.try_clone()?).stdout(output);
        let mut child = command.spawn()?;
        fs::write(self.folder.join("pid"), child.id().to_string())?;
        let answers = wait_for(START_TIME_MAX, || {
            if let Some(status) = child.try_wait()? {
                bail!("the store ended at once, {status}\n{}", self.log_tail());
            }
            Ok(client::connect(port).ok().map(drop))
        })?;
        answers.with_context(|| format!("the store does not answer\n{}", self.log_tail()))
    }

    /// SIGTERM, as a service manager does; the store saves its data.
    pub fn stop(&self) -> Result<()> {
        let Some(pid) = self.running()? else { return Ok(()) };
        kill_process(pid, Signal::TERM)?;
        let gone = wait_for(STOP_TIME_MAX, || Ok(self.running()?.is_none().then_some(())))?;
        gone.context("the store does not end")
    }

    /// On the way back: 6.0 does not read what 8.0 writes.
    fn set_aside(&self, data: &str) -> Result<()> {
        if data == "keep" {
            println!("the data stay where they are");
            return Ok(());
        }
        let aside = self.folder.join("aside");
        fs::create_dir_all(&aside)?;
        for file in fs::read_dir(self.folder.join("data"))? {
            let file = file?;
            fs::rename(file.path(), aside.join(file.file_name()))?;
        }
        Ok(())
    }

    /// The store's process. One that has ended and was not waited for has no command line.
    fn running(&self) -> Result<Option<Pid>> {
        let Ok(pid) = self.read("pid") else { return Ok(None) };
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let is_ours = String::from_utf8_lossy(&command).contains(&self.port()?.to_string());
        Ok(Pid::from_raw(pid.parse()?).filter(|_| is_ours))
    }

    pub fn log_tail(&self) -> String {
        let text = fs::read(self.folder.join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(LOG_TAIL_LINES)..).unwrap_or_default().join("\n")
    }

    fn read(&self, file: &str) -> Result<String> {
        fs::read_to_string(self.folder.join(file))
            .with_context(|| format!("{}: {file}", self.folder.display()))
    }

    fn path(&self, name: &str) -> Result<String> {
        let path = self.folder.join(name);
        Ok(path.to_str().context("the folder's name is no text")?.to_owned())
    }
}
