//! What every Segue translator speaks.
//!
//! A translator is sans-IO: bytes in, [`Effect`]s out. It has no clock, no randomness and no
//! environment, so that one input always replays to one output.
//!
//! # Layout
//!
//! | module | holds |
//! |---|---|
//! | [`protocol`] | [`Protocol`] and [`Session`], the two traits that a translator implements |
//! | [`effect`] | [`Effect`], [`Note`], [`Effects`]: what a session asks the relay to do, and what it says of itself |
//! | [`change`] | [`Change`]: what is not the same for two releases, for a reader |
//! | [`release`] | [`Release`], [`Verdict`]: who speaks what, and what lies between |
//! | [`loss`] | [`Loss`]: content that the older release cannot represent |
//! | [`fault`] | [`Fault`]: why a link ends |
//! | [`limits`] | [`Limits`]: every bound that a session keeps, with its unit |

pub mod change;
pub mod effect;
pub mod fault;
pub mod limits;
pub mod loss;
pub mod protocol;
pub mod release;

pub use change::{Change, LossKind, Part};
pub use effect::{Answer, Effect, Effects, End, Note, PeerName, Question, StreamKey};
pub use fault::{Fault, FaultKind, Refusal};
pub use limits::Limits;
pub use loss::{Grade, Loss, LossPolicy};
pub use protocol::{Flow, Hints, Mode, Protocol, SecondConnection, Session};
pub use release::{ParseReleaseError, Release, Verdict};

/// One of the two ends of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The end that opened the TCP connection.
    Dialer,
    /// The end that accepted it.
    Listener,
}

impl Side {
    pub const BOTH: [Self; 2] = [Self::Dialer, Self::Listener];

    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Dialer => Self::Listener,
            Self::Listener => Self::Dialer,
        }
    }

    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Dialer => "dialer",
            Self::Listener => "listener",
        }
    }
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.label())
    }
}
