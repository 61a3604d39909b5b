//! The `segue` program running on loopback, asked through its admin API.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::child::{ChildProcess, Memory, wait_for};

/// How long the sidecar may take from its start to `/readyz` = 200.
pub const READY_TIME_MAX: Duration = Duration::from_secs(60);
const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);
const LOG_TAIL_LINES: usize = 12;

/// A running sidecar. It is ended when this value is dropped, and its folder removed.
#[derive(Debug)]
pub struct Sidecar {
    binary: PathBuf,
    /// Before `folder`, which is removed after it: an ended process writes nothing more there.
    child: ChildProcess,
    folder: TempDir,
    admin: String,
    metrics: Option<String>,
    agent: ureq::Agent,
}

impl Sidecar {
    /// Writes the config to a temporary folder, starts `segue run --config FILE` and waits until it is ready.
    ///
    /// # Errors
    /// The config names no `[admin] listen`; the sidecar exits or is not ready within [`READY_TIME_MAX`]. The
    /// message holds the end of its log.
    pub fn start(binary: &Path, config: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("segue-sidecar-").tempdir()?;
        fs::write(folder.path().join("segue.toml"), config)?;
        let admin = listen_address(config, "admin").context("the config has no [admin] listen")?;
        let agent = agent();
        let child = launch(binary, folder.path(), &admin, &agent)?;
        let metrics = listen_address(config, "metrics");
        Ok(Self { binary: binary.to_owned(), folder, admin, metrics, agent, child })
    }

    /// `GET /v1/status`.
    ///
    /// # Errors
    /// The admin API does not answer with JSON.
    pub fn status(&self) -> Result<Value> {
        self.get_json("/v1/status")
    }

    /// `GET /v1/losses`.
    ///
    /// # Errors
    /// As [`Self::status`].
    pub fn losses(&self) -> Result<Value> {
        self.get_json("/v1/losses")
    }

    /// `GET /v1/translation`.
    ///
    /// # Errors
    /// As [`Self::status`].
    pub fn translation(&self) -> Result<Value> {
        self.get_json("/v1/translation")
    }

    /// `GET /v1/upgrade`.
    ///
    /// # Errors
    /// As [`Self::status`].
    pub fn upgrade(&self) -> Result<Value> {
        self.get_json("/v1/upgrade")
    }

    /// `PUT /v1/translation`: the HTTP status and the answer, whatever the status.
    ///
    /// # Errors
    /// The admin API does not answer.
    pub fn put_translation(&self, change: &Value) -> Result<(u16, String)> {
        let url = format!("http://{}/v1/translation", self.admin);
        let request = self.agent.put(&url).header("content-type", "application/json");
        let mut response = request.send(change.to_string()).with_context(|| self.log_tail())?;
        Ok((response.status().as_u16(), response.body_mut().read_to_string()?))
    }

    /// `GET /metrics`, in Prometheus text.
    ///
    /// # Errors
    /// The config has no `[metrics]`, or its address does not answer.
    pub fn metrics(&self) -> Result<String> {
        let address = self.metrics.as_ref().ok_or_else(|| anyhow!("the config has no [metrics] listen"))?;
        get(&self.agent, &format!("http://{address}/metrics")).with_context(|| self.log_tail())
    }

    /// The value of one sample, such as `segue_links` or `segue_losses_total{kind="functions"}`.
    ///
    /// # Errors
    /// As [`Self::metrics`].
    pub fn metric(&self, sample: &str) -> Result<Option<f64>> {
        let text = self.metrics()?;
        let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        Ok(value.and_then(|value| value.trim().parse().ok()))
    }

    /// Standard output and error of the sidecar, over restarts.
    #[must_use]
    pub fn log_text(&self) -> String {
        log_text(self.folder.path())
    }

    /// The folder of config and log.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// # Errors
    /// The process is gone.
    pub fn rss_bytes(&self) -> Result<Memory> {
        self.child.memory()
    }

