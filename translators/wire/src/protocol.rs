use bytes::BytesMut;

use crate::{Answer, Change, Effects, Fault, Limits, LossPolicy, Release, Side, Verdict};

/// A store's inter-node protocol, in all its releases.
pub trait Protocol: Send + Sync {
    fn name(&self) -> &'static str;

    /// Every release known by name. None where releases make no difference: then no store is asked for its own.
    fn releases(&self) -> &[Release];

    /// The release that a running store means by its own version text (`8.0.6`), if it is known or
    /// at least well-formed: an unknown release still links with itself.
    fn recognize(&self, store: &str, version: &str) -> Option<Release>;

    /// What lies between two releases, from the one that sends to the one that receives.
    fn verdict(&self, from: &Release, to: &Release) -> Verdict;

    /// What a session between two releases has to change, for a person to read; nothing where there is
    /// nothing to rewrite, or no way.
    fn changes(&self, _from: &Release, _to: &Release) -> Vec<Change> {
        Vec::new()
    }

    /// What is spoken to a store of the release `to` so that stores of the release `before` could read it as
    /// well; `None` where there is no such thing.
    fn held_to(&self, _before: &Release, _to: &Release) -> Option<Release> {
        None
    }

    /// Opens a session for one connection.
    fn open(&self, hints: Hints, limits: Limits) -> Box<dyn Session>;

    /// How far a store's bus port is above its own, unless it is told another one; `None` where stores of
    /// this protocol have no bus.
    fn bus_port_offset(&self) -> Option<u16> {
        None
    }

    /// Opens a session for one connection of the bus, if there is one.
    fn open_bus(&self, _hints: Hints, _limits: Limits) -> Option<Box<dyn Session>> {
        None
    }
}

/// One connection, both directions: acknowledgements and handshakes couple them.
///
/// What a session promises:
/// * the same bytes give the same effects, however they are cut into calls;
/// * it holds no more than [`Limits`] allows, whatever the peer sends;
/// * after a [`Fault`] it is not called again;
/// * an [`crate::Effect::Ask`] is the last effect of its call; until the answer comes, [`Session::feed`]
///   consumes nothing.
pub trait Session: Send {
    /// Takes what it can from the front of `input`, which came from `from`.
    fn feed(&mut self, from: Side, input: &mut BytesMut, out: &mut Effects) -> Result<Flow, Fault>;

    /// The answer to the last [`crate::Effect::Ask`].
    fn answer(&mut self, answer: Answer, out: &mut Effects) -> Result<(), Fault>;

    /// The link is over, on whatever side and for whatever reason: save what the next one needs.
    fn finish(&mut self, out: &mut Effects);

    /// Bytes that it has taken and neither sent nor dropped yet.
    fn held_bytes(&self) -> usize;
}

/// Whether more bytes of a side are of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Read on.
    More,
    /// Read no more of this side until the other side has moved.
    Hold,
}

/// What is known before the first byte. The wire outranks all of it: an upgrade changes what stands
/// at an address.
#[derive(Clone, Debug)]
pub struct Hints {
    /// The end at which the sidecar's own store is.
    pub near: Side,
    pub mode: Mode,
    pub on_loss: LossPolicy,
    pub second_connection: SecondConnection,
    /// Random bytes from the relay: translators have no randomness of their own.
    pub nonce: [u8; 20],
}

/// What becomes of a store's offer to take its snapshot over a second connection, where it is rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecondConnection {
    /// Left out: the snapshot comes over the one connection.
    Strip,
    /// Taken: both connections are rewritten.
    Translate,
}

impl SecondConnection {
    pub const ALL: [Self; 2] = [Self::Strip, Self::Translate];

    /// The one with this label.
    #[must_use]
    pub fn named(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|second| second.label() == label)
    }

    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Strip => "strip",
            Self::Translate => "translate",
        }
    }
}

/// How the sidecar translates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Towards each peer, what that peer's release understands.
    Auto,
    /// Not at all: bytes pass unchanged.
    Off,
    /// What this release understands, or the peer's own where that is older.
    Pin(Release),
    /// An upgrade from this release is under way: as [`Mode::Pin`] towards the peers for which
    /// [`Protocol::held_to`] knows something, as [`Mode::Auto`] towards the others. No operator asks for it.
    Upgrade(Release),
}

impl std::str::FromStr for Mode {
    type Err = crate::ParseReleaseError;

    /// As an operator's [`Mode`] is displayed.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            _ => text.parse().map(Self::Pin),
        }
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto | Self::Upgrade(_) => f.write_str("auto"),
            Self::Off => f.write_str("off"),
            Self::Pin(release) => release.fmt(f),
        }
    }
}
