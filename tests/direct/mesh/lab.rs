//! Meshes on loopback, in process.

use std::{
    collections::VecDeque,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use segue::{
    cluster::{Agreement, Machine, NotAgreed, Standing, raft},
    config::{Mesh, MeshMember, StoreAddress},
    tls::{self, AuthClients, Files, Keys},
};
use segue_bench::{authority::Certificate, port};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::{runtime::Handle, time::timeout};

/// Longer than anything takes on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The newest of what was said, in order; the answer is how many came before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notes {
    count: usize,
    pub last: VecDeque<String>,
}

const NOTES_KEPT: usize = 20;

impl Machine for Notes {
    type Entry = String;
    type Answer = usize;

    fn apply(&mut self, entry: String) -> usize {
        self.last.push_back(entry);
        if self.last.len() > NOTES_KEPT {
            self.last.pop_front();
        }
        self.count += 1;
        self.count - 1
    }
}

pub type Joined = Arc<dyn Agreement<Notes>>;

/// Where each member is, from start to start.
pub struct Lab {
    folder: TempDir,
    members: Vec<MeshMember>,
    keys: Vec<Option<Keys>>,
    /// Held until the member starts, so that nobody else gets the port.
    listeners: Vec<Option<TcpListener>>,
    pub metrics: Vec<raft::Metrics>,
    pub verify_name: bool,
    pub propose_timeout: Duration,
}

impl Lab {
    /// `n1` to `n<count>`.
    pub fn new(count: usize) -> Self {
        let mut lab = Self {
            folder: tempfile::tempdir().unwrap(),
            members: Vec::new(),
            keys: Vec::new(),
            listeners: Vec::new(),
            metrics: Vec::new(),
            verify_name: false,
            propose_timeout: Duration::from_secs(30),
        };
        for number in 1..=count {
            lab.add(&format!("n{number}"), false);
        }
        lab
    }

    pub fn add(&mut self, id: &str, witness: bool) {
        // Not one of the ports that any connection may get while the member is away.
        let address = SocketAddr::from(([127, 0, 0, 1], port::free().unwrap()));
        let listener = TcpListener::bind(address).unwrap();
        let address = StoreAddress::from(address);
        self.members.push(MeshMember { id: id.into(), address, witness });
        self.listeners.push(Some(listener));
        self.keys.push(None);
        self.metrics.push(raft::Metrics::new().unwrap());
    }

    pub fn remove_last(&mut self) {
        self.members.pop();
    }

    pub fn set_keys(&mut self, at: usize, files: &Certificate) {
        let Certificate { certificate, key, ca } = files.clone();
        let files = Files { certificate, key, ca };
        let settings = tls::Settings { files, auth_clients: AuthClients::Yes, verify_name: false };
        self.keys[at] = Some(Keys::read(settings).unwrap());
    }

    pub fn address(&self, at: usize) -> SocketAddr {
        self.members[at].address.socket_addr().unwrap()
    }

    pub fn folder(&self, at: usize) -> PathBuf {
        self.folder.path().join(&*self.members[at].id).join("mesh")
    }

    /// As its config would say it.
    pub fn settings(&mut self, at: usize) -> raft::Settings {
        let address = self.address(at);
        let listener = self.listeners[at].take().unwrap_or_else(|| TcpListener::bind(address).unwrap());
        raft::Settings {
            node: self.members[at].id.clone(),
            mesh: Mesh {
                listen: address,
                keys: self.keys[at].clone(),
                verify_name: self.verify_name,
                members: self.members.clone(),
                election_timeout: Duration::from_secs(1),
                propose_timeout: self.propose_timeout,
            },
            listener,
            folder: self.folder(at),
            metrics: self.metrics[at].clone(),
        }
    }

    pub async fn start(&mut self, at: usize) -> Joined {
        raft::start(self.settings(at), &Handle::current()).await.unwrap()
    }

    pub async fn start_all(&mut self) -> Vec<Joined> {
        let mut joined = Vec::new();
        for at in 0..self.members.len() {
            joined.push(self.start(at).await);
        }
        joined
    }

    pub fn counted(&self, at: usize, name: &str, label: &str) -> f64 {
        let families = self.metrics[at].gather();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        let labelled = family.get_metric().iter().find(|metric| {
            metric.get_label().is_empty() || metric.get_label().iter().any(|pair| pair.value() == label)
        });
        labelled.map_or(0.0, |metric| metric.get_counter().get_value() + metric.get_gauge().get_value())
    }
}

pub async fn stop(joined: &[Joined]) {
    for one in joined {
        one.stop().await;
    }
}

/// Which of them leads, once one does.
pub async fn leader(joined: &[Joined]) -> usize {
    let mut polls = tokio::time::interval(Duration::from_millis(20));
    let found = async {
        loop {
            polls.tick().await;
            if let Some(at) = joined.iter().position(|one| one.standing().borrow().leads) {
                return at;
            }
        }
    };
    timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("nobody leads"))
}

/// Until this is so.
pub async fn stands(one: &Joined, what: &str, is_so: impl Fn(&Standing) -> bool) {
    let mut standing = one.standing();
    let waited = timeout(PATIENCE, standing.wait_for(|standing| is_so(standing))).await;
    assert!(waited.is_ok_and(|waited| waited.is_ok()), "{what}: {:?}", one.standing().borrow());
}

/// Until its state has these notes.
pub async fn notes(one: &Joined, expected: &[String]) {
    let mut state = one.state();
    let waited = timeout(PATIENCE, state.wait_for(|state| state.last == expected)).await;
    assert!(waited.is_ok_and(|waited| waited.is_ok()), "{:?} are not {expected:?}", one.state().borrow());
}

/// Proposes it, again where it is not known whether it was agreed: then it may be there twice.
pub async fn note(one: &Joined, text: &str) -> usize {
    let proposed = async {
        loop {
            match one.propose(text.to_owned()).await {
                Ok(answer) => return answer,
                Err(NotAgreed::Stopped) => panic!("stopped"),
                Err(error) => eprintln!("{text}: {error}"),
            }
        }
    };
    timeout(PATIENCE, proposed).await.unwrap_or_else(|_| panic!("{text} was not agreed on in time"))
}

/// Until all of them see another one lead; asks again where nobody led just then, or the old one was elected again.
pub async fn hand_over(joined: &[Joined], from: usize) {
    let name = format!("n{}", from + 1);
    let is_done =
        |one: &Joined| one.standing().borrow().leader.as_ref().is_some_and(|leader| **leader != *name);
    let mut polls = tokio::time::interval(Duration::from_millis(50));
    let handed_over = async {
        while !joined.iter().all(is_done) {
            polls.tick().await;
            if let Err(error) = joined[from].hand_over().await {
                eprintln!("{name}: {error}");
            }
        }
    };
    timeout(PATIENCE, handed_over).await.unwrap_or_else(|_| panic!("{name} still leads"));
}
