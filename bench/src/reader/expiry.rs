//! When a key expires, as an absolute time.
//!
//! From 7.0 on a store says it (PEXPIRETIME). An older one only says how long the key has left (PTTL); its
//! own clock, read before and after, bounds the absolute time from both sides, as a rule to the millisecond.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use redis::{Value, cmd};

use super::pair::{Side, parse};

/// Added to both bounds: a store may take the time of a command from its cached clock.
const TOLERANCE_MS: i64 = 1;
/// Bounds wider than this are asked for again, at most [`TRIES_MAX`] times; the narrowest ones count.
const BOUNDS_WIDTH_MAX_MS: i64 = 1;
const TRIES_MAX: u32 = 10;

/// In milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    Never,
    /// As the store itself says it.
    Said(i64),
    Within {
        earliest: i64,
        latest: i64,
    },
}

impl Expiry {
    /// Whether both can be the same time.
    pub fn agrees(self, other: Self) -> bool {
        match (self, other) {
            (Self::Never, Self::Never) => true,
            (Self::Never, _) | (_, Self::Never) => false,
            (Self::Said(a), Self::Said(b)) => a == b,
            _ => {
                let ((a_from, a_to), (b_from, b_to)) = (self.bounds(), other.bounds());
                a_from <= b_to && b_from <= a_to
            }
        }
    }

    /// How much later this is than the other, as far as it is known; `None` where one never is.
    pub fn later_ms(self, other: Self) -> Option<i64> {
        if matches!(self, Self::Never) || matches!(other, Self::Never) {
            return None;
        }
        let ((from, to), (other_from, other_to)) = (self.bounds(), other.bounds());
        Some(if from > other_to {
            from.saturating_sub(other_to)
        } else {
            to.saturating_sub(other_from).min(0)
        })
    }

    /// Whether the time has come, by this machine's clock, which is also the stores'.
    pub fn is_past(self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        !matches!(self, Self::Never) && self.bounds().0 <= now
    }

    fn bounds(self) -> (i64, i64) {
        match self {
            Self::Never => (i64::MAX, i64::MAX),
            Self::Said(at) => (at, at),
            Self::Within { earliest, latest } => {
                (earliest.saturating_sub(TOLERANCE_MS), latest.saturating_add(TOLERANCE_MS))
            }
        }
    }

    fn width(self) -> i64 {
        match self {
            Self::Within { earliest, latest } => latest.saturating_sub(earliest),
            Self::Never | Self::Said(_) => 0,
        }
    }

    fn narrower(self, other: Self) -> Self {
        if other.width() < self.width() { other } else { self }
    }
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::Said(at) => write!(f, "{at} ms"),
            Self::Within { earliest, latest } => write!(f, "{earliest} to {latest} ms"),
        }
    }
}

impl Side {
    /// One expiry a key; `Never` for a key that is absent.
    pub fn expiries(&mut self, keys: &[Vec<u8>]) -> Result<Vec<Expiry>> {
        if self.knows_expiretime {
            let commands: Vec<_> = keys.iter().map(|key| cmd("PEXPIRETIME").arg(key).take()).collect();
            return self.ask(&commands)?.into_iter().map(|answer| Ok(said(parse(answer)?))).collect();
        }
        let mut expiries = self.bounded(keys)?;
        let wide = |expiry: &&mut Expiry| expiry.width() > BOUNDS_WIDTH_MAX_MS;
        if expiries.iter_mut().filter(wide).count() > 0 {
            for (key, expiry) in keys.iter().zip(expiries.iter_mut()) {
                *expiry = self.narrow(key, *expiry)?;
            }
        }
        Ok(expiries)
    }

    pub fn expiry(&mut self, key: &[u8]) -> Result<Expiry> {
        let expiries = self.expiries(&[key.to_vec()])?;
        Ok(expiries.first().copied().unwrap_or(Expiry::Never))
    }

    fn narrow(&mut self, key: &[u8], mut expiry: Expiry) -> Result<Expiry> {
        for _ in 0..TRIES_MAX {
            if expiry.width() <= BOUNDS_WIDTH_MAX_MS {
                break;
            }
            let again = self.bounded(&[key.to_vec()])?;
            expiry = again.first().map_or(expiry, |again| expiry.narrower(*again));
        }
        Ok(expiry)
    }

    fn bounded(&mut self, keys: &[Vec<u8>]) -> Result<Vec<Expiry>> {
        let mut commands = vec![cmd("TIME")];
        commands.extend(keys.iter().map(|key| cmd("PTTL").arg(key).take()));
        commands.push(cmd("TIME"));
        let mut answers = self.ask(&commands)?;
        let after = clock_ms(answers.pop().unwrap_or_default())?;
        let mut answers = answers.into_iter();
        let before = clock_ms(answers.next().unwrap_or_default())?;
        answers
            .map(|left| match parse::<i64>(left)? {
                // -1: no expiry; -2: no such key.
                i64::MIN..0 => Ok(Expiry::Never),
                left => Ok(Expiry::Within {
                    earliest: before.saturating_add(left),
                    latest: after.saturating_add(left),
                }),
            })
            .collect()
    }
}

/// PEXPIRETIME answers -1 for no expiry, -2 for no such key.
fn said(at: i64) -> Expiry {
    if at < 0 { Expiry::Never } else { Expiry::Said(at) }
}

/// TIME answers seconds and microseconds.
fn clock_ms(answer: Value) -> Result<i64> {
    let (seconds, microseconds): (i64, i64) = parse(answer)?;
    Ok(seconds.saturating_mul(1000).saturating_add(microseconds / 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn said_expiries_agree_exactly_and_bounded_ones_within_their_bounds() {
        let within = |earliest, latest| Expiry::Within { earliest, latest };
        assert!(Expiry::Said(5000).agrees(Expiry::Said(5000)));
        assert!(!Expiry::Said(5000).agrees(Expiry::Said(5001)));
        assert!(!Expiry::Said(5000).agrees(Expiry::Never) && !Expiry::Never.agrees(within(1, 2)));
        assert!(Expiry::Said(5000).agrees(within(5001, 5002)));
        assert!(!Expiry::Said(5000).agrees(within(5002, 5003)));
        assert!(within(5000, 5001).agrees(within(5003, 5004)));
        assert!(!within(5000, 5001).agrees(within(5004, 5005)));
    }

    #[test]
    fn only_what_expires_can_be_past() {
        assert!(Expiry::Said(1).is_past() && !Expiry::Said(i64::MAX).is_past());
        assert!(!Expiry::Never.is_past());
    }
}
