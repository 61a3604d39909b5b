//! However the bytes are cut, and whatever they are.

use proptest::prelude::*;
use segue_redis::Redis;
use segue_wire::{Effect, Hints, Limits, LossPolicy, Mode, Protocol, SecondConnection, Side};

use crate::link::{ID, Link, command};

/// A whole link, as bytes of the two sides in turn.
fn script() -> Vec<(Side, Vec<u8>)> {
    let snapshot = include_bytes!("../golden/redis-7.4.1.rdb");
    let mut stream = String::new();
    for text in [
        "SELECT 2",
        "SET k v",
        "SET k v PXAT 1999999999999",
        "PING",
        "MULTI",
        "LPOP l 2",
        "SET a b KEEPTTL",
        "EXEC",
        "HSETEX h KEEPTTL FIELDS 1 f v",
        "HPEXPIREAT h 99 FIELDS 1 f",
        "JSON.SET a $ 1",
        "XADD s MINID 5 9-1 a b",
        "REPLCONF GETACK *",
        "zadd z GT 5 a",
        "DEL k",
    ] {
        stream += &command(text);
        stream += "\n";
    }
    vec![
        (Side::Dialer, command("PING").into()),
        (Side::Listener, b"+PONG\r\n".into()),
        (Side::Dialer, command("REPLCONF listening-port 6402").into()),
        (Side::Listener, b"+OK\r\n".into()),
        (Side::Dialer, command("REPLCONF capa eof capa psync2").into()),
        (Side::Listener, b"+OK\r\n".into()),
        (Side::Dialer, command(&format!("PSYNC {ID} 55")).into()),
        (Side::Listener, format!("+FULLRESYNC {ID} 100\r\n${}\r\n", snapshot.len()).into()),
        (Side::Listener, snapshot.to_vec()),
        (Side::Dialer, ("\n".to_owned() + &command("REPLCONF ACK 100")).into()),
        (Side::Listener, stream.into()),
        (Side::Dialer, command("REPLCONF ACK 180 FACK 120").into()),
    ]
}

fn play(pieces: impl Iterator<Item = (Side, Vec<u8>)>) -> Link {
    let mut link = Link::new(LossPolicy::Degrade);
    link.session = Redis.open(
        Hints {
            near: Side::Listener,
            mode: Mode::Auto,
            on_loss: LossPolicy::Degrade,
            second_connection: SecondConnection::Strip,
            nonce: [7; 20],
        },
        Limits::default(),
    );
    for (side, bytes) in pieces {
        link.feed(side, &bytes);
    }
    link
}

/// The journal is written at every feed, so its steps follow the cuts; what it comes to does not.
fn assert_same(mut a: Link, mut b: Link) {
    assert_eq!(a.fault, b.fault);
    assert!(a.sent == b.sent, "other bytes were sent");
    assert_eq!(a.notes, b.notes);
    let others = |link: &Link| -> Vec<Effect> {
        let saves = |effect: &&Effect| !matches!(effect, Effect::Save(..) | Effect::Append(..));
        link.effects.iter().filter(saves).cloned().collect()
    };
    assert_eq!(others(&a), others(&b));
    assert!(a.finish() == b.finish(), "another state is left");
}

#[test]
fn fed_byte_by_byte_the_effects_are_the_same() {
    let whole = play(script().into_iter());
    assert_eq!(whole.fault, None);
    assert!(whole.notes.len() > 10);
    let bytes =
        script().into_iter().flat_map(|(side, bytes)| bytes.into_iter().map(move |byte| (side, vec![byte])));
    assert_same(whole, play(bytes));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn fed_in_any_pieces_the_effects_are_the_same(sizes in prop::collection::vec(1usize..5000, 1..60)) {
        let mut sizes = sizes.into_iter().cycle();
        let mut pieces = Vec::new();
        for (side, mut bytes) in script() {
            while !bytes.is_empty() {
                let rest = bytes.split_off(sizes.next().unwrap().min(bytes.len()));
                pieces.push((side, std::mem::replace(&mut bytes, rest)));
            }
        }
        assert_same(play(script().into_iter()), play(pieces.into_iter()));
    }

    #[test]
    fn mutated_input_never_panics(
        mutations in prop::collection::vec((0usize..12, any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut script = script();
        for (step, at, byte) in mutations {
            let bytes = &mut script[step].1;
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        script.truncate(1 + cut.index(12));
        let mut link = play(script.into_iter());
        link.finish();
    }

    #[test]
    fn arbitrary_input_never_panics(pieces in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..80)), 0..20)) {
        let mut link = Link::streaming(LossPolicy::Degrade);
        for (from_replica, bytes) in pieces {
            link.feed(if from_replica { Side::Dialer } else { Side::Listener }, &bytes);
        }
        link.finish();
    }
}
