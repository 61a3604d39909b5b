//! The cluster bus as the relay sees it: bytes in, effects out.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use segue_redis::Redis;
use segue_wire::{
    Answer, Effect, Effects, Fault, Flow, Hints, Limits, LossPolicy, Mode, Note, Protocol, Question, Refusal,
    Release, SecondConnection, Session, Side,
};

const HEADER_BYTES: usize = 2256;

struct Bus {
    session: Box<dyn Session>,
    releases: [Option<Release>; 2],
    hidden: Option<String>,
    own_offsets: bool,
    input: [BytesMut; 2],
    sent: [Vec<u8>; 2],
    asked: Vec<Question>,
    notes: Vec<Note>,
    spliced: bool,
    fault: Option<Fault>,
}

impl Bus {
    fn open(dialer: &str, listener: &str, mode: Mode) -> Self {
        let hints = Hints {
            near: Side::Listener,
            mode,
            on_loss: LossPolicy::Refuse,
            second_connection: SecondConnection::Strip,
            nonce: [7; 20],
        };
        let limits = Limits { held_bytes_max: 16_384, ..Limits::default() };
        Self {
            session: Redis.open_bus(hints, limits).unwrap(),
            releases: [dialer, listener].map(|name| name.parse().ok()),
            hidden: None,
            own_offsets: false,
            input: Default::default(),
            sent: Default::default(),
            asked: Vec::new(),
            notes: Vec::new(),
            spliced: false,
            fault: None,
        }
    }

    fn feed(&mut self, from: Side, bytes: &[u8]) {
        let index = |side: Side| usize::from(side == Side::Listener);
        self.input[index(from)].extend_from_slice(bytes);
        let mut out = Effects::new();
        loop {
            let mut moved = false;
            for side in Side::BOTH {
                if self.fault.is_some() || self.spliced {
                    return;
                }
                let before = self.input[index(side)].len();
                let fed = self.session.feed(side, &mut self.input[index(side)], &mut out);
                moved |= self.input[index(side)].len() != before;
                self.notes.extend(out.drain_notes());
                for effect in out.drain().collect::<Vec<_>>() {
                    moved = true;
                    match effect {
                        Effect::Send(to, bytes) => self.sent[index(to)].extend_from_slice(&bytes),
                        Effect::Splice => self.spliced = true,
                        Effect::Ask(question) => {
                            let [dialer, listener] = self.releases.clone();
                            let answer = match question {
                                Question::OwnOffsets => Answer::OwnOffsets(self.own_offsets),
                                _ => Answer::Stores { dialer, listener, hidden: self.hidden.clone() },
                            };
                            self.asked.push(question);
                            self.session.answer(answer, &mut Effects::new()).unwrap();
                        }
                        other => panic!("{other:?}"),
                    }
                }
                match fed {
                    Ok(Flow::More | Flow::Hold) => {}
                    Err(fault) => self.fault = Some(fault),
                }
            }
            if !moved {
                return;
            }
        }
    }
}

/// A message of `kind` with gossip entries and extensions; for other kinds, with a body.
fn message(kind: u16, gossip: u16, extensions: &[(u16, &[u8])], body: &[u8]) -> Vec<u8> {
    let mut message = vec![0; HEADER_BYTES + usize::from(gossip) * 104];
    for (kind, value) in extensions {
        let padded = value.len().next_multiple_of(8);
        message.extend(u32::try_from(8 + padded).unwrap().to_be_bytes());
        message.extend(kind.to_be_bytes());
        message.extend([0; 2]);
        message.extend(*value);
        message.resize(message.len() + padded - value.len(), 0);
    }
    message.extend(body);
    let length = u32::try_from(message.len()).unwrap();
    let fields: [(usize, &[u8]); 7] = [
        (0, b"RCmb"),
        (4, &length.to_be_bytes()),
        (8, &1_u16.to_be_bytes()),
        (10, &6379_u16.to_be_bytes()),
        (12, &kind.to_be_bytes()),
        (14, &gossip.to_be_bytes()),
        (2214, &u16::try_from(extensions.len()).unwrap().to_be_bytes()),
    ];
    for (at, bytes) in fields {
        message[at..at + bytes.len()].copy_from_slice(bytes);
    }
    message
}

const SECRET: &[u8] = &[b'5'; 40];
const SHARD: &[u8] = &[b'a'; 40];
const HOST: &[u8] = b"host\0";

/// What both sides say, and what the other is to hear of it.
fn talk() -> Vec<(Side, Vec<u8>, Vec<u8>)> {
    let same = |side, message: Vec<u8>| (side, message.clone(), message);
    vec![
        (Side::Dialer, message(2, 0, &[(3, SHARD), (4, SECRET)], b""), message(2, 0, &[(3, SHARD)], b"")),
        (
            Side::Listener,
            message(1, 3, &[(4, b"10.0.0.1\0"), (0, HOST), (7, b"zone")], b""),
            message(1, 3, &[(0, HOST)], b""),
        ),
        same(Side::Listener, message(4, 0, &[], &[b'p'; 20_000])),
        same(Side::Dialer, message(0, 2, &[(0, HOST)], b"")),
        same(Side::Listener, {
            let mut light = b"RCmb\0\0\0\x14\0\x01\0\0\x80\x04\0\0body".to_vec();
            light.truncate(20);
            light
        }),
        (Side::Dialer, message(0, 1, &[(4, SECRET)], b""), message(0, 1, &[], b"")),
    ]
}

fn heard(from: Side) -> Vec<u8> {
    talk().into_iter().filter(|(side, ..)| *side == from).flat_map(|(_, _, heard)| heard).collect()
}

