//! Two sidecars on one link: exactly one translates.

use bytes::Bytes;
use segue_wire::{Effect, LossPolicy, Mode, Note, Verdict};

use crate::link::{ID, Link, command, trunk_key};

const QUESTION: &str = "REPLCONF segue 1";

#[test]
fn at_the_replicas_end_the_other_sidecar_is_asked_first() {
    let mut link = Link::at_replica();
    link.handshake(ID, "55");
    assert!(link.master_got().ends_with(&command(QUESTION)), "and no PSYNC yet");
    link.replica_got();
    link.master("+SEGUE 1\r\n");
    assert_eq!(link.master_got(), command(&format!("PSYNC {ID} 55")), "unchanged");
    assert_eq!(link.replica_got(), "", "the answer is not the replica's");
    assert_eq!(link.effects.last(), Some(&Effect::Splice));
    assert!(matches!(&link.notes[..], [Note::Decided { verdict: Verdict::Same, .. }]));
}

#[test]
fn a_store_at_the_masters_end_leaves_it_to_this_sidecar() {
    let mut link = Link::at_replica();
    link.handshake("?", "-1");
    link.master_got();
    link.master("-ERR Unrecognized REPLCONF option: segue\r\n");
    assert_eq!(link.master_got(), command("PSYNC ? -1"));
    assert!(matches!(&link.notes[..], [Note::Decided { verdict: Verdict::Rewrite, .. }]));
    link.master(format!("+FULLRESYNC {ID} 100\r\n"));
    assert!(link.fault.is_none() && link.replica_got().ends_with("100\r\n"));
}

#[test]
fn a_replica_that_this_sidecar_translated_for_starts_anew_with_the_other() {
    let mut link = Link::at_replica();
    link.saved[0] = Some(Bytes::from_static(&[0]));
    link.handshake(ID, "55");
    link.master_got();
    link.master("+SEGUE 1\r\n");
    assert_eq!(link.master_got(), command("PSYNC ? -1"));
    link.master("+FULLRESYNC x 0\r\n");
    assert!(link.effects.contains(&Effect::Forget(trunk_key(ID))));
}

#[test]
fn at_the_masters_end_the_question_is_answered_and_not_passed_on() {
    let mut link = Link::new(LossPolicy::Refuse);
    link.replica(command("REPLCONF listening-port 6402"));
    link.master("+OK\r\n");
    link.replica(command(QUESTION));
    assert_eq!(link.replica_got(), "+OK\r\n+SEGUE 1\r\n");
    assert_eq!(link.master_got(), command("REPLCONF listening-port 6402"));

    let same = || Link::open(Some("redis-8.0.2"), Some("redis-8.0.2"), Mode::Auto, LossPolicy::Refuse);
    let off = || Link::open(Some("redis-6.0"), Some("redis-8.0.2"), Mode::Off, LossPolicy::Refuse);
    for mut link in [same(), off()] {
        link.replica(command(QUESTION));
        assert_eq!(link.replica_got(), "-ERR this link passes unchanged\r\n");
    }
}

#[test]
fn equal_releases_ask_nothing() {
    let mut link = Link::at_replica();
    link.releases = [Some("redis-8.0.2"); 2];
    link.handshake("?", "-1");
    assert!(link.master_got().ends_with(&command("PSYNC ? -1")));
}

/// Two sidecars hear of an upgrade one after the other.
#[test]
fn at_the_masters_end_a_link_of_equal_releases_is_seen_to_while_an_upgrade_holds_it() {
    let held = Mode::Upgrade("redis-6.0".parse().unwrap());
    for (mode, answer) in [(held, "+SEGUE 1\r\n"), (Mode::Auto, "-ERR this link passes unchanged\r\n")] {
        let mut link = Link::open(Some("redis-8.0.2"), Some("redis-8.0.2"), mode, LossPolicy::Refuse);
        link.replica(command(QUESTION));
        assert_eq!(link.replica_got(), answer);
    }
}
