//! A store that migrates keys speaks as a client.

use bytes::{Bytes, BytesMut};
use segue_wire::{Effect, LossPolicy, Mode, Note, Question, Refusal, Side, Verdict};

use crate::link::{Link, command};

/// DUMP of the string `a` on 8.0 and on 6.0.
const STRING_12: &[u8] = b"\x00\x01a\x0c\x00t\x88\xdb[u\x1c\xe3\xfd";
const STRING_9: &[u8] = b"\x00\x01a\x09\x00o\x0c\xbeW\xdb\xb0\x1e\x05";

fn bulk(name: &str, words: &[&[u8]]) -> Bytes {
    let mut bytes =
        BytesMut::from(format!("*{}\r\n${}\r\n{name}\r\n", words.len() + 1, name.len()).as_bytes());
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.freeze()
}

fn restore(key: &str, payload: &[u8]) -> Bytes {
    bulk("RESTORE-ASKING", &[key.as_bytes(), b"0", payload, b"REPLACE"])
}

/// The dialer is the newer store.
fn migration(on_loss: LossPolicy) -> Link {
    Link::open(Some("redis-8.0.6"), Some("redis-6.0"), Mode::Auto, on_loss)
}

/// A vector set's: a module's value that ends at once, which no release before 8.0 has the module for.
fn vector_set() -> Vec<u8> {
    // Module id: "vectorset", version 0; then the end of the value; RDB 12, no checksum.
    const SET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = |c: &u8| SET.iter().position(|b| b == c).unwrap() as u64;
    let id = b"vectorset".iter().fold(0, |id, c| (id << 6) | at(c)) << 10;
    [&[7, 0x81][..], &id.to_be_bytes(), &[0, 12, 0], &[0; 8]].concat()
}

#[test]
fn payloads_are_rewritten_for_the_target() {
    let mut link = migration(LossPolicy::Refuse);
    link.replica([command("AUTH secret"), command("SELECT 3")].concat());
    link.replica([restore("k", STRING_12), restore("l", STRING_9)].concat());
    let got = std::mem::take(&mut link.sent[1]);
    let setup = [command("AUTH secret"), command("SELECT 3")].concat();
    let expected = [setup.as_bytes(), &restore("k", STRING_9), &restore("l", STRING_9)].concat();
    assert_eq!(got, expected);
    assert_eq!(link.effects, [Effect::Ask(Question::Client)]);
    let target = Some("redis-6.0".parse().unwrap());
    let decided = Note::Decided { verdict: Verdict::Rewrite, target };
    assert_eq!(link.notes, [decided, Note::Translated("migrate")]);
    link.master("+OK\r\n+OK\r\n+OK\r\n-BUSYKEY Target key name already exists.\r\n");
    assert!(link.replica_got().ends_with("BUSYKEY Target key name already exists.\r\n"));
}

#[test]
fn what_the_target_can_not_take_is_answered_in_its_turn() {
    for policy in [LossPolicy::Refuse, LossPolicy::Degrade] {
        let mut link = migration(policy);
        link.replica(
            [restore("k", STRING_12), restore("v", &vector_set()), restore("l", STRING_12)].concat(),
        );
        assert_eq!(link.sent[1], restore("k", STRING_9), "what follows waits");
        assert_eq!(link.replica_got(), "");
        link.master("+O");
        link.master("K\r");
        assert_eq!(link.replica_got(), "+OK\r");
        link.master("\n");
        let told = link.replica_got();
        assert!(told.starts_with("\n-ERR Segue refuses the value of key \"v\": "), "{told}");
        assert!(told.contains("vector-set") && told.matches("\r\n").count() == 1, "{told}");
        assert_eq!(link.sent[1], [restore("k", STRING_9), restore("l", STRING_9)].concat());
        link.master("+OK\r\n");
        assert_eq!(link.replica_got(), "+OK\r\n");
        assert!(link.fault.is_none() && link.notes.contains(&Note::Translated("migrate-refused")));
    }
}

#[test]
fn a_payload_that_makes_no_sense_or_is_too_large_is_not_passed_on() {
    let mut link = migration(LossPolicy::Refuse);
    link.replica(restore("k", b"nonsense, all of it"));
    let told = link.replica_got();
    assert!(told.starts_with("-ERR Segue refuses the value of key \"k\": malformed DUMP payload"), "{told}");
    // The link's limit is 4096.
    let large = restore("k", &[b'x'; 10_000]);
    link.replica(&large[..5000]);
    assert_eq!(link.replica_got(), "", "not before all of it has come");
    link.replica(&large[5000..]);
    let told = link.replica_got();
    assert_eq!(
        told,
        "-ERR Segue refuses the value: the value is larger than held_bytes_max = 4096 bytes\r\n"
    );
    assert!(link.sent[1].is_empty());
    link.replica(restore("k", STRING_12));
    assert_eq!(link.sent[1], restore("k", STRING_9), "the connection goes on");
}

