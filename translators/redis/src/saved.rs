//! What is kept of a stream between two links, so that a replica can go on where it stopped.
//!
//! A replica that counts as its master does needs nothing: its offset is the master's. One whose count
//! may differ follows a *branch*, a stream with an id of its own; its state is kept by that id, and
//! that it has branched off by the master's.
//!
//! u8 kind: 0 doubtful; 1 branch: u8 length and the master's id, u8 length and the follower's name, an
//! [`OffsetMap`] with its steps behind it; 2 branched off.

use bytes::{BufMut, Bytes, BytesMut};

use crate::offsets::OffsetMap;

#[derive(Debug, PartialEq, Eq)]
pub enum Saved {
    /// About this stream nothing can be proved.
    Doubtful,
    /// The follower's next bytes of this stream come, or came, in a branch.
    BranchedOff,
    Branch(Branch),
}

/// A stream as it was said to one follower, in offsets of its own.
#[derive(Debug, PartialEq, Eq)]
pub struct Branch {
    /// The master's id of the stream.
    pub trunk: String,
    pub follower: String,
    /// Where the follower stands, or stood when its link or its sidecar ended.
    pub map: OffsetMap,
}

const DOUBTFUL: u8 = 0;
const BRANCH: u8 = 1;
const BRANCHED_OFF: u8 = 2;

pub const fn doubtful() -> Bytes {
    Bytes::from_static(&[DOUBTFUL])
}

pub const fn branched_off() -> Bytes {
    Bytes::from_static(&[BRANCHED_OFF])
}

/// The saved form of a branch, to which the map's steps can be appended.
pub fn branch(trunk: &str, follower: &str, map: &mut OffsetMap) -> Bytes {
    let map = map.encode();
    let mut out = BytesMut::with_capacity(map.len() + trunk.len() + follower.len() + 3);
    out.put_u8(BRANCH);
    for name in [trunk, follower] {
        // A longer name is cut: it is then not the name that it is compared with, which is safe.
        let name = name.as_bytes().get(..usize::from(u8::MAX)).unwrap_or(name.as_bytes());
        out.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
        out.put_slice(name);
    }
    out.put(map);
    out.freeze()
}

impl Saved {
    /// Anything that can't be read is doubtful.
    pub fn decode(saved: &[u8], marks_max: usize) -> Self {
        match saved {
            [BRANCHED_OFF] => Self::BranchedOff,
            [BRANCH, rest @ ..] => Branch::decode(rest, marks_max).map_or(Self::Doubtful, Self::Branch),
            _ => Self::Doubtful,
        }
    }
}

impl Branch {
    fn decode(saved: &[u8], marks_max: usize) -> Option<Self> {
        let (trunk, saved) = name(saved)?;
        let (follower, saved) = name(saved)?;
        Some(Self { trunk, follower, map: OffsetMap::decode(saved, marks_max)? })
    }
}

fn name(saved: &[u8]) -> Option<(String, &[u8])> {
    let (&length, saved) = saved.split_first()?;
    let (name, rest) = saved.split_at_checked(usize::from(length))?;
    Some((String::from_utf8(name.to_vec()).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> OffsetMap {
        OffsetMap::new(30, 20, 8)
    }

    fn saved(map: OffsetMap) -> Saved {
        Saved::Branch(Branch { trunk: "abc".into(), follower: "n2".into(), map })
    }

    #[test]
    fn what_is_saved_is_read_back_and_damage_is_doubtful() {
        let encoded = branch("abc", "n2", &mut map());
        assert_eq!(Saved::decode(&encoded, 8), saved(map()));
        assert_eq!(Saved::decode(&branched_off(), 8), Saved::BranchedOff);
        assert_eq!(Saved::decode(&doubtful(), 8), Saved::Doubtful);
        for cut in 0..encoded.len() {
            assert_eq!(Saved::decode(&encoded[..cut], 8), Saved::Doubtful, "cut at {cut}");
        }
        assert_eq!(Saved::decode(&[BRANCHED_OFF, 0], 8), Saved::Doubtful);
    }

    #[test]
    fn steps_are_read_behind_the_map() {
        let mut moved = map();
        let mut bytes = BytesMut::from(&branch("abc", "n2", &mut moved)[..]);
        moved.passed(5);
        moved.translated(10, 40);
        bytes.extend_from_slice(&moved.take_steps().unwrap());
        assert_eq!(Saved::decode(&bytes, 8), saved(moved));
    }
}
