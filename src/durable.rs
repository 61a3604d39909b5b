//! Small files that are whole or not there, whatever happens to the process or the host.

use std::{fs, io, io::Write, path::Path};

use serde::{Serialize, de::DeserializeOwned};

/// Writes the file beside its place and renames it: it is on disk when this returns, and open behind its end.
///
/// # Errors
/// The system's own. The earlier file, if any, is still there then.
pub fn write(dir: &Path, file: &Path, content: &[u8]) -> io::Result<fs::File> {
    let mut temporary = tempfile::NamedTempFile::new_in(dir)?;
    temporary.write_all(content)?;
    temporary.as_file().sync_all()?;
    let file = temporary.persist(file)?;
    fs::File::open(dir)?.sync_all()?;
    Ok(file)
}

/// As [`write`], in JSON.
///
/// # Errors
/// As [`write`].
pub fn write_json(dir: &Path, file: &Path, content: &impl Serialize) -> io::Result<()> {
    write(dir, file, &serde_json::to_vec(content)?).map(drop)
}

/// What a file of JSON says; `None` where there is none.
///
/// # Errors
/// The system's own; the file can't be understood.
pub fn read_json<T: DeserializeOwned>(file: &Path) -> io::Result<Option<T>> {
    match fs::read(file) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A file that is not there is no error.
///
/// # Errors
/// The system's own.
pub fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
