//! What is known here of the cluster's keys, and what follows from it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use segue_wire::PeerName;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};

use super::{
    keys::{Key, Keys},
    messages::{Event, EventKind, KeyValue},
};
use crate::{
    cluster::{Machine, MemberStanding, Standing, Word, raft::Metrics},
    config::Etcd,
    seldom::Seldom,
};

pub(super) struct View<M> {
    own: PeerName,
    /// All sidecars, the own one too.
    members: Vec<PeerName>,
    keys: Keys,
    known: Mutex<Known<M>>,
    state: watch::Sender<Arc<M>>,
    standing: watch::Sender<Arc<Standing>>,
    /// Nobody leads any more.
    pub vacant: Notify,
    /// The own lease is another, or lasts longer.
    lease_changed: Notify,
    metrics: Metrics,
    seldom: Seldom,
}

struct Known<M> {
    base: Base<M>,
    /// The revision of etcd as of which the state is known.
    state_as_of: i64,
    nodes: BTreeMap<PeerName, Node>,
    leader: Option<Leader>,
    leader_as_of: i64,
    /// The own one.
    lease: Option<Lease>,
    /// Changes come as they happen.
    is_followed: bool,
    own_word: Option<(Bytes, Instant)>,
}

/// A state, and what etcd has of it.
#[derive(Clone)]
pub(super) struct Base<M> {
    pub state: Arc<M>,
    /// As it is written there; empty where nothing is.
    pub written: Bytes,
    /// 0: nothing is written there.
    pub mod_revision: i64,
}

struct Node {
    /// 0: it is gone.
    lease: i64,
    mod_revision: i64,
    said: Bytes,
    heard: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leader {
    pub name: PeerName,
    pub lease: i64,
    pub mod_revision: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub id: i64,
    /// It is there until then, whatever happens meanwhile.
    pub until: Instant,
}

/// A state in etcd that this sidecar can't read: it is not to be written over.
#[derive(Debug, thiserror::Error)]
#[error(
    "the state at {key} (revision {mod_revision}) can't be read: {error}; was it written by a newer sidecar?"
)]
pub(super) struct Unreadable {
    key: String,
    mod_revision: i64,
    error: serde_json::Error,
}

impl<M: Machine> View<M> {
    pub fn new(own: PeerName, settings: &Etcd, metrics: Metrics) -> Self {
        let base = Base { state: Arc::new(M::default()), written: Bytes::new(), mod_revision: 0 };
        let known = Known {
            base: base.clone(),
            state_as_of: 0,
            nodes: BTreeMap::new(),
            leader: None,
            leader_as_of: 0,
            lease: None,
            is_followed: false,
            own_word: None,
        };
        let view = Self {
            own,
            members: settings.members.clone(),
            keys: Keys::new(settings),
            known: Mutex::new(known),
            state: watch::Sender::new(base.state),
            standing: watch::Sender::default(),
            vacant: Notify::new(),
            lease_changed: Notify::new(),
            metrics,
            seldom: Seldom::default(),
        };
        view.publish(&view.known());
        view
    }

    pub const fn keys(&self) -> &Keys {
        &self.keys
    }

    pub fn state(&self) -> watch::Receiver<Arc<M>> {
        self.state.subscribe()
    }

    pub fn standing(&self) -> watch::Receiver<Arc<Standing>> {
        self.standing.subscribe()
    }

    pub fn base(&self) -> Base<M> {
        self.known().base.clone()
    }

    pub fn leader(&self) -> Option<Leader> {
        self.known().leader.clone()
    }

    pub fn leads(&self) -> bool {
        self.standing.borrow().leads
    }

    /// Who could lead instead, the last heard first: each with its lease.
    pub fn others(&self) -> Vec<(PeerName, i64)> {
        let known = self.known();
        let others = known.nodes.iter().filter(|(name, node)| **name != self.own && node.lease != 0);
        let mut others: Vec<_> = others.map(|(name, node)| (name.clone(), node.lease, node.heard)).collect();
        others.sort_by_key(|(_, _, heard)| std::cmp::Reverse(*heard));
        others.into_iter().map(|(name, lease, _)| (name, lease)).collect()
    }

