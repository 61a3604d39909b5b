//! Replication offsets on both sides of a translation.
//!
//! A replica counts the bytes that it receives, its master the bytes that it sends. As long as every
//! translation is no longer than its original, blank lines (which a replica counts and ignores) keep
//! the two equal. Where one is longer, the replica runs ahead by the *shift*, and this map says which
//! master offset an acknowledged replica offset stands for.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// From `replica` on, the master's offset is `master`…
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    replica: u64,
    master: u64,
    run: Run,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    /// …and both advance byte by byte, until the next mark.
    Verbatim,
    /// …and stays there until the next mark: a translated command has no middle.
    Still,
}

/// Where a replica stands, in both counts.
///
/// Invariants: marks ascend in both counts; there is at least one; the first is at or before the last
/// acknowledged offset; `marks.len() <= marks_max`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetMap {
    marks: VecDeque<Mark>,
    marks_max: usize,
    replica: u64,
    master: u64,
    acknowledged: u64,
    /// What happened since it was last written out.
    unwritten: Unwritten,
}

/// Steps that are not journalled yet, and where the journal with them stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Unwritten {
    steps: BytesMut,
    replica: u64,
    master: u64,
}

impl OffsetMap {
    /// The smallest useful bound: a start, a translated command and what follows it.
    const MARKS_MIN: usize = 4;

    pub fn new(replica: u64, master: u64, marks_max: usize) -> Self {
        let start = Mark { replica, master, run: Run::Verbatim };
        Self {
            marks: VecDeque::from([start]),
            marks_max: marks_max.max(Self::MARKS_MIN),
            replica,
            master,
            acknowledged: master,
            unwritten: Unwritten::from(replica, master),
        }
    }

    /// How far the replica's count is ahead of the master's.
    pub fn shift(&self) -> i64 {
        self.replica.wrapping_sub(self.master).cast_signed()
    }

    /// `bytes` passed unchanged.
    pub fn passed(&mut self, bytes: u64) {
        self.replica += bytes;
        self.master += bytes;
    }

    /// `taken` bytes of the master became `given` bytes for the replica.
    pub fn translated(&mut self, taken: u64, given: u64) {
        if taken == given {
            // Nobody stops inside a command: its middle needs no mark.
            return self.passed(taken);
        }
        self.unwritten.reach(STEP_PASSED, self.replica, self.master);
        self.step(taken, given);
        self.unwritten.reach(STEP_TRANSLATED, self.replica, self.master);
    }

    fn step(&mut self, taken: u64, given: u64) {
        let before = Mark { replica: self.replica, master: self.master, run: Run::Still };
        match self.marks.back_mut() {
            Some(last) if last.replica == before.replica && last.master == before.master => {
                last.run = Run::Still
            }
            _ => self.marks.push_back(before),
        }
        self.replica += given;
        self.master += taken;
        self.marks.push_back(Mark { replica: self.replica, master: self.master, run: Run::Verbatim });
        if self.marks.len() > self.marks_max {
            self.merge();
        }
    }

    /// The master's offset that a replica's acknowledgement stands for: exact, or rounded down; never
    /// less than an earlier one, never more than was sent.
    pub fn acknowledge(&mut self, replica: u64) -> u64 {
        self.acknowledged = self.acknowledged.max(self.floor(replica));
        while self.marks.get(1).is_some_and(|next| next.replica <= replica) {
            self.marks.pop_front();
        }
        self.acknowledged
    }

    /// The same without remembering it.
    pub fn floor(&self, replica: u64) -> u64 {
        let Some(mark) = self.mark_at(replica) else { return self.acknowledged };
        match mark.run {
            Run::Verbatim => (mark.master + (replica - mark.replica)).min(self.master),
            Run::Still => mark.master,
        }
    }

    /// The map for a replica that goes on from `replica`, or `None` where that offset is not a place
    /// between two commands that both sides know.
    pub fn resume(&self, replica: u64) -> Option<Self> {
        if replica > self.replica {
            return None;
        }
        let mark = self.mark_at(replica)?;
        let master = match mark.run {
            Run::Verbatim => mark.master.checked_add(replica.checked_sub(mark.replica)?)?,
            Run::Still if mark.replica == replica => mark.master,
            Run::Still => return None,
        };
        Some(Self::new(replica, master, self.marks_max))
    }

    pub const fn replica(&self) -> u64 {
        self.replica
    }

    pub const fn master(&self) -> u64 {
        self.master
    }

