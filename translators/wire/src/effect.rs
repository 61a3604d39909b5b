use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::{Loss, Refusal, Release, Side, Verdict};

/// What a session asks the relay to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send these bytes to this side.
    Send(Side, Bytes),
    /// The session waits for an [`Answer`].
    Ask(Question),
    /// Another connection of this dialer's to this listener may join this one by this key, and is told so
    /// many bytes; in place of any offer before.
    Offer(String, Bytes),
    /// For the connection that this one joined.
    Tell(Bytes),
    /// Remember this state of a stream in place of any before: what follows relies on it, whatever
    /// happens to process or host.
    Save(StreamKey, Bytes),
    /// Remember this behind the stream's saved state: what follows relies on it, whatever happens to the
    /// process.
    Append(StreamKey, Bytes),
    /// The saved state of this stream is no longer true.
    Forget(StreamKey),
    /// From here on the bytes of both sides pass unchanged, for good.
    Splice,
    /// The link ends once what was sent is on its way. Nothing is wrong: the dialer is to dial again.
    Close,
}

/// What a session has to say of itself, for the status, the metrics and the reports. Notes keep their
/// own order, but none among the effects: nothing waits for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The wire told a side's release.
    Learned(Side, Release),
    /// The verdict on this link, and the release that is spoken to the receiving store.
    Decided { verdict: Verdict, target: Option<Release> },
    /// A message was rewritten under this rule.
    Translated(&'static str),
    /// Content was left out.
    Lost(Loss),
    /// The receiving store's stream position is now this much ahead of the sender's, in bytes.
    Shift(i64),
    /// It follows by an id of its own, because its position may differ.
    OwnOffsets,
    /// Something that was said is kept from the other side; the link goes on.
    Refused(Refusal),
    /// It has the snapshot that came on another connection.
    Synced,
}

/// What a session cannot know by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Who stands at the two ends? What the dialer announced about itself may tell. `joins`: it belongs to
    /// the connection that made an offer by this key.
    Ends { listening_port: Option<u16>, address: Option<String>, joins: Option<String> },
    /// What does the connection say that joined this one? The answer may take its time.
    Told,
    /// Which stores does this link of the bus join? Likewise.
    Bus { listening_port: Option<u16>, address: Option<String> },
    /// The dialer speaks as a client of the listener: is it a store, and which ones are they?
    Client,
    /// What was saved about this stream, for the store at each end?
    Stream(String),
    /// Does the dialer's store follow the listener's, on another link, by an id of its own?
    OwnOffsets,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A release is `None` where it can't be had; a name always is one, stable over reconnects.
    /// `refuse_early`: a recent refusal of this dialer, which would only repeat itself now. `joined`: what the
    /// connection offered that this one belongs to, if it is there.
    Ends {
        dialer: End,
        listener: End,
        refuse_early: Option<Refusal>,
        joined: Option<Bytes>,
    },
    /// `None`: nothing in time.
    Told(Option<Bytes>),
    /// A release is `None` where it can't be had; that of a dialer which is a client may have been another
    /// one before. `hidden`: the dialer's address, where the listener sees another one.
    Stores {
        dialer: Option<Release>,
        listener: Option<Release>,
        hidden: Option<String>,
    },
    /// The dialer is no store.
    NoStore,
    Stream {
        dialer: Option<Bytes>,
        listener: Option<Bytes>,
    },
    OwnOffsets(bool),
}

/// The store at one end of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    pub name: PeerName,
    pub release: Option<Release>,
}

/// The configured name of a node, or where it has none its address.
pub type PeerName = Arc<str>;

/// Names a saved stream state: which stream, and who follows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey {
    pub stream: String,
    pub follower: String,
}

/// The effects and notes of one call. Small sends to one side are joined.
#[derive(Debug, Default)]
pub struct Effects {
    list: Vec<Effect>,
    notes: Vec<Note>,
    tail: BytesMut,
    tail_side: Option<Side>,
}

/// Larger sends keep their own buffer, smaller ones are copied together.
const JOIN_BYTES_MAX: usize = 4 << 10;

impl Effects {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub fn push(&mut self, effect: Effect) {
        self.close_tail();
        self.list.push(effect);
    }

    pub fn note(&mut self, note: Note) {
        self.notes.push(note);
    }

    pub fn send(&mut self, to: Side, bytes: Bytes) {
        if bytes.len() <= JOIN_BYTES_MAX {
            self.send_slice(to, &bytes);
        } else {
            self.push(Effect::Send(to, bytes));
        }
    }

    pub fn send_slice(&mut self, to: Side, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.buffer(to).extend_from_slice(bytes);
        }
    }

    /// The open buffer towards a side: what is appended to it is sent in its place in the order.
    pub fn buffer(&mut self, to: Side) -> &mut BytesMut {
        if self.tail_side != Some(to) {
            self.close_tail();
            self.tail_side = Some(to);
        }
        &mut self.tail
    }

    /// Everything of `other`, behind what is here.
    pub fn append(&mut self, other: &mut Self) {
        for effect in other.drain() {
            match effect {
                Effect::Send(to, bytes) => self.send(to, bytes),
                effect => self.push(effect),
            }
        }
        self.notes.append(&mut other.notes);
    }

    pub fn drain(&mut self) -> std::vec::Drain<'_, Effect> {
        self.close_tail();
        self.list.drain(..)
    }

    pub fn drain_notes(&mut self) -> std::vec::Drain<'_, Note> {
        self.notes.drain(..)
    }

    fn close_tail(&mut self) {
        if let Some(side) = self.tail_side.take()
            && !self.tail.is_empty()
        {
            self.list.push(Effect::Send(side, self.tail.split().freeze()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_sends_join_and_order_is_kept() {
        let mut effects = Effects::new();
        effects.send_slice(Side::Dialer, b"a");
        effects.send(Side::Dialer, Bytes::from_static(b"b"));
        effects.push(Effect::Splice);
        effects.send_slice(Side::Listener, b"c");
        effects.send_slice(Side::Dialer, b"d");
        assert_eq!(
            effects.drain().collect::<Vec<_>>(),
            [
                Effect::Send(Side::Dialer, Bytes::from_static(b"ab")),
                Effect::Splice,
                Effect::Send(Side::Listener, Bytes::from_static(b"c")),
                Effect::Send(Side::Dialer, Bytes::from_static(b"d")),
            ]
        );
    }
}
