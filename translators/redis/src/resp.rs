//! Commands on the wire: RESP arrays of bulk strings, `*<argc>\r\n` then argc times
//! `$<len>\r\n<len bytes>\r\n`; between them, blank lines (`\n`, `\r\n`) and empty arrays (`*0\r\n`,
//! `*-1\r\n`), which every release accepts and counts.
//!
//! All readers are incremental: they take a slice that starts at the unit and say how far they came.

use bytes::{BufMut, Bytes, BytesMut};
use segue_wire::FaultKind;

/// A command's arguments, its name first.
pub type Command = Vec<Bytes>;

const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";

/// `*` or `$`, a sign, 19 digits and `\r\n` fit well.
const LINE_BYTES_MAX: usize = 32;
/// No command of any release has a name as long as this.
const NAME_BYTES_MAX: usize = 64;
/// What Redis itself takes at most in one command (`proto-max-bulk-len` bounds each argument).
const ARGUMENTS_MAX: i64 = 1 << 31;

/// What stands at the front of a stream of commands.
#[derive(Debug, PartialEq, Eq)]
pub enum Head<'a> {
    /// Not enough bytes to tell.
    Incomplete,
    /// This many bytes that mean nothing.
    Blank(usize),
    /// A command with this many arguments; its name, and where the name's `\r\n` ends.
    Command { argc: u64, name: &'a [u8], end: usize },
    /// No RESP array: an inline command, TLS, or nothing we know.
    Foreign,
}

pub fn head(input: &[u8]) -> Result<Head<'_>, FaultKind> {
    match input {
        [] | [b'\r'] => return Ok(Head::Incomplete),
        [b'\n', ..] => return Ok(Head::Blank(1)),
        [b'\r', b'\n', ..] => return Ok(Head::Blank(2)),
        [b'*', ..] => {}
        _ => return Ok(Head::Foreign),
    }
    let Some((argc, argc_end)) = number(input, b'*')? else { return Ok(Head::Incomplete) };
    if argc <= 0 {
        return Ok(Head::Blank(argc_end));
    }
    if argc > ARGUMENTS_MAX {
        return Err(malformed(format!("a command of {argc} arguments")));
    }
    let rest = input.get(argc_end..).unwrap_or_default();
    let Some((len, start)) = bulk_length(rest)? else { return Ok(Head::Incomplete) };
    if len > NAME_BYTES_MAX {
        return Err(malformed(format!("a command name of {len} bytes")));
    }
    let Some(body) = rest.get(start..start + len + 2) else { return Ok(Head::Incomplete) };
    let Some(name) = body.strip_suffix(b"\r\n") else { return Err(unterminated()) };
    Ok(Head::Command { argc: argc.unsigned_abs(), name, end: argc_end + start + len + 2 })
}

/// The rest of a command that passes unchanged, however long: nothing of it is held.
#[derive(Debug)]
pub struct Pass {
    arguments_left: u64,
    /// Bytes left of the current argument, its `\r\n` included.
    bulk_left: u64,
}

impl Pass {
    pub const fn new(arguments_left: u64) -> Self {
        Self { arguments_left, bulk_left: 0 }
    }

    pub const fn done(&self) -> bool {
        self.arguments_left == 0 && self.bulk_left == 0
    }

    /// How many bytes from the front of `input` belong to the command and may pass now.
    pub fn advance(&mut self, input: &[u8]) -> Result<usize, FaultKind> {
        let mut at = 0;
        loop {
            let rest = input.get(at..).unwrap_or_default();
            if self.bulk_left > 0 && !rest.is_empty() {
                let taken = rest.len().min(usize::try_from(self.bulk_left).unwrap_or(usize::MAX));
                self.bulk_left -= taken as u64;
                at += taken;
            } else if self.bulk_left == 0 && self.arguments_left > 0 {
                let Some((len, end)) = bulk_length(rest)? else { return Ok(at) };
                self.arguments_left -= 1;
                self.bulk_left = len as u64 + 2;
                at += end;
            } else {
                return Ok(at);
            }
        }
    }
}

