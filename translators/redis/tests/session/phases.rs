//! What a link does in each of its phases.

use segue_wire::{Effect, LossPolicy, Mode, Note, Refusal, Side, Verdict};

use crate::link::{BRANCH, EMPTY_9, EMPTY_12, ID, Link, MARK, branch_key, command};

#[test]
fn a_full_sync_is_rewritten_and_the_stream_waits_for_the_first_acknowledgement() {
    let mut link = Link::new(LossPolicy::Refuse);
    link.handshake("?", "-1");
    assert!(link.master_got().ends_with(&command("PSYNC ? -1")));
    assert_eq!(link.replica_got(), "+PONG\r\n+OK\r\n+OK\r\n");
    // A keep-alive, the answer, the snapshot, and bytes of the stream that come with it.
    link.master(format!("\n+FULLRESYNC {ID} 100\r\n\n$EOF:{MARK}\r\n"));
    link.master([EMPTY_12, MARK.as_bytes(), command("SET k v").as_bytes()].concat());
    let expected =
        [format!("\n+FULLRESYNC {BRANCH} 100\r\n\n$EOF:{MARK}\r\n").as_bytes(), EMPTY_9, MARK.as_bytes()]
            .concat();
    assert_eq!(link.sent[0].escape_ascii().to_string(), expected.escape_ascii().to_string());
    link.sent[0].clear();
    link.replica("\n");
    assert_eq!((link.replica_got(), link.master_got()), (String::new(), "\n".into()));
    link.replica(command("REPLCONF ACK 100"));
    assert_eq!((link.replica_got(), link.master_got()), (command("SET k v"), command("REPLCONF ACK 100")));
}

#[test]
fn a_snapshot_of_known_length_goes_out_with_a_mark() {
    let mut link = Link::new(LossPolicy::Refuse);
    link.handshake("?", "-1");
    link.master(format!("+FULLRESYNC {ID} 100\r\n${}\r\n", EMPTY_12.len()));
    link.sent[0].clear();
    link.master(EMPTY_12);
    let mark = "07".repeat(20);
    assert_eq!(link.sent[0], [EMPTY_9, mark.as_bytes()].concat());
}

#[test]
fn a_snapshot_that_ends_elsewhere_than_announced_is_a_fault() {
    for header in ["$17".to_owned(), "$19".to_owned(), format!("$EOF:{}", "x".repeat(40))] {
        let mut link = Link::new(LossPolicy::Refuse);
        link.handshake("?", "-1");
        link.master(format!("+FULLRESYNC {ID} 100\r\n{header}\r\n"));
        link.sent[0].clear();
        link.master([EMPTY_12, MARK.as_bytes()].concat());
        assert_eq!(link.fault.as_ref().unwrap().kind.label(), "malformed", "{header}");
        assert!(!link.sent[0].ends_with(MARK.as_bytes()), "the replica was told that it is complete");
    }
}

#[test]
fn what_the_replica_acknowledges_is_the_masters_offset() {
    let mut link = Link::streaming(LossPolicy::Refuse);
    let set = command("SET k v PXAT 1999999999999");
    let older = format!(
        "{}{}{}{}",
        command("MULTI"),
        command("SET k v"),
        command("PEXPIREAT k 1999999999999"),
        command("EXEC")
    );
    link.master(&set);
    assert_eq!(link.replica_got(), older);
    let shift = (older.len() - set.len()) as i64;
    assert_eq!(link.notes, [Note::Translated("set-pxat"), Note::Shift(shift)]);
    let at = |offset: usize| command(&format!("REPLCONF ACK {offset}"));
    link.replica(at(100 + older.len()));
    assert_eq!(link.master_got(), at(100 + set.len()));
    // Inside the translation nothing of it has been done.
    link.replica(at(100 + older.len() - 1));
    assert_eq!(link.master_got(), at(100 + set.len()), "never back");
    // A PING is worth 14 bytes of the shift.
    link.master(command("PING"));
    assert_eq!(link.replica_got(), "\n");
    assert_eq!(link.notes.last(), Some(&Note::Shift(shift - 13)));
}

#[test]
fn what_has_no_effect_pays_the_shift_back() {
    let mut link = Link::streaming(LossPolicy::Refuse);
    let select = command("SELECT 2");
    let [set, hsetex, hset] =
        ["SET k v PXAT 1999999999999", "HSETEX h KEEPTTL FIELDS 1 f v", "HSET h f v"].map(command);
    link.master(select.clone() + "\n" + &select);
    assert_eq!(link.replica_got(), select.clone() + "\n" + &select, "there is nothing to pay back");
    link.master(set.repeat(2));
    let mut shift = (link.replica_got().len() - 2 * set.len()) as i64;
    // A transaction stays as it is; a database that is not selected has to be.
    let other = command("SELECT 3");
    let stays = command("MULTI") + &command("PING") + &command("EXEC") + &other;
    for (said, heard) in
        [(&select, ""), (&"\r\n\n".to_owned(), ""), (&hsetex, hset.as_str()), (&stays, stays.as_str())]
    {
        link.master(said);
        assert_eq!(link.replica_got(), heard, "for {said}");
        shift -= (said.len() - heard.len()) as i64;
        let told = link.notes.iter().rev().find_map(|note| match note {
            Note::Shift(bytes) => Some(*bytes),
            _ => None,
        });
        assert_eq!(told, Some(shift));
    }
    // Never more than there is: what is left over is heard as blank lines.
    let long = command(&format!("PING {}", "x".repeat(100)));
    assert!(shift > 0 && shift < 100, "{shift}");
    link.master(&long);
    assert_eq!(link.replica_got(), "\n".repeat(long.len() - shift as usize));
    assert_eq!(link.notes.last(), Some(&Note::Shift(0)));
}

