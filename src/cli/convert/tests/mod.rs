use std::{fs, os::unix::fs::symlink, path::Path};

use super::*;
use crate::cli::LossChoice;

/// What a dump begins with: magic and version 12, then `SELECTDB 0`.
const HEAD: &[u8] = b"REDIS0012\xfe\x00";
/// Type 0, key `k`, text value `v`.
const STRING: &[u8] = b"\x00\x01k\x01v";
/// Opcode 245 (FUNCTION2) and the code of a library.
const FUNCTION: &[u8] = b"\xf5\x10#!lua name=mylib";
/// Opcode 255 and a checksum of 0, which stands for none.
const TAIL: &[u8] = b"\xff\0\0\0\0\0\0\0\0";

mod folder;

struct Case {
    folder: tempfile::TempDir,
    args: ConvertArgs,
}

impl Case {
    fn new(input: &[&[u8]], loss: LossChoice) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (input_path, output) = (folder.path().join("in.rdb"), folder.path().join("out.rdb"));
        fs::write(&input_path, input.concat()).unwrap();
        let to = "redis-6.0".parse().unwrap();
        let args = ConvertArgs { to, from: None, loss, input: input_path, output };
        Self { folder, args }
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn output(&self) -> Vec<u8> {
        fs::read(&self.args.output).unwrap()
    }
}

fn mode_of(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// The one string, as redis 6.0 reads it, up to the checksum.
fn assert_old_string(rdb: &[u8]) {
    assert!(rdb.starts_with(b"REDIS0009"), "{}", rdb.escape_ascii());
    let body = rdb.get(..rdb.len() - 8).unwrap();
    assert!(body.ends_with(&[STRING, b"\xff"].concat()), "{}", rdb.escape_ascii());
}

#[tokio::test]
async fn a_file_is_rewritten() {
    let case = Case::new(&[HEAD, STRING, TAIL], LossChoice::Refuse);
    run(&case.args).await.unwrap();
    assert_old_string(&case.output());
    assert_eq!(case.files(), ["in.rdb", "out.rdb"]);
}

#[tokio::test]
async fn what_cannot_be_represented_is_refused_and_nothing_written() {
    let case = Case::new(&[HEAD, STRING, FUNCTION, TAIL], LossChoice::Refuse);
    fs::write(&case.args.output, "what was there").unwrap();
    let failure = run(&case.args).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Failed);
    let message = &failure.message;
    assert!(
        message.starts_with("segue: refused: redis-6.0 cannot represent function-library: "),
        "{message}"
    );
    assert!(message.contains("mylib"), "{message}");
    assert!(message.ends_with("\nsegue: OUT is as it was"), "{message}");
    assert_eq!(case.output(), b"what was there");
    assert_eq!(case.files(), ["in.rdb", "out.rdb"]);
}

#[tokio::test]
async fn what_cannot_be_represented_is_left_out_if_allowed() {
    let case = Case::new(&[HEAD, FUNCTION, STRING, TAIL], LossChoice::Degrade);
    run(&case.args).await.unwrap();
    assert_old_string(&case.output());
}

#[tokio::test]
async fn a_file_is_rewritten_in_place() {
    let mut case = Case::new(&[HEAD, STRING, TAIL], LossChoice::Refuse);
    case.args.output = case.args.input.clone();
    run(&case.args).await.unwrap();
    assert_old_string(&case.output());
    assert_eq!(case.files(), ["in.rdb"]);
}

#[tokio::test]
async fn links_and_permissions_stay() {
    use std::os::unix::fs::PermissionsExt;
    let mut case = Case::new(&[HEAD, STRING, TAIL], LossChoice::Refuse);
    fs::set_permissions(&case.args.input, fs::Permissions::from_mode(0o640)).unwrap();
    run(&case.args).await.unwrap();
    assert_eq!(mode_of(&case.args.output), 0o640, "a new file takes after IN");

    let file = case.args.output.clone();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o604)).unwrap();
    case.args.output = case.folder.path().join("link.rdb");
    symlink(&file, &case.args.output).unwrap();
    run(&case.args).await.unwrap();
    assert!(fs::symlink_metadata(&case.args.output).unwrap().is_symlink(), "the link was replaced");
    assert_eq!(mode_of(&file), 0o604, "a replaced file keeps its own");
}

#[tokio::test]
async fn a_file_that_is_no_regular_one_is_written_to() {
    let mut case = Case::new(&[HEAD, STRING, TAIL], LossChoice::Refuse);
    case.args.output = "/dev/null".into();
    run(&case.args).await.unwrap();
    assert!(!fs::metadata("/dev/null").unwrap().is_file(), "/dev/null was replaced");
}

#[tokio::test]
async fn a_damaged_file_is_said_with_its_place() {
    let cut_off = Case::new(&[HEAD, STRING], LossChoice::Refuse);
    let message = run(&cut_off.args).await.unwrap_err().message;
    assert!(message.starts_with("segue: IN at byte 16: the stream ended inside "), "{message}");

    let longer = Case::new(&[HEAD, STRING, TAIL, b"*1\r\n"], LossChoice::Refuse);
    let message = run(&longer.args).await.unwrap_err().message;
    assert!(
        message.starts_with("segue: IN at byte 25: malformed RDB file: commands, as in an AOF"),
        "{message}"
    );

    let empty = Case::new(&[], LossChoice::Refuse);
    assert!(run(&empty.args).await.is_err());
    for case in [cut_off, longer, empty] {
        assert_eq!(case.files(), ["in.rdb"]);
    }
}

#[tokio::test]
async fn files_that_are_not_there_are_named() {
    let mut case = Case::new(&[HEAD, STRING, TAIL], LossChoice::Refuse);
    case.args.input = "/no/such/in.rdb".into();
    let message = run(&case.args).await.unwrap_err().message;
    assert_eq!(message, "segue: cannot read /no/such/in.rdb: No such file or directory (os error 2)");

    let mut case = Case::new(&[HEAD, STRING, TAIL], LossChoice::Refuse);
    case.args.output = "/no/such/out.rdb".into();
    let message = run(&case.args).await.unwrap_err().message;
    assert!(message.starts_with("segue: cannot write /no/such/out.rdb: "), "{message}");
}

#[tokio::test]
async fn an_unknown_release_is_a_wrong_command_line() {
    let mut case = Case::new(&[HEAD, STRING, TAIL], LossChoice::Refuse);
    case.args.to = "mariadb-11.4".parse().unwrap();
    let failure = run(&case.args).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    assert_eq!(failure.message, "segue: --to mariadb-11.4: segue knows no RDB format of this release");
    assert_eq!(case.files(), ["in.rdb"]);
}