    /// The last mark at or before `replica`; of several at one place the last, which says the most.
    fn mark_at(&self, replica: u64) -> Option<Mark> {
        let after = self.marks.partition_point(|mark| mark.replica <= replica);
        self.marks.get(after.checked_sub(1)?).copied()
    }

    /// Halves the marks: what lies between two kept ones becomes one stretch that rounds down and can't
    /// be resumed from. The newest mark stays as it is.
    fn merge(&mut self) {
        let last = self.marks.len() - 1;
        let mut index = 0;
        self.marks.retain_mut(|mark| {
            let keep = index % 2 == 0 || index == last;
            if index + 1 < last {
                mark.run = Run::Still;
            }
            index += 1;
            keep
        });
    }
}

// === saved form ===
//
// The whole map: u8 version = 1 | u64 replica | u64 master | u64 acknowledged | u32 count | count x (u64
// replica, u64 master, u8 run). Behind it, in any number, steps of 17 bytes: u8 kind | u64 replica | u64
// master, where the step ended: kind 1 bytes passed unchanged, 2 a command was translated. Big endian.

const SAVED_VERSION: u8 = 1;
const MARK_BYTES: usize = 17;
const HEAD_BYTES: usize = 1 + 3 * 8 + 4;
const STEP_BYTES: usize = 17;
const STEP_PASSED: u8 = 1;
const STEP_TRANSLATED: u8 = 2;

impl OffsetMap {
    /// The whole map; steps that are not written yet are in it.
    pub fn encode(&mut self) -> Bytes {
        self.unwritten = Unwritten::from(self.replica, self.master);
        let mut out = BytesMut::with_capacity(HEAD_BYTES + self.marks.len() * MARK_BYTES);
        out.put_u8(SAVED_VERSION);
        out.put_u64(self.replica);
        out.put_u64(self.master);
        out.put_u64(self.acknowledged);
        out.put_u32(u32::try_from(self.marks.len()).unwrap_or(u32::MAX));
        for mark in &self.marks {
            out.put_u64(mark.replica);
            out.put_u64(mark.master);
            out.put_u8(u8::from(mark.run == Run::Still));
        }
        out.freeze()
    }

    /// The steps since the last time the map or its steps were written, if there are any.
    pub fn take_steps(&mut self) -> Option<Bytes> {
        self.unwritten.reach(STEP_PASSED, self.replica, self.master);
        let steps = self.unwritten.steps.split().freeze();
        (!steps.is_empty()).then_some(steps)
    }

    /// `None` for anything that `encode` and `take_steps` would not have written.
    pub fn decode(mut saved: &[u8], marks_max: usize) -> Option<Self> {
        if saved.len() < HEAD_BYTES || saved.get_u8() != SAVED_VERSION {
            return None;
        }
        let (replica, master, acknowledged) = (saved.get_u64(), saved.get_u64(), saved.get_u64());
        let count = saved.get_u32() as usize;
        if count == 0 || saved.len() < count.checked_mul(MARK_BYTES)? {
            return None;
        }
        let mut marks = VecDeque::new();
        for _ in 0..count {
            let mark = Mark {
                replica: saved.get_u64(),
                master: saved.get_u64(),
                run: match saved.get_u8() {
                    0 => Run::Verbatim,
                    1 => Run::Still,
                    _ => return None,
                },
            };
            let ascends = marks
                .back()
                .is_none_or(|last: &Mark| last.replica <= mark.replica && last.master <= mark.master);
            if !ascends || mark.replica > replica || mark.master > master {
                return None;
            }
            marks.push_back(mark);
        }
        let marks_max = marks_max.max(Self::MARKS_MIN);
        let unwritten = Unwritten::from(replica, master);
        let mut map = Self { marks, marks_max, replica, master, acknowledged, unwritten };
        while !saved.is_empty() {
            map.repeat(&mut saved)?;
        }
        map.unwritten = Unwritten::from(map.replica, map.master);
        Some(map)
    }

    /// One step from the journal.
    fn repeat(&mut self, saved: &mut &[u8]) -> Option<()> {
        if saved.len() < STEP_BYTES {
            return None;
        }
        let (kind, replica, master) = (saved.get_u8(), saved.get_u64(), saved.get_u64());
        let given = replica.checked_sub(self.replica)?;
        let taken = master.checked_sub(self.master)?;
        match kind {
            STEP_PASSED if given == taken => {
                self.replica = replica;
                self.master = master;
            }
            STEP_TRANSLATED => self.step(taken, given),
            _ => return None,
        }
        Some(())
    }
}

