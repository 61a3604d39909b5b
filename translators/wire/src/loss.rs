/// Content that the older release cannot represent. Named and counted, never silent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Stable name, used as a metric label: `hash-field-ttl`, `function-library`, …
    pub kind: &'static str,
    pub grade: Grade,
    /// What is lost, for a person: `field TTLs of a hash`, `library mylib`.
    pub what: String,
    /// The key concerned, where there is one; at most [`Loss::KEY_BYTES_MAX`] bytes of it.
    pub key: Option<Vec<u8>>,
    /// The database that holds the key.
    pub db: u64,
}

impl Loss {
    /// Longer keys are cut to this many bytes in a loss.
    pub const KEY_BYTES_MAX: usize = 256;

    /// The key as text for a person: printable ASCII as it is, the rest as `\xNN`.
    #[must_use]
    pub fn key_text(&self) -> Option<String> {
        self.key.as_ref().map(|key| key.escape_ascii().to_string())
    }
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind, self.what)?;
        if let Some(key) = self.key_text() {
            write!(f, " (key \"{key}\" in database {})", self.db)?;
        }
        Ok(())
    }
}

/// How much a loss matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Grade {
    /// A user of the older release would miss it. Refused unless the policy is `degrade`.
    Data,
    /// Internal counters that no command of the older release can show (a stream's entries-added).
    /// Always let through, always counted.
    Bookkeeping,
}

impl Grade {
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Bookkeeping => "bookkeeping",
        }
    }
}

/// What to do where content of [`Grade::Data`] cannot be represented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LossPolicy {
    /// Close the link before the peer has anything incomplete.
    Refuse,
    /// Leave the content out, and count it.
    Degrade,
}

impl LossPolicy {
    pub const ALL: [Self; 2] = [Self::Refuse, Self::Degrade];

    /// The policy with this label.
    #[must_use]
    pub fn named(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.label() == label)
    }

    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Degrade => "degrade",
        }
    }
}
