use crate::Grade;

/// Something that one release sends and another does not take as it is, for a person to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub part: Part,
    /// What may be sent, as the documents write it.
    pub form: String,
    /// What is sent instead.
    pub instead: String,
    /// What this can lose; whether it does depends on the content.
    pub losses: Vec<LossKind>,
}

/// A part of what a link carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All the data at once.
    Snapshot,
    /// What changes in it from then on.
    Stream,
}

impl Part {
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Stream => "stream",
        }
    }
}

/// The kind of a [`crate::Loss`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossKind {
    pub name: &'static str,
    pub grade: Grade,
}
