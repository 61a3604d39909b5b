//! What a member keeps on its disk, in one file: the log, its vote, the newest snapshot.

use std::{
    fmt::Debug,
    fs::{self, OpenOptions},
    io,
    ops::{Bound, RangeBounds},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use openraft::{
    AnyError, LogState, OptionalSend, RaftLogReader, StorageError, StorageIOError,
    storage::{LogFlushed, RaftLogStorage},
};
use redb::{Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use segue_wire::PeerName;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Instant, sleep, timeout_at};

use super::types::{Entry, Id, LogId, SnapshotMeta, Types, Vote};

/// The file's name in the mesh's folder.
const FILE: &str = "mesh.redb";
/// How long the process before this one may take to let go of the file.
const OPEN_TIME_MAX: Duration = Duration::from_secs(20);
/// How often it is tried.
const OPEN_RETRY: Duration = Duration::from_millis(100);
/// Memory for pages of the file.
const CACHE_BYTES_MAX: usize = 4 << 20;
/// Most bytes of entries that are read, and sent, at once; a larger one goes alone.
const READ_BYTES_MAX: usize = 256 << 10;

/// By index, as JSON.
const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
/// Single values, as JSON.
const KEPT: TableDefinition<&str, &[u8]> = TableDefinition::new("kept");

const NODE: &str = "node";
const VOTE: &str = "vote";
const COMMITTED: &str = "committed";
const PURGED: &str = "purged";
const SNAPSHOT_META: &str = "snapshot-meta";
const SNAPSHOT: &str = "snapshot";

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{0:?}: {1}")]
    File(PathBuf, io::Error),
    #[error("{0:?}: another process has it, and did not let go of it within {OPEN_TIME_MAX:?}")]
    InUse(PathBuf),
    #[error("{0:?} is the log of node \"{1}\", and this is \"{2}\": give each node a state.dir of its own")]
    OtherNode(PathBuf, PeerName, PeerName),
    #[error("the mesh's file in state.dir: {0}")]
    Redb(Box<redb::Error>),
    #[error("the mesh's file holds what can't be read: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the mesh's file is closed")]
    Closed,
}

/// Each step of a transaction has an error type of its own.
macro_rules! from_redb {
    ($($error:ident),*) => {$(
        impl From<redb::$error> for StoreError {
            fn from(error: redb::$error) -> Self {
                Self::Redb(Box::new(error.into()))
            }
        }
    )*};
}

from_redb!(CommitError, DatabaseError, SetDurabilityError, StorageError, TableError, TransactionError);

/// The open file; the same for whoever has a clone.
#[derive(Clone, Debug)]
pub struct Store {
    path: Arc<PathBuf>,
    database: Arc<RwLock<Option<Database>>>,
    failed: Arc<OnceLock<String>>,
}

impl Store {
    /// # Errors
    /// A folder or file that can't be used, or is another node's.
    pub async fn open(folder: &Path, node: Id) -> Result<Self, StoreError> {
        let deadline = Instant::now().checked_add(OPEN_TIME_MAX);
        let path = Arc::new(folder.join(FILE));
        loop {
            let folder = folder.to_owned();
            let opened = blocking(move || open(&folder, node)).await;
            match opened {
                Err(StoreError::InUse(_)) if deadline.is_some_and(|deadline| Instant::now() < deadline) => {
                    sleep(OPEN_RETRY).await;
                }
                opened => {
                    let database = Arc::new(RwLock::new(Some(opened?)));
                    return Ok(Self { path, database, failed: Arc::default() });
                }
            }
        }
    }

    /// The first error of the file: it takes nothing more after it, until it is opened again.
    pub fn failed(&self) -> Option<String> {
        self.failed.get().cloned()
    }

    /// Waits for what is under way; whatever comes later is refused.
    pub async fn close(&self) {
        let database = self.database.clone();
        let closed = tokio::task::spawn_blocking(move || {
            database.write().unwrap_or_else(PoisonError::into_inner).take();
        });
        // It ends with the runtime where it does not end before.
        let _closed = timeout_at(Instant::now() + OPEN_TIME_MAX, closed).await;
    }

    /// The newest snapshot: what it covers, and the machine as JSON.
    pub async fn snapshot(&self) -> Result<Option<(SnapshotMeta, Vec<u8>)>, StoreError> {
        self.on(|database| {
            let kept = database.begin_read()?.open_table(KEPT)?;
            let Some(meta) = kept.get(SNAPSHOT_META)? else { return Ok(None) };
            let data = kept.get(SNAPSHOT)?.map(|data| data.value().to_vec());
            Ok(Some((serde_json::from_slice(meta.value())?, data.unwrap_or_default())))
        })
        .await
    }

    pub async fn save_snapshot(&self, meta: SnapshotMeta, data: Vec<u8>) -> Result<(), StoreError> {
        self.on(move |database| {
            let write = database.begin_write()?;
            {
                let mut kept = write.open_table(KEPT)?;
                kept.insert(SNAPSHOT_META, &*serde_json::to_vec(&meta)?)?;
                kept.insert(SNAPSHOT, &*data)?;
            }
            Ok(write.commit()?)
        })
        .await
    }

    async fn keep<T: Serialize>(
        &self,
        key: &'static str,
        value: &T,
        durability: Durability,
    ) -> Result<(), StoreError> {
        let value = serde_json::to_vec(value)?;
        self.on(move |database| {
            let mut write = database.begin_write()?;
            write.set_durability(durability)?;
            write.open_table(KEPT)?.insert(key, &*value)?;
            Ok(write.commit()?)
        })
        .await
    }

