//! The keys in use, which follow their files.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwapOption;
use prometheus::IntCounterVec;

use super::keys::{Keys, Stamps};

/// A handshake looks whether the files have changed, unless another did so this short a time before.
const LOOK_PERIOD: Duration = Duration::from_secs(5);

/// The keys of the config, or newer ones from the same files.
pub struct Current {
    pub(super) keys: ArcSwapOption<Keys>,
    look: Mutex<Look>,
    /// By outcome.
    renewals: IntCounterVec,
}

struct Look {
    at: Instant,
    /// The state of the files that could not be used: said once.
    refused: Option<Stamps>,
}

impl Current {
    #[must_use]
    pub fn new(keys: Option<Keys>, renewals: IntCounterVec) -> Self {
        let look = Mutex::new(Look { at: Instant::now(), refused: None });
        Self { keys: ArcSwapOption::new(keys.map(Arc::new)), look, renewals }
    }

    /// Takes those of another config.
    pub fn replace(&self, keys: Option<Keys>) {
        *self.look() = Look { at: Instant::now(), refused: None };
        self.keys.store(keys.map(Arc::new));
    }

    /// For the next handshake. `None` where the config has no `[tls]`.
    pub async fn keys(self: &Arc<Self>) -> Option<Arc<Keys>> {
        let keys = self.keys.load_full()?;
        if !self.is_due(Instant::now()) {
            return Some(keys);
        }
        let current = self.clone();
        // A task that fails has changed nothing.
        let _ = tokio::task::spawn_blocking(move || current.follow_files(&keys)).await;
        self.keys.load_full()
    }

    /// As they are, without a look at the files.
    pub fn in_use(&self) -> Option<Arc<Keys>> {
        self.keys.load_full()
    }

    fn is_due(&self, now: Instant) -> bool {
        let mut look = self.look();
        let is_due = now.saturating_duration_since(look.at) >= LOOK_PERIOD;
        if is_due {
            look.at = now;
        }
        is_due
    }

    /// Between two writes of a renewal the files do not fit each other: then the old keys stay, until they do.
    pub(super) fn follow_files(&self, keys: &Arc<Keys>) {
        let stamps = keys.settings().files.stamps();
        if stamps == *keys.stamps() || self.look().refused == Some(stamps) {
            return;
        }
        match Keys::read(keys.settings().clone()) {
            Ok(newer) => {
                for (key, validity) in newer.validities() {
                    if let Some(fault) = validity.fault(SystemTime::now()) {
                        tracing::warn!(key, fault, "a renewed certificate is out of its time");
                    }
                }
                // Those of another config, if one came meanwhile, stay.
                self.keys.compare_and_swap(keys, Some(Arc::new(newer)));
                self.look().refused = None;
                self.renewals.with_label_values(&["loaded"]).inc();
                tracing::info!("certificates renewed: their files have changed");
            }
            Err(error) => {
                self.look().refused = Some(stamps);
                self.renewals.with_label_values(&["refused"]).inc();
                tracing::error!(%error, "the certificates stay as they were: the changed files can't be used");
            }
        }
    }

    fn look(&self) -> MutexGuard<'_, Look> {
        self.look.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
