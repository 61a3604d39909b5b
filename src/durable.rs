//! Small files that are whole or not there, whatever happens to the process or the host.

use std::{fs, io, io::Write, path::Path};

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
