use bytes::BytesMut;
use segue_wire::FaultKind;

/// Input that is moved to the output in runs as long as possible.
///
/// Bytes are passed or skipped one after the other. What is deferred leaves only once it is settled;
/// until then it can be withdrawn.
pub struct Tape<'a> {
    input: &'a [u8],
    /// How much of the input has been passed or skipped.
    at: usize,
    /// Input from here to `at` passes and has not been moved yet.
    run: usize,
    /// Input from here on is deferred, behind what `deferred` holds.
    mark: Option<usize>,
    deferred: &'a mut Deferred,
    out: &'a mut BytesMut,
}

/// Bytes that wait for a decision; outlives the [`Tape`] of one call.
#[derive(Debug, Default)]
pub struct Deferred {
    bytes: BytesMut,
    open: bool,
    held_bytes_max: usize,
}

impl Deferred {
    pub fn new(held_bytes_max: usize) -> Self {
        Self { held_bytes_max, ..Self::default() }
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Smaller buffers are kept for the next time.
const KEPT_BYTES_MAX: usize = 64 << 10;

impl<'a> Tape<'a> {
    pub fn new(input: &'a [u8], deferred: &'a mut Deferred, out: &'a mut BytesMut) -> Self {
        let mark = deferred.open.then_some(0);
        Self { input, at: 0, run: 0, mark, deferred, out }
    }

    /// Moves what passes and tells how much of the input was taken.
    pub fn close(mut self) -> usize {
        self.flush();
        self.deferred.open = self.mark.is_some();
        self.at
    }

    pub fn at(&self) -> usize {
        self.at
    }

    /// The input that has not been taken.
    pub fn rest(&self) -> &'a [u8] {
        self.input.get(self.at..).unwrap_or_default()
    }

    /// Takes `count` bytes of [`Self::rest`]; they pass or are left out.
    pub fn take(&mut self, count: usize, pass: bool) -> Result<(), FaultKind> {
        if pass {
            self.pass(count)
        } else {
            self.skip(count);
            Ok(())
        }
    }

    pub fn pass(&mut self, count: usize) -> Result<(), FaultKind> {
        self.room(count as u64)?;
        self.at = self.end(count);
        Ok(())
    }

    pub fn skip(&mut self, count: usize) {
        self.flush();
        self.at = self.end(count);
        self.run = self.at;
        self.mark = self.mark.map(|_| self.at);
    }

    /// Puts bytes of our own in this place.
    pub fn put(&mut self, bytes: &[u8]) {
        self.writer().extend_from_slice(bytes);
    }

    /// Where bytes of our own for this place go.
    pub fn writer(&mut self) -> &mut BytesMut {
        self.flush();
        if self.mark.is_some() { &mut self.deferred.bytes } else { self.out }
    }

    /// From here on nothing leaves until it is settled.
    pub fn defer(&mut self) {
        self.mark.get_or_insert(self.at);
    }

    /// What was deferred leaves.
    pub fn settle(&mut self) {
        if self.mark.take().is_some() && !self.deferred.bytes.is_empty() {
            self.out.extend_from_slice(&self.deferred.bytes);
            self.forget();
        }
    }

    /// What was deferred leaves, behind bytes of our own.
    pub fn settle_behind(&mut self, bytes: &[u8]) {
        if self.mark.is_some() {
            self.flush();
            self.mark = None;
            self.out.extend_from_slice(bytes);
            self.out.extend_from_slice(&self.deferred.bytes);
            self.forget();
        }
    }

    /// What was deferred is left out.
    pub fn withdraw(&mut self) {
        if self.mark.is_some() {
            self.flush();
            self.mark = None;
            self.forget();
        }
    }

    /// Whether `count` bytes more may be held back beside what is deferred.
    pub fn holds(&self, count: u64) -> bool {
        let held = self.mark.map_or(0, |mark| self.deferred.len() + self.at.saturating_sub(mark));
        count.saturating_add(held as u64) <= self.deferred.held_bytes_max as u64
    }

    /// Whether `count` bytes may be held apart from what is deferred.
    pub fn keeps(&self, count: usize) -> bool {
        count <= self.deferred.held_bytes_max
    }

    /// Makes sure that `count` bytes more can pass: what is deferred is held back.
    pub fn room(&self, count: u64) -> Result<(), FaultKind> {
        if self.mark.is_some() && !self.holds(count) { Err(self.too_large("key")) } else { Ok(()) }
    }

    pub fn too_large(&self, what: &'static str) -> FaultKind {
        FaultKind::TooLarge { what, limit: "held_bytes_max", max: self.deferred.held_bytes_max }
    }

    /// `count` bytes on, but not behind the end of the input.
    fn end(&self, count: usize) -> usize {
        self.at.saturating_add(count).min(self.input.len())
    }

    fn flush(&mut self) {
        let settled = self.mark.unwrap_or(self.at);
        self.out.extend_from_slice(self.input.get(self.run..settled).unwrap_or_default());
        if let Some(mark) = &mut self.mark {
            self.deferred.bytes.extend_from_slice(self.input.get(*mark..self.at).unwrap_or_default());
            *mark = self.at;
        }
        self.run = self.at;
    }

    fn forget(&mut self) {
        self.deferred.bytes.clear();
        if self.deferred.bytes.capacity() > KEPT_BYTES_MAX {
            self.deferred.bytes = BytesMut::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_bytes_keep_their_order_around_skipped_and_put_ones() {
        let (mut deferred, mut out) = (Deferred::new(100), BytesMut::new());
        let mut tape = Tape::new(b"abcdef", &mut deferred, &mut out);
        tape.pass(2).unwrap();
        tape.put(b"-");
        tape.skip(1);
        tape.pass(1).unwrap();
        assert_eq!(tape.rest(), b"ef");
        assert_eq!(tape.close(), 4);
        assert_eq!(&out[..], b"ab-d");
    }

    #[test]
    fn deferred_bytes_outlive_a_call_and_leave_once_settled() {
        let (mut deferred, mut out) = (Deferred::new(100), BytesMut::new());
        let mut tape = Tape::new(b"abc", &mut deferred, &mut out);
        tape.pass(1).unwrap();
        tape.defer();
        tape.pass(2).unwrap();
        tape.close();
        assert_eq!((&out[..], deferred.len()), (&b"a"[..], 2));
        let mut tape = Tape::new(b"de", &mut deferred, &mut out);
        tape.pass(1).unwrap();
        tape.put(b"-");
        tape.settle();
        tape.pass(1).unwrap();
        tape.close();
        assert_eq!((&out[..], deferred.len()), (&b"abcd-e"[..], 0));
    }

    #[test]
    fn deferred_bytes_leave_behind_others() {
        let (mut deferred, mut out) = (Deferred::new(100), BytesMut::new());
        let mut tape = Tape::new(b"abcd", &mut deferred, &mut out);
        tape.pass(1).unwrap();
        tape.defer();
        tape.pass(2).unwrap();
        tape.settle_behind(b"-");
        tape.pass(1).unwrap();
        tape.settle_behind(b"not without a mark");
        tape.close();
        assert_eq!((&out[..], deferred.len()), (&b"a-bcd"[..], 0));
    }

    #[test]
    fn withdrawn_bytes_never_leave() {
        let (mut deferred, mut out) = (Deferred::new(100), BytesMut::new());
        let mut tape = Tape::new(b"abcd", &mut deferred, &mut out);
        tape.pass(1).unwrap();
        tape.defer();
        tape.pass(2).unwrap();
        tape.withdraw();
        tape.pass(1).unwrap();
        tape.close();
        assert_eq!(&out[..], b"ad");
    }

    #[test]
    fn what_is_deferred_is_bounded() {
        let (mut deferred, mut out) = (Deferred::new(3), BytesMut::new());
        let mut tape = Tape::new(b"abcdefgh", &mut deferred, &mut out);
        tape.pass(4).unwrap();
        tape.defer();
        tape.pass(3).unwrap();
        let too_large = FaultKind::TooLarge { what: "key", limit: "held_bytes_max", max: 3 };
        assert_eq!(tape.pass(1), Err(too_large));
    }
}
