//! What is kept of a stream between two links, so that a replica can go on where it stopped.
//!
//! u8 kind (0 doubtful, 1 exact), then for `exact` an [`OffsetMap`].

use bytes::{BufMut, Bytes, BytesMut};

use crate::offsets::OffsetMap;

#[derive(Debug, PartialEq, Eq)]
pub enum Saved {
    /// The offsets differ, and by how much is not known: the link still runs, or ended with its sidecar.
    Doubtful,
    /// Where the follower stood when its link ended.
    Exact(OffsetMap),
}

const DOUBTFUL: u8 = 0;
const EXACT: u8 = 1;

impl Saved {
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Doubtful => Bytes::from_static(&[DOUBTFUL]),
            Self::Exact(map) => {
                let map = map.encode();
                let mut out = BytesMut::with_capacity(map.len() + 1);
                out.put_u8(EXACT);
                out.put(map);
                out.freeze()
            }
        }
    }

    /// Anything that can't be read is doubtful.
    pub fn decode(saved: &[u8], marks_max: usize) -> Self {
        match saved.split_first() {
            Some((&EXACT, map)) => OffsetMap::decode(map, marks_max).map_or(Self::Doubtful, Self::Exact),
            _ => Self::Doubtful,
        }
    }

    /// Is the follower's count of this stream another than its master's?
    pub fn is_shifted(&self) -> bool {
        match self {
            Self::Doubtful => true,
            Self::Exact(map) => map.shift() != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_read_back_and_damage_is_doubtful() {
        let exact = Saved::Exact(OffsetMap::new(30, 20, 8));
        let encoded = exact.encode();
        assert_eq!(Saved::decode(&encoded, 8), exact);
        assert_eq!(Saved::decode(&Saved::Doubtful.encode(), 8), Saved::Doubtful);
        assert_eq!(Saved::decode(&encoded[..encoded.len() - 1], 8), Saved::Doubtful);
        assert_eq!(Saved::decode(&[], 8), Saved::Doubtful);
    }

    #[test]
    fn only_an_exact_equal_count_is_not_shifted() {
        assert!(Saved::Doubtful.is_shifted());
        assert!(Saved::Exact(OffsetMap::new(30, 20, 8)).is_shifted());
        assert!(!Saved::Exact(OffsetMap::new(20, 20, 8)).is_shifted());
    }
}
