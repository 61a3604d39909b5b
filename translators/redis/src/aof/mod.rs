//! Append-only files, rewritten to what another release loads.
//!
//! Up to 6.2 an AOF is one file: commands, with or without a snapshot before them. From 7.0 on it is a folder
//! of a base, increments and a manifest that says their order; lines such as `#TS:1628217470` may stand between
//! the commands.
//!
//! | module | holds |
//! |---|---|
//! | here | [`Layout`]: which release keeps its AOF how |
//! | `manifest` | the manifest of a folder |
//! | `rewriter` | the files themselves, as a stream |
//!
//! Formats: `aof.c` of the releases 5.0 to 8.0, and what their servers were seen to write and to load.

mod fuzzing;
mod manifest;
mod rewriter;

use segue_wire::Release;

#[doc(hidden)]
pub use fuzzing::fuzz;
pub use manifest::{File, FileKind, Manifest};
pub use rewriter::{Ending, Kept, Rewriter};

use crate::releases::{Level, Pair, Since, since};

/// Folders, and with them annotations between the commands.
const FOLDERS: Since = since::common(7, 0);

/// How a release keeps its AOF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One file.
    File,
    /// A folder with a manifest.
    Folder,
}

/// `None` if the release is not known.
#[must_use]
pub fn layout(release: &Release) -> Option<Layout> {
    Some(layout_at(Pair::new(release, release)?.to))
}

fn layout_at(level: Level) -> Layout {
    if FOLDERS.has(level) { Layout::Folder } else { Layout::File }
}
