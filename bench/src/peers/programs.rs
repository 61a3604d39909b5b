//! Programs of Debian with their libraries, unpacked below `target/peers`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::stores::{Apt, Store, remove_folder};

const SUITE: &str = "bookworm";
const PROXIES: &[&str] = &["haproxy", "nginx", "libnginx-mod-stream"];
const ETCD: &[&str] = &["etcd-server", "etcd-client"];
/// Its presence says that everything is there.
const COMPLETE: &str = "COMPLETE";

/// A folder with programs of a Debian suite and all their libraries.
#[derive(Clone, Debug)]
pub struct Programs {
    root: PathBuf,
}

impl Programs {
    /// HAProxy and nginx, fetched if they are not there.
    ///
    /// # Errors
    /// No Debian archive is reached, or the packages cannot be unpacked.
    pub fn proxies() -> Result<Self> {
        Self::fetch(&crate::workspace().join("target/peers"), PROXIES)
    }

    /// etcd and etcdctl, fetched if they are not there.
    ///
    /// # Errors
    /// As [`Self::proxies`].
    pub fn etcd() -> Result<Self> {
        Self::fetch(&crate::workspace().join("target/peers/etcd"), ETCD)
    }

    fn fetch(folder: &Path, names: &[&str]) -> Result<Self> {
        let (root, complete) = (folder.join("root"), folder.join(COMPLETE));
        if complete.is_file() {
            return Ok(Self { root });
        }
        fs::create_dir_all(folder)?;
        let lock = File::create(folder.join(".lock"))?;
        lock.lock().with_context(|| format!("cannot lock {}", folder.display()))?;
        // Meanwhile another thread or process may have fetched them.
        if !complete.is_file() {
            // What a fetch left that was cut off: packages of another day, or half of one.
            let downloads = folder.join("downloads");
            remove_folder(&downloads)?;
            remove_folder(&root)?;
            let apt = Apt::open(&folder.join("apt"), &[SUITE])?;
            let mut packages = apt.libraries(names)?;
            packages.extend(names.iter().map(|name| (*name).to_owned()));
            apt.unpack(&packages, &downloads, &root)?;
            remove_folder(&downloads)?;
            fs::write(complete, SUITE)?;
        }
        Ok(Self { root })
    }

    /// What came with a store: `redis-benchmark`, say.
    #[must_use]
    pub fn of_store(store: &Store) -> Self {
        Self { root: store.folder.join("root") }
    }

    /// A command that runs one of the programs on the libraries beside it.
    ///
    /// # Errors
    /// There is no such program here.
    pub fn command(&self, name: &str) -> Result<Command> {
        let program = self.find(&["usr/sbin", "usr/bin"], name)?;
        let folders = ["lib64", "usr/lib64", "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];
        let Ok(loader) = self.find(&folders, "ld-linux-x86-64.so.2") else {
            return Ok(Command::new(program));
        };
        let libraries = format!(
            "{root}/lib/x86_64-linux-gnu:{root}/usr/lib/x86_64-linux-gnu",
            root = self.root.display()
        );
        let mut command = Command::new(loader);
        command.arg("--library-path").arg(libraries).arg(program);
        Ok(command)
    }

    /// A file of the packages, such as a module.
    ///
    /// # Errors
    /// There is no such file here.
    pub fn find(&self, folders: &[&str], name: &str) -> Result<PathBuf> {
        let found =
            folders.iter().map(|folder| self.root.join(folder).join(name)).find(|path| path.is_file());
        found.with_context(|| format!("no {name} in {} of {}", folders.join(", "), self.root.display()))
    }

    /// The version that a program reports, such as `2.6.12`.
    ///
    /// # Errors
    /// It does not run here.
    pub fn version(&self, name: &str) -> Result<String> {
        let output = self.command(name)?.arg("-v").output()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let starts_with_number = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
        match text.split([' ', '/', '\n', '-']).find(starts_with_number) {
            Some(version) => Ok(version.to_owned()),
            None => bail!("{name} -v says {text:?}"),
        }
    }

    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }
}