#[test]
fn whoever_says_anything_else_passes() {
    for first in ["GET k", "HELLO 3", "CLIENT SETNAME x"] {
        let mut link = migration(LossPolicy::Refuse);
        link.replica([command("SELECT 1"), command(first)].concat());
        assert_eq!(link.effects, [Effect::Splice], "{first}");
        assert_eq!(
            (&link.sent[1][..], &link.input[0][..]),
            (command("SELECT 1").as_bytes(), command(first).as_bytes())
        );
    }
}

#[test]
fn what_the_target_takes_anyway_passes() {
    let link = |dialer, listener, mode| Link::open(Some(dialer), Some(listener), mode, LossPolicy::Refuse);
    let mut older = link("redis-6.0", "redis-8.0.6", Mode::Auto);
    let (large, odd) = (restore("k", &[b'x'; 10_000]), restore("k", b"of a module of its own"));
    let said = [restore("k", STRING_9), large, odd, restore("k", STRING_12)].concat();
    older.replica(&said[..3000]);
    older.replica(&said[3000..]);
    assert!(older.sent[1] == said && older.replica_got().is_empty());

    let unknown = link("redis-99.0", "redis-99.0", Mode::Auto);
    let off = link("redis-8.0.6", "redis-6.0", Mode::Off);
    for mut link in [unknown, off] {
        link.replica(restore("k", STRING_12));
        assert_eq!(link.effects.last(), Some(&Effect::Splice));
        assert_eq!(link.input[0], restore("k", STRING_12));
    }
}

#[test]
fn a_target_that_is_not_known_is_sent_nothing() {
    let mut link = Link::open(Some("redis-8.0.6"), None, Mode::Auto, LossPolicy::Degrade);
    link.replica(restore("k", STRING_9));
    let told = link.replica_got();
    assert!(told.contains("the release of the target is not known") && link.sent[1].is_empty(), "{told}");
}

#[test]
fn slots_move_as_a_whole_only_where_all_is_understood() {
    let sync = command("CLUSTER SYNCSLOTS SYNC 1 0 100");
    // Valkey's dialer gives its slots, that of Redis takes them.
    for (dialer, listener, passes) in [
        ("valkey-9.0", "valkey-9.1", true),
        ("valkey-9.1", "valkey-9.0", false),
        ("redis-8.10", "redis-8.6", true),
        ("redis-8.6", "redis-8.10", false),
        ("redis-8.6", "redis-8.6", true),
        ("valkey-9.1", "redis-8.6", false),
    ] {
        let open = || Link::open(Some(dialer), Some(listener), Mode::Auto, LossPolicy::Degrade);
        let mut link = open();
        link.replica(command("AUTH secret"));
        link.master("+OK\r\n");
        link.replica(&sync);
        assert_eq!(link.effects.contains(&Effect::Splice), passes, "{dialer} to {listener}");
        let got = link.master_got();
        if passes {
            assert_eq!(got, command("AUTH secret") + &sync);
        } else {
            assert_eq!(got, command("AUTH secret"));
            assert!(link.replica_got().starts_with("+OK\r\n-ERR Segue refuses this: slots can't move"));
            assert!(matches!(link.notes[..], [Note::Refused(Refusal::SlotMigration { .. })]));
            // It may try again.
            link.replica(&sync);
            assert!(link.master_got().is_empty() && link.replica_got().starts_with("-ERR Segue"));
        }
        // A client that does something else passes, however long its command.
        for asked in [command("CLUSTER SLOTS"), command(&format!("CLUSTER ADDSLOTS{}", " 16383".repeat(200)))]
        {
            let mut link = open();
            link.replica(&asked);
            assert!(link.effects.contains(&Effect::Splice) && link.master_got() == asked);
        }
    }
    let mut unknown = Link::open(None, Some("redis-8.6"), Mode::Auto, LossPolicy::Degrade);
    unknown.replica(&sync);
    assert_eq!(unknown.notes, [Note::Refused(Refusal::UnknownRelease { side: Side::Dialer })]);
}
