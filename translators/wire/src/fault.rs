use crate::{Loss, Release, Side};

/// Why a session ended a link: what happened, which side sent the bytes, and where in its stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} ({side}, byte {position})")]
pub struct Fault {
    pub kind: FaultKind,
    /// The side whose bytes were at fault.
    pub side: Side,
    /// How many bytes of that side had been consumed.
    pub position: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultKind {
    /// Segue will not let this link be: nothing is wrong with the bytes.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The bytes are not of this protocol, or damaged.
    #[error("malformed {what}: {detail}")]
    Malformed { what: &'static str, detail: String },
    /// A unit is larger than a limit allows.
    #[error("{what} is larger than {limit} = {max} bytes")]
    TooLarge { what: &'static str, limit: &'static str, max: usize },
    /// The stream ended inside a unit.
    #[error("the stream ended inside {what}")]
    Truncated { what: &'static str },
    /// The snapshot's own checksum does not match its content.
    #[error("snapshot checksum mismatch: computed {computed:#018x}, sent {sent:#018x}")]
    Checksum { computed: u64, sent: u64 },
}

impl FaultKind {
    /// Stable name, used as a metric label.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.label(),
            Self::Malformed { .. } => "malformed",
            Self::TooLarge { .. } => "too-large",
            Self::Truncated { .. } => "truncated",
            Self::Checksum { .. } => "checksum",
        }
    }
}

/// Why Segue will not let a link be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "the release of the {side} is not known: it announced none, answered no probe, and has no `release` in the config"
    )]
    UnknownRelease { side: Side },
    #[error("no translation from {from} to {to}")]
    UnsupportedPair { from: Release, to: Release },
    #[error("loss = \"refuse\" and {to} cannot represent {loss}")]
    Loss { to: Release, loss: Box<Loss> },
    #[error(
        "the dialer does not announce `{capability}`, without which a rewritten snapshot can't be sent to it"
    )]
    MissingCapability { capability: &'static str },
    #[error(
        "the stores' stream offsets are not the same count (a translation shifted them): this needs a full sync, not a hand-over"
    )]
    ShiftedOffsets,
    #[error(
        "slots can't move as a whole from {from} to {to}, which does not understand all that it sends: move their keys with MIGRATE"
    )]
    SlotMigration { from: Release, to: Release },
    #[error(
        "the snapshot comes on a second connection, and the other one of the two did not pass here or is gone"
    )]
    MissingConnection,
}

impl Refusal {
    /// Stable name, used as a metric label.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::UnknownRelease { .. } => "unknown-release",
            Self::UnsupportedPair { .. } => "unsupported-pair",
            Self::Loss { .. } => "loss",
            Self::MissingCapability { .. } => "missing-capability",
            Self::ShiftedOffsets => "shifted-offsets",
            Self::SlotMigration { .. } => "slot-migration",
            Self::MissingConnection => "missing-connection",
        }
    }
}
