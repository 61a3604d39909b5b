//! Which version each source gave when it was last asked: `<stores>/.found/<source>` holds one version.
//!
//! It answers "is the newest patch of this release here?" without the network, although a suite may have
//! moved on since the catalogue was written.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::catalogue::{Entry, candidates};
use super::layout::Store;
use super::name::{StoreName, Version, Wanted};

/// The store that answers to `name`, if no source needs to be asked for it.
#[must_use]
pub fn find(stores: &Path, name: StoreName) -> Option<Store> {
    if let Wanted::Exact(version) = name.version {
        return Store::at(stores, name.family, version);
    }
    for entry in candidates(name) {
        let found = found(stores, entry)?;
        if name.version.admits(found) {
            return Store::at(stores, name.family, found);
        }
    }
    None
}

/// Records what a source gave.
pub fn record(stores: &Path, entry: &Entry, version: Version) -> Result<()> {
    let folder = stores.join(".found");
    fs::create_dir_all(&folder)?;
    let path = folder.join(entry.source_label());
    let new = path.with_extension(format!("new-{}", std::process::id()));
    fs::write(&new, format!("{version}\n"))?;
    fs::rename(&new, &path).with_context(|| format!("cannot write {}", path.display()))
}

fn found(stores: &Path, entry: &Entry) -> Option<Version> {
    let text = fs::read_to_string(stores.join(".found").join(entry.source_label())).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lay(stores: &Path, name: &str) {
        fs::create_dir_all(stores.join(name)).unwrap();
        fs::write(stores.join(name).join("VERSION"), "").unwrap();
    }

    #[test]
    fn a_release_is_the_newest_that_its_sources_gave() {
        let folder = tempfile::tempdir().unwrap();
        let stores = folder.path();
        let name: StoreName = "redis-8.0".parse().unwrap();
        let entries = candidates(name);
        let (sid, trixie) = (entries[0], entries[1]);
        lay(stores, "redis-8.0.2");
        assert_eq!(find(stores, name), None, "sid, the newer source, was never asked");
        record(stores, trixie, Version::new(8, 0, 2)).unwrap();
        record(stores, sid, Version::new(8, 0, 7)).unwrap();
        assert_eq!(find(stores, name), None, "sid's 8.0.7 is not here");
        lay(stores, "redis-8.0.7");
        assert_eq!(find(stores, name).unwrap().name(), "redis-8.0.7");
        record(stores, sid, Version::new(8, 2, 1)).unwrap();
        assert_eq!(find(stores, name).unwrap().name(), "redis-8.0.2", "sid has left the release");
    }

    #[test]
    fn a_folder_without_version_is_not_a_store() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("redis-8.0.2/bin")).unwrap();
        assert_eq!(find(folder.path(), "redis-8.0.2".parse().unwrap()), None);
        fs::write(folder.path().join("redis-8.0.2/VERSION"), "8.0.2\n").unwrap();
        assert!(find(folder.path(), "redis-8.0.2".parse().unwrap()).is_some());
    }
}
