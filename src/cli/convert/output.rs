use std::{
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

use tempfile::TempPath;

use crate::cli::Failure;

/// Where the result goes. A regular file is written beside its place and moved there by
/// [`Output::keep`]; dropped before that, it leaves nothing behind.
pub(super) enum Output {
    /// Stdout, or a file that is no regular one: what is written is gone.
    Stream,
    File {
        temporary: TempPath,
        file: File,
        place: PathBuf,
    },
}

impl Output {
    /// The output at a path (`-` is stdout) and what writes to it. A new file gets the owner and the
    /// permissions of the file that it replaces, else of the one that it is made from: a store that runs
    /// as a user of its own must be able to load it.
    pub(super) fn create(path: &Path, made_from: &Path) -> Result<(Self, Box<dyn Write + Send>), Failure> {
        if path == Path::new("-") {
            return Ok((Self::Stream, Box::new(io::stdout())));
        }
        let unwritable = |e: io::Error| Failure::failed(format_args!("cannot write {}: {e}", path.display()));
        let existing = match fs::metadata(path) {
            Ok(metadata) => Some(metadata),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(unwritable(e)),
        };
        if existing.as_ref().is_some_and(|metadata| !metadata.is_file()) {
            let file = OpenOptions::new().write(true).open(path).map_err(unwritable)?;
            return Ok((Self::Stream, Box::new(file)));
        }
        // Through a symbolic link to the file itself: a rename over the link would replace the link.
        let place =
            if existing.is_some() { path.canonicalize().map_err(unwritable)? } else { path.to_owned() };
        let model = existing.or_else(|| fs::metadata(made_from).ok().filter(Metadata::is_file));
        let temporary = tempfile::Builder::new()
            .prefix(".segue-convert-")
            .permissions(Permissions::from_mode(model.as_ref().map_or(0o666, Metadata::mode) & 0o777))
            .tempfile_in(folder_of(&place))
            .map_err(unwritable)?;
        let (file, temporary) = temporary.into_parts();
        if let Some(model) = model {
            dress(&file, &model, path)?;
        }
        let writer = file.try_clone().map_err(unwritable)?;
        Ok((Self::File { temporary, file, place }, Box::new(writer)))
    }

    /// A failure, and what is at OUT after it.
    pub(super) fn after(&self, failure: Failure) -> Failure {
        let state = match self {
            Self::Stream => "what was written so far is no whole RDB file",
            Self::File { .. } => "OUT is as it was",
        };
        Failure { message: format!("{}\nsegue: {state}", failure.message), ..failure }
    }

    /// Everything was written: the file takes its place, on the disk and not only in the cache.
    pub(super) fn keep(self) -> Result<(), Failure> {
        let Self::File { temporary, file, place } = self else { return Ok(()) };
        let unwritable =
            |e: io::Error| Failure::failed(format_args!("cannot write {}: {e}", place.display()));
        file.sync_all().map_err(unwritable)?;
        temporary.persist(&place).map_err(|e| unwritable(e.error))?;
        File::open(folder_of(&place)).and_then(|folder| folder.sync_all()).map_err(unwritable)
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

/// A bare file name has the empty path as its parent, which the system does not know.
fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}
