//! What is kept of a stream between two links, so that a replica can go on where it stopped.
//!
//! u8 kind (0 doubtful, 1 exact, 2 exact and shifting), then for both exact kinds an [`OffsetMap`] with its
//! steps behind it.

use bytes::{BufMut, Bytes, BytesMut};

use crate::offsets::OffsetMap;

#[derive(Debug, PartialEq, Eq)]
pub enum Saved {
    /// The offsets differ, and by how much is not known.
    Doubtful,
    /// Where the follower stands, or stood when its link or its sidecar ended.
    Exact {
        map: OffsetMap,
        /// The offsets differ, or did since the map was written whole.
        shifting: bool,
    },
}

const DOUBTFUL: u8 = 0;
const EXACT: u8 = 1;
const SHIFTING: u8 = 2;

/// The saved form of a stream about which nothing can be proved.
pub const fn doubtful() -> Bytes {
    Bytes::from_static(&[DOUBTFUL])
}

/// The saved form of a map, to which its steps can be appended. `shifting` says beforehand that they will
/// shift it: so much must be known even if none of them outlives a crash of the host.
pub fn exact(map: &mut OffsetMap, shifting: bool) -> Bytes {
    let kind = if shifting || map.shift() != 0 { SHIFTING } else { EXACT };
    let map = map.encode();
    let mut out = BytesMut::with_capacity(map.len() + 1);
    out.put_u8(kind);
    out.put(map);
    out.freeze()
}

impl Saved {
    /// Anything that can't be read is doubtful.
    pub fn decode(saved: &[u8], marks_max: usize) -> Self {
        let Some((&kind @ (EXACT | SHIFTING), map)) = saved.split_first() else { return Self::Doubtful };
        match OffsetMap::decode(map, marks_max) {
            Some(map) => Self::Exact { shifting: kind == SHIFTING || map.shift() != 0, map },
            None => Self::Doubtful,
        }
    }

    /// Is the follower's count of this stream another than its master's?
    pub const fn is_shifted(&self) -> bool {
        match self {
            Self::Doubtful => true,
            Self::Exact { shifting, .. } => *shifting,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(replica: u64) -> OffsetMap {
        OffsetMap::new(replica, 20, 8)
    }

    #[test]
    fn what_is_saved_is_read_back_and_damage_is_doubtful() {
        let encoded = exact(&mut map(30), false);
        assert_eq!(Saved::decode(&encoded, 8), Saved::Exact { map: map(30), shifting: true });
        assert_eq!(Saved::decode(&doubtful(), 8), Saved::Doubtful);
        assert_eq!(Saved::decode(&encoded[..encoded.len() - 1], 8), Saved::Doubtful);
        assert_eq!(Saved::decode(&[], 8), Saved::Doubtful);
    }

    #[test]
    fn steps_are_read_behind_the_map() {
        let mut moved = map(20);
        let mut saved = BytesMut::from(&exact(&mut moved, true)[..]);
        moved.passed(5);
        moved.translated(10, 40);
        saved.extend_from_slice(&moved.take_steps().unwrap());
        assert_eq!(Saved::decode(&saved, 8), Saved::Exact { map: moved, shifting: true });
    }

    #[test]
    fn only_an_exact_equal_count_is_not_shifted() {
        let shifted = |saved: &[u8]| Saved::decode(saved, 8).is_shifted();
        assert!(shifted(&doubtful()));
        assert!(shifted(&exact(&mut map(30), false)));
        assert!(shifted(&exact(&mut map(20), true)));
        assert!(!shifted(&exact(&mut map(20), false)));
    }
}
