//! One connection of the cluster bus. Its messages mean the same in every release but for some extensions of
//! pings (see [`message`]): between stores of different families these are left out. Everything else passes.
//!
//! Where the listener can't see the dialer's address, because the sidecar dials in its place, pings are given
//! it: a node takes a peer's address from where it comes, unless the ping says it.
//!
//! A replica that asks to be handed its master's slots waits until its count is its master's. Where it has an
//! id of its own, equal counts mean nothing: its master does not hear of it, and it gives up by itself.
//!
//! A link of the bus is never refused for want of a release: without these extensions every release does.

mod message;

use bytes::BytesMut;
use segue_wire::{
    Answer, Effect, Effects, Fault, FaultKind, Flow, Hints, Limits, Mode, Note, Question, Refusal, Release,
    Session, Side, Verdict,
};

use crate::releases;
use message::{Head, Sender};

pub struct BusSession {
    hints: Hints,
    limits: Limits,
    phase: Phase,
    /// The dialer asked for a handover: does it follow by an id of its own? None until that is known.
    own_offsets: Option<bool>,
    waiting: bool,
    /// Bytes of a message under way that pass unseen, of each side.
    passing: [usize; 2],
    /// Bytes taken from the dialer and from the listener.
    taken: [u64; 2],
}

enum Phase {
    /// Nothing is known but what the first message will say.
    Begin,
    Asked,
    Answered {
        dialer: Option<Release>,
        listener: Option<Release>,
        hidden: Option<String>,
    },
    Rewriting {
        drop_extensions: bool,
        hidden: Option<String>,
    },
    Over,
}

impl BusSession {
    pub const fn new(hints: Hints, limits: Limits) -> Self {
        Self {
            hints,
            limits,
            phase: Phase::Begin,
            own_offsets: None,
            waiting: false,
            passing: [0; 2],
            taken: [0; 2],
        }
    }

    fn take(&mut self, from: Side, input: &mut BytesMut, out: &mut Effects) -> Result<Flow, FaultKind> {
        if self.waiting {
            return Ok(Flow::Hold);
        }
        match self.phase {
            Phase::Begin => return self.begin(from, input, out),
            Phase::Asked => return Ok(Flow::Hold),
            // The dialer's first message waits.
            Phase::Answered { .. } if from == Side::Listener => return Ok(Flow::Hold),
            Phase::Answered { .. } => self.decide(is_foreign(input), out),
            Phase::Rewriting { .. } | Phase::Over => {}
        }
        while self.message(from, input, out)? {}
        Ok(Flow::More)
    }

    /// The dialer speaks first, and its first message says who it is.
    fn begin(&mut self, from: Side, input: &BytesMut, out: &mut Effects) -> Result<Flow, FaultKind> {
        if self.hints.mode == Mode::Off {
            self.pass_on(out);
            return Ok(Flow::More);
        }
        if from == Side::Listener {
            return Ok(Flow::Hold);
        }
        let sender = if is_foreign(input) {
            Sender::default()
        } else {
            let Some(head) = Head::read(input)? else { return Ok(Flow::More) };
            let Some(header) = input.get(..head.length.min(message::HEADER_BYTES)) else {
                return Ok(Flow::More);
            };
            Sender::read(header)
        };
        self.phase = Phase::Asked;
        let Sender { port: listening_port, address } = sender;
        out.push(Effect::Ask(Question::Bus { listening_port, address }));
        Ok(Flow::Hold)
    }

    fn decide(&mut self, foreign: bool, out: &mut Effects) {
        let Phase::Answered { dialer, listener, hidden } = std::mem::replace(&mut self.phase, Phase::Over)
        else {
            return;
        };
        let verdict = verdict(dialer.as_ref(), listener.as_ref());
        let drop_extensions = verdict == Verdict::Rewrite;
        let watched = !foreign && self.may_shift(dialer.as_ref(), listener.as_ref());
        out.note(Note::Decided { verdict, target: listener });
        if drop_extensions || hidden.is_some() || watched {
            self.phase = Phase::Rewriting { drop_extensions, hidden };
        } else {
            self.pass_on(out);
        }
    }

