use std::{
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

use tempfile::{TempDir, TempPath};

use super::source::{Folder, Part};
use crate::cli::Failure;

/// Where the result goes. A regular file and a folder are written beside their place and moved there by
/// [`Output::keep`]; dropped before that, they leave nothing behind.
pub(super) enum Output {
    /// Stdout, or a file that is no regular one: what is written is gone.
    Stream,
    File {
        temporary: TempPath,
        file: File,
        place: PathBuf,
    },
    Folder {
        temporary: TempDir,
        files: Vec<File>,
        model: Metadata,
        place: PathBuf,
    },
}

/// What writes one file of the output, of one or several parts.
pub(super) struct Sink {
    writer: Box<dyn Write + Send>,
    /// The same, where what was written can be taken back.
    file: Option<File>,
    /// Of the parts that have ended, and of the one under way.
    ended_bytes: u64,
    part_bytes: u64,
}

impl Output {
    /// The output at a path (`-` is stdout) and what writes to it. A new file gets the owner and the
    /// permissions of the file that it replaces, else of the one that it is made from: a store that runs
    /// as a user of its own must be able to load it.
    pub(super) fn create(path: &Path, made_from: Option<&Metadata>) -> Result<(Self, Sink), Failure> {
        if path == Path::new("-") {
            return Ok((Self::Stream, Sink::new(Box::new(io::stdout()), None)));
        }
        let unwritable = |e| unwritable(path, &e);
        let existing = match fs::metadata(path) {
            Ok(metadata) => Some(metadata),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(unwritable(e)),
        };
        if existing.as_ref().is_some_and(|metadata| !metadata.is_file()) {
            let file = OpenOptions::new().write(true).open(path).map_err(unwritable)?;
            return Ok((Self::Stream, Sink::new(Box::new(file), None)));
        }
        // Through a symbolic link to the file itself: a rename over the link would replace the link.
        let place =
            if existing.is_some() { path.canonicalize().map_err(unwritable)? } else { path.to_owned() };
        let model = existing.as_ref().or(made_from);
        let temporary = tempfile::Builder::new()
            .prefix(TEMPORARY_PREFIX)
            .permissions(Permissions::from_mode(model.map_or(0o666, Metadata::mode) & 0o777))
            .tempfile_in(folder_of(&place))
            .map_err(unwritable)?;
        let (file, temporary) = temporary.into_parts();
        if let Some(model) = model {
            dress(&file, model, path)?;
        }
        let sink = Sink::to(&file).map_err(unwritable)?;
        Ok((Self::File { temporary, file, place }, sink))
    }

    /// A new folder with the files and the manifest of another; and what writes to each of the files. A folder
    /// that is there already stays as it is: it may be the only whole AOF that there is.
    pub(super) fn create_folder(
        path: &Path,
        folder: &Folder,
        parts: &[Part],
    ) -> Result<(Self, Vec<Sink>), Failure> {
        let unwritable = |e| unwritable(path, &e);
        if fs::symlink_metadata(path).is_ok() {
            return Err(Failure::failed(format_args!(
                "cannot write {}: it is there already; an AOF folder is never replaced, name a new one",
                path.display()
            )));
        }
        let temporary = tempfile::Builder::new().prefix(TEMPORARY_PREFIX).tempdir_in(folder_of(path));
        let temporary = temporary.map_err(unwritable)?;
        let create = |name: &str, model: Option<&Metadata>| -> Result<File, Failure> {
            let file = File::create_new(temporary.path().join(name)).map_err(unwritable)?;
            model.map_or(Ok(()), |model| dress(&file, model, path))?;
            Ok(file)
        };
        let (mut files, mut sinks) = (Vec::new(), Vec::new());
        for (file, part) in folder.manifest.loaded().zip(parts) {
            let file = create(&file.name, part.metadata.as_ref())?;
            sinks.push(Sink::to(&file).map_err(unwritable)?);
            files.push(file);
        }
        let mut manifest = create(&folder.manifest_name, Some(&folder.manifest_metadata))?;
        manifest.write_all(folder.manifest.text().as_bytes()).map_err(unwritable)?;
        files.push(manifest);
        let (model, place) = (folder.metadata.clone(), path.to_owned());
        Ok((Self::Folder { temporary, files, model, place }, sinks))
    }

    /// A failure, and what is at OUT after it.
    pub(super) fn after(&self, failure: Failure) -> Failure {
        let state = match self {
            Self::Stream => "what was written so far is no whole file",
            Self::File { .. } | Self::Folder { .. } => "OUT is as it was",
        };
        Failure { message: format!("{}\nsegue: {state}", failure.message), ..failure }
    }

    /// Everything was written: it takes its place, on the disk and not only in the cache.
    pub(super) fn keep(self) -> Result<(), Failure> {
        match self {
            Self::Stream => Ok(()),
            Self::File { temporary, file, place } => {
                let unwritable = |e| unwritable(&place, &e);
                file.sync_all().map_err(unwritable)?;
                temporary.persist(&place).map_err(|e| unwritable(e.error))?;
                sync_folder(folder_of(&place)).map_err(unwritable)
            }
            Self::Folder { mut temporary, files, model, place } => {
                let unwritable = |e| unwritable(&place, &e);
                files.iter().try_for_each(File::sync_all).map_err(unwritable)?;
                let folder = File::open(temporary.path()).map_err(unwritable)?;
                dress(&folder, &model, &place)?;
                folder.sync_all().map_err(unwritable)?;
                // Of what came to be there meanwhile, an empty folder is replaced and nothing else.
                fs::rename(temporary.path(), &place).map_err(unwritable)?;
                temporary.disable_cleanup(true);
                sync_folder(folder_of(&place)).map_err(unwritable)
            }
        }
    }
}

const TEMPORARY_PREFIX: &str = ".segue-convert-";

impl Sink {
    fn to(file: &File) -> io::Result<Self> {
        Ok(Self::new(Box::new(file.try_clone()?), Some(file.try_clone()?)))
    }

    fn new(writer: Box<dyn Write + Send>, file: Option<File>) -> Self {
        Self { writer, file, ended_bytes: 0, part_bytes: 0 }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.part_bytes = self.part_bytes.saturating_add(bytes.len() as u64);
        self.writer.write_all(bytes).map_err(|e| unwritable(Path::new("OUT"), &e))
    }

    /// Takes back what was written of the part under way beyond this; it is the last one.
    pub(super) fn cut(&mut self, part_bytes: u64) -> Result<(), Failure> {
        if part_bytes == self.part_bytes {
            return Ok(());
        }
        self.part_bytes = part_bytes;
        let cut = match &self.file {
            Some(file) => file.set_len(self.ended_bytes.saturating_add(part_bytes)),
            None => Err(io::Error::other("IN is cut off, and what was written beyond can't be taken back")),
        };
        cut.map_err(|e| unwritable(Path::new("OUT"), &e))
    }

    /// The part's length.
    pub(super) fn end_part(&mut self) -> Result<u64, Failure> {
        let ended = std::mem::take(&mut self.part_bytes);
        self.ended_bytes = self.ended_bytes.saturating_add(ended);
        self.writer.flush().map_err(|e| unwritable(Path::new("OUT"), &e))?;
        Ok(ended)
    }
}

/// Gives a file another's permissions, and its owner where this process may.
fn dress(file: &File, model: &Metadata, path: &Path) -> Result<(), Failure> {
    let now = file.metadata().map_err(Failure::failed)?;
    let same_owner = (now.uid(), now.gid()) == (model.uid(), model.gid());
    if !same_owner && fchown(file, Some(model.uid()), Some(model.gid())).is_err() {
        let (path, uid, gid) = (path.display(), model.uid(), model.gid());
        let warning = format!("segue: {path} will not belong to user {uid} and group {gid}: not permitted");
        let _unwritable = writeln!(io::stderr(), "{warning}");
    }
    // After the owner: a change of owner may clear bits, and the process mask has cleared some.
    file.set_permissions(Permissions::from_mode(model.mode() & 0o777)).map_err(Failure::failed)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// A bare file name has the empty path as its parent, which the system does not know.
fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format_args!("cannot write {}: {error}", path.display()))
}
