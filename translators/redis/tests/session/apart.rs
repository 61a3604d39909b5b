//! Syncs over two connections, each of the two as a session of its own.

use bytes::Bytes;
use segue_wire::{Effect, FaultKind, LossPolicy, Mode, Note, Question, Refusal, StreamKey};

use crate::link::{BRANCH, EMPTY_12, ID, Link, MARK, branch_key, command, trunk_key};

const CAPABILITIES: &str = "REPLCONF capa eof capa psync2 capa";

fn pin() -> Mode {
    Mode::Pin("redis-6.0".parse().unwrap())
}

/// The first connection of a Redis, up to where its snapshot comes on the second one.
fn redis_first(mode: Mode) -> Link {
    begun(Link::apart("redis-8.0.2", "redis-8.10", mode))
}

fn begun(mut link: Link) -> Link {
    let steps = ["REPLCONF listening-port 6402".to_owned(), format!("{CAPABILITIES} rdb-channel-repl")];
    for step in &steps {
        link.replica(command(step));
        link.master("+OK\r\n");
    }
    link.replica(command("PSYNC ? -1"));
    assert!(link.master_got().contains("rdb-channel-repl"));
    link.master("+RDBCHANNELSYNC 8\r\n");
    assert_eq!(link.replica_got(), "+OK\r\n+OK\r\n+RDBCHANNELSYNC 8\r\n");
    link
}

/// The same, up to where the stream flows from offset 100.
fn redis_streaming(mode: Mode) -> Link {
    let mut link = redis_first(mode);
    link.told = Some(format!("{ID} 100 0").into());
    link.master(command("SELECT 0"));
    assert_eq!(link.replica_got(), command("SELECT 0"));
    link
}

/// The second one, joined to a first that has offered this.
fn redis_second(mode: Mode, offered: &'static str) -> Link {
    joined(Link::apart("redis-8.0.2", "redis-8.10", mode), offered)
}

fn joined(mut link: Link, offered: &'static str) -> Link {
    link.joined = Some(offered.into());
    let replconf = "REPLCONF capa eof rdb-only 1 rdb-channel 1 main-ch-client-id 8 listening-port 6402";
    link.replica(command(replconf));
    link.master("+OK\r\n");
    link.replica(command("PSYNC ? -1"));
    assert_eq!(link.master_got(), command(replconf) + &command("PSYNC ? -1"));
    link
}

fn valkey_first(mode: Mode) -> Link {
    let mut link = Link::apart("valkey-8.0", "valkey-9.1", mode);
    let steps = ["REPLCONF listening-port 6402".to_owned(), format!("{CAPABILITIES} dual-channel")];
    for step in &steps {
        link.replica(command(step));
        link.master("+OK\r\n");
    }
    link.replica(command("PSYNC ? -1"));
    link.master("+DUALCHANNELSYNC\r\n");
    link
}

fn valkey_second(mode: Mode, offered: &'static str) -> Link {
    let mut link = Link::apart("valkey-8.0", "valkey-9.1", mode);
    link.joined = Some(offered.into());
    link.replica(command("REPLCONF capa eof rdb-only 1 rdb-channel 1 listening-port 6402"));
    link.master("+OK\r\n");
    for piece in ["SY", "NC\r", "\n"] {
        link.replica(piece);
    }
    let asked = link.master_got();
    assert!(asked.contains("255.255.255") && asked.ends_with("SYNC\r\n"), "{asked}");
    link
}

fn saves_of(effects: &[Effect]) -> Vec<&StreamKey> {
    let saved = effects.iter().filter_map(|effect| match effect {
        Effect::Save(key, _) => Some(key),
        _ => None,
    });
    saved.collect()
}

fn of_trunk(effects: &[Effect]) -> Vec<&Effect> {
    let concerns = |effect: &&Effect| matches!(effect, Effect::Save(key, _) | Effect::Forget(key) if *key == trunk_key(ID));
    effects.iter().filter(concerns).collect()
}

fn offer(key: &str, words: &'static str) -> Effect {
    Effect::Offer(key.into(), Bytes::from_static(words.as_bytes()))
}

