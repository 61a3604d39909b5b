//! The release that an upgrade holds the links to, until it is finalized.
//!
//! Who does the upgrade tells it again after each start. Until then a sidecar goes by a file: it opens no
//! link wider than the one before it did.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
};

use segue_wire::{Mode, PeerName, Release, Verdict};
use serde::{Deserialize, Serialize};

use super::{Shared, link::Link, shared::unix_now_s};
use crate::{durable, status::SpokenStatus};

const FILE: &str = "spoken.json";

/// A release, and who wants it spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoken {
    pub release: Release,
    pub who: String,
}

impl Spoken {
    pub fn status(&self, mode: &Mode) -> SpokenStatus {
        SpokenStatus {
            release: self.release.to_string(),
            who: self.who.clone(),
            in_force: *mode == Mode::Auto,
            orphaned: false,
        }
    }
}

impl Shared {
    /// Links speak what stores of this release read, too, or again what each peer reads; `who` is for the
    /// records. Links for which that makes a difference end once no snapshot is under way on them, and
    /// resume. Costs little where nothing changes, else it waits for the disk.
    pub fn speak(self: &Arc<Self>, release: Option<Release>, who: &str) {
        if self.is_told(release, who) {
            self.end_outdated(|_| true);
        }
    }

    /// As [`Self::speak`] of no release, but a link by which a store follows another one stays until its
    /// replica is [turned](Self::turn).
    pub fn let_go(self: &Arc<Self>, who: &str) {
        if self.is_told(None, who) {
            self.end_outdated(|link| !link.is_replication());
        }
    }

    /// Ends the links of this replica that would be decided for another release now, as [`Self::speak`] does.
    pub fn turn(self: &Arc<Self>, replica: Option<PeerName>) {
        self.end_outdated(move |link| link.is_replication() && link.facts().dialer.name == replica);
    }

    /// False where that is so already.
    fn is_told(&self, release: Option<Release>, who: &str) -> bool {
        let spoken = release.map(|release| Spoken { release, who: who.to_owned() });
        if let Err(error) = self.translation.keep(spoken.as_ref()) {
            self.metrics.state_failures.with_label_values(&["spoken"]).inc();
            if let Some(unsaid) = self.due("spoken") {
                tracing::error!(%error, unsaid, "what is spoken during the upgrade is not kept over a restart");
            }
        }
        let is_new = self.translation.speak(spoken, who, unix_now_s());
        if is_new {
            self.metrics.translation_changes.with_label_values(&["changed"]).inc();
            self.refusals.clear();
        }
        is_new
    }

    fn end_outdated(self: &Arc<Self>, concerned: impl Fn(&Link) -> bool + Send + Sync + 'static) {
        let shared = self.clone();
        let next_link = self.next_link.load(Relaxed);
        let turns_buses = self.translation.settings().mode == Mode::Auto;
        self.listening.runtime.spawn(async move {
            // While counts may differ, a bus is watched for slots handed over by them.
            let is_bus = |link: &Link| turns_buses && link.id < next_link && link.facts().bus;
            shared.drain(|link| concerned(link) && (is_bus(link) || shared.is_outdated(link))).await;
        });
    }

    /// A link that was opened just before a change of what is spoken ends, too. One that can't be held to it is
    /// named.
    pub(super) fn decided(&self, link: &Link) {
        if self.is_outdated(link) {
            link.end.cancel();
        } else if let Some(release) = self.unspoken(link)
            && let peer = link.peer(self.peers.own_name())
            && let Some(unsaid) = self.due(&format!("unspoken {}", peer.as_deref().unwrap_or("-")))
        {
            tracing::warn!(link = link.id, peer = peer.as_deref(), %release, unsaid,
                "this link can't be held to the release that the upgrade comes from: it goes as without an upgrade");
        }
    }

    /// Was this link decided for another release than it would be now?
    pub(super) fn is_outdated(&self, link: &Link) -> bool {
        let facts = link.facts();
        let Some(verdict) = facts.verdict.as_ref().filter(|_| !facts.bus) else { return false };
        let Some(target) = facts.receiver().and_then(|receiver| self.target(receiver)) else {
            return false;
        };
        let is_for_target = facts.target.as_ref() == Some(&target);
        if facts.client {
            return *verdict == Verdict::Rewrite && facts.target.is_some() && !is_for_target;
        }
        let Some(sender) = &facts.listener.known else { return false };
        let now = self.protocol.verdict(&sender.release, &target);
        // What passes unchanged for one and the other need not end. What was left to another sidecar, for the
        // same target, is that one's to end.
        !is_for_target && (verdict, &now) != (&Verdict::Same, &Verdict::Same)
    }

