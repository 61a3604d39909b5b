//! What is kept of a stream between two links, so that a replica can go on where it stopped.
//!
//! A replica that counts as its master does needs nothing: its offset is the master's. One whose count
//! may differ follows a *branch*, a stream with an id of its own; its state is kept by that id, and
//! that it has branched off by the master's. Kept in the same way is that the follower does not have all.
//!
//! u8 kind: 0 doubtful; 1 branch: u8 length and the master's id, u8 length and the follower's name, an
//! [`OffsetMap`] with its steps behind it; 2 branched off; 3 the master's own stream. Kinds from 1 on have the
//! highest bit set where the follower is incomplete.

use bytes::{BufMut, Bytes, BytesMut};

use crate::offsets::OffsetMap;

#[derive(Debug, PartialEq, Eq)]
pub struct Saved {
    pub place: Place,
    /// Content was left out for the follower.
    pub incomplete: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// About this stream nothing can be proved.
    Doubtful,
    /// The follower counts as its master does.
    Trunk,
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
const TRUNK: u8 = 3;
const INCOMPLETE: u8 = 0x80;

pub const fn doubtful() -> Bytes {
    Bytes::from_static(&[DOUBTFUL])
}

pub const fn branched_off(incomplete: bool) -> Bytes {
    Bytes::from_static(if incomplete { &[BRANCHED_OFF | INCOMPLETE] } else { &[BRANCHED_OFF] })
}

/// A follower that has all needs no state in its master's own stream.
pub const fn incomplete() -> Bytes {
    Bytes::from_static(&[TRUNK | INCOMPLETE])
}

/// The saved form of a branch, to which the map's steps can be appended.
pub fn branch(trunk: &str, follower: &str, incomplete: bool, map: &mut OffsetMap) -> Bytes {
    let map = map.encode();
    let mut out = BytesMut::with_capacity(map.len() + trunk.len() + follower.len() + 3);
    out.put_u8(if incomplete { BRANCH | INCOMPLETE } else { BRANCH });
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
        let (kind, rest) = saved.split_first().map_or((DOUBTFUL, saved), |(kind, rest)| (*kind, rest));
        let place = match (kind & !INCOMPLETE, rest) {
            (TRUNK, []) => Some(Place::Trunk),
            (BRANCHED_OFF, []) => Some(Place::BranchedOff),
            (BRANCH, rest) => Branch::decode(rest, marks_max).map(Place::Branch),
            _ => None,
        };
        Self { place: place.unwrap_or(Place::Doubtful), incomplete: kind & INCOMPLETE != 0 }
    }

    /// Whether the follower's count may differ from its master's.
    pub fn is_shifted(&self) -> bool {
        self.place != Place::Trunk
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

    fn saved(map: OffsetMap, incomplete: bool) -> Saved {
        let branch = Branch { trunk: "abc".into(), follower: "n2".into(), map };
        Saved { place: Place::Branch(branch), incomplete }
    }

    fn decoded(bytes: &[u8]) -> (Place, bool) {
        let Saved { place, incomplete } = Saved::decode(bytes, 8);
        (place, incomplete)
    }

    #[test]
    fn what_is_saved_is_read_back_and_damage_is_doubtful() {
        assert_eq!(decoded(&incomplete()), (Place::Trunk, true));
        assert_eq!(decoded(&doubtful()), (Place::Doubtful, false));
        for incomplete in [false, true] {
            assert_eq!(decoded(&branched_off(incomplete)), (Place::BranchedOff, incomplete));
            let encoded = branch("abc", "n2", incomplete, &mut map());
            assert_eq!(Saved::decode(&encoded, 8), saved(map(), incomplete));
            for cut in 0..encoded.len() {
                assert_eq!(decoded(&encoded[..cut]).0, Place::Doubtful, "cut at {cut}");
            }
        }
        assert_eq!(decoded(&[BRANCHED_OFF, 0]).0, Place::Doubtful);
    }

    #[test]
    fn steps_are_read_behind_the_map() {
        let mut moved = map();
        let mut bytes = BytesMut::from(&branch("abc", "n2", false, &mut moved)[..]);
        moved.passed(5);
        moved.translated(10, 40);
        bytes.extend_from_slice(&moved.take_steps().unwrap());
        assert_eq!(Saved::decode(&bytes, 8), saved(moved, false));
    }
}