    async fn kept<T: DeserializeOwned + Send + 'static>(
        &self,
        key: &'static str,
    ) -> Result<Option<T>, StoreError> {
        self.on(move |database| kept(database, key)).await
    }

    async fn read(
        &self,
        range: (Bound<u64>, Bound<u64>),
        bytes_max: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        self.on(move |database| {
            let log = database.begin_read()?.open_table(LOG)?;
            let mut entries = Vec::new();
            let mut bytes: usize = 0;
            for found in log.range(range)? {
                let (_, entry) = found?;
                bytes = bytes.saturating_add(entry.value().len());
                if bytes > bytes_max && !entries.is_empty() {
                    break;
                }
                entries.push(serde_json::from_slice(entry.value())?);
            }
            Ok(entries)
        })
        .await
    }

    async fn remove(
        &self,
        range: impl RangeBounds<u64> + Send + 'static,
        purged: Option<LogId>,
    ) -> Result<(), StoreError> {
        self.on(move |database| {
            let write = database.begin_write()?;
            {
                write.open_table(LOG)?.retain_in(range, |_, _| false)?;
                if let Some(purged) = purged {
                    write.open_table(KEPT)?.insert(PURGED, &*serde_json::to_vec(&purged)?)?;
                }
            }
            Ok(write.commit()?)
        })
        .await
    }

    /// Not on the runtime's own thread: a disk may take its time.
    async fn on<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let database = self.database.clone();
        let done = blocking(move || {
            let database = database.read().unwrap_or_else(PoisonError::into_inner);
            work(database.as_ref().ok_or(StoreError::Closed)?)
        })
        .await;
        if let Err(StoreError::Redb(error)) = &done {
            self.failed.get_or_init(|| format!("{}: {error}", self.path.display()));
        }
        done
    }
}

impl RaftLogReader<Types> for Store {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, StorageError<Id>> {
        let range = (range.start_bound().cloned(), range.end_bound().cloned());
        self.read(range, usize::MAX).await.map_err(read_error)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError<Id>> {
        let range = (Bound::Included(start), Bound::Excluded(end));
        self.read(range, READ_BYTES_MAX).await.map_err(read_error)
    }
}

impl RaftLogStorage<Types> for Store {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError<Id>> {
        let state = self.on(|database| {
            let purged: Option<LogId> = kept(database, PURGED)?;
            let log = database.begin_read()?.open_table(LOG)?;
            let last = match log.last()? {
                Some((_, entry)) => Some(serde_json::from_slice::<Entry>(entry.value())?.log_id),
                None => purged,
            };
            Ok(LogState { last_purged_log_id: purged, last_log_id: last })
        });
        state.await.map_err(read_error)
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError<Id>> {
        let saved = self.keep(VOTE, vote, Durability::Immediate).await;
        saved.map_err(|error| StorageIOError::write_vote(AnyError::new(&error)).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError<Id>> {
        let vote = self.kept(VOTE).await;
        vote.map_err(|error| StorageIOError::read_vote(AnyError::new(&error)).into())
    }

    /// It reaches the disk with the next entry: without it, less of the log is known to be agreed on at a
    /// start, until the leader says it again.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError<Id>> {
        self.keep(COMMITTED, &committed, Durability::None).await.map_err(write_error)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError<Id>> {
        self.kept(COMMITTED).await.map(Option::flatten).map_err(read_error)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), StorageError<Id>>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let appended = self.on(move |database| {
            let write = database.begin_write()?;
            {
                let mut log = write.open_table(LOG)?;
                for entry in &entries {
                    log.insert(entry.log_id.index, &*serde_json::to_vec(entry)?)?;
                }
            }
            Ok(write.commit()?)
        });
        let appended = appended.await;
        callback.log_io_completed(
            appended.as_ref().copied().map_err(|error| io::Error::other(error.to_string())),
        );
        appended.map_err(write_error)
    }

    async fn truncate(&mut self, since: LogId) -> Result<(), StorageError<Id>> {
        self.remove(since.index.., None).await.map_err(write_error)
    }

    async fn purge(&mut self, to: LogId) -> Result<(), StorageError<Id>> {
        self.remove(..=to.index, Some(to)).await.map_err(write_error)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(StoreError::Closed))
}

fn open(folder: &Path, node: Id) -> Result<Database, StoreError> {
    let path = folder.join(FILE);
    let unusable = |error| StoreError::File(path.clone(), error);
    fs::create_dir_all(folder).map_err(unusable)?;
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).open(&path).map_err(unusable)?;
    let database = Database::builder().set_cache_size(CACHE_BYTES_MAX).create_file(file);
    let database = database.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.clone()),
        error => error.into(),
    })?;
    let write = database.begin_write()?;
    {
        write.open_table(LOG)?;
        write.open_table(KEPT)?;
    }
    write.commit()?;
    let known: Option<Id> = kept(&database, NODE)?;
    match known {
        Some(known) if known != node => Err(StoreError::OtherNode(path, known.name(), node.name())),
        Some(_) => Ok(database),
        None => {
            let write = database.begin_write()?;
            write.open_table(KEPT)?.insert(NODE, &*serde_json::to_vec(&node)?)?;
            write.commit()?;
            Ok(database)
        }
    }
}

fn kept<T: DeserializeOwned>(database: &Database, key: &str) -> Result<Option<T>, StoreError> {
    let kept = database.begin_read()?.open_table(KEPT)?;
    let value = kept.get(key)?.map(|value| serde_json::from_slice(value.value()));
    Ok(value.transpose()?)
}

pub fn read_error(error: StoreError) -> StorageError<Id> {
    StorageIOError::read(AnyError::new(&error)).into()
}

pub fn write_error(error: StoreError) -> StorageError<Id> {
    StorageIOError::write(AnyError::new(&error)).into()
}
