//! To whom the own node has begun to give the role of master, over restarts of the sidecar.
//!
//! From the new master's promotion until all agree on it, the agreed master is the old one. If its store dies
//! then and comes back as a master, only this tells that it is none any more.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use segue_wire::PeerName;
use serde::{Deserialize, Serialize};

use crate::{durable, stores::driver::Seen, upgrade::transaction::Transaction};

const FILE: &str = "upgrade-given.json";

pub struct Given {
    dir: PathBuf,
    noted: Mutex<Option<Note>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    transaction: u64,
    /// How often the role had moved by then.
    moves: u64,
    to: PeerName,
    /// Of the own store, as in [`Seen`].
    run: Option<String>,
}

impl Given {
    /// A file that can't be read notes nothing, which is said.
    pub fn open(dir: &Path) -> Self {
        let noted = durable::read_json(&dir.join(FILE)).unwrap_or_else(|error| {
            tracing::error!(%error, file = FILE, "whether this node gave its role away is not known");
            None
        });
        Self { dir: dir.to_owned(), noted: Mutex::new(noted) }
    }

    /// Whoever finds `to` a master from now on knows from whom it has the role. On disk when this returns.
    pub fn note(&self, running: &Transaction, to: &PeerName, own: &Seen) -> io::Result<()> {
        let (moves, run) = (running.fleet.moves, own.run.clone());
        let note = Note { transaction: running.id, moves, to: to.clone(), run };
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.as_ref() != Some(&note) {
            durable::write_json(&self.dir, &self.dir.join(FILE), &note)?;
            *noted = Some(note);
        }
        Ok(())
    }

    /// Who may have the role of `own`, which all others agree to be master still.
    pub fn to(&self, running: &Transaction, own: &PeerName) -> Option<PeerName> {
        self.newest(running, own).map(|note| note.to)
    }

    /// The same where its store came back as a master after it had begun to give the role away. One that never went
    /// is master rightly: it has taken the role back, and then nobody else has it.
    pub fn to_before_return(&self, running: &Transaction, own: &PeerName, seen: &Seen) -> Option<PeerName> {
        let note = self.newest(running, own)?;
        let came_back = seen.master && (seen.run.is_none() || seen.run != note.run);
        came_back.then_some(note.to)
    }

    fn newest(&self, running: &Transaction, own: &PeerName) -> Option<Note> {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let is_newest = |note: &Note| (note.transaction, note.moves) == (running.id, running.fleet.moves);
        noted.clone().filter(|note| is_newest(note) && running.fleet.is_master(own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upgrade::{action::Moment, fleet::Fleet, rules::Rules};

    fn running() -> Transaction {
        let releases = ("redis-6.0".parse().unwrap(), "redis-8.0".parse().unwrap());
        Transaction::begin(7, releases, Rules::default(), Fleet::of_nodes(2), Moment(0)).unwrap().0
    }

    fn seen(run: Option<&str>, master: bool) -> Seen {
        Seen {
            store: "redis".to_owned(),
            version: "6.0.16".to_owned(),
            master,
            linked: !master,
            follows: None,
            offset: 10,
            history: "h".to_owned(),
            loading: false,
            unwritten: false,
            run: run.map(str::to_owned),
        }
    }

    #[test]
    fn only_a_store_that_was_started_again_may_have_lost_its_role() {
        let (folder, running, own) = (tempfile::tempdir().unwrap(), running(), "n1".into());
        let given = Given::open(folder.path());
        let to = |given: &Given, seen: &Seen| given.to_before_return(&running, &own, seen);
        assert_eq!(to(&given, &seen(Some("b"), true)), None);
        given.note(&running, &"n2".into(), &seen(Some("a"), true)).unwrap();
        assert_eq!(to(&given, &seen(Some("a"), true)), None);
        let given = Given::open(folder.path());
        assert_eq!(to(&given, &seen(Some("b"), true)), Some("n2".into()));
        assert_eq!(to(&given, &seen(Some("b"), false)), None);
        // Where a store does not tell, it may have been.
        assert_eq!(to(&given, &seen(None, true)), Some("n2".into()));
    }

    #[test]
    fn once_the_role_has_moved_a_note_says_nothing() {
        let (folder, mut running, own) = (tempfile::tempdir().unwrap(), running(), "n1".into());
        let given = Given::open(folder.path());
        given.note(&running, &"n2".into(), &seen(Some("a"), true)).unwrap();
        assert_eq!(given.to(&running, &own), Some("n2".into()));
        running.fleet.moves += 1;
        assert_eq!(given.to(&running, &own), None);
        running.fleet.moves -= 1;
        assert_eq!(given.to(&running, &"n2".into()), None);
        running.id += 1;
        assert_eq!(given.to(&running, &own), None);
    }
}
