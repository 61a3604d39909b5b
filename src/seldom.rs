//! Log lines that could come in floods: each kind at most once a minute, with how many were left unsaid.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What was said is not said again for this long.
pub const PERIOD: Duration = Duration::from_secs(60);
/// Most kinds told apart at one time; beyond, all others are one kind.
const KINDS_MAX: usize = 256;
const OTHERS: &str = "others";

#[derive(Debug, Default)]
pub struct Seldom {
    kinds: Mutex<BTreeMap<String, Kind>>,
}

#[derive(Debug)]
struct Kind {
    said: Instant,
    unsaid: u64,
}

impl Seldom {
    /// Is a line of this kind to be said now? Then how many were left unsaid since the last one.
    pub fn is_due(&self, kind: &str, now: Instant) -> Option<u64> {
        let is_fresh = |kind: &Kind| now.saturating_duration_since(kind.said) < PERIOD;
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        if kinds.len() >= KINDS_MAX && !kinds.contains_key(kind) {
            kinds.retain(|_, kind| is_fresh(kind));
        }
        let name = if kinds.len() >= KINDS_MAX && !kinds.contains_key(kind) { OTHERS } else { kind };
        match kinds.get_mut(name) {
            Some(known) if is_fresh(known) => {
                known.unsaid = known.unsaid.saturating_add(1);
                None
            }
            Some(known) => {
                known.said = now;
                Some(std::mem::take(&mut known.unsaid))
            }
            None => {
                kinds.insert(name.to_owned(), Kind { said: now, unsaid: 0 });
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_said_once_a_minute_with_what_was_left_out() {
        let (seldom, start) = (Seldom::default(), Instant::now());
        let due = |kind, s| seldom.is_due(kind, start + Duration::from_secs(s));
        assert_eq!([due("a", 0), due("a", 1), due("b", 2), due("a", 59)], [Some(0), None, Some(0), None]);
        assert_eq!([due("a", 60), due("a", 61), due("b", 61)], [Some(2), None, None]);
        assert_eq!([due("b", 62), due("a", 120)], [Some(1), Some(1)]);
    }

    #[test]
    fn however_many_kinds_there_are_the_lines_are_bounded() {
        let (seldom, start) = (Seldom::default(), Instant::now());
        let said = |at| (0..10_000).filter(|n| seldom.is_due(&format!("{n}"), at).is_some()).count();
        assert_eq!((said(start), said(start)), (KINDS_MAX + 1, 0));
        assert_eq!(seldom.kinds.lock().unwrap().len(), KINDS_MAX + 1);
        // A minute later there is room for others.
        assert_eq!(seldom.is_due("new", start + PERIOD), Some(0));
        assert_eq!(seldom.kinds.lock().unwrap().len(), 1);
    }
}
