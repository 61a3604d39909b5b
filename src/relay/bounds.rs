//! The limits that all links share: how many there are, and how much they hold. What any limit stops is
//! counted by the limit's name in the config.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::config;

/// Of links that would hold more while all hold what they may, one goes on, and must come to an end within
/// this time.
pub const TURN_TIME_MAX: Duration = Duration::from_secs(10);

/// A limit of the relay's own; a session's are named by its fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    Links,
    UndecidedLinks,
    HeldBytesTotal,
    Pipes,
    OpenFiles,
    HandshakeTime,
    DialTime,
    TlsHandshakeTime,
    PairingTime,
}

impl Limit {
    pub const ALL: [Self; 9] = [
        Self::Links,
        Self::UndecidedLinks,
        Self::HeldBytesTotal,
        Self::Pipes,
        Self::OpenFiles,
        Self::HandshakeTime,
        Self::DialTime,
        Self::TlsHandshakeTime,
        Self::PairingTime,
    ];

    /// Its key in `[limits]`; a stable label, as in `segue_limit_hits_total{limit}`.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Links => "links_max",
            Self::UndecidedLinks => "undecided_links_max",
            Self::HeldBytesTotal => "held_bytes_total_max",
            Self::Pipes => "pipes_max",
            // The system's, and no key.
            Self::OpenFiles => "open_files",
            Self::HandshakeTime => "handshake_timeout_ms",
            Self::DialTime => "dial_timeout_ms",
            Self::TlsHandshakeTime => "tls_handshake_timeout_ms",
            Self::PairingTime => "pairing_timeout_ms",
        }
    }

    /// Why a link is refused at it; a stable label, as in `segue_refusals_total{reason}`.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Links => "links-max",
            Self::UndecidedLinks => "undecided-links-max",
            Self::HeldBytesTotal => "held-bytes-total-max",
            Self::Pipes => "pipes-max",
            Self::OpenFiles => "open-files",
            Self::HandshakeTime => "handshake-timeout",
            Self::DialTime => "dial-timeout",
            Self::TlsHandshakeTime => "tls-timeout",
            Self::PairingTime => "missing-connection",
        }
    }
}

#[derive(Debug)]
pub struct Bounds {
    pub open: Count,
    pub undecided: Count,
    pub held: Arc<Held>,
}

impl Bounds {
    pub fn new(limits: &config::Limits) -> Self {
        let held = Arc::new(Held::new(limits.held_bytes_total_max));
        Self { open: Count::default(), undecided: Count::default(), held }
    }
}

/// So many of something at one time.
#[derive(Debug, Default)]
pub struct Count {
    taken: AtomicUsize,
}

/// One of a [`Count`], given back when it is dropped.
#[derive(Debug)]
pub struct Place<'a> {
    of: &'a Count,
}

impl Count {
    /// None at the bound.
    pub fn take(&self, max: usize) -> Option<Place<'_>> {
        let more = |taken: usize| (taken < max).then(|| taken.saturating_add(1));
        self.taken.fetch_update(Relaxed, Relaxed, more).ok()?;
        Some(Place { of: self })
    }

    pub fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.of.taken.fetch_sub(1, Relaxed);
    }
}

/// The bytes that all links hold together.
#[derive(Debug)]
pub struct Held {
    bytes: AtomicUsize,
    bytes_max: AtomicUsize,
    has_turn: AtomicBool,
}

/// The right to hold more although all hold what they may.
#[derive(Debug)]
pub struct Turn {
    held: Arc<Held>,
    since: Instant,
}

impl Held {
    pub fn new(bytes_max: usize) -> Self {
        let (bytes, has_turn) = (AtomicUsize::new(0), AtomicBool::new(false));
        Self { bytes, bytes_max: AtomicUsize::new(bytes_max), has_turn }
    }

    pub fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    pub fn bytes_max(&self) -> usize {
        self.bytes_max.load(Relaxed)
    }

    pub fn set_bytes_max(&self, bytes_max: usize) {
        self.bytes_max.store(bytes_max, Relaxed);
    }

    pub fn is_full(&self) -> bool {
        self.bytes() >= self.bytes_max()
    }

    /// One that held `before` holds `after` now.
    pub fn change(&self, before: usize, after: usize) {
        if after > before {
            self.bytes.fetch_add(after - before, Relaxed);
        } else if after < before {
            self.bytes.fetch_sub(before - after, Relaxed);
        }
    }

    /// None while another has it.
    pub fn take_turn(self: &Arc<Self>) -> Option<Turn> {
        let free = !self.has_turn.swap(true, Relaxed);
        free.then(|| Turn { held: self.clone(), since: Instant::now() })
    }
}

impl Turn {
    pub fn is_over(&self) -> bool {
        self.since.elapsed() > TURN_TIME_MAX
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.held.has_turn.store(false, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_places_than_the_bound_are_given() {
        let count = Count::default();
        let places: Vec<_> = (0..3).map_while(|_| count.take(2)).collect();
        assert_eq!((places.len(), count.taken()), (2, 2));
        drop(places);
        assert_eq!(count.taken(), 0);
        assert!(count.take(0).is_none());
    }

    #[test]
    fn one_at_a_time_may_hold_more() {
        let held = Arc::new(Held::new(100));
        held.change(0, 60);
        assert!(!held.is_full());
        held.change(0, 40);
        assert!(held.is_full());
        let turn = held.take_turn().unwrap();
        assert!(held.take_turn().is_none());
        drop(turn);
        assert!(held.take_turn().is_some());
        held.change(60, 0);
        assert_eq!((held.bytes(), held.is_full()), (40, false));
    }
}