    /// Whether a link from the listener to the dialer would be rewritten.
    fn may_shift(&self, dialer: Option<&Release>, listener: Option<&Release>) -> bool {
        let rewritten = |(to, from)| releases::verdict(from, to) != Verdict::Same;
        matches!(self.hints.mode, Mode::Pin(_) | Mode::Upgrade(_))
            || dialer.zip(listener).is_none_or(rewritten)
    }

    /// The message at the front, or as much of it as may pass. False if there is nothing to do.
    fn message(&mut self, from: Side, input: &mut BytesMut, out: &mut Effects) -> Result<bool, FaultKind> {
        let Phase::Rewriting { drop_extensions, hidden } = &self.phase else { return Ok(false) };
        let passing = &mut self.passing[usize::from(from == Side::Listener)];
        if *passing > 0 {
            let piece = input.split_to(input.len().min(*passing));
            *passing -= piece.len();
            out.send(from.other(), piece.freeze());
            return Ok(*passing == 0);
        }
        if is_foreign(input) {
            return Err(message::malformed(
                "no message at all (tls-cluster?); Segue can't rewrite this bus, leave it alone".to_owned(),
            ));
        }
        let Some(head) = Head::read(input)? else { return Ok(false) };
        let is_handover = head.is_handover && from == Side::Dialer;
        if !head.is_ping && !is_handover {
            *passing = head.length;
            return Ok(true);
        }
        let max = self.limits.held_bytes_max;
        if head.length > max {
            return Err(FaultKind::TooLarge { what: "a bus message", limit: "held_bytes_max", max });
        }
        if input.len() < head.length {
            return Ok(false);
        }
        if is_handover {
            return Ok(self.handover(head.length, input, out));
        }
        let whole = input.split_to(head.length).freeze();
        let address = hidden.as_deref().filter(|_| from == Side::Dialer);
        let edited = message::edit(&whole, *drop_extensions, address)?;
        if edited.extensions_dropped > 0 {
            out.note(Note::Translated("bus-extension"));
        }
        if edited.address_told {
            out.note(Note::Translated("bus-address"));
        }
        out.send(from.other(), edited.message.unwrap_or(whole));
        Ok(true)
    }

    /// It passes to a master that counts as its replica does. False where that is not known yet.
    fn handover(&mut self, length: usize, input: &mut BytesMut, out: &mut Effects) -> bool {
        let Some(own_offsets) = self.own_offsets.take() else {
            out.push(Effect::Ask(Question::OwnOffsets));
            self.waiting = true;
            return false;
        };
        let whole = input.split_to(length).freeze();
        if own_offsets {
            out.note(Note::Refused(Refusal::ShiftedOffsets));
        } else {
            out.send(Side::Listener, whole);
        }
        true
    }

    fn pass_on(&mut self, out: &mut Effects) {
        self.phase = Phase::Over;
        out.push(Effect::Splice);
    }
}

// === impl Session ===

impl Session for BusSession {
    fn feed(&mut self, from: Side, input: &mut BytesMut, out: &mut Effects) -> Result<Flow, Fault> {
        let before = input.len();
        let flow = self.take(from, input, out);
        let taken = &mut self.taken[usize::from(from == Side::Listener)];
        *taken += (before - input.len()) as u64;
        let position = *taken;
        flow.map_err(|kind| Fault { kind, side: from, position })
    }

    fn answer(&mut self, answer: Answer, _: &mut Effects) -> Result<(), Fault> {
        match answer {
            Answer::Stores { dialer, listener, hidden } => {
                self.phase = Phase::Answered { dialer, listener, hidden };
            }
            Answer::OwnOffsets(own) => {
                self.waiting = false;
                self.own_offsets = Some(own);
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, _: &mut Effects) {}

    fn held_bytes(&self) -> usize {
        0
    }
}

/// Only Valkey reads extensions of its own; Redict, which came from Redis 7.2, has none and knows none.
fn verdict(dialer: Option<&Release>, listener: Option<&Release>) -> Verdict {
    let is_valkey = |release: &Release| release.store() == "valkey";
    match (dialer.map(is_valkey), listener.map(is_valkey)) {
        (Some(dialer), Some(listener)) if dialer == listener => Verdict::Same,
        _ => Verdict::Rewrite,
    }
}

fn is_foreign(input: &[u8]) -> bool {
    !input.iter().zip(message::MAGIC).all(|(byte, magic)| byte == magic)
}