impl Unwritten {
    fn from(replica: u64, master: u64) -> Self {
        Self { steps: BytesMut::new(), replica, master }
    }

    /// Both counts have come this far, by this kind of step.
    fn reach(&mut self, kind: u8, replica: u64, master: u64) {
        if (self.replica, self.master) != (replica, master) {
            self.steps.put_u8(kind);
            self.steps.put_u64(replica);
            self.steps.put_u64(master);
            (self.replica, self.master) = (replica, master);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map() -> OffsetMap {
        OffsetMap::new(100, 100, 1024)
    }

    #[test]
    fn verbatim_bytes_map_one_to_one() {
        let mut map = map();
        map.passed(50);
        assert_eq!((map.shift(), map.floor(130), map.acknowledge(150)), (0, 130, 150));
    }

    #[test]
    fn a_longer_translation_shifts_and_has_no_middle() {
        let mut map = map();
        map.passed(10);
        map.translated(20, 50);
        map.passed(5);
        assert_eq!(map.shift(), 30);
        assert_eq!([109, 110, 130, 159, 160, 165].map(|r| map.floor(r)), [109, 110, 110, 110, 130, 135]);
        assert!(map.resume(130).is_none(), "a translated command has no middle");
        assert_eq!(map.resume(160).unwrap().shift(), 30);
    }

    #[test]
    fn a_dropped_command_is_acknowledged_with_what_came_before_it() {
        let mut map = map();
        map.translated(20, 50);
        map.translated(30, 0);
        assert_eq!((map.shift(), map.acknowledge(150)), (0, 150));
    }

    #[test]
    fn acknowledgements_never_go_back_nor_beyond_what_was_sent() {
        let mut map = map();
        map.passed(50);
        assert_eq!(map.acknowledge(140), 140);
        assert_eq!(map.acknowledge(120), 140);
        assert_eq!(map.acknowledge(u64::MAX), 150);
    }

    #[test]
    fn nothing_is_resumed_from_beyond_what_was_sent_or_before_what_is_known() {
        let mut map = map();
        map.passed(50);
        map.acknowledge(120);
        assert!(map.resume(151).is_none());
        assert!(map.resume(99).is_none());
        assert!(map.resume(150).is_some());
    }

    proptest! {
        /// Against the naive model: a list of all steps.
        #[test]
        fn floor_is_exact_between_commands_and_never_too_high(
            steps in prop::collection::vec((any::<bool>(), 1u64..40, 0u64..60), 1..60),
            marks_max in 4usize..40,
        ) {
            let mut map = OffsetMap::new(7, 5, marks_max);
            let mut edges = vec![(7, 5)];
            let (mut replica, mut master) = (7u64, 5u64);
            for (verbatim, taken, given) in steps {
                if verbatim {
                    map.passed(taken);
                    replica += taken;
                } else {
                    map.translated(taken, given);
                    replica += given;
                }
                master += taken;
                edges.push((replica, master));
                prop_assert!(map.marks.len() <= marks_max.max(OffsetMap::MARKS_MIN) );
            }
            prop_assert_eq!(map.floor(replica), master);
            for r in 7..=replica {
                let truth = edges.iter().filter(|(edge, _)| *edge <= r).map(|(_, m)| *m).max().unwrap();
                let next = edges.iter().filter(|(edge, _)| *edge > r).map(|(_, m)| *m).min().unwrap_or(truth);
                prop_assert!(map.floor(r) <= truth.max(next), "floor({r})");
                if let Some(resumed) = map.resume(r) {
                    // Of several commands that gave the replica nothing, it is the same which comes next.
                    let lowest = edges.iter().filter(|(edge, _)| *edge == r).map(|(_, m)| *m).min();
                    prop_assert!((lowest.unwrap_or(truth)..=next.max(truth)).contains(&resumed.master));
                }
            }
            let mut saved = BytesMut::from(&OffsetMap::new(7, 5, marks_max).encode()[..]);
            saved.extend_from_slice(&map.take_steps().unwrap());
            prop_assert_eq!(map.take_steps(), None);
            let journalled = OffsetMap::decode(&saved, marks_max);
            prop_assert_eq!(journalled.as_ref(), Some(&map), "from the journal");
            let whole = map.encode();
            prop_assert_eq!(OffsetMap::decode(&whole, marks_max), Some(map), "from the whole");
        }

        #[test]
        fn decoding_anything_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = OffsetMap::decode(&bytes, 16);
        }
    }
}