    /// The release that an upgrade wants spoken on this link and that its receiver has nothing to do with.
    pub(super) fn unspoken(&self, link: &Link) -> Option<Release> {
        let facts = link.facts();
        facts.verdict.as_ref().filter(|_| !facts.bus)?;
        let receiver = facts.receiver()?;
        match self.translation.in_force().mode {
            Mode::Upgrade(before) if self.protocol.held_to(&before, receiver).is_none() => Some(before),
            _ => None,
        }
    }

    /// What would be spoken to a store of this release; `None` where the mode is an operator's.
    fn target(&self, receiver: &Release) -> Option<Release> {
        match self.translation.in_force().mode {
            Mode::Auto => Some(receiver.clone()),
            Mode::Upgrade(before) => {
                Some(self.protocol.held_to(&before, receiver).unwrap_or_else(|| receiver.clone()))
            }
            Mode::Off | Mode::Pin(_) => None,
        }
    }
}

/// The file that outlives the process.
#[derive(Debug)]
pub struct Kept {
    dir: PathBuf,
    /// What it says.
    said: Mutex<Option<Spoken>>,
}

/// The file's content.
#[derive(Serialize, Deserialize)]
struct Written {
    release: String,
    who: String,
}

impl Kept {
    /// With what was kept.
    ///
    /// # Errors
    /// The file can't be read. To go on as if it were not there could show the old stores what they can't
    /// read.
    pub fn open(dir: &Path) -> io::Result<(Self, Option<Spoken>)> {
        let file = dir.join(FILE);
        let written = durable::read_json::<Written>(&file);
        let written = written.map_err(|error| unreadable(&file, &error.to_string()))?;
        let spoken = written.map(Written::parsed).transpose().map_err(|why| unreadable(&file, &why))?;
        Ok((Self { dir: dir.to_owned(), said: Mutex::new(spoken.clone()) }, spoken))
    }

    /// # Errors
    /// The system's own; the next call tries again.
    pub fn keep(&self, spoken: Option<&Spoken>) -> io::Result<()> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.as_ref() == spoken {
            return Ok(());
        }
        let file = self.dir.join(FILE);
        match spoken {
            Some(Spoken { release, who }) => {
                let written = Written { release: release.to_string(), who: who.clone() };
                durable::write_json(&self.dir, &file, &written)?;
            }
            None => durable::remove(&file)?,
        }
        *said = spoken.cloned();
        Ok(())
    }
}

impl Written {
    fn parsed(self) -> Result<Spoken, String> {
        let Self { release, who } = self;
        Ok(Spoken { release: release.parse().map_err(|error| format!("{error}"))?, who })
    }
}

fn unreadable(file: &Path, why: &str) -> io::Error {
    io::Error::other(format!(
        "cannot read {}, which says what links are held to while an upgrade runs: {why}; remove it if none runs",
        file.display()
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn spoken(release: &str) -> Spoken {
        Spoken { release: release.parse().unwrap(), who: "upgrade transaction 3".to_owned() }
    }

    #[test]
    fn what_is_kept_outlives_the_process_until_it_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, before) = Kept::open(dir.path()).unwrap();
        assert_eq!(before, None);
        kept.keep(None).unwrap();
        for release in ["redis-6.0", "redis-6.2.14"] {
            kept.keep(Some(&spoken(release))).unwrap();
            assert_eq!(Kept::open(dir.path()).unwrap().1, Some(spoken(release)));
        }
        kept.keep(None).unwrap();
        assert_eq!(Kept::open(dir.path()).unwrap().1, None);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_could_not_be_kept_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("state");
        fs::create_dir(&folder).unwrap();
        let (kept, _) = Kept::open(&folder).unwrap();
        fs::remove_dir(&folder).unwrap();
        kept.keep(Some(&spoken("redis-6.0"))).unwrap_err();
        fs::create_dir(&folder).unwrap();
        kept.keep(Some(&spoken("redis-6.0"))).unwrap();
        assert_eq!(Kept::open(&folder).unwrap().1, Some(spoken("redis-6.0")));
    }

    #[test]
    fn a_file_that_makes_no_sense_is_no_word_to_open_links_by() {
        let dir = tempfile::tempdir().unwrap();
        for content in ["", "{\"release\":\"six\",\"who\":\"x\"}", "{\"release\":\"redis-6.0\""] {
            fs::write(dir.path().join(FILE), content).unwrap();
            let error = Kept::open(dir.path()).unwrap_err().to_string();
            assert!(error.contains(FILE) && error.contains("remove it"), "{error}");
        }
    }
}
