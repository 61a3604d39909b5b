//! The translation's settings while the sidecar runs: what they are, who changed them, what a change
//! would break.

use std::{
    collections::VecDeque,
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use segue_wire::{LossPolicy, Mode, Protocol};

use super::spoken::{Kept, Spoken};
use crate::{
    config,
    status::{CHANGES_KEPT_MAX, TranslationChange, TranslationChanged, TranslationStatus},
};

/// The audit file is renamed to `….1` beyond this size, over the one before.
const AUDIT_BYTES_MAX: u64 = 1 << 20;
const AUDIT_FILE: &str = "translation-changes.jsonl";

#[derive(Debug)]
pub struct Translation {
    inner: Mutex<Inner>,
    kept: Kept,
    audit: PathBuf,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    /// While an upgrade runs.
    spoken: Option<Spoken>,
    /// Newest first.
    changes: VecDeque<TranslationChanged>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub mode: Mode,
    pub loss: LossPolicy,
}

impl Settings {
    /// These settings with the change made; `Err` names what the change should have been.
    pub fn with(&self, change: &TranslationChange, protocol: &dyn Protocol) -> Result<Self, String> {
        let mut settings = self.clone();
        if let Some(mode) = &change.mode {
            settings.mode = parse_mode(mode, protocol)?;
        }
        if let Some(loss) = &change.loss {
            settings.loss = LossPolicy::named(loss)
                .ok_or_else(|| format!("loss = \"{loss}\": expected \"refuse\" or \"degrade\""))?;
        }
        Ok(settings)
    }
}

/// A pin must be a release that the protocol knows.
fn parse_mode(mode: &str, protocol: &dyn Protocol) -> Result<Mode, String> {
    let known = protocol.releases();
    match mode.parse() {
        Ok(Mode::Pin(release)) if !known.contains(&release.short()) => None,
        parsed => parsed.ok(),
    }
    .ok_or_else(|| {
        let names: Vec<_> = known.iter().map(ToString::to_string).collect();
        format!("mode = \"{mode}\": expected \"auto\", \"off\" or one of {}", names.join(", "))
    })
}

impl Translation {
    /// # Errors
    /// What an upgrade had spoken can't be read.
    pub fn new(configured: &config::Translation, state_dir: &Path) -> io::Result<Self> {
        let settings = Settings { mode: configured.mode.clone(), loss: configured.loss };
        let (kept, spoken) = Kept::open(state_dir)?;
        if let Some(Spoken { release, who }) = &spoken {
            tracing::info!(%release, who, "links are held to what the last sidecar spoke");
        }
        Ok(Self {
            inner: Mutex::new(Inner { settings, spoken, changes: VecDeque::new() }),
            kept,
            audit: state_dir.join(AUDIT_FILE),
        })
    }

    /// As an operator set them.
    pub fn settings(&self) -> Settings {
        self.lock().settings.clone()
    }

    /// As links are opened: an operator's own mode outranks an upgrade's release.
    pub fn in_force(&self) -> Settings {
        let Inner { settings, spoken, .. } = &*self.lock();
        match (&settings.mode, spoken) {
            (Mode::Auto, Some(spoken)) => {
                Settings { mode: Mode::Upgrade(spoken.release.clone()), loss: settings.loss }
            }
            _ => settings.clone(),
        }
    }

    pub fn status(&self) -> TranslationStatus {
        let inner = self.lock();
        TranslationStatus {
            mode: inner.settings.mode.to_string(),
            loss: inner.settings.loss.label().to_owned(),
            spoken: inner.spoken.as_ref().map(|spoken| spoken.status(&inner.settings.mode)),
            changes: inner.changes.iter().cloned().collect(),
        }
    }

    /// Makes the change, and writes down who made it.
    pub fn set(&self, settings: Settings, changed: TranslationChanged) {
        tracing::info!(
            mode = changed.mode,
            loss = changed.loss,
            who = changed.who,
            reason = changed.reason,
            forced = changed.forced,
            "translation changed"
        );
        let mut inner = self.lock();
        self.record(&mut inner, changed);
        inner.settings = settings;
    }

    /// Outlives the process from here on.
    ///
    /// # Errors
    /// The system's own; the next call tries again.
    pub fn keep(&self, spoken: Option<&Spoken>) -> io::Result<()> {
        self.kept.keep(spoken)
    }

    /// Has links speak this, and writes down who wants it. False if they do already.
    pub fn speak(&self, spoken: Option<Spoken>, who: &str, at_unix_s: u64) -> bool {
        let mut inner = self.lock();
        if inner.spoken == spoken {
            return false;
        }
        let reason = match (&spoken, &inner.spoken) {
            (Some(spoken), _) => format!("links are held to {}", spoken.release),
            (None, Some(before)) => format!("links are held to {} no more", before.release),
            (None, None) => return false,
        };
        tracing::info!(who, reason, mode = %inner.settings.mode, "translation changed");
        let changed = TranslationChanged {
            at_unix_s,
            who: who.to_owned(),
            reason: Some(reason),
            forced: false,
            mode: inner.settings.mode.to_string(),
            loss: inner.settings.loss.label().to_owned(),
        };
        self.record(&mut inner, changed);
        inner.spoken = spoken;
        true
    }

    fn record(&self, inner: &mut Inner, changed: TranslationChanged) {
        if let Err(error) = self.write_down(&changed) {
            tracing::error!(file = %self.audit.display(), %error, "the change could not be written down");
        }
        inner.changes.truncate(CHANGES_KEPT_MAX.saturating_sub(1));
        inner.changes.push_front(changed);
    }

    fn write_down(&self, changed: &TranslationChanged) -> io::Result<()> {
        if fs::metadata(&self.audit).is_ok_and(|file| file.len() > AUDIT_BYTES_MAX) {
            fs::rename(&self.audit, self.audit.with_extension("jsonl.1"))?;
        }
        let mut line = serde_json::to_string(changed)?;
        line.push('\n');
        fs::OpenOptions::new().create(true).append(true).open(&self.audit)?.write_all(line.as_bytes())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use segue_redis::Redis;
    use segue_wire::SecondConnection;

    use super::*;

    fn settings() -> Settings {
        Settings { mode: Mode::Auto, loss: LossPolicy::Refuse }
    }

    fn configured(loss: LossPolicy) -> config::Translation {
        config::Translation { mode: Mode::Auto, loss, second_connection: SecondConnection::Strip }
    }

    fn change(mode: Option<&str>, loss: Option<&str>) -> TranslationChange {
        TranslationChange {
            mode: mode.map(str::to_owned),
            loss: loss.map(str::to_owned),
            ..TranslationChange::default()
        }
    }

    #[test]
    fn what_is_absent_stays() {
        let off = settings().with(&change(Some("off"), None), &Redis).unwrap();
        assert_eq!(off, Settings { mode: Mode::Off, loss: LossPolicy::Refuse });
        let degrade = off.with(&change(None, Some("degrade")), &Redis).unwrap();
        assert_eq!(degrade, Settings { mode: Mode::Off, loss: LossPolicy::Degrade });
    }

    #[test]
    fn a_wrong_value_says_what_was_expected() {
        let mode = settings().with(&change(Some("redis-4.0"), None), &Redis).unwrap_err();
        assert!(
            mode.starts_with("mode = \"redis-4.0\": expected \"auto\", \"off\" or one of redis-5.0,"),
            "{mode}"
        );
        let loss = settings().with(&change(None, Some("drop")), &Redis).unwrap_err();
        assert_eq!(loss, "loss = \"drop\": expected \"refuse\" or \"degrade\"");
    }

    #[test]
    fn every_change_is_kept_and_written_down() {
        let dir = tempfile::tempdir().unwrap();
        let translation = Translation::new(&configured(LossPolicy::Refuse), dir.path()).unwrap();
        let changed = TranslationChanged {
            at_unix_s: 7,
            who: "ann".into(),
            reason: Some("drill".into()),
            forced: false,
            mode: "off".into(),
            loss: "refuse".into(),
        };
        translation.set(Settings { mode: Mode::Off, loss: LossPolicy::Refuse }, changed.clone());
        assert_eq!(translation.status().changes, std::slice::from_ref(&changed));
        let line = fs::read_to_string(dir.path().join(AUDIT_FILE)).unwrap();
        assert_eq!(serde_json::from_str::<TranslationChanged>(&line).unwrap(), changed);
    }

    #[test]
    fn an_operators_mode_outranks_what_an_upgrade_has_spoken() {
        let dir = tempfile::tempdir().unwrap();
        let translation = Translation::new(&configured(LossPolicy::Degrade), dir.path()).unwrap();
        let old: Spoken =
            Spoken { release: "redis-6.0".parse().unwrap(), who: "upgrade transaction 3".into() };
        assert!(translation.speak(Some(old.clone()), &old.who, 7));
        assert!(!translation.speak(Some(old.clone()), &old.who, 8), "it is said every second");
        let held = Settings { mode: Mode::Upgrade(old.release.clone()), loss: LossPolicy::Degrade };
        assert_eq!(translation.in_force(), held);
        assert_eq!(translation.status().mode, "auto");
        assert!(translation.status().spoken.unwrap().in_force);

        let off = Settings { mode: Mode::Off, loss: LossPolicy::Degrade };
        translation.set(off.clone(), translation.status().changes[0].clone());
        assert_eq!(translation.in_force(), off);
        assert!(!translation.status().spoken.unwrap().in_force);

        assert!(translation.speak(None, "upgrade transaction 3", 9));
        assert_eq!(translation.status().spoken, None);
        let reasons: Vec<_> = translation.status().changes.into_iter().map(|change| change.reason).collect();
        let [taken_back, _, held] = &reasons[..] else { panic!("{reasons:?}") };
        assert_eq!(taken_back.as_deref(), Some("links are held to redis-6.0 no more"));
        assert_eq!(held.as_deref(), Some("links are held to redis-6.0"));
    }
}
