//! How much was left out for older nodes since the transaction began, over restarts of the sidecar.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::durable;

const FILE: &str = "upgrade-losses.json";

pub struct Losses {
    dir: PathBuf,
    counted: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    kept: Kept,
    /// What this process had counted when `kept.count` was 0, or when it started.
    before: u64,
}

#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    transaction: u64,
    count: u64,
}

impl Losses {
    /// A file that can't be read counts nothing, which is said.
    pub fn open(dir: &Path) -> Self {
        let kept = match read(&dir.join(FILE)) {
            Ok(kept) => kept.unwrap_or_default(),
            Err(error) => {
                tracing::error!(%error, file = FILE, "what was lost before this start is not known");
                Kept::default()
            }
        };
        Self { dir: dir.to_owned(), counted: Mutex::new(Counted { kept, before: 0 }) }
    }

    /// Since the beginning of this transaction, given what was counted since the start of the process.
    /// Waits for the disk where there is a new one.
    pub fn since(&self, transaction: u64, total: u64) -> io::Result<u64> {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = counted.kept.clone();
        if kept.transaction != transaction {
            kept = Kept { transaction, count: 0 };
            counted.before = total;
        }
        let of_process = total.saturating_sub(counted.before);
        kept.count = kept.count.saturating_add(of_process);
        if kept != counted.kept {
            counted.before = total;
            counted.kept = kept.clone();
            let text = serde_json::to_vec(&kept).map_err(io::Error::other)?;
            durable::write(&self.dir, &self.dir.join(FILE), &text)?;
        }
        Ok(kept.count)
    }
}

fn read(file: &Path) -> io::Result<Option<Kept>> {
    match fs::read(file) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_the_transaction_are_counted_over_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let losses = Losses::open(folder.path());
        assert_eq!(losses.since(1, 5).unwrap(), 0);
        assert_eq!(losses.since(1, 8).unwrap(), 3);
        assert_eq!(losses.since(1, 8).unwrap(), 3);
        let losses = Losses::open(folder.path());
        assert_eq!(losses.since(1, 0).unwrap(), 3);
        assert_eq!(losses.since(1, 2).unwrap(), 5);
        assert_eq!(losses.since(2, 2).unwrap(), 0);
        assert_eq!(losses.since(2, 3).unwrap(), 1);
    }
}