    pub fn say(&self, word: &Bytes) {
        self.known().own_word = Some((word.clone(), Instant::now()));
    }

    pub fn words(&self) -> Vec<Word> {
        let known = self.known();
        let others = known.nodes.iter().filter(|(name, node)| **name != self.own && !node.said.is_empty());
        let others = others.map(|(name, node)| (name, &node.said, node.heard));
        let own = known.own_word.iter().map(|(said, heard)| (&self.own, said, *heard));
        let word = |(node, said, heard): (&PeerName, &Bytes, Instant)| Word {
            node: node.clone(),
            said: said.clone(),
            age: heard.elapsed(),
        };
        own.chain(others).map(word).collect()
    }

    /// All keys as they were at this revision; what is not among them is not there.
    pub fn learned_all(&self, revision: i64, all: Vec<KeyValue>) -> Result<(), Unreadable> {
        let mut known = self.known();
        let (mut state, mut leader) = (None, None);
        let mut gone: Vec<PeerName> = known.nodes.keys().cloned().collect();
        for kv in all {
            let key = kv.key.clone();
            match self.keys.key(&key) {
                Some(Key::State) => state = Some(kv),
                Some(Key::Leader) => leader = Some(kv),
                Some(Key::Node(name)) => {
                    gone.retain(|known| **known != *name);
                    self.node_said(&mut known, name, kv);
                }
                None => {}
            }
        }
        for name in gone {
            known.nodes.entry(name).and_modify(|node| node.lease = 0);
        }
        known.is_followed = true;
        self.set_leader(&mut known, revision, leader);
        let learned = self.set_state(&mut known, revision, state);
        self.publish(&known);
        learned
    }

    pub fn happened(&self, event: Event) -> Result<(), Unreadable> {
        let Event { kind, kv } = event;
        let (key, revision) = (kv.key.clone(), kv.mod_revision.0);
        let mut known = self.known();
        let is_put = kind == EventKind::Put;
        let mut learned = Ok(());
        match self.keys.key(&key) {
            Some(Key::State) => learned = self.set_state(&mut known, revision, is_put.then_some(kv)),
            Some(Key::Leader) => self.set_leader(&mut known, revision, is_put.then_some(kv)),
            Some(Key::Node(name)) if is_put => self.node_said(&mut known, name, kv),
            Some(Key::Node(name)) => {
                if let Some(node) = known.nodes.get_mut(name) {
                    node.lease = 0;
                }
            }
            None => {}
        }
        self.publish(&known);
        learned
    }

    /// The state as it was at this revision.
    pub fn learned_state(&self, revision: i64, written: Option<KeyValue>) -> Result<Base<M>, Unreadable> {
        let mut known = self.known();
        self.set_state(&mut known, revision, written)?;
        Ok(known.base.clone())
    }

    /// The own entry made it so.
    pub fn made(&self, base: Base<M>) {
        let mut known = self.known();
        if base.mod_revision > known.state_as_of {
            known.state_as_of = base.mod_revision;
            self.state.send_replace(base.state.clone());
            known.base = base;
        }
    }

    pub fn learned_leader(&self, revision: i64, written: Option<KeyValue>) {
        let mut known = self.known();
        self.set_leader(&mut known, revision, written);
        self.publish(&known);
    }

    /// Until it is followed again, it is not known who is there.
    pub fn lost_sight(&self) {
        let mut known = self.known();
        known.is_followed = false;
        self.publish(&known);
    }

    pub fn lease(&self) -> Option<Lease> {
        self.known().lease
    }

    pub fn set_lease(&self, lease: Option<Lease>) {
        let mut known = self.known();
        known.lease = lease;
        self.publish(&known);
        self.lease_changed.notify_one();
    }

