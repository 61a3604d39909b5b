/// Every bound that a session keeps, whatever the peer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes that a session may hold back of one unit (a command that must be rewritten, one
    /// packed value of a snapshot). A larger one is a [`crate::FaultKind::TooLarge`].
    pub held_bytes_max: usize,
    /// Most bytes of one handshake line or handshake command.
    pub handshake_bytes_max: usize,
    /// Most marks an offset map may keep. At the bound the oldest are merged: acknowledgements stay
    /// true (they round down), but a partial resync from inside the merged part is denied.
    pub offset_marks_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { held_bytes_max: 64 << 20, handshake_bytes_max: 64 << 10, offset_marks_max: 256 << 10 }
    }
}
