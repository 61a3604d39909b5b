//! How much was left out for older nodes since the transaction began, over restarts of the sidecar.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::durable;

const FILE: &str = "upgrade-losses.json";
/// From the last links of a process to its successor.
const LEFT: &str = "upgrade-losses-left.json";

/// For the life of the process, whatever becomes of its part in the mesh meanwhile.
pub struct Losses {
    dir: PathBuf,
    counted: Mutex<Counted>,
}

struct Counted {
    base: Count,
    /// What this process had counted when it was `base`.
    before: u64,
    /// What all know was looked at since the start.
    is_compared: bool,
    now: Count,
    kept: Count,
    /// What the process before this one left is counted; its file goes once that is kept.
    is_left_counted: bool,
}

/// The losses of this node since a transaction began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    pub transaction: u64,
    pub count: u64,
}

impl Losses {
    /// No process before this one counts any more.
    #[must_use]
    pub fn open(dir: &Path) -> Self {
        let kept = read(dir, FILE).unwrap_or_default();
        let counted =
            Counted { base: kept, before: 0, is_compared: false, now: kept, kept, is_left_counted: false };
        Self { dir: dir.to_owned(), counted: Mutex::new(counted) }
    }

    /// Given what was counted since the start of the process, and what all agreed on of this node; `None` while
    /// that may be older than this process.
    pub fn since(&self, agreed: Option<Count>, total: u64) -> Count {
        let mut counted = self.lock();
        if let Some(agreed) = agreed {
            counted.compare(agreed, total);
        }
        if !counted.is_left_counted
            && let Some(left) = read(&self.dir, LEFT)
        {
            let is_of_it = left.transaction == counted.base.transaction;
            counted.base.count = counted.base.count.saturating_add(if is_of_it { left.count } else { 0 });
            counted.is_left_counted = true;
        }
        counted.now = counted.at(total);
        counted.now
    }

    /// What links lost that ended after a successor began is for that one to count.
    ///
    /// # Errors
    /// The system's own.
    pub fn leave(&self, total: u64) -> io::Result<()> {
        let counted = self.lock();
        let count = counted.at(total).count.saturating_sub(counted.now.count);
        if count == 0 {
            return Ok(());
        }
        self.write(LEFT, Count { count, ..counted.base })
    }

    /// Brings the last count to the disk, where it is not yet.
    ///
    /// # Errors
    /// The system's own; it is tried again next time.
    pub fn keep(&self) -> io::Result<()> {
        let mut counted = self.lock();
        if counted.kept != counted.now {
            self.write(FILE, counted.now)?;
            counted.kept = counted.now;
        }
        if counted.is_left_counted {
            durable::remove(&self.dir.join(LEFT))?;
            counted.is_left_counted = false;
        }
        Ok(())
    }

    fn write(&self, file: &str, count: Count) -> io::Result<()> {
        durable::write_json(&self.dir, &self.dir.join(file), &count)
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    const fn at(&self, total: u64) -> Count {
        let of_process = total.saturating_sub(self.before);
        Count { count: self.base.count.saturating_add(of_process), ..self.base }
    }

    fn compare(&mut self, agreed: Count, total: u64) {
        let is_first = !std::mem::replace(&mut self.is_compared, true);
        if self.base.transaction != agreed.transaction {
            self.base = Count { transaction: agreed.transaction, count: 0 };
            // One that began before this process did has all of its losses.
            self.before = if is_first { 0 } else { total };
        }
        if is_first {
            // The last ones before the start may be known to the others alone.
            self.base.count = self.base.count.max(agreed.count);
        }
    }
}

/// One that can't be read counts nothing, which is said.
fn read(dir: &Path, file: &str) -> Option<Count> {
    match durable::read_json(&dir.join(file)) {
        Ok(count) => count,
        Err(error) => {
            tracing::error!(%error, file, "what was lost before this start is not known");
            Some(Count::default())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const fn of(transaction: u64, count: u64) -> Count {
        Count { transaction, count }
    }

    #[test]
    fn those_of_the_transaction_are_counted_over_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let losses = Losses::open(folder.path());
        assert_eq!(losses.since(Some(of(0, 0)), 4), of(0, 4));
        assert_eq!(losses.since(Some(of(1, 0)), 5), of(1, 0));
        assert_eq!(losses.since(Some(of(1, 0)), 8), of(1, 3));
        losses.keep().unwrap();
        let losses = Losses::open(folder.path());
        assert_eq!(losses.since(Some(of(1, 3)), 0), of(1, 3));
        assert_eq!(losses.since(Some(of(1, 3)), 2), of(1, 5));
        assert_eq!(losses.since(Some(of(2, 0)), 2), of(2, 0));
        assert_eq!(losses.since(Some(of(2, 0)), 3), of(2, 1));
    }

    #[test]
    fn what_is_known_from_before_the_start_takes_nothing_away() {
        let folder = tempfile::tempdir().unwrap();
        let losses = Losses::open(folder.path());
        losses.since(Some(of(7, 0)), 0);
        losses.since(Some(of(7, 0)), 3);
        losses.keep().unwrap();
        let losses = Losses::open(folder.path());
        assert_eq!(losses.since(None, 1), of(7, 4));
        losses.keep().unwrap();
        assert_eq!(losses.since(Some(of(7, 3)), 1), of(7, 4));
    }

    #[test]
    fn a_file_that_is_lost_or_late_is_made_good_by_what_was_agreed() {
        let folder = tempfile::tempdir().unwrap();
        let losses = Losses::open(folder.path());
        assert_eq!(losses.since(None, 1), of(0, 1));
        assert_eq!(losses.since(Some(of(7, 5)), 2), of(7, 7));
        assert_eq!(losses.since(Some(of(7, 7)), 3), of(7, 8));
        assert_eq!(losses.since(Some(of(7, 90)), 3), of(7, 8));
    }

    #[test]
    fn what_the_last_links_of_a_process_lost_is_counted_by_its_successor() {
        let folder = tempfile::tempdir().unwrap();
        let losses = Losses::open(folder.path());
        losses.since(Some(of(1, 0)), 0);
        losses.since(Some(of(1, 0)), 2);
        losses.keep().unwrap();
        let successor = Losses::open(folder.path());
        assert_eq!(successor.since(Some(of(1, 2)), 1), of(1, 3));
        losses.leave(2).unwrap();
        losses.leave(6).unwrap();
        assert_eq!(successor.since(Some(of(1, 3)), 1), of(1, 7));
        assert_eq!(successor.since(Some(of(1, 3)), 1), of(1, 7));
        successor.keep().unwrap();
        assert_eq!(successor.since(Some(of(1, 7)), 2), of(1, 8));
        assert_eq!(Losses::open(folder.path()).since(None, 0), of(1, 7));
    }

    #[test]
    fn what_the_disk_does_not_take_is_counted_and_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("gone");
        let losses = Losses::open(&dir);
        losses.since(Some(of(1, 0)), 0);
        assert_eq!(losses.since(Some(of(1, 0)), 2), of(1, 2));
        losses.keep().unwrap_err();
        assert_eq!(losses.since(Some(of(1, 0)), 2), of(1, 2));
        fs::create_dir(&dir).unwrap();
        losses.keep().unwrap();
        assert_eq!(Losses::open(&dir).since(None, 0), of(1, 2));
    }
}
