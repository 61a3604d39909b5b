//! The protocol `passthrough`: any TCP protocol whose releases understand each other, such as etcd's.
//!
//! Nothing of it is looked at, not even the first byte, so that either end may speak first.

use bytes::BytesMut;
use segue_wire::{
    Answer, Effect, Effects, Fault, Flow, Hints, Limits, Note, Protocol, Release, Session, Side, Verdict,
};

#[derive(Debug, Default)]
pub struct Passthrough;

impl Protocol for Passthrough {
    fn name(&self) -> &'static str {
        "passthrough"
    }

    fn releases(&self) -> &[Release] {
        &[]
    }

    fn recognize(&self, _: &str, _: &str) -> Option<Release> {
        None
    }

    fn verdict(&self, _: &Release, _: &Release) -> Verdict {
        Verdict::Same
    }

    fn open(&self, _: Hints, _: Limits) -> Box<dyn Session> {
        Box::new(PassthroughSession)
    }
}

struct PassthroughSession;

impl Session for PassthroughSession {
    fn feed(&mut self, _: Side, _: &mut BytesMut, out: &mut Effects) -> Result<Flow, Fault> {
        out.note(Note::Decided { verdict: Verdict::Same, target: None });
        out.push(Effect::Splice);
        Ok(Flow::More)
    }

    fn answer(&mut self, _: Answer, _: &mut Effects) -> Result<(), Fault> {
        Ok(())
    }

    fn finish(&mut self, _: &mut Effects) {}

    fn held_bytes(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use segue_wire::{LossPolicy, Mode, SecondConnection};

    use super::*;

    #[test]
    fn a_link_is_spliced_before_anyone_has_spoken() {
        let hints = Hints {
            near: Side::Listener,
            mode: Mode::Auto,
            on_loss: LossPolicy::Refuse,
            second_connection: SecondConnection::Strip,
            nonce: [0; 20],
        };
        let mut session = Passthrough.open(hints, Limits::default());
        let mut out = Effects::new();
        let flow = session.feed(Side::Dialer, &mut BytesMut::new(), &mut out);
        assert_eq!(flow, Ok(Flow::More));
        assert_eq!(out.drain().collect::<Vec<_>>(), [Effect::Splice]);
        assert_eq!(
            out.drain_notes().collect::<Vec<_>>(),
            [Note::Decided { verdict: Verdict::Same, target: None }]
        );
    }
}