#[test]
fn a_redis_stream_begins_where_its_snapshot_says() {
    let mut link = redis_first(Mode::Auto);
    assert!(link.effects.contains(&offer("client 8", "")));
    assert!(!link.effects.contains(&Effect::Ask(Question::Told)), "nothing of the stream has come yet");
    link.told = Some(format!("{ID} 100 0").into());
    // Padding of a sidecar before, that the master has from its own master.
    link.master("\n");
    link.master(command("SELECT 0"));
    assert_eq!(link.replica_got(), format!("\n{}", command("SELECT 0")), "at once, without a pause");
    link.replica(command("REPLCONF ACK 100"));
    assert!(!link.notes.contains(&Note::Synced), "it does not have the stream yet");
    link.replica(command("REPLCONF ACK 124"));
    assert!(link.notes.contains(&Note::Synced));
    let acknowledged = command("REPLCONF ACK 100") + &command("REPLCONF ACK 124");
    assert_eq!(link.master_got(), acknowledged);
    assert_eq!(of_trunk(&link.effects), [&Effect::Forget(trunk_key(ID))], "once it has the snapshot");
}

#[test]
fn a_replica_that_acknowledges_before_the_stream_comes_is_understood() {
    let mut link = redis_first(Mode::Auto);
    link.told = Some(format!("{ID} 100 0").into());
    link.replica(command("REPLCONF ACK 100"));
    assert_eq!(link.master_got(), command("REPLCONF ACK 100"));
    assert!(link.notes.contains(&Note::Synced));
}

#[test]
fn a_redis_snapshot_is_rewritten_on_its_connection() {
    let mut link = redis_second(Mode::Auto, "");
    let joins = link.effects.iter().find_map(|effect| match effect {
        Effect::Ask(Question::Ends { joins, .. }) => joins.clone(),
        _ => None,
    });
    assert_eq!(joins.as_deref(), Some("client 8"));
    link.master(format!("\n+FULLRESYNC {ID} 100\r\n$EOF:{MARK}\r\n"));
    link.master([EMPTY_12, MARK.as_bytes()].concat());
    let got = String::from_utf8_lossy(&link.sent[0]).into_owned();
    assert!(got.starts_with(&format!("+OK\r\n\n+FULLRESYNC {ID} 100\r\n$EOF:{MARK}\r\nREDIS0012")), "{got}");
    assert!(got.ends_with(MARK), "{got}");
    assert!(link.effects.contains(&Effect::Tell(format!("{ID} 100 0").into())));
    assert!(link.notes.contains(&Note::Translated("snapshot")));
    assert_eq!(link.effects.last(), Some(&Effect::Splice), "nothing is left to be rewritten");
}

#[test]
fn an_id_of_its_own_is_offered_saved_and_then_told() {
    let mut first = redis_first(pin());
    assert!(first.effects.contains(&offer("client 8", BRANCH)));
    first.told = Some(format!("{ID} 100 0").into());
    first.master(command("SELECT 0"));
    assert!(first.notes.contains(&Note::OwnOffsets));
    assert!(first.saved_branch().is_some());

    let mut second = redis_second(pin(), BRANCH);
    second.master(format!("+FULLRESYNC {ID} 100\r\n"));
    assert_eq!(second.replica_got(), format!("+OK\r\n+FULLRESYNC {BRANCH} 100\r\n"));
    let told = second.effects.iter().position(|effect| matches!(effect, Effect::Tell(_))).unwrap();
    assert_eq!(saves_of(&second.effects[..told]), [&branch_key()]);
}

#[test]
fn a_valkey_goes_on_by_the_end_that_its_snapshot_announced() {
    let mut second = valkey_second(Mode::Auto, "");
    second.master(format!("$ENDOFF:100 {ID} 3 9\r\n$EOF:{MARK}\r\n"));
    assert_eq!(second.replica_got(), format!("+OK\r\n$ENDOFF:100 {ID} 3 9\r\n$EOF:{MARK}\r\n"));

    let mut first = valkey_first(Mode::Auto);
    assert!(first.effects.contains(&offer("port 6402", "")));
    first.master_got();
    let asks = command("REPLCONF set-rdb-client-id 9");
    first.replica(&asks);
    first.master("+OK\r\n");
    first.replica(command(&format!("PSYNC {ID} 101")));
    assert_eq!(first.master_got(), asks + &command(&format!("PSYNC {ID} 101")));
    first.master(format!("+CONTINUE {ID}\r\n{}", command("PING")));
    first.replica(command("REPLCONF ACK 114"));
    assert_eq!(first.master_got(), command("REPLCONF ACK 114"));
    assert!(first.notes.contains(&Note::Synced));
}

