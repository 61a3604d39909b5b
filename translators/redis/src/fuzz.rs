//! The entries of the fuzz targets `session` and `bus`.

use bytes::{Bytes, BytesMut};
use segue_wire::{
    Answer, Effect, Effects, End, Hints, Limits, LossPolicy, Mode, Protocol, Question, Release,
    SecondConnection, Side,
};

use crate::{Redis, offsets::OffsetMap, saved};

const LIMITS: Limits = Limits { held_bytes_max: 4096, handshake_bytes_max: 512, offset_marks_max: 8 };

/// A replica's handshake and its master's answers, up to the point where the stream flows; the data then
/// comes as (side and length, bytes) pieces. The first byte picks what precedes.
pub fn fuzz(data: &[u8]) {
    let Some((&setting, rest)) = data.split_first() else { return };
    let on_loss = if setting & 1 == 0 { LossPolicy::Degrade } else { LossPolicy::Refuse };
    let mut session = Redis.open(
        Hints {
            near: if setting & 4 == 0 { Side::Listener } else { Side::Dialer },
            mode: Mode::Auto,
            on_loss,
            second_connection: if setting & 8 == 0 {
                SecondConnection::Strip
            } else {
                SecondConnection::Translate
            },
            nonce: [7; 20],
        },
        LIMITS,
    );
    let mut input = [BytesMut::new(), BytesMut::new()];
    if setting & 2 == 0 {
        for (side, bytes) in PRELUDE {
            if !feed(&mut *session, &mut input, *side, bytes) {
                return;
            }
        }
    }
    feed_pieces(&mut *session, &mut input, rest);
    session.finish(&mut Effects::new());
}

/// A ping with a header of zeros, and the data behind it, in pieces as for [`fuzz`].
pub fn fuzz_bus(data: &[u8]) {
    let hints = Hints {
        near: Side::Listener,
        mode: Mode::Auto,
        on_loss: LossPolicy::Refuse,
        second_connection: SecondConnection::Strip,
        nonce: [7; 20],
    };
    let Some(mut session) = Redis.open_bus(hints, LIMITS) else { return };
    let mut input = [BytesMut::new(), BytesMut::new()];
    let mut ping = b"RCmb\0\0\x08\xd0\0\x01".to_vec();
    ping.resize(2256, 0);
    if feed(&mut *session, &mut input, Side::Dialer, &ping) {
        feed_pieces(&mut *session, &mut input, data);
    }
}

fn feed_pieces(session: &mut dyn segue_wire::Session, input: &mut [BytesMut; 2], mut rest: &[u8]) {
    while let Some((&head, tail)) = rest.split_first() {
        let side = if head & 1 == 0 { Side::Dialer } else { Side::Listener };
        let (piece, after) = tail.split_at(tail.len().min(usize::from(head >> 1)));
        rest = after;
        if !feed(session, input, side, piece) {
            break;
        }
    }
}

const PRELUDE: &[(Side, &[u8])] = &[
    (Side::Dialer, b"*3\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n"),
    (Side::Listener, b"+OK\r\n"),
    (Side::Dialer, b"*3\r\n$5\r\nPSYNC\r\n$1\r\na\r\n$2\r\n11\r\n"),
    (Side::Listener, b"+CONTINUE\r\n"),
];

/// False once the session is over.
fn feed(session: &mut dyn segue_wire::Session, input: &mut [BytesMut; 2], from: Side, bytes: &[u8]) -> bool {
    let mut out = Effects::new();
    let [dialer, listener] = input;
    if from == Side::Dialer { &mut *dialer } else { &mut *listener }.extend_from_slice(bytes);
    loop {
        let mut moved = false;
        for (side, input) in [(Side::Dialer, &mut *dialer), (Side::Listener, &mut *listener)] {
            let before = input.len();
            if session.feed(side, input, &mut out).is_err() {
                return false;
            }
            moved |= input.len() != before;
            drop(out.drain_notes());
            for effect in out.drain().collect::<Vec<_>>() {
                moved = true;
                let over = match effect {
                    Effect::Splice | Effect::Close => true,
                    Effect::Ask(question) => session.answer(answer(&question), &mut Effects::new()).is_err(),
                    _ => false,
                };
                if over {
                    return false;
                }
            }
        }
        if !moved {
            return true;
        }
    }
}

fn answer(question: &Question) -> Answer {
    let end = |name: &str, major, minor| End {
        name: name.into(),
        release: Some(Release::new("redis", major, minor, None)),
    };
    let state =
        || -> Bytes { saved::branch("b", "a", false, &mut OffsetMap::new(10, 10, LIMITS.offset_marks_max)) };
    match question {
        Question::Ends { .. } => Answer::Ends {
            dialer: end("a", 5, 0),
            listener: end("b", 8, 0),
            refuse_early: None,
            joined: Some(Bytes::from_static(b"c")),
        },
        Question::Bus { .. } => Answer::Stores {
            dialer: end("a", 8, 0).release,
            listener: Some(Release::new("valkey", 9, 1, None)),
            hidden: Some("10.0.0.1".to_owned()),
        },
        Question::Client => {
            Answer::Stores { dialer: end("a", 8, 0).release, listener: end("b", 5, 0).release, hidden: None }
        }
        Question::OwnOffsets => Answer::OwnOffsets(true),
        Question::Told => Answer::Told(Some(Bytes::from_static(b"b 10 1"))),
        Question::Stream(_) => Answer::Stream { dialer: Some(state()), listener: None },
    }
}
