//! The state that is agreed on, and its snapshots.

use std::{io::Cursor, sync::Arc};

use openraft::{
    AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, StorageError, StorageIOError,
    storage::RaftStateMachine,
};
use tokio::sync::watch;

use super::{
    super::Machine,
    store::{Store, StoreError, read_error, write_error},
    types::{Entry, Id, LogId, SnapshotMeta, StoredMembership, Types},
};

/// The machine where it is in the log.
pub struct Applied<M> {
    store: Store,
    state: watch::Sender<Arc<M>>,
    position: watch::Sender<Option<LogId>>,
    membership: StoredMembership,
}

/// As it was when the snapshot was asked for.
pub struct Builder<M> {
    store: Store,
    state: Arc<M>,
    last: Option<LogId>,
    membership: StoredMembership,
}

impl<M: Machine> Applied<M> {
    /// As the newest snapshot has it; the log is applied to it later.
    ///
    /// # Errors
    /// A snapshot that can't be read.
    pub async fn load(store: Store) -> Result<Self, StoreError> {
        let (state, last, membership) = match store.snapshot().await? {
            Some((meta, data)) => (serde_json::from_slice(&data)?, meta.last_log_id, meta.last_membership),
            None => Default::default(),
        };
        let (state, position) = (watch::Sender::new(Arc::new(state)), watch::Sender::new(last));
        Ok(Self { store, state, position, membership })
    }

    pub fn state(&self) -> watch::Receiver<Arc<M>> {
        self.state.subscribe()
    }

    /// The last entry that the state has.
    pub fn position(&self) -> watch::Receiver<Option<LogId>> {
        self.position.subscribe()
    }

    /// The answer, as JSON.
    fn apply_one(&mut self, entry: Entry, state: &mut Arc<M>) -> Result<String, serde_json::Error> {
        match entry.payload {
            EntryPayload::Blank => Ok(String::new()),
            EntryPayload::Normal(text) => {
                let change = serde_json::from_str(&text)?;
                let answer = Arc::make_mut(state).apply(change);
                serde_json::to_string(&answer)
            }
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                Ok(String::new())
            }
        }
    }
}

impl<M: Machine> RaftStateMachine<Types> for Applied<M> {
    type SnapshotBuilder = Builder<M>;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError<Id>> {
        Ok((*self.position.borrow(), self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<String>, StorageError<Id>>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let before = self.state.borrow().clone();
        let mut state = before.clone();
        let mut last = None;
        let mut answers = Vec::new();
        for entry in entries {
            let id = entry.log_id;
            let answer = self.apply_one(entry, &mut state).map_err(|error| {
                let why = format!("an entry can't be read, is it of a newer Segue? {error}");
                StorageIOError::apply(id, AnyError::error(why))
            });
            answers.push(answer?);
            last = Some(id);
        }
        if !Arc::ptr_eq(&before, &state) {
            self.state.send_replace(state);
        }
        if last.is_some() {
            self.position.send_replace(last);
        }
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> Builder<M> {
        Builder {
            store: self.store.clone(),
            state: self.state.borrow().clone(),
            last: *self.position.borrow(),
            membership: self.membership.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError<Id>> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError<Id>> {
        let data = snapshot.into_inner();
        let state = serde_json::from_slice(&data).map_err(|error| read_error(error.into()))?;
        self.store.save_snapshot(meta.clone(), data).await.map_err(write_error)?;
        self.membership = meta.last_membership.clone();
        self.state.send_replace(Arc::new(state));
        self.position.send_replace(meta.last_log_id);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError<Id>> {
        let found = self.store.snapshot().await.map_err(read_error)?;
        Ok(found.map(|(meta, data)| Snapshot { meta, snapshot: Box::new(Cursor::new(data)) }))
    }
}

impl<M: Machine> RaftSnapshotBuilder<Types> for Builder<M> {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError<Id>> {
        let data = serde_json::to_vec(&*self.state).map_err(|error| write_error(error.into()))?;
        let meta = SnapshotMeta {
            last_log_id: self.last,
            last_membership: self.membership.clone(),
            snapshot_id: self.last.map(|last| last.to_string()).unwrap_or_default(),
        };
        self.store.save_snapshot(meta.clone(), data.clone()).await.map_err(write_error)?;
        Ok(Snapshot { meta, snapshot: Box::new(Cursor::new(data)) })
    }
}