#[test]
fn a_shorter_translation_is_padded_in_front() {
    let mut link = Link::streaming(LossPolicy::Refuse);
    let hsetex = command("HSETEX h KEEPTTL FIELDS 1 f v");
    let hset = command("HSET h f v");
    link.master(&hsetex);
    let padding = "\n".repeat(hsetex.len() - hset.len());
    assert_eq!(link.replica_got(), format!("{padding}{hset}"));
    assert_eq!(link.notes, [Note::Translated("hsetex-keepttl")]);
}

#[test]
fn a_transaction_stays_one() {
    let mut link = Link::streaming(LossPolicy::Refuse);
    link.master(command("MULTI") + &command("SET k v PXAT 99") + &command("EXEC"));
    let said = link.replica_got();
    assert_eq!(said.matches("MULTI").count(), 1, "{said}");
    assert!(said.ends_with(&(command("SET k v") + &command("PEXPIREAT k 99") + &command("EXEC"))));
}

#[test]
fn a_loss_in_the_stream_is_refused_or_left_out_and_counted() {
    let expire = command("HPEXPIREAT h 1999999999999 FIELDS 1 f");
    let mut link = Link::streaming(LossPolicy::Refuse);
    link.master(command("SELECT 3") + &expire);
    let Refusal::Loss { to, loss } = link.refusal() else { panic!() };
    assert_eq!((to.to_string().as_str(), loss.kind, loss.db), ("redis-6.0", "hash-field-ttl", 3));
    assert_eq!(loss.key_text().as_deref(), Some("h"));
    assert_eq!(link.replica_got(), command("SELECT 3"));

    let mut link = Link::streaming(LossPolicy::Degrade);
    link.master(&expire);
    let said = link.replica_got();
    assert_eq!(said, "\n".repeat(expire.len() - 14) + &command("PING"), "padding that counts at once");
    assert!(
        matches!(&link.notes[..], [Note::Lost(loss), Note::Translated("hpexpireat")] if loss.kind == "hash-field-ttl")
    );
}

#[test]
fn a_loss_in_the_snapshot_closes_the_link_before_the_snapshot_is_whole() {
    // FUNCTION2 with a library, type 245.
    let code = b"#!lua name=mylib\nreturn 1";
    let library = [&[245, code.len() as u8][..], code].concat();
    let rdb = [&EMPTY_12[..9], &library, &EMPTY_12[9..]].concat();
    let mut link = Link::new(LossPolicy::Refuse);
    link.handshake("?", "-1");
    link.master(format!("+FULLRESYNC {ID} 100\r\n$EOF:{MARK}\r\n"));
    link.sent[0].clear();
    link.master([&rdb[..], MARK.as_bytes()].concat());
    let refusal = link.refusal().to_string();
    assert!(refusal.contains("function-library") && refusal.contains("mylib"), "{refusal}");
    assert!(!link.sent[0].ends_with(MARK.as_bytes()));

    let mut link = Link::new(LossPolicy::Degrade);
    link.handshake("?", "-1");
    link.master(format!("+FULLRESYNC {ID} 100\r\n$EOF:{MARK}\r\n"));
    link.master([&rdb[..], MARK.as_bytes()].concat());
    assert!(link.sent[0].ends_with(&[EMPTY_9, MARK.as_bytes()].concat()));
    assert!(
        link.notes.iter().any(|note| matches!(note, Note::Lost(loss) if loss.kind == "function-library"))
    );
}

#[test]
fn equal_releases_pass_unchanged() {
    let mut link = Link::open(Some("redis-8.0.2"), Some("redis-8.0.2"), Mode::Auto, LossPolicy::Refuse);
    let steps = [
        command("PING"),
        command("REPLCONF listening-port 6402"),
        command("REPLCONF capa eof capa psync2 capa rdb-channel-repl"),
    ];
    for step in &steps {
        link.replica(step);
        link.master("+OK\r\n");
    }
    link.replica(command(&format!("PSYNC {ID} 101")));
    assert_eq!(link.master_got(), steps.concat() + &command(&format!("PSYNC {ID} 101")));
    assert_eq!(link.effects.last(), Some(&Effect::Splice));
    assert!(matches!(&link.notes[..], [Note::Decided { verdict: Verdict::Same, .. }]));
}