    /// # Errors
    /// Its state cannot be asked for.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.exited()?.is_none())
    }

    /// Ends it with SIGTERM, as a service manager does.
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

    /// Starts it again with the same config and folder, ending it first if it still runs.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.child = launch(&self.binary, self.folder.path(), &self.admin, &self.agent)?;
        Ok(())
    }

    /// Leaves config and log behind, for a person to look at; their path.
    #[must_use]
    pub fn keep_folder(mut self) -> PathBuf {
        self.folder.disable_cleanup(true);
        self.folder.path().to_owned()
    }

    fn get_json(&self, path: &str) -> Result<Value> {
        let url = format!("http://{}{path}", self.admin);
        let text = get(&self.agent, &url).with_context(|| self.log_tail())?;
        serde_json::from_str(&text).with_context(|| format!("{path} is not JSON: {text}"))
    }

    fn log_tail(&self) -> String {
        log_tail(self.folder.path())
    }
}

/// A sidecar that another one started: known by its log only.
#[derive(Debug)]
pub struct Successor {
    pub pid: i32,
}

impl Successor {
    /// # Errors
    /// There is none.
    pub fn newest_of(sidecar: &Sidecar) -> Result<Self> {
        let log = sidecar.log_text();
        let line = log.lines().rfind(|line| line.contains("handed over")).context("no successor")?;
        let pid = line.split("successor=").nth(1).and_then(|rest| rest.split_whitespace().next());
        Ok(Self { pid: pid.context("no pid")?.parse()? })
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        // In a chain of successors all but the newest are gone already.
        let ours = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let ours = ours.windows(10).any(|window| window == b"--takeover");
        if let (true, Some(pid)) = (ours, Pid::from_raw(self.pid)) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

fn launch(binary: &Path, folder: &Path, admin: &str, agent: &ureq::Agent) -> Result<ChildProcess> {
    let output = File::options().create(true).append(true).open(folder.join("log"))?;
    let mut command = Command::new(binary);
    command.arg("run").arg("--config").arg(folder.join("segue.toml"));
    // A relative path that the sidecar writes to must not land in the work tree.
    command.current_dir(folder).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let mut child = ChildProcess::spawn(&mut command)?;
    let ready = wait_for(READY_TIME_MAX, || {
        if let Some(status) = child.exited()? {
            bail!("the sidecar ended at once, {status}\n{}", log_tail(folder));
        }
        Ok(get(agent, &format!("http://{admin}/readyz")).ok().map(drop))
    })?;
    ready.ok_or_else(|| {
        anyhow!("the sidecar is not ready after {} s\n{}", READY_TIME_MAX.as_secs(), log_tail(folder))
    })?;
    Ok(child)
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().timeout_global(Some(REQUEST_TIME_MAX));
    // A refusal carries its reason in the body: every status is an answer here.
    config.http_status_as_error(false).proxy(None).build().into()
}

fn get(agent: &ureq::Agent, url: &str) -> Result<String> {
    let mut response = agent.get(url).call().with_context(|| format!("{url} does not answer"))?;
    let text = response.body_mut().read_to_string()?;
    if !response.status().is_success() {
        bail!("{url} answered {}: {text}", response.status());
    }
    Ok(text)
}

/// The `listen` of one table of the config, which must be written as the sidecar's own documents write it.
fn listen_address(config: &str, table: &str) -> Option<String> {
    let header = format!("[{table}]");
    let after = config.lines().map(str::trim).skip_while(|line| *line != header).skip(1);
    let line = after.take_while(|line| !line.starts_with('[')).find(|line| line.starts_with("listen"))?;
    line.split('"').nth(1).map(str::to_owned)
}

fn log_text(folder: &Path) -> String {
    fs::read(folder.join("log")).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn log_tail(folder: &Path) -> String {
    let text = log_text(folder);
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(LOG_TAIL_LINES)..).unwrap_or_default().join("\n");
    format!("end of the sidecar's log:\n{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_their_own_table() {
        let config =
            "[[link]]\nlisten = \"a\"\n[admin]\n# x\nlisten = \"b\" # y\n[metrics]\nlisten=\"c\"\n[e]\n";
        assert_eq!(listen_address(config, "admin").as_deref(), Some("b"));
        assert_eq!(listen_address(config, "metrics").as_deref(), Some("c"));
        assert_eq!(listen_address(config, "e"), None);
    }
}
