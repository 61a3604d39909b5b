//! Packages of any Debian suite through private apt folders: nothing on the machine is changed, and no
//! privilege is needed. Mirror, proxy and keys come from the machine's own apt configuration.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use super::name::Version;
use super::step;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Names under which a machine's own sources may list the Debian archive; every suite of it is on the same
/// mirror. Security and update archives have names of their own and are passed over.
const ARCHIVE_SUITES: &[&str] =
    &["bullseye", "bookworm", "trixie", "forky", "sid", "oldstable", "stable", "testing", "unstable"];

/// A private apt with an index of the named suites.
#[derive(Debug)]
pub struct Apt {
    config: PathBuf,
    label: String,
}

impl Apt {
    /// Lays the private folders under `folder` (kept between runs: an index that has not changed is not
    /// fetched again) and brings the index up to date.
    pub fn open(folder: &Path, suites: &[&str]) -> Result<Self> {
        let label = suites.join("+");
        let folder = folder.join(&label);
        let apt = Self { config: folder.join("apt.conf"), label };
        for part in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(part))?;
        }
        fs::write(folder.join("status"), "")?;
        fs::write(folder.join("sources.list"), sources(&mirror()?, suites))?;
        fs::write(&apt.config, configuration(&folder))?;
        step::run_retried(&format!("index of Debian {}", apt.label), || {
            apt.command("apt-get", &["-qq", "-o", "APT::Update::Error-Mode=any", "update"])
        })?;
        Ok(apt)
    }

    /// The upstream version of a package, or `None` when the suite has no such package.
    pub fn version(&self, package: &str) -> Result<Option<Version>> {
        let policy = step::run(
            &format!("version of {package} in Debian {}", self.label),
            &mut self.command("apt-cache", &["policy", package]),
        )?;
        let candidate = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "));
        match candidate {
            None | Some("(none)") => Ok(None),
            Some(version) => Version::in_debian(version).map(Some).ok_or_else(|| {
                anyhow!("the version `{version}` of {package} in Debian {} is not understood", self.label)
            }),
        }
    }

    /// The libraries that the packages depend on, theirs included.
    pub fn libraries(&self, packages: &[&str]) -> Result<BTreeSet<String>> {
        let mut found: BTreeSet<String> =
            packages.iter().filter(|name| is_library(name)).map(|name| (*name).to_owned()).collect();
        let mut unvisited: Vec<String> = packages.iter().map(|name| (*name).to_owned()).collect();
        while !unvisited.is_empty() {
            let mut command = self.command("apt-cache", &["depends", "--important"]);
            let dependencies =
                step::run(&format!("dependencies in Debian {}", self.label), command.args(&unvisited))?;
            unvisited = dependencies
                .lines()
                .filter_map(dependency)
                .filter(|name| is_library(name) && found.insert((*name).to_owned()))
                .map(str::to_owned)
                .collect();
        }
        Ok(found)
    }

    /// Downloads the packages and unpacks them, on top of each other, into `root`.
    pub fn unpack(&self, packages: &BTreeSet<String>, downloads: &Path, root: &Path) -> Result<()> {
        fs::create_dir_all(downloads)?;
        fs::create_dir_all(root)?;
        step::run_retried(&format!("packages of Debian {}", self.label), || {
            let mut command = self.command("apt-get", &["-qq", "download"]);
            command.args(packages).current_dir(downloads);
            command
        })?;
        for file in fs::read_dir(downloads)? {
            let file = file?.path();
            if file.extension().is_some_and(|extension| extension == "deb") {
                let mut command = Command::new("dpkg-deb");
                step::run("unpack a package", command.arg("-x").arg(&file).arg(root))?;
            }
        }
        Ok(())
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", &self.config).args(arguments);
        command
    }
}

/// The mirror of the Debian archive that this machine itself uses.
fn mirror() -> Result<String> {
    let targets = step::run(
        "find the Debian mirror of this machine",
        Command::new("apt-get").args([
            "indextargets",
            "--format",
            "$(RELEASE) $(REPO_URI)",
            "Created-By: Packages",
        ]),
    )
    .context("fetching stores needs a Debian machine with apt")?;
    let mirror = targets.lines().find_map(|line| {
        let (suite, uri) = line.split_once(' ')?;
        ARCHIVE_SUITES.contains(&suite).then(|| uri.to_owned())
    });
    match mirror {
        Some(mirror) => Ok(mirror),
        None => bail!(
            "this machine's apt sources name no Debian archive (looked for the suites {})",
            ARCHIVE_SUITES.join(", ")
        ),
    }
}

/// The text of a `sources.list`, see sources.list(5).
fn sources(mirror: &str, suites: &[&str]) -> String {
    let signed_by = if Path::new(KEYRING).exists() { format!("signed-by={KEYRING}") } else { String::new() };
    suites.iter().map(|suite| format!("deb [arch=amd64 {signed_by}] {mirror} {suite} main\n")).collect()
}

/// The text of an apt.conf(5) that keeps apt inside `folder`; it is read on top of the machine's own.
fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    // The cleared hooks belong to the machine's own apt and would touch its caches.
    format!(
        r##"#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons-small::DefaultEnabled "false";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Acquire::Check-Valid-Until "false";
Acquire::Check-Date "false";
Acquire::Retries "3";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
"##
    )
}

/// The package named by a line of `apt-cache depends`, such as `  Depends: libc6` or ` |PreDepends: a`;
/// virtual ones stand in angle brackets.
fn dependency(line: &str) -> Option<&str> {
    let line = line.trim_start_matches([' ', '|']);
    let name = line.strip_prefix("Depends: ").or_else(|| line.strip_prefix("PreDepends: "))?;
    (!name.starts_with('<')).then_some(name)
}

fn is_library(package: &str) -> bool {
    ["lib", "lua", "zlib"].iter().any(|prefix| package.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_without_virtual_packages_and_names() {
        let text = "redis-tools\n  Depends: libc6\n |Depends: libssl3\n  PreDepends: zlib1g\n  Depends: <virtual>\n  Recommends: x\n";
        let names: Vec<_> = text.lines().filter_map(dependency).collect();
        assert_eq!(names, ["libc6", "libssl3", "zlib1g"]);
    }

    #[test]
    fn the_private_configuration_stays_in_its_folder() {
        let text = configuration(Path::new("/x/y"));
        assert!(text.contains("Dir::State \"/x/y/state\";") && text.contains("Dir::Cache \"/x/y/cache\";"));
        assert!(sources("m://h", &["sid"]).ends_with("m://h sid main\n"));
    }
}
