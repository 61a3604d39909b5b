//! What each release gets of the files of an AOF.

use segue_redis::aof::{Ending, Layout, layout};
use segue_wire::{FaultKind, LossPolicy, Refusal};

use crate::support::{SNAPSHOT, command, commands, degraded, rewrite};

#[test]
fn a_folder_is_kept_from_7_0_on() {
    for (release, kept) in [("redis-6.2", Layout::File), ("redis-7.0", Layout::Folder)] {
        assert_eq!(layout(&release.parse().unwrap()), Some(kept));
    }
    assert_eq!(layout(&"other-7.0".parse().unwrap()), None);
}

#[test]
fn commands_are_rewritten_as_on_a_link() {
    let log = commands(&["SELECT 0", "SET k v PXAT 1999999999999", "lpop l 2", "SET k w"]);
    let older = commands(&[
        "SELECT 0",
        "MULTI",
        "SET k v",
        "PEXPIREAT k 1999999999999",
        "EXEC",
        "LTRIM l 2 -1",
        "SET k w",
    ]);
    assert_eq!(degraded(&[&log], "redis-6.0").text(), older);
}

#[test]
fn a_transaction_stays_one() {
    let log = commands(&["MULTI", "SET k v PXAT 1999999999999", "EXEC"]);
    let older = commands(&["MULTI", "SET k v", "PEXPIREAT k 1999999999999", "EXEC"]);
    assert_eq!(degraded(&[&log], "redis-6.0").text(), older);
}

#[test]
fn annotations_stay_only_where_they_are_understood() {
    let log = ["#TS:1628217470\r\n", &command("SET k v"), "#TS:1628217471\r\n"].concat();
    assert_eq!(degraded(&[&log], "redis-7.0").text(), log);
    assert_eq!(degraded(&[&log], "redis-6.2").text(), command("SET k v"));
}

#[test]
fn a_snapshot_before_the_commands_is_rewritten_too() {
    let file = [SNAPSHOT, command("SET a b").as_bytes()].concat();
    let outcome = rewrite(&[&file], "redis-6.2", LossPolicy::Refuse).unwrap();
    let [out] = &outcome.files[..] else { panic!("{outcome:?}") };
    assert!(out.starts_with(b"REDIS0009\xfe\x00\x00\x01k\x01v\xff"), "{}", out.escape_ascii());
    assert!(out.ends_with(command("SET a b").as_bytes()), "{}", out.escape_ascii());
    assert_eq!(outcome.endings, [Ending::Whole]);
}

/// Each file of a folder is loaded from database 0 on; in one file the database of the file before would stay.
#[test]
fn joined_files_begin_in_their_own_database() {
    let first = commands(&["SELECT 3", "SET a 1"]);
    let second =
        ["#TS:1\r\n".to_owned(), command("SET b 2"), command("SELECT 3"), command("SET c 3")].concat();
    let joined = commands(&[
        "SELECT 3", "SET a 1", "SELECT 0", "SET b 2", "SELECT 3", "SET c 3", "SELECT 0", "SET b 2",
    ]);
    let third = command("SET b 2");
    assert_eq!(degraded(&[&first, &second, &third], "redis-6.2").text(), joined);
    let apart = [first.as_str(), &second, &third].concat();
    assert_eq!(degraded(&[&first, &second, &third], "redis-7.0").text(), apart);

    let selects = commands(&["SELECT 1", "SET b 2"]);
    assert_eq!(degraded(&[&first, &selects], "redis-6.2").text(), first + &selects);
}

#[test]
fn a_snapshot_can_not_stand_between_joined_files() {
    let files: [&[u8]; 2] = [b"*1\r\n$4\r\nEXEC\r\n", SNAPSHOT];
    assert!(rewrite(&files, "redis-7.0", LossPolicy::Refuse).is_ok());
    let fault = rewrite(&files, "redis-6.2", LossPolicy::Refuse).unwrap_err();
    assert_eq!(fault.to_string(), "malformed AOF: a snapshot that is not at the start of the AOF");
}

#[test]
fn a_loss_is_refused_or_told_with_its_database() {
    let log = commands(&["SELECT 2", "HPEXPIREAT h 1999999999999 FIELDS 1 f", "JSON.SET d $ 1", "SET k v"]);
    let outcome = degraded(&[&log], "redis-6.0");
    assert_eq!(outcome.text(), commands(&["SELECT 2", "SET k v"]));
    let told: Vec<_> = outcome.losses.iter().map(|loss| (loss.kind, loss.key_text(), loss.db)).collect();
    assert_eq!(
        told,
        [("hash-field-ttl", Some("h".to_owned()), 2), ("unknown-command", Some("d".to_owned()), 2)]
    );
    let fault = rewrite(&[log.as_bytes()], "redis-6.0", LossPolicy::Refuse).unwrap_err();
    assert!(matches!(fault, FaultKind::Refused(Refusal::Loss { .. })), "{fault}");
}

#[test]
fn what_no_server_writes_is_damage() {
    for bytes in [&b"\n"[..], b"*0\r\n", b"*1\r\n$4\r\nPING\r\nSET k v\r\n", b"*x\r\n"] {
        let fault = rewrite(&[bytes], "redis-6.0", LossPolicy::Degrade).unwrap_err();
        assert_eq!(fault.label(), "malformed", "{}", bytes.escape_ascii());
    }
    let endless = [b'#'; 2000];
    assert!(rewrite(&[&endless], "redis-7.0", LossPolicy::Degrade).is_err());
}