#[test]
fn what_the_wire_says_of_the_release_outranks_what_was_asked() {
    for steps in [["capa eof capa psync2", "version 9.1.2"], ["version 9.1.2", "capa eof capa psync2"]] {
        let mut link = Link::open(Some("redis-6.0"), Some("valkey-9.1"), Mode::Auto, LossPolicy::Refuse);
        for step in steps {
            link.replica(command(&format!("REPLCONF {step}")));
            link.master("+OK\r\n");
        }
        link.replica(command("PSYNC ? -1"));
        assert!(link.notes.contains(&Note::Learned(Side::Dialer, "valkey-9.1".parse().unwrap())));
        assert!(matches!(link.notes.last(), Some(Note::Decided { verdict: Verdict::Same, .. })));
    }
}

#[test]
fn a_pinned_link_keeps_the_snapshot_on_this_connection() {
    let pin = Mode::Pin("redis-6.0".parse().unwrap());
    let mut link = Link::open(Some("redis-8.0.2"), Some("redis-8.0.2"), pin, LossPolicy::Refuse);
    link.replica(command("REPLCONF capa eof capa psync2 capa rdb-channel-repl"));
    assert_eq!(link.master_got(), command("REPLCONF capa eof capa psync2"));
}

#[test]
fn a_refusal_is_told_to_the_replica_in_a_line_that_makes_it_wait() {
    let mut link = Link::open(None, Some("redis-8.0.2"), Mode::Auto, LossPolicy::Refuse);
    link.handshake("?", "-1");
    assert_eq!(*link.refusal(), Refusal::UnknownRelease { side: Side::Dialer });
    let last = link.replica_got();
    assert!(
        last.contains("\r\n-NOMASTERLINK Segue refuses this link: the release of the dialer is not known")
    );
    assert!(!link.master_got().contains("PSYNC"), "the master was asked for a snapshot all the same");

    let mut link = Link::new(LossPolicy::Refuse);
    link.refuse_early = Some(Refusal::ShiftedOffsets);
    link.handshake("?", "-1");
    assert_eq!(*link.refusal(), Refusal::ShiftedOffsets);
}

#[test]
fn a_replica_that_can_not_take_a_mark_is_refused() {
    let mut link = Link::new(LossPolicy::Refuse);
    link.replica(command("REPLCONF capa psync2"));
    link.master("+OK\r\n");
    link.replica(command("PSYNC ? -1"));
    assert_eq!(*link.refusal(), Refusal::MissingCapability { capability: "eof" });
    let mut link = Link::new(LossPolicy::Refuse);
    link.replica(command("SYNC"));
    assert_eq!(*link.refusal(), Refusal::MissingCapability { capability: "psync2" });
}

#[test]
fn psync_waits_for_the_answers_before_it() {
    let mut link = Link::new(LossPolicy::Refuse);
    link.replica(command("PING") + &command("REPLCONF capa eof capa psync2") + &command("PSYNC ? -1"));
    assert!(!link.master_got().contains("PSYNC"));
    link.master("+PONG\r\n");
    assert!(!link.master_got().contains("PSYNC"));
    link.master("+OK\r\n");
    assert!(link.master_got().contains("PSYNC"));
}

#[test]
fn a_client_passes_unchanged() {
    for first in [command("GET k"), "PING\r\n".to_owned(), "\x16\x03\x01".to_owned()] {
        let mut link = Link::new(LossPolicy::Refuse);
        link.replica(command("AUTH pw"));
        link.master("+OK\r\n");
        link.replica(&first);
        assert_eq!(link.effects, [Effect::Splice]);
        assert_eq!(link.input[0], first);
        assert_eq!(link.master_got(), command("AUTH pw"));
    }
}

#[test]
fn bytes_that_can_not_be_are_never_passed_on() {
    let mut link = Link::streaming(LossPolicy::Refuse);
    link.master("SET k v\r\n");
    assert_eq!(link.fault.as_ref().unwrap().kind.label(), "malformed");
    assert_eq!(link.replica_got(), "");
    assert!(
        matches!(&link.finish()[..], [Effect::Save(key, state)] if *key == branch_key() && state[..] == [0]),
        "the next is a full sync"
    );

    let mut link = Link::streaming(LossPolicy::Refuse);
    link.replica(command("FLUSHALL"));
    assert_eq!(link.fault.as_ref().unwrap().kind.label(), "malformed");
    assert_eq!(link.master_got(), "");
}

#[test]
fn a_command_that_must_be_rewritten_is_held_up_to_its_limit() {
    let mut link = Link::streaming(LossPolicy::Refuse);
    link.master(format!("*5\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", 5000));
    assert_eq!(link.fault.as_ref().unwrap().kind.label(), "too-large");
    // One that passes is not held at all.
    let mut link = Link::streaming(LossPolicy::Refuse);
    link.master(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", 1_u64 << 40));
    link.master(vec![b'x'; 100_000]);
    assert!(link.fault.is_none() && link.input[1].is_empty());
    assert!(link.replica_got().len() > 100_000);
}
