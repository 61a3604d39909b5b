//! The snapshot on the wire: `$<len>\r\n` and that many bytes, or `$EOF:<mark>\r\n`, the bytes, and the
//! 40-byte mark again. A rewritten snapshot always goes out in the second form, because its length is
//! known only at its end.

use bytes::{BufMut, Bytes, BytesMut};
use segue_wire::{Effects, FaultKind, Grade, Limits, LossPolicy, Note, Side};

use crate::{
    rdb::{Progress, Rewriter},
    releases::Pair,
    resp::integer,
};

const REPLICA: Side = Side::Dialer;
pub const MARK_BYTES: usize = 40;

/// One snapshot on its way to the replica.
pub struct Snapshot {
    rewriter: Rewriter,
    end: End,
    mark: Bytes,
    rewritten: bool,
    left_out: bool,
}

/// How the master marks the snapshot's end.
enum End {
    /// After this many bytes.
    Length(u64),
    /// With the mark again.
    Mark,
}

impl Snapshot {
    /// `header` is the line without its end. `nonce` makes the mark where the master gave none.
    pub fn open(
        header: &[u8],
        pair: &Pair,
        policy: LossPolicy,
        limits: Limits,
        nonce: &[u8; 20],
        out: &mut Effects,
    ) -> Result<Self, FaultKind> {
        let malformed = || FaultKind::Malformed {
            what: "snapshot header",
            detail: format!("\"{}\" is neither $<length> nor $EOF:<mark>", header.escape_ascii()),
        };
        let body = header.strip_prefix(b"$").ok_or_else(malformed)?;
        let (end, mark) = match body.strip_prefix(b"EOF:") {
            Some(mark) if mark.len() == MARK_BYTES => (End::Mark, Bytes::copy_from_slice(mark)),
            Some(_) => return Err(malformed()),
            None => {
                let length =
                    integer(body).and_then(|length| u64::try_from(length).ok()).ok_or_else(malformed)?;
                (End::Length(length), hex(nonce).into())
            }
        };
        let buffer = out.buffer(REPLICA);
        buffer.put_slice(b"$EOF:");
        buffer.put_slice(&mark);
        buffer.put_slice(b"\r\n");
        Ok(Self {
            rewriter: Rewriter::new(pair.rdb.clone(), policy, limits),
            end,
            mark,
            rewritten: false,
            left_out: false,
        })
    }

    pub fn held_bytes(&self) -> usize {
        self.rewriter.held_bytes()
    }

    /// Whether the replica won't have all.
    pub const fn left_out(&self) -> bool {
        self.left_out
    }

    /// True once the replica has been sent all but its end.
    pub fn feed(&mut self, input: &mut BytesMut, out: &mut Effects) -> Result<bool, FaultKind> {
        if !self.rewritten {
            let mut losses = Vec::new();
            let progress = self.rewriter.feed(input, out.buffer(REPLICA), &mut losses);
            for loss in losses {
                self.left_out |= loss.grade == Grade::Data;
                out.note(Note::Lost(loss));
            }
            match progress? {
                Progress::More => return Ok(false),
                Progress::Done => self.rewritten = true,
            }
        }
        match self.end {
            End::Length(length) if length != self.rewriter.position() => {
                return Err(FaultKind::Malformed {
                    what: "snapshot",
                    detail: format!("announced as {length} bytes, ended after {}", self.rewriter.position()),
                });
            }
            End::Length(_) => {}
            End::Mark => {
                if input.len() < MARK_BYTES {
                    return Ok(false);
                }
                if input.split_to(MARK_BYTES) != self.mark {
                    return Err(FaultKind::Malformed {
                        what: "snapshot",
                        detail: "its end is not followed by its mark".to_owned(),
                    });
                }
            }
        }
        Ok(true)
    }

    /// Tells the replica that it has all.
    pub fn end(self, out: &mut Effects) {
        out.send_slice(REPLICA, &self.mark);
        out.note(Note::Translated("snapshot"));
    }
}

pub fn hex(nonce: &[u8; 20]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(MARK_BYTES);
    for byte in nonce {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
