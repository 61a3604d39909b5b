use std::{
    fs::{self, File, Metadata},
    io::{self, Read},
    path::{Path, PathBuf},
};

use segue_redis::aof::Manifest;

use crate::cli::{Exit, Failure};

/// What is read: one file, or those of an AOF folder in the order in which a store loads them.
pub(super) struct Source {
    pub parts: Vec<Part>,
    /// Of all parts, where that is known.
    pub bytes: Option<u64>,
    pub folder: Option<Folder>,
}

pub(super) struct Part {
    /// For messages: `IN`, or `IN/` and the file's name.
    pub name: String,
    pub reader: Box<dyn Read + Send>,
    /// Where it is a regular file.
    pub metadata: Option<Metadata>,
}

/// An AOF folder; its parts are the files that its manifest names, in that order.
pub(super) struct Folder {
    pub metadata: Metadata,
    pub manifest: Manifest,
    pub manifest_name: String,
    pub manifest_metadata: Metadata,
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self::of_input(Box::new(io::stdin()), None));
        }
        let file = File::open(path).map_err(|e| unreadable(path, &e))?;
        let metadata = file.metadata().map_err(|e| unreadable(path, &e))?;
        if metadata.is_dir() {
            return Self::of_folder(path, metadata);
        }
        Ok(Self::of_input(Box::new(file), Some(metadata).filter(Metadata::is_file)))
    }

    fn of_input(reader: Box<dyn Read + Send>, metadata: Option<Metadata>) -> Self {
        let bytes = metadata.as_ref().map(Metadata::len);
        Self { parts: vec![Part { name: "IN".to_owned(), reader, metadata }], bytes, folder: None }
    }

    /// All files are opened now: a store that still runs may delete those that it has rewritten.
    fn of_folder(path: &Path, metadata: Metadata) -> Result<Self, Failure> {
        let manifest_path = manifest_path(path)?;
        let (file, manifest_metadata) = open_file(&manifest_path)?;
        let mut text = Vec::new();
        let read = file.take(Manifest::BYTES_MAX as u64 + 1).read_to_end(&mut text);
        read.map_err(|e| unreadable(&manifest_path, &e))?;
        let manifest = Manifest::parse(&text)
            .map_err(|fault| Failure::failed(format_args!("{}: {fault}", manifest_path.display())))?;
        let (mut parts, mut bytes) = (Vec::new(), 0u64);
        for file in manifest.loaded() {
            let (reader, metadata) = open_file(&path.join(&file.name))?;
            bytes = bytes.saturating_add(metadata.len());
            let name = format!("IN/{}", file.name);
            parts.push(Part { name, reader: Box::new(reader), metadata: Some(metadata) });
        }
        let manifest_name = manifest_path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let folder = Some(Folder { metadata, manifest, manifest_name, manifest_metadata });
        Ok(Self { parts, bytes: Some(bytes), folder })
    }
}

fn open_file(path: &Path) -> Result<(File, Metadata), Failure> {
    let opened = File::open(path).and_then(|file| file.metadata().map(|metadata| (file, metadata)));
    opened.map_err(|e| unreadable(path, &e))
}

/// The one manifest in a folder. `temp-…` is one that a store had no time to finish.
fn manifest_path(folder: &Path) -> Result<PathBuf, Failure> {
    let mut found = None;
    for entry in fs::read_dir(folder).map_err(|e| unreadable(folder, &e))? {
        let entry = entry.map_err(|e| unreadable(folder, &e))?;
        let name = entry.file_name();
        let is_manifest =
            name.to_str().is_some_and(|name| name.ends_with(".manifest") && !name.starts_with("temp-"));
        if is_manifest && found.replace(entry.path()).is_some() {
            let message = format!("segue: {} holds more than one AOF manifest", folder.display());
            return Err(Failure { exit: Exit::Usage, message });
        }
    }
    found.ok_or_else(|| {
        let folder = folder.display();
        let message = format!(
            "segue: {folder} is a folder without an AOF manifest; name the one that a store keeps its AOF in \
             (appenddirname, such as {folder}/appendonlydir)"
        );
        Failure { exit: Exit::Usage, message }
    })
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format_args!("cannot read {}: {error}", path.display()))
}
