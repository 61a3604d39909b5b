//! AOF folders, and files of a known release.

use super::*;

/// `SELECT 0` and `SET k v`
const COMMAND: &[u8] = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n";
/// `HPEXPIREAT h 1 FIELDS 1 f`
const NEWER: &[u8] =
    b"*6\r\n$10\r\nHPEXPIREAT\r\n$1\r\nh\r\n$1\r\n1\r\n$6\r\nFIELDS\r\n$1\r\n1\r\n$1\r\nf\r\n";
const BASE: &str = "appendonly.aof.1.base.rdb";
const INCREMENT: &str = "appendonly.aof.1.incr.aof";
const MANIFEST: &str = "file appendonly.aof.1.base.rdb seq 1 type b\n\
                        file appendonly.aof.1.incr.aof seq 1 type i startoffset 3\n";

fn folder(increment: &[&[u8]], to: &str) -> Case {
    let mut case = Case::new(&[], LossChoice::Refuse);
    fs::remove_file(&case.args.input).unwrap();
    case.args.input = case.folder.path().join("appendonlydir");
    case.args.from = Some("redis-8.0".parse().unwrap());
    case.args.to = to.parse().unwrap();
    case.args.output = case.folder.path().join("out");
    fs::create_dir(&case.args.input).unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(case.args.input.join(name), bytes).unwrap();
    write(BASE, &[HEAD, STRING, TAIL].concat());
    write(INCREMENT, &increment.concat());
    write("appendonly.aof.manifest", MANIFEST.as_bytes());
    write("temp-appendonly.aof.manifest", b"");
    case
}

async fn refused(case: &Case, exit: Exit, said: &str) {
    let before = case.files();
    let failure = run(&case.args).await.unwrap_err();
    assert_eq!(failure.exit, exit, "{}", failure.message);
    assert!(failure.message.contains(said), "{}", failure.message);
    assert_eq!(case.files(), before, "something was left");
}

#[tokio::test]
async fn a_folder_becomes_a_folder_of_the_same_files() {
    use std::os::unix::fs::PermissionsExt;
    let case = folder(&[COMMAND], "redis-7.0");
    fs::set_permissions(&case.args.input, fs::Permissions::from_mode(0o750)).unwrap();
    fs::set_permissions(case.args.input.join(BASE), fs::Permissions::from_mode(0o640)).unwrap();
    run(&case.args).await.unwrap();
    let out = |name: &str| fs::read(case.args.output.join(name)).unwrap();
    assert!(out(BASE).starts_with(b"REDIS0010"), "{}", out(BASE).escape_ascii());
    assert_eq!(out(INCREMENT), COMMAND);
    assert_eq!(out("appendonly.aof.manifest"), MANIFEST.replace(" startoffset 3", "").as_bytes());
    assert_eq!(fs::read_dir(&case.args.output).unwrap().count(), 3);
    assert_eq!((mode_of(&case.args.output), mode_of(&case.args.output.join(BASE))), (0o750, 0o640));
    assert_eq!(case.files(), ["appendonlydir", "out"]);
}

#[tokio::test]
async fn a_folder_becomes_one_file_for_releases_that_keep_one() {
    let case = folder(&[COMMAND], "redis-6.0");
    run(&case.args).await.unwrap();
    let out = case.output();
    assert!(out.starts_with(b"REDIS0009") && out.ends_with(COMMAND), "{}", out.escape_ascii());
}

#[tokio::test]
async fn a_folder_that_is_there_is_never_replaced() {
    let mut case = folder(&[COMMAND], "redis-7.0");
    case.args.output = case.args.input.clone();
    refused(&case, Exit::Failed, "it is there already").await;
    case.args.output = case.folder.path().join("no/such");
    refused(&case, Exit::Failed, "cannot write ").await;
}