/// Collects a whole command, up to a limit; remembers where it stopped.
#[derive(Debug, Default)]
pub struct Collect {
    argc: Option<u64>,
    /// Start and end of each argument, from the start of the command.
    arguments: Vec<(usize, usize)>,
    at: usize,
}

impl Collect {
    /// The command at the front of `input`, taken off it, once it is complete. `Err` as soon as it is
    /// known to be longer than `max` bytes, which `limit` names.
    pub fn take(
        &mut self,
        input: &mut BytesMut,
        limit: &'static str,
        max: usize,
    ) -> Result<Option<(Bytes, Command)>, FaultKind> {
        let too_large = || FaultKind::TooLarge { what: "a command", limit, max };
        let argc = match self.argc {
            Some(argc) => argc,
            None => {
                let Some((argc, end)) = number(input, b'*')? else { return Ok(None) };
                let argc = u64::try_from(argc).map_err(|_| malformed("a negative argument count".into()))?;
                self.argc = Some(argc);
                self.at = end;
                argc
            }
        };
        // The shortest argument takes six bytes: `$0\r\n\r\n`.
        if argc.saturating_mul(6) > max as u64 {
            return Err(too_large());
        }
        while (self.arguments.len() as u64) < argc {
            let rest = input.get(self.at..).unwrap_or_default();
            let Some((len, start)) = bulk_length(rest)? else { return Ok(None) };
            let end = (self.at + start).checked_add(len).filter(|end| *end <= max).ok_or_else(too_large)?;
            match input.get(end..end + 2) {
                None => return Ok(None),
                Some(b"\r\n") => {}
                Some(_) => return Err(unterminated()),
            }
            self.arguments.push((self.at + start, end));
            self.at = end + 2;
        }
        let raw = input.split_to(self.at).freeze();
        let command = self.arguments.iter().map(|&(start, end)| raw.slice(start..end)).collect();
        *self = Self::default();
        Ok(Some((raw, command)))
    }
}

/// Appends a command.
pub fn write<A: AsRef<[u8]>>(out: &mut BytesMut, command: &[A]) {
    write_number(out, b'*', command.len());
    for argument in command {
        let argument = argument.as_ref();
        out.reserve(argument.len() + LINE_BYTES_MAX);
        write_number(out, b'$', argument.len());
        out.put_slice(argument);
        out.put_slice(b"\r\n");
    }
}

/// Appends what is said for one command. Two for one: the readers of who hears them see both or none, and
/// so does who stops in between.
pub fn write_together(out: &mut BytesMut, commands: &[Command], in_transaction: bool) {
    let wrap = commands.len() > 1 && !in_transaction;
    if wrap {
        out.put_slice(MULTI);
    }
    for command in commands {
        write(out, command);
    }
    if wrap {
        out.put_slice(EXEC);
    }
}

fn write_number(out: &mut BytesMut, kind: u8, number: usize) {
    out.put_u8(kind);
    out.put_slice(number.to_string().as_bytes());
    out.put_slice(b"\r\n");
}

fn bulk_length(input: &[u8]) -> Result<Option<(usize, usize)>, FaultKind> {
    match number(input, b'$')? {
        None => Ok(None),
        Some((len, end)) => match usize::try_from(len) {
            Ok(len) if len <= usize::MAX / 2 => Ok(Some((len, end))),
            _ => Err(malformed(format!("an argument of {len} bytes"))),
        },
    }
}