#[test]
fn a_valkey_with_an_id_of_its_own_goes_on_by_that() {
    let mut second = valkey_second(pin(), BRANCH);
    second.master(format!("$ENDOFF:100 {ID} 3 9\r\n"));
    assert_eq!(second.replica_got(), format!("+OK\r\n$ENDOFF:100 {BRANCH} 3 9\r\n"));

    let mut first = valkey_first(pin());
    assert!(first.effects.contains(&offer("port 6402", BRANCH)));
    first.saved[0] = second.saved_branch();
    first.master_got();
    first.replica(command(&format!("PSYNC {BRANCH} 101")));
    assert_eq!(first.master_got(), command(&format!("PSYNC {ID} 101")));
    first.sent = Default::default();
    first.master(format!("+CONTINUE {ID}\r\n"));
    assert_eq!(first.replica_got(), format!("+CONTINUE {BRANCH}\r\n"));
    first.replica(command("REPLCONF ACK 100"));
    assert!(first.saved_branch().is_some(), "its own state was forgotten: {:?}", first.effects);
}

#[test]
fn a_connection_that_misses_the_other_one_is_refused() {
    let mut second = Link::apart("redis-8.0.2", "redis-8.10", Mode::Auto);
    second.replica(command("REPLCONF capa eof rdb-only 1 rdb-channel 1 main-ch-client-id 8"));
    second.master("+OK\r\n");
    second.replica(command("PSYNC ? -1"));
    assert_eq!(*second.refusal(), Refusal::MissingConnection);
    assert!(!second.master_got().contains("PSYNC"), "the master was asked for a snapshot all the same");

    let mut first = redis_first(Mode::Auto);
    first.master(command("PING"));
    assert_eq!(*first.refusal(), Refusal::MissingConnection);
    assert_eq!(first.replica_got(), "", "a replica takes whatever comes here for its stream");
}

#[test]
fn a_recent_refusal_is_told_before_there_is_a_second_connection() {
    let mut link = Link::apart("redis-8.0.2", "redis-8.10", Mode::Auto);
    link.refuse_early = Some(Refusal::ShiftedOffsets);
    link.replica(command(&format!("{CAPABILITIES} rdb-channel-repl")));
    link.master("+OK\r\n");
    link.replica(command("PSYNC ? -1"));
    assert_eq!(*link.refusal(), Refusal::ShiftedOffsets);
}

/// Longer for a replica of 8.0, which does not know it.
fn longer() -> String {
    command("MSETEX 2 k v w v PXAT 9999999999999") + &command("SET later 1")
}

#[test]
fn counts_part_only_once_the_replica_has_its_snapshot() {
    let mut link = redis_streaming(Mode::Auto);
    link.master(longer());
    link.replica(command("REPLCONF ACK 100"));
    assert_eq!((link.replica_got(), link.effects.contains(&Effect::Close)), (String::new(), false));
    link.replica(command("REPLCONF ACK 123"));
    assert_eq!(link.effects.last(), Some(&Effect::Close));
    assert_eq!(saves_of(&link.effects), [&trunk_key(ID)]);
    assert_eq!(link.replica_got(), "", "what parts them comes under the id of its own");
}

/// Blank lines at the end are not acknowledged before the next command comes.
#[test]
fn counts_part_at_the_second_acknowledgement_at_the_latest() {
    let mut link = redis_streaming(Mode::Auto);
    link.master("\n\n".to_owned() + &longer());
    link.replica(command("REPLCONF ACK 123"));
    assert!(!link.effects.contains(&Effect::Close));
    link.replica(command("REPLCONF ACK 123"));
    assert_eq!(link.effects.last(), Some(&Effect::Close));
}