#[tokio::test]
async fn nothing_is_left_of_a_folder_that_is_refused() {
    let case = folder(&[COMMAND, NEWER], "redis-7.0");
    refused(&case, Exit::Failed, "refused: redis-7.0 cannot represent hash-field-ttl: ").await;
    let case = folder(&[COMMAND, b"SET k v\r\n"], "redis-7.0");
    let said = format!("IN/{INCREMENT} at byte {}: malformed AOF: \"S\" where a command", COMMAND.len());
    refused(&case, Exit::Failed, &said).await;
}

#[tokio::test]
async fn the_release_that_wrote_a_folder_has_to_be_said() {
    let mut case = folder(&[COMMAND], "redis-7.0");
    case.args.from = None;
    refused(&case, Exit::Usage, "name it with --from").await;
    case.args.from = Some("redis-6.2".parse().unwrap());
    refused(&case, Exit::Usage, "this release keeps one file").await;
    case.args.from = Some("mariadb-11.4".parse().unwrap());
    refused(&case, Exit::Usage, "segue: --from mariadb-11.4: segue knows no RDB format").await;
}

#[tokio::test]
async fn a_folder_needs_its_manifest_and_its_files() {
    let case = folder(&[COMMAND], "redis-7.0");
    fs::remove_file(case.args.input.join(INCREMENT)).unwrap();
    refused(&case, Exit::Failed, "appendonly.aof.1.incr.aof: No such file").await;
    fs::write(case.args.input.join("appendonly.aof.manifest"), "file a\n").unwrap();
    refused(&case, Exit::Failed, "malformed AOF manifest: line 1: file a").await;
    fs::remove_file(case.args.input.join("appendonly.aof.manifest")).unwrap();
    refused(&case, Exit::Usage, "is a folder without an AOF manifest").await;
}

#[tokio::test]
async fn an_end_that_is_cut_off_is_taken_back() {
    let mut case = folder(&[COMMAND, COMMAND.get(..40).unwrap()], "redis-6.0");
    run(&case.args).await.unwrap();
    // The snapshot, SELECT and SET, and the SELECT that is whole.
    let kept = [COMMAND, COMMAND.get(..23).unwrap()].concat();
    assert!(case.output().ends_with(&kept), "{}", case.output().escape_ascii());

    fs::write(case.args.input.join("appendonly.aof.2.incr.aof"), COMMAND).unwrap();
    let manifest = format!("{MANIFEST}file appendonly.aof.2.incr.aof seq 2 type i\n");
    fs::write(case.args.input.join("appendonly.aof.manifest"), manifest).unwrap();
    refused(&case, Exit::Failed, "incr.aof is cut off: its 90 bytes end inside a command").await;

    case.args.input = case.args.input.join(INCREMENT);
    case.args.output = "/dev/null".into();
    refused(&case, Exit::Failed, "what was written beyond can't be taken back").await;
}

#[tokio::test]
async fn what_needs_no_rewriting_is_copied() {
    let mut case = folder(&[COMMAND, NEWER], "redis-8.2");
    run(&case.args).await.unwrap();
    assert_eq!(fs::read(case.args.output.join(INCREMENT)).unwrap(), [COMMAND, NEWER].concat());
    case.args.input = case.args.output.join(BASE);
    case.args.output = case.folder.path().join("file");
    run(&case.args).await.unwrap();
    assert_eq!(case.output(), [HEAD, STRING, TAIL].concat());
}

#[tokio::test]
async fn without_from_only_a_snapshot_is_read() {
    let case = Case::new(&[HEAD, STRING, TAIL, COMMAND], LossChoice::Refuse);
    refused(&case, Exit::Failed, "name it with --from").await;
    let case = Case::new(&[COMMAND], LossChoice::Refuse);
    refused(&case, Exit::Failed, "name it with --from").await;
    let case = Case::new(&[b"hello, world"], LossChoice::Refuse);
    refused(&case, Exit::Failed, "IN at byte 0: malformed RDB header").await;
}