/// `<kind><number>\r\n`: the number, and where the line ends. `None` while it is incomplete.
fn number(input: &[u8], kind: u8) -> Result<Option<(i64, usize)>, FaultKind> {
    let Some((&first, rest)) = input.split_first() else { return Ok(None) };
    if first != kind {
        return Err(malformed(format!(
            "\"{}\" where \"{}\" was expected",
            first.escape_ascii(),
            char::from(kind)
        )));
    }
    let window = rest.get(..LINE_BYTES_MAX).unwrap_or(rest);
    let Some(len) = window.iter().position(|&b| b == b'\n') else {
        if window.len() == LINE_BYTES_MAX {
            return Err(malformed("a length line without an end".into()));
        }
        return Ok(None);
    };
    let text = window.get(..len).and_then(|line| line.strip_suffix(b"\r"));
    let number = text.and_then(integer).ok_or_else(|| malformed("a length that is no number".into()))?;
    Ok(Some((number, len + 2)))
}

/// A decimal integer, as Redis writes it.
pub fn integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn malformed(detail: String) -> FaultKind {
    FaultKind::Malformed { what: "command", detail }
}

fn unterminated() -> FaultKind {
    malformed("an argument without its line end".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\nvv\r\n";

    #[test]
    fn a_head_needs_its_whole_name() {
        assert_eq!(head(SET).unwrap(), Head::Command { argc: 3, name: b"SET", end: 13 });
        for end in 0..13 {
            assert_eq!(head(&SET[..end]).unwrap(), Head::Incomplete, "{end}");
        }
    }

    #[test]
    fn blanks_are_what_redis_counts_and_ignores() {
        for (bytes, len) in [(&b"\n"[..], 1), (b"\r\n", 2), (b"*0\r\n", 4), (b"*-1\r\n", 5)] {
            assert_eq!(head(bytes).unwrap(), Head::Blank(len));
        }
        assert_eq!(head(b"PING\r\n").unwrap(), Head::Foreign);
        assert_eq!(head(b"\x16\x03\x01").unwrap(), Head::Foreign);
    }

    #[test]
    fn a_passing_command_is_never_held_beyond_a_length_line() {
        let body = &SET[13..];
        for cut in 0..=body.len() {
            let mut pass = Pass::new(2);
            let first = pass.advance(&body[..cut]).unwrap();
            assert!(cut - first < 4, "held {} bytes at {cut}", cut - first);
            let second = pass.advance(&body[first..]).unwrap();
            assert_eq!((first + second, pass.done()), (body.len(), true), "{cut}");
        }
    }

    #[test]
    fn a_command_is_collected_from_any_cut() {
        for cut in 0..SET.len() {
            let mut collect = Collect::default();
            let mut input = BytesMut::from(&SET[..cut]);
            assert_eq!(collect.take(&mut input, "l", 1000).unwrap(), None);
            input.extend_from_slice(&SET[cut..]);
            input.extend_from_slice(b"*1");
            let (raw, command) = collect.take(&mut input, "l", 1000).unwrap().unwrap();
            assert_eq!((&raw[..], &input[..]), (SET, &b"*1"[..]));
            assert_eq!(command, ["SET", "k", "vv"]);
        }
    }

    #[test]
    fn a_command_over_the_limit_is_refused_before_its_bytes_come() {
        let mut input = BytesMut::from(&b"*2\r\n$3\r\nSET\r\n$5000\r\n"[..]);
        let fault = Collect::default().take(&mut input, "held_bytes_max", 1000).unwrap_err();
        assert_eq!(fault.to_string(), "a command is larger than held_bytes_max = 1000 bytes");
        let mut input = BytesMut::from(&b"*2000000000\r\n"[..]);
        assert_eq!(
            Collect::default().take(&mut input, "held_bytes_max", 1000).unwrap_err().label(),
            "too-large"
        );
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut out = BytesMut::new();
        write(&mut out, &["SET", "k", "vv"]);
        assert_eq!(&out[..], SET);
    }

    #[test]
    fn damage_is_malformed() {
        for bytes in [&b"*x\r\n"[..], b"*1\n", b"*1\r\n$-1\r\n", b"*1\r\n$1\r\nab\r\n", b"*1\r\n:1\r\n"] {
            assert!(head(bytes).is_err(), "{}", bytes.escape_ascii());
        }
        assert!(head(&[b'*'; 40]).is_err());
    }
}