fn assert_heard(bus: &Bus) {
    assert_eq!(bus.fault, None);
    assert!(bus.sent[1] == heard(Side::Dialer) && bus.sent[0] == heard(Side::Listener));
    let edited = bus.notes.iter().filter(|note| **note == Note::Translated("bus-extension")).count();
    assert_eq!(edited, 3);
    assert_eq!(bus.asked, [Question::Bus { listening_port: Some(6379), address: None }]);
}

#[test]
fn between_families_their_own_extensions_are_left_out() {
    for (dialer, listener) in
        [("redis-8.0.6", "valkey-9.1"), ("valkey-8.1", "redis-7.0"), ("", "redis-8.0.6")]
    {
        let mut bus = Bus::open(dialer, listener, Mode::Auto);
        for (side, said, _) in talk() {
            bus.feed(side, &said);
        }
        assert_heard(&bus);
    }
}

#[test]
fn within_a_family_and_when_off_the_bus_passes() {
    let auto = |dialer, listener| Bus::open(dialer, listener, Mode::Auto);
    for mut bus in [
        auto("redis-8.0.6", "redis-6.0"),
        auto("valkey-9.1", "valkey-8.0"),
        Bus::open("redis-8.0.6", "valkey-9.1", Mode::Off),
    ] {
        bus.feed(Side::Dialer, &talk()[0].1);
        assert!(bus.spliced && bus.fault.is_none() && bus.sent[1].is_empty());
    }
}

#[test]
fn a_replica_with_offsets_of_its_own_is_not_handed_its_masters_slots() {
    let handover = message(8, 0, &[], b"");
    for own_offsets in [false, true] {
        let mut bus = Bus::open("redis-6.0", "redis-8.0.6", Mode::Auto);
        bus.own_offsets = own_offsets;
        let ping = message(0, 1, &[(4, SECRET)], b"");
        bus.feed(Side::Dialer, &ping);
        // The listener is asked nothing, and its own handovers are another link's.
        bus.feed(Side::Listener, &handover);
        bus.feed(Side::Dialer, &handover[..100]);
        bus.feed(Side::Dialer, &[&handover[100..], &ping].concat());
        assert!(!bus.spliced && bus.fault.is_none() && bus.sent[0] == handover);
        let passes: &[u8] = if own_offsets { &[] } else { &handover };
        assert!(bus.sent[1] == [&ping[..], passes, &ping].concat());
        assert_eq!(bus.asked[1..], [Question::OwnOffsets]);
        assert_eq!(bus.notes.contains(&Note::Refused(Refusal::ShiftedOffsets)), own_offsets);
        // It is asked each time: the answer may be another one by then.
        bus.own_offsets = false;
        bus.feed(Side::Dialer, &handover);
        assert!(bus.sent[1].ends_with(&handover));
    }
}

#[test]
fn a_hidden_dialer_is_given_its_address() {
    let mut bus = Bus::open("redis-6.0", "redis-8.0.6", Mode::Auto);
    bus.hidden = Some("10.0.0.7".to_owned());
    bus.feed(Side::Dialer, &message(2, 0, &[(4, SECRET)], b""));
    bus.feed(Side::Listener, &message(1, 0, &[], b""));
    let mut told = message(2, 0, &[(4, SECRET)], b"");
    told[2168..2176].copy_from_slice(b"10.0.0.7");
    assert!(bus.sent[1] == told && bus.sent[0] == message(1, 0, &[], b""));
    assert!(bus.notes.contains(&Note::Translated("bus-address")));
}

#[test]
fn what_is_no_bus_passes_only_where_nothing_is_to_be_done() {
    let hello = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03 and so on";
    for dialer in ["redis-8.0.6", "redis-6.0"] {
        let mut bus = Bus::open(dialer, "redis-8.0.6", Mode::Auto);
        bus.feed(Side::Dialer, hello);
        assert!(bus.spliced);
    }
    let mut bus = Bus::open("redis-8.0.6", "valkey-9.1", Mode::Auto);
    bus.feed(Side::Dialer, hello);
    assert!(bus.fault.unwrap().to_string().contains("tls-cluster"));
}

#[test]
fn a_ping_over_the_limit_is_refused_before_its_bytes_come() {
    let mut bus = Bus::open("redis-8.0.6", "valkey-9.1", Mode::Auto);
    bus.feed(Side::Dialer, &message(0, 200, &[], b"")[..HEADER_BYTES]);
    assert_eq!(
        bus.fault.unwrap().kind.to_string(),
        "a bus message is larger than held_bytes_max = 16384 bytes"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn fed_in_any_pieces_the_same_is_heard(sizes in prop::collection::vec(1usize..6000, 1..60)) {
        let mut sizes = sizes.into_iter().cycle();
        let mut bus = Bus::open("redis-8.0.6", "valkey-9.1", Mode::Auto);
        for (side, said, _) in talk() {
            let mut said = Bytes::from(said);
            while !said.is_empty() {
                let piece = said.split_to(sizes.next().unwrap().min(said.len()));
                bus.feed(side, &piece);
            }
        }
        assert_heard(&bus);
    }

    #[test]
    fn damage_never_panics_nor_makes_a_message_longer(
        step in 0usize..6,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bus = Bus::open("redis-8.0.6", "valkey-9.1", Mode::Auto);
        let mut fed = 0;
        for (at, (side, mut said, _)) in talk().into_iter().enumerate() {
            if at == step {
                for (place, byte) in &changes {
                    let place = place.index(said.len());
                    said[place] = *byte;
                }
            }
            fed += said.len();
            bus.feed(side, &said);
        }
        prop_assert!(bus.sent[0].len() + bus.sent[1].len() <= fed);
    }
}
