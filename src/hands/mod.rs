//! What the sidecar does for the upgrade of the whole cluster, on its own node and while it leads.
//!
//! | module | holds |
//! |---|---|
//! | here | [`Hands`]: what it all stands on, and its beginning and end |
//! | `executor` | what is pending for this node: claimed, performed, reported |
//! | `perform`, `master`, `preflight`, `gates`, `finalize` | how each of it is done |
//! | `shut` | what keeps a gate shut |
//! | [`losses`] | what was left out since the transaction began |
//! | [`hooks`] | the operator's commands |
//! | `word`, `own` | what a sidecar says of itself each second, and how it finds out |
//! | `leader`, `picture` | what the leader makes of the words |
//! | `follow`, `given` | the own store follows the agreed master, also where it gave the role away itself |
//! | `apply` | what is agreed on becomes so in the relay |
//! | `desk` | what an operator's commands reach |
//!
//! Nothing is done that was not agreed on first, and all of it can be done again: a sidecar that starts finds
//! what is pending in the agreed state.

mod apply;
mod desk;
mod executor;
mod finalize;
mod follow;
mod gates;
mod given;
pub mod hooks;
mod leader;
pub mod losses;
mod master;
mod metrics;
mod own;
mod perform;
mod picture;
mod preflight;
mod shut;
mod word;

use std::{
    ffi::OsString,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use segue_wire::{PeerName, Release};
use tokio::{
    sync::{Mutex, Notify, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::{Agreement, NotAgreed},
    config::{Config, StoreAddress},
    relay::Shared,
    seldom::Seldom,
    stores::driver::{Driver, Seen},
    upgrade::{
        action::Moment,
        state::{Answer, Entry, State},
    },
};
use finalize::Turned;
use given::Given;
use losses::Losses;
pub use metrics::Metrics;
use word::Word;

/// How often a sidecar looks at its store and at what is agreed.
const PERIOD: Duration = Duration::from_secs(1);

/// What the hands stand on.
pub struct Settings {
    pub shared: Arc<Shared>,
    pub agreement: Arc<dyn Agreement<State>>,
    /// `None` of a witness.
    pub driver: Option<Arc<dyn Driver>>,
    /// Where hooks' programs are looked for: `PATH`.
    pub search_path: Option<OsString>,
    pub losses: Arc<Losses>,
    pub metrics: Metrics,
}

pub struct Hands {
    node: PeerName,
    shared: Arc<Shared>,
    agreement: Arc<dyn Agreement<State>>,
    driver: Option<Arc<dyn Driver>>,
    search_path: Option<OsString>,
    losses: Arc<Losses>,
    turned: Mutex<Turned>,
    given: Given,
    metrics: Metrics,
    /// What this node last said.
    own: watch::Sender<Option<Arc<Word>>>,
    following: Mutex<()>,
    /// The own store is to be looked at now.
    look: Notify,
    /// The agreed state that is known here is no older than the start of this process.
    is_current: AtomicBool,
    /// The own store was found to be a master beside the agreed one.
    second_master: AtomicBool,
    seldom: Seldom,
}

impl Hands {
    #[must_use]
    pub fn new(settings: Settings) -> Arc<Self> {
        let Settings { shared, agreement, driver, search_path, losses, metrics } = settings;
        let config = shared.config();
        Arc::new(Self {
            node: config.node.id.clone(),
            losses,
            turned: Mutex::default(),
            given: Given::open(&config.state.dir),
            metrics,
            shared,
            agreement,
            driver,
            search_path,
            own: watch::Sender::new(None),
            following: Mutex::default(),
            look: Notify::new(),
            is_current: AtomicBool::new(false),
            second_master: AtomicBool::new(false),
            seldom: Seldom::default(),
        })
    }

    /// Works until `stop`. A hook that runs then is ended, and run again by the next process.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        tasks.spawn(until(stop.clone(), own::run(self.clone())));
        tasks.spawn(until(stop.clone(), own::watch(self.clone())));
        tasks.spawn(until(stop.clone(), own::register(self.clone())));
        tasks.spawn(until(stop.clone(), leader::run(self.clone())));
        tasks.spawn(until(stop.clone(), apply::run(self.clone())));
        tasks.spawn(until(stop, executor::run(self.clone())));
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task of the upgrade ended badly");
            }
        }
        // The last look may have been a while ago.
        self.count_losses(&self.state());
    }

    fn config(&self) -> Arc<Config> {
        self.shared.config()
    }

    fn state(&self) -> Arc<State> {
        self.agreement.state().borrow().clone()
    }

    fn lag_bytes_max(&self) -> u64 {
        self.config().upgrade.as_ref().map_or(u64::MAX, |upgrade| upgrade.lag_bytes_max)
    }

    async fn propose(&self, entry: Entry) -> Result<Answer, NotAgreed> {
        let proposed = self.agreement.propose(entry).await;
        if let Err(error) = &proposed
            && let Some(unsaid) = self.due("not agreed")
        {
            tracing::warn!(%error, unsaid, "the sidecars did not agree; trying again");
        }
        proposed
    }

    /// The state that is known here is as new as this process at least.
    fn is_current(&self) -> bool {
        self.is_current.load(Relaxed)
    }

    /// Is it time to say this kind of thing again? Then how often it was left unsaid.
    fn due(&self, kind: &str) -> Option<u64> {
        self.seldom.is_due(kind, std::time::Instant::now())
    }

    /// The release that a store says it is.
    fn release_of(&self, seen: &Seen) -> Option<Release> {
        let recognized = self.shared.protocol().recognize(&seen.store, &seen.version);
        recognized.or_else(|| format!("{}-{}", seen.store, seen.version).parse().ok())
    }

    /// Where this node's sidecar reaches the store of a peer.
    fn store_of(&self, node: &PeerName) -> Option<StoreAddress> {
        self.config().peer(node).map(|peer| peer.store.clone())
    }

    /// Where this node's store reaches the store of a peer.
    fn dial(&self, node: &PeerName) -> Option<StoreAddress> {
        self.config().dial(node)
    }
}

/// Whether a release is the one meant: a name without a patch means all patches.
fn is_release(release: &Release, meant: &Release) -> bool {
    release == meant || release.short() == *meant || *release == meant.short()
}

fn now() -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Moment(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

async fn until(stop: CancellationToken, work: impl Future<Output = ()>) {
    stop.run_until_cancelled(work).await;
}
