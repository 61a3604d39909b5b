//! Real servers of many releases side by side, fetched into one folder without installing them.
//!
//! ```no_run
//! use segue_bench::progress::Progress;
//! use segue_bench::stores;
//! let stores = stores::fetch(&["redis-8.0".parse()?, "redis-6.0.16".parse()?], &Progress::new("stores"))?;
//! # anyhow::Ok(())
//! ```

mod apt;
mod catalogue;
mod fetch;
mod layout;
mod ledger;
mod name;
mod step;
mod wheel;

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};

pub use apt::Apt;
pub use catalogue::{CATALOGUE, Entry, Source};
pub use layout::Store;
pub use name::{Family, StoreName, Version, Wanted};
pub use step::{STEP_TIME_MAX, STEP_TRIES_MAX, remove_folder};

use crate::progress::Progress;

/// Makes the named stores present; the result is in the order of `names`.
///
/// What is there already costs a look at the file system. What is missing is fetched in parallel; another
/// process that fetches into the same folder is waited for. A fetch that was cut off leaves nothing that
/// counts as present, so the next one repairs it.
///
/// # Errors
/// A name that no source gives (any more), or a step that failed [`STEP_TRIES_MAX`] times. The message holds
/// every store that failed, each with its step, its command and what that said last.
pub fn fetch(names: &[StoreName], progress: &Progress) -> Result<Vec<Store>> {
    fetch_into(&folder(), names, progress)
}

/// As [`fetch`], into a folder of the caller's choice.
///
/// # Errors
/// As [`fetch`].
pub fn fetch_into(folder: &Path, names: &[StoreName], progress: &Progress) -> Result<Vec<Store>> {
    let present = |name: &StoreName| ledger::find(folder, *name);
    if let Some(stores) = names.iter().map(present).collect() {
        return Ok(stores);
    }
    fetch::missing(folder, names, progress)
}

impl Store {
    /// The one store of this name, such as `redis-8.0` or `redis-8.0.2`, fetched if it is missing.
    ///
    /// # Errors
    /// As [`fetch`]; and when `name` is no store name.
    pub fn want(name: &str) -> Result<Self> {
        let progress = Progress::new("stores");
        let result = fetch(&[name.parse()?], &progress);
        progress.finish();
        result?.pop().ok_or_else(|| anyhow!("{name} was asked for and not answered"))
    }
}

/// Where stores are kept: `SEGUE_STORES`, else `target/stores` of the workspace.
#[must_use]
pub fn folder() -> PathBuf {
    env::var_os("SEGUE_STORES").map_or_else(|| crate::workspace().join("target/stores"), PathBuf::from)
}
