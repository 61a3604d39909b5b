//! What a store's folder holds, and how the programs in it are made to run from there.
//!
//! ```text
//! <stores>/redis-8.0.2/
//!   VERSION              two lines: the version, the source it came from; its presence says "complete"
//!   bin/redis-server     wrappers that run the programs on the libraries beside them
//!   bin/redis-cli        where the source has one
//!   bin/redis-check-rdb
//!   bin/redis-check-aof  made when it is first asked for
//!   root/                what was unpacked: usr/bin, and the libraries of the suite
//! ```
//!
//! A folder is built elsewhere, tried, and only then moved to its place in one step; it may be moved again.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use super::name::{Family, Version};
use super::step;

/// A fetched store: real programs, ready to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    pub family: Family,
    pub version: Version,
    pub folder: PathBuf,
    pub server: PathBuf,
    /// Absent where the source carries the server alone.
    pub cli: Option<PathBuf>,
    pub check_rdb: PathBuf,
}

impl Store {
    /// Such as `redis-8.0.2`.
    #[must_use]
    pub fn name(&self) -> String {
        folder_name(self.family, self.version)
    }

    /// The store at its place below `stores`, if it is there complete.
    #[must_use]
    pub fn at(stores: &Path, family: Family, version: Version) -> Option<Self> {
        let folder = stores.join(folder_name(family, version));
        folder.join("VERSION").is_file().then(|| Self::in_folder(folder, family, version))
    }

    /// Its checker of append-only files.
    ///
    /// # Errors
    /// The store's folder can't be written to.
    pub fn check_aof(&self) -> Result<PathBuf> {
        let name = format!("{}-check-aof", self.family);
        let wrapper = self.folder.join("bin").join(&name);
        if !wrapper.exists() {
            let root = self.folder.join("root");
            call_server_by(&root, self.family, &name)?;
            // Other tests may be about to do the same.
            let made = tempfile::NamedTempFile::new_in(&self.folder)?.into_temp_path();
            write_wrapper(&made, &root, loader(&root).as_deref(), &name)?;
            made.persist(&wrapper)?;
        }
        Ok(wrapper)
    }

    fn in_folder(folder: PathBuf, family: Family, version: Version) -> Self {
        let program = |kind: &str| folder.join("bin").join(format!("{family}-{kind}"));
        let cli = Some(program("cli")).filter(|cli| cli.exists());
        let (server, check_rdb) = (program("server"), program("check-rdb"));
        Self { family, version, folder, server, cli, check_rdb }
    }
}

fn folder_name(family: Family, version: Version) -> String {
    format!("{family}-{version}")
}

/// Turns `built/root` into a store and moves it below `stores`. The version is the one that the server
/// itself reports. A store that is already there stays.
pub fn settle(stores: &Path, built: &Path, family: Family, source: &str) -> Result<Store> {
    let root = built.join("root");
    prune(&root)?;
    let loader = loader(&root);
    let programs = root.join("usr/bin");
    if !programs.join(format!("{family}-server")).exists() {
        bail!("{source} holds no {family}-server");
    }
    call_server_by(&root, family, &format!("{family}-check-rdb"))?;
    fs::create_dir_all(built.join("bin"))?;
    for kind in ["server", "cli", "check-rdb"] {
        let name = format!("{family}-{kind}");
        if !programs.join(&name).exists() {
            continue;
        }
        write_wrapper(&built.join("bin").join(&name), &root, loader.as_deref(), &name)?;
    }
    let version = try_server(&built.join("bin").join(format!("{family}-server")), source)?;
    let cli = built.join("bin").join(format!("{family}-cli"));
    if cli.exists() {
        try_cli(&cli, source, version)?;
    }
    if let Some(store) = Store::at(stores, family, version) {
        return Ok(store);
    }
    fs::write(built.join("VERSION"), format!("{version}\n{source}\n"))?;
    let folder = stores.join(folder_name(family, version));
    // A folder without VERSION is no store of ours: half a copy, or something made by hand.
    step::remove_folder(&folder)?;
    fs::rename(built, &folder)
        .with_context(|| format!("cannot move the finished store to {}", folder.display()))?;
    Store::at(stores, family, version).ok_or_else(|| anyhow!("{} vanished", folder.display()))
}

fn try_server(program: &Path, source: &str) -> Result<Version> {
    let banner = step::run(&format!("try {source}"), Command::new(program).arg("--version"))?;
    Version::in_banner(&banner).with_context(|| format!("{source}: no version in {banner:?}"))
}

/// The cli prints `redis-cli 8.0.2`, some builds with `(git:…)` behind it.
fn try_cli(program: &Path, source: &str, version: Version) -> Result<()> {
    let banner = step::run(&format!("try {source}"), Command::new(program).arg("--version"))?;
    if !banner.split_whitespace().any(|word| word == version.to_string()) {
        bail!("{source}: the server is {version}, the cli says {banner:?}");
    }
    Ok(())
}

/// Removes what no program here reads.
fn prune(root: &Path) -> Result<()> {
    for part in ["etc", "var", "usr/share/man", "usr/share/locale", "usr/share/bash-completion"] {
        step::remove_folder(&root.join(part))?;
    }
    step::remove_folder(&root.join("usr/lib/x86_64-linux-gnu/gconv"))
}

/// The dynamic loader that came with the libraries, relative to `root`; none when the store came without.
fn loader(root: &Path) -> Option<String> {
    ["lib64", "usr/lib64", "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"]
        .into_iter()
        .map(|folder| format!("{folder}/ld-linux-x86-64.so.2"))
        .find(|path| root.join(path).is_file())
}

/// The server is its own checker when it is called by a checker's name.
fn call_server_by(root: &Path, family: Family, name: &str) -> Result<()> {
    match symlink(format!("{family}-server"), root.join("usr/bin").join(name)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error.into()),
        _ => Ok(()),
    }
}

fn write_wrapper(wrapper: &Path, root: &Path, loader: Option<&str>, program: &str) -> Result<()> {
    fs::write(wrapper, wrapper_script(root, loader, program))?;
    Ok(fs::set_permissions(wrapper, fs::Permissions::from_mode(0o755))?)
}

fn wrapper_script(root: &Path, loader: Option<&str>, program: &str) -> String {
    let Some(loader) = loader else {
        return format!("#!/bin/sh\nexec \"${{0%/*}}/../root/usr/bin/{program}\" \"$@\"\n");
    };
    let libraries = "$root/lib/x86_64-linux-gnu:$root/usr/lib/x86_64-linux-gnu";
    // Debian 11's server loads its Lua libraries from the distribution's Lua folders.
    let lua = if root.join("usr/lib/x86_64-linux-gnu/lua").is_dir() {
        "export LUA_PATH=\"$root/usr/share/lua/5.1/?.lua\" LUA_CPATH=\"$root/usr/lib/x86_64-linux-gnu/lua/5.1/?.so\"\n"
    } else {
        ""
    };
    format!(
        "#!/bin/sh\nroot=${{0%/*}}/../root\n{lua}exec \"$root/{loader}\" --library-path \"{libraries}\" \
         \"$root/usr/bin/{program}\" \"$@\"\n"
    )
}
