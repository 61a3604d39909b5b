//! The running sidecar, as the admin API and the signals see it.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;
use prometheus::proto::MetricFamily;

use super::SetLogLevel;
use crate::{
    admin::{self, ChangeRefused, ChangeRefusedKind, NoDesk, UpgradeMetrics},
    cluster::raft,
    config::{Config, KnownProtocol},
    hands::{self, losses::Losses},
    registry,
    relay::{ChangeError, Shared},
    status::{ConfigStatus, LossesStatus, Status, TranslationChange, TranslationStatus},
    upgrade::desk::UpgradeDesk,
};

pub struct Running {
    pub shared: Arc<Shared>,
    pub accepting: AtomicBool,
    pub config_file: PathBuf,
    pub set_log_level: SetLogLevel,
    /// One reload at a time: they come from a signal and from the admin API.
    pub reloading: Mutex<()>,
    pub part: ArcSwap<Part>,
    /// Of upgrades, once this process counts them.
    pub losses: OnceLock<Arc<Losses>>,
    pub upgrade_metrics: UpgradeMetrics,
    pub mesh_metrics: Option<raft::Metrics>,
    pub hands_metrics: Option<hands::Metrics>,
}

/// What this sidecar has to do with the others.
pub enum Part {
    NoMesh,
    /// It has a mesh, and takes no part in it yet; why not, once that is known.
    None(String),
    /// Or took part, until it takes part again.
    Takes(Arc<dyn UpgradeDesk>),
}

impl Running {
    pub fn take_part(&self, desk: Arc<dyn UpgradeDesk>) {
        self.part.store(Arc::new(Part::Takes(desk)));
    }

    /// What it knew when it took part is kept.
    pub fn takes_no_part(&self, why: String) {
        if let Part::None(_) = **self.part.load() {
            self.part.store(Arc::new(Part::None(why)));
        }
    }

    /// Reads the config file again and takes over what has changed: all of it or nothing.
    ///
    /// # Errors
    /// Why not; status and metric say it too.
    pub fn reload(&self) -> Result<ConfigStatus, ChangeRefused> {
        let _one = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = self.take_over_file();
        let recorded = self.shared.record_reload(outcome.clone().map_err(|refused| refused.message));
        match (&recorded, &outcome) {
            (Ok(_), _) => tracing::info!(file = %self.config_file.display(), "config reloaded"),
            (Err(error), _) => tracing::error!(error, "the config stays as it was"),
        }
        recorded.map_err(|message| ChangeRefused {
            kind: outcome.err().map_or(ChangeRefusedKind::Invalid, |refused| refused.kind),
            message,
        })
    }

    fn take_over_file(&self) -> Result<(), ChangeRefused> {
        let refused = |kind, message| ChangeRefused { kind, message };
        if !self.accepting.load(Relaxed) {
            return Err(refused(ChangeRefusedKind::WouldBreak, "draining".to_owned()));
        }
        let protocols = registry::protocols();
        let known: Vec<KnownProtocol<'_>> = protocols.iter().map(|protocol| (&**protocol).into()).collect();
        let config = Config::load(&self.config_file, &known)
            .map_err(|error| refused(ChangeRefusedKind::Invalid, error.to_string()))?;
        let level = config.log.level;
        self.shared
            .reload(config)
            .map_err(|error| refused(ChangeRefusedKind::WouldBreak, error.to_string()))?;
        (self.set_log_level)(level);
        Ok(())
    }
}

impl admin::Sidecar for Running {
    fn status(&self) -> Status {
        self.shared.status()
    }

    fn losses(&self) -> LossesStatus {
        self.shared.losses()
    }

    fn translation(&self) -> TranslationStatus {
        self.shared.translation()
    }

    fn set_translation(&self, change: TranslationChange) -> Result<TranslationStatus, ChangeRefused> {
        let is_auto = change.mode.as_deref() == Some("auto");
        let who = change.who.clone().unwrap_or_default();
        let changed = self.shared.set_translation(change).map_err(|error| match error {
            ChangeError::Invalid(message) => ChangeRefused { kind: ChangeRefusedKind::Invalid, message },
            ChangeError::WouldBreak(message) => {
                ChangeRefused { kind: ChangeRefusedKind::WouldBreak, message }
            }
        })?;
        if is_auto && changed.spoken.is_some_and(|spoken| spoken.orphaned) {
            self.shared.speak(None, &who);
        }
        Ok(self.shared.translation())
    }

    fn reload_config(&self) -> Result<ConfigStatus, ChangeRefused> {
        self.reload()
    }

    fn upgrade(&self) -> Result<Arc<dyn UpgradeDesk>, NoDesk> {
        match &**self.part.load() {
            Part::NoMesh => Err(NoDesk::NoMesh),
            Part::None(why) => Err(NoDesk::NoPart(why.clone())),
            Part::Takes(desk) => Ok(desk.clone()),
        }
    }

    fn ready(&self) -> Result<(), String> {
        if self.accepting.load(Relaxed) { Ok(()) } else { Err("draining".to_owned()) }
    }

    fn gather_metrics(&self) -> Vec<MetricFamily> {
        let mut metrics = self.shared.gather_metrics();
        metrics.extend(self.mesh_metrics.iter().flat_map(raft::Metrics::gather));
        metrics.extend(self.hands_metrics.iter().flat_map(hands::Metrics::gather));
        if let Part::Takes(desk) = &**self.part.load() {
            metrics.extend(self.upgrade_metrics.gather(&desk.node(), &desk.state()));
        }
        metrics
    }
}
