//! One node's store, and what is done to it.

use segue::upgrade::action::{Action, Do, Generation, Outcome};

#[derive(Clone, Debug)]
pub struct Node {
    /// The binary that is installed, and the data files that lie on its disk.
    pub installed: Generation,
    pub files: Option<Generation>,
    pub running: bool,
    /// Stopped by a crash: it comes back by itself.
    pub crashed: bool,
    pub is_master: bool,
    /// How many writes of the one history it has.
    pub writes: u64,
    /// What all were last told of it.
    pub notified: Generation,
    pub finalized: bool,
}

impl Node {
    pub fn new(is_master: bool) -> Self {
        Self {
            installed: Generation::Old,
            files: Some(Generation::Old),
            running: true,
            crashed: false,
            is_master,
            writes: 0,
            notified: Generation::Old,
            finalized: false,
        }
    }

    /// All that concerns this node alone. `master_writes`: what it would have to have.
    pub fn act(&mut self, action: &Action, master_writes: Option<u64>) -> Outcome {
        match &action.what {
            Do::Preflight => Outcome::Done,
            Do::PassGate(_) if self.running => Outcome::Done,
            Do::PassGate(_) => Outcome::NotYet("it is down".into()),
            Do::MoveMaster { .. } => Outcome::Failed("not for one node alone".into()),
            Do::SetAside(_) if self.running => Outcome::Failed("the store runs".into()),
            Do::SetAside(Generation::New) => Outcome::Done,
            Do::SetAside(Generation::Old) => {
                (self.files, self.writes) = (None, 0);
                Outcome::Done
            }
            Do::Stop if self.running && self.is_master => Outcome::Failed("it is the master".into()),
            Do::Stop => {
                (self.running, self.crashed) = (false, false);
                Outcome::Done
            }
            Do::Install(_) if self.running => Outcome::Failed("the store runs".into()),
            Do::Install(generation) => {
                self.installed = *generation;
                Outcome::Done
            }
            Do::Start => self.start(),
            Do::CatchUp => match master_writes {
                Some(writes) if self.running && self.writes == writes => Outcome::Done,
                _ => Outcome::NotYet("it has not all".into()),
            },
            Do::Notify(generation) => {
                self.notified = *generation;
                Outcome::Done
            }
            Do::Finalize => {
                self.finalized = true;
                Outcome::Done
            }
        }
    }

    /// An old binary dies on the new one's files.
    pub fn start(&mut self) -> Outcome {
        if self.files > Some(self.installed) {
            return Outcome::Failed("Can't handle RDB format version".into());
        }
        self.files = Some(self.installed);
        (self.running, self.crashed) = (true, false);
        Outcome::Done
    }
}