    /// Ends the own leading with the lease, also while nothing is heard of etcd.
    pub async fn lapse(&self) {
        loop {
            let changed = self.lease_changed.notified();
            match self.lease() {
                Some(lease) if lease.until > Instant::now() => {
                    tokio::select! {
                        () = sleep_until(lease.until) => self.publish(&self.known()),
                        () = changed => {}
                    }
                }
                _ => changed.await,
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known<M>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_state(
        &self,
        known: &mut Known<M>,
        revision: i64,
        written: Option<KeyValue>,
    ) -> Result<(), Unreadable> {
        if revision < known.state_as_of {
            return Ok(());
        }
        let mod_revision = written.as_ref().map_or(0, |kv| kv.mod_revision.0);
        if mod_revision != known.base.mod_revision {
            let base = match written {
                Some(kv) => self.read(mod_revision, kv.value.0)?,
                None => {
                    tracing::error!(key = self.keys.state_name(), "the state was deleted from etcd");
                    Base { state: Arc::new(M::default()), written: Bytes::new(), mod_revision }
                }
            };
            self.state.send_replace(base.state.clone());
            known.base = base;
        }
        known.state_as_of = revision;
        Ok(())
    }

    fn read(&self, mod_revision: i64, written: Bytes) -> Result<Base<M>, Unreadable> {
        match serde_json::from_slice(&written) {
            Ok(state) => Ok(Base { state: Arc::new(state), written, mod_revision }),
            Err(error) => Err(Unreadable { key: self.keys.state_name().to_owned(), mod_revision, error }),
        }
    }

    fn set_leader(&self, known: &mut Known<M>, revision: i64, written: Option<KeyValue>) {
        if revision < known.leader_as_of {
            return;
        }
        known.leader_as_of = revision;
        let leader = written.map(|kv| Leader {
            name: String::from_utf8_lossy(&kv.value.0).into(),
            lease: kv.lease.0,
            mod_revision: kv.mod_revision.0,
        });
        if leader == known.leader {
            return;
        }
        if let Some(leader) = &leader {
            self.metrics.leader_changes.inc();
            tracing::info!(leader = &*leader.name, "the sidecars have another leader");
        }
        known.leader = leader;
    }

    fn node_said(&self, known: &mut Known<M>, name: &str, kv: KeyValue) {
        let Some(name) = self.members.iter().find(|member| ***member == *name) else {
            if self.seldom.is_due(name, std::time::Instant::now()).is_some() {
                tracing::warn!(node = name, "a sidecar that is no [[peer]] here uses this cluster's keys");
            }
            return;
        };
        let (lease, mod_revision) = (kv.lease.0, kv.mod_revision.0);
        match known.nodes.get_mut(name) {
            Some(node) if node.mod_revision >= mod_revision => {}
            _ => {
                let node = Node { lease, mod_revision, said: kv.value.0, heard: Instant::now() };
                known.nodes.insert(name.clone(), node);
            }
        }
    }

    fn publish(&self, known: &Known<M>) {
        let leads = match (&known.leader, &known.lease) {
            (Some(leader), Some(lease)) => {
                *leader.name == *self.own && leader.lease == lease.id && lease.until > Instant::now()
            }
            _ => false,
        };
        let reachable =
            |name: &PeerName| known.is_followed && known.nodes.get(name).is_some_and(|node| node.lease != 0);
        let members = self.members.iter().map(|name| MemberStanding {
            name: name.clone(),
            // Only the members of etcd do.
            votes: false,
            reachable: reachable(name),
        });
        let standing = Standing {
            backend: "etcd",
            leads,
            // Whose lease may be over does not lead.
            leader: known
                .leader
                .as_ref()
                .map(|leader| leader.name.clone())
                .filter(|name| leads || *name != self.own),
            members: members.collect(),
            failed: None,
        };
        self.metrics.member.set(known.is_followed.into());
        self.metrics.leader.set(leads.into());
        for is_reachable in [true, false] {
            let count = standing.members.iter().filter(|member| member.reachable == is_reachable).count();
            let label = if is_reachable { "true" } else { "false" };
            self.metrics.members.with_label_values(&[label]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        if known.leader.is_none() && known.is_followed {
            self.vacant.notify_one();
        }
        self.standing.send_if_modified(|last| {
            let is_new = **last != standing;
            if is_new {
                *last = Arc::new(standing);
            }
            is_new
        });
    }
}
