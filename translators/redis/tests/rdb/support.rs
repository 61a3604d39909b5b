use bytes::BytesMut;
use crc_fast::{CrcAlgorithm, checksum};
use segue_redis::{
    rdb::{Progress, Rewriter, TOKEN_BYTES_MAX, Target},
    releases::rdb_target,
};
use segue_wire::{FaultKind, Limits, Loss, LossPolicy, Release};

/// Written by redis 8.0.6: every type and encoding it knows, two databases, field TTLs in both
/// encodings, a vector set, a function library, LFU counters.
pub const SMALL: &[u8] = include_bytes!("../golden/redis-8.0.6-small.rdb");

/// Written by redis 8.10.2: streams with all that they have come to have, arrays, what HIMPORT makes.
pub const NEWEST: &[u8] = include_bytes!("../golden/redis-8.10.2-small.rdb");
/// Written by redis 8.6.2 and valkey 9.1.2, from the same commands as far as they know them.
pub const REDIS_8_6: &[u8] = include_bytes!("../golden/redis-8.6.2-small.rdb");
pub const VALKEY: &[u8] = include_bytes!("../golden/valkey-9.1.2-small.rdb");

pub const SMALL_ONES: [&[u8]; 4] = [SMALL, REDIS_8_6, NEWEST, VALKEY];

/// The versions that targets write.
pub const VERSIONS: [u16; 7] = [9, 10, 11, 12, 13, 15, 80];

pub fn target(version: u16) -> Target {
    let (store, major, minor) = match version {
        9 => ("redis", 6, 2),
        10 => ("redis", 7, 0),
        11 => ("redis", 7, 2),
        12 => ("redis", 7, 4),
        13 => ("redis", 8, 6),
        15 => ("redis", 8, 10),
        _ => ("valkey", 9, 0),
    };
    rdb_target(&Release::new(store, major, minor, None)).unwrap()
}

/// What came of a snapshot.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    pub result: Result<(), FaultKind>,
    pub out: Vec<u8>,
    pub losses: Vec<Loss>,
    /// How much of it was read.
    pub position: u64,
    /// What followed the snapshot.
    pub rest: Vec<u8>,
}

impl Outcome {
    pub fn losses_as_text(&self) -> Vec<String> {
        self.losses.iter().map(|loss| format!("{} {loss}", loss.grade.label())).collect()
    }
}

pub fn rewrite(snapshot: &[u8], version: u16, policy: LossPolicy) -> Outcome {
    rewrite_in(snapshot.chunks(snapshot.len().max(1)), target(version), policy, Limits::default())
}

/// Feeds pieces one after the other, and checks on the way what holds of every call.
pub fn rewrite_in<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    target: Target,
    policy: LossPolicy,
    limits: Limits,
) -> Outcome {
    const LZF_REACH_BYTES: usize = 8 << 10;
    let mut rewriter = Rewriter::new(target, policy, limits);
    let (mut input, mut out, mut losses) = (BytesMut::new(), BytesMut::new(), Vec::new());
    let mut done = false;
    let mut fed = 0;
    for piece in pieces {
        input.extend_from_slice(piece);
        fed += piece.len() as u64;
        if done {
            continue;
        }
        match rewriter.feed(&mut input, &mut out, &mut losses) {
            Err(fault) => {
                let position = rewriter.position();
                return Outcome { result: Err(fault), out: out.into(), losses, position, rest: Vec::new() };
            }
            Ok(Progress::Done) => done = true,
            Ok(Progress::More) => assert!(input.len() <= TOKEN_BYTES_MAX),
        }
        assert_eq!(rewriter.position() + input.len() as u64, fed);
        assert_eq!(rewriter.emitted(), out.len() as u64);
        assert!(rewriter.held_bytes() <= limits.held_bytes_max + LZF_REACH_BYTES);
    }
    let position = rewriter.position();
    Outcome { result: rewriter.finish(), out: out.into(), losses, position, rest: input.into() }
}

/// A snapshot of these items, without its checksum.
pub fn unsigned(version: u16, items: &[&[u8]]) -> Vec<u8> {
    let header = if version < 80 { format!("REDIS{version:04}") } else { format!("VALKEY{version:03}") };
    [header.as_bytes(), &items.concat(), &[255]].concat()
}

/// A snapshot of these items, with its checksum.
pub fn snapshot(version: u16, items: &[&[u8]]) -> Vec<u8> {
    signed(unsigned(version, items))
}

pub fn signed(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = checksum(CrcAlgorithm::Crc64Redis, &bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// A string as an RDB has it, below 16384 bytes.
pub fn string(text: &[u8]) -> Vec<u8> {
    let len = u16::try_from(text.len()).unwrap();
    let head = if len < 64 { vec![len as u8] } else { (0x4000 | len).to_be_bytes().to_vec() };
    [head, text.to_vec()].concat()
}

/// A listpack of short texts.
pub fn listpack(texts: &[&[u8]]) -> Vec<u8> {
    let mut entries = Vec::new();
    for text in texts {
        assert!(text.len() < 64);
        entries.push(0x80 | text.len() as u8);
        entries.extend_from_slice(text);
        entries.push(1 + text.len() as u8);
    }
    let mut out = (7 + entries.len() as u32).to_le_bytes().to_vec();
    out.extend_from_slice(&(texts.len() as u16).to_le_bytes());
    out.extend_from_slice(&entries);
    out.push(0xff);
    out
}