#[test]
fn a_master_that_sends_its_snapshot_over_the_one_connection_may() {
    let mut link = Link::apart("redis-8.0.2", "redis-8.10", Mode::Auto);
    link.replica(command(&format!("{CAPABILITIES} rdb-channel-repl")));
    link.master("+OK\r\n");
    link.replica(command("PSYNC ? -1"));
    link.master(format!("+FULLRESYNC {ID} 100\r\n$EOF:{MARK}\r\n"));
    link.master([EMPTY_12, MARK.as_bytes(), command("PING").as_bytes()].concat());
    let got = String::from_utf8_lossy(&link.sent[0]).into_owned();
    assert!(got.ends_with(MARK), "the stream waits for the acknowledgement: {got}");
}

/// An array, which only 8.10 knows.
const WITH_ARRAY: &[u8] = b"REDIS0015\xfe\0\x1c\x01k\x01\0\0\x03\x01v\xff\0\0\0\0\0\0\0\0";

#[test]
fn a_loss_ends_the_snapshot_before_its_end() {
    let mut link = redis_second(Mode::Auto, "");
    link.master(format!("+FULLRESYNC {ID} 100\r\n$EOF:{MARK}\r\n"));
    link.master(WITH_ARRAY);
    link.master(MARK);
    assert!(matches!(link.fault.as_ref().map(|f| &f.kind), Some(FaultKind::Refused(Refusal::Loss { .. }))));
    assert!(!String::from_utf8_lossy(&link.sent[0]).ends_with(MARK));
}

fn degrading() -> Link {
    Link::apart_with("redis-8.0.2", "redis-8.10", Mode::Auto, LossPolicy::Degrade)
}

/// What is saved of a replica that counts as its master does, and has not all.
fn incomplete() -> Effect {
    Effect::Save(trunk_key(ID), Bytes::from_static(&[0x83]))
}

#[test]
fn a_snapshot_tells_what_it_could_lose_before_and_what_it_lost_at_its_end() {
    for (snapshot, lost) in [(WITH_ARRAY, 1), (EMPTY_12, 0)] {
        let mut link = joined(degrading(), "");
        link.master(format!("+FULLRESYNC {ID} 100\r\n$EOF:{MARK}\r\n"));
        assert_eq!(link.effects[1..], [incomplete(), Effect::Tell(format!("{ID} 100 1").into())]);
        link.master([snapshot, MARK.as_bytes()].concat());
        assert!(link.sent[0].ends_with(MARK.as_bytes()), "{:?}", link.fault);
        assert_eq!(link.effects[3..], [Effect::Tell(format!("{ID} 100 {lost}").into()), Effect::Splice]);
    }
}

#[test]
fn a_replica_counts_as_incomplete_until_its_snapshot_proves_otherwise() {
    let lost = command("ARSET k 0 v");
    for (told_at_end, of_stream, has_all) in [("1", "", false), ("0", "", true), ("0", &*lost, false)] {
        let mut link = begun(degrading());
        link.told = Some(format!("{ID} 100 1").into());
        link.master(command("SELECT 0") + of_stream);
        assert_eq!(of_trunk(&link.effects), Vec::<&Effect>::new(), "the snapshot's own mark stands");
        link.told = Some(format!("{ID} 100 {told_at_end}").into());
        link.replica(command("REPLCONF ACK 100"));
        link.replica(command("REPLCONF ACK 123"));
        assert!(link.notes.contains(&Note::Synced));
        let mark = if has_all { Effect::Forget(trunk_key(ID)) } else { incomplete() };
        assert_eq!(of_trunk(&link.effects), [&mark], "{told_at_end} {of_stream}");
    }
}

/// What was known before, no snapshot has to answer for: asked for all again, it would be asked for without end.
#[test]
fn a_valkey_that_had_not_all_goes_on_by_its_new_snapshot() {
    let mut link = valkey_first(Mode::Auto);
    link.master_got();
    link.saved[0] = Some(Bytes::from_static(&[0x83]));
    link.told = Some(format!("{ID} 100 0").into());
    link.replica(command(&format!("PSYNC {ID} 101")));
    assert_eq!(link.master_got(), command(&format!("PSYNC {ID} 101")));
    link.master(format!("+CONTINUE {ID}\r\n"));
    assert_eq!(of_trunk(&link.effects), Vec::<&Effect>::new(), "it does not have it yet");
    link.replica(command("REPLCONF ACK 100"));
    assert_eq!(of_trunk(&link.effects), [&Effect::Forget(trunk_key(ID))]);
}
