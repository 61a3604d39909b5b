//! Messages of the cluster bus (`cluster.h` of Redis 5.0 to 8, `cluster_legacy.h` of Valkey). Numbers are big
//! endian.
//!
//! ```text
//!    0  "RCmb"
//!    4  u32  length of the whole message
//!    8  u16  version, 1
//!   10  u16  the sender's port
//!   12  u16  type: 0 PING, 1 PONG, 2 MEET, 8 MFSTART, …; bit 15: a short header of 16 bytes (Valkey to Valkey)
//!   14  u16  count of gossip entries
//!   16       epochs, offset, the sender's name and slots, its master's name
//! 2168  [46] the sender's address, if it announces one; else zero
//! 2214  u16  count of extensions (from 7.0; before, zero)
//! 2216       ports, flags
//! 2256       PING, PONG, MEET: gossip entries of 104 bytes each, then the extensions
//!
//! an extension: u32 length, its own 8 bytes included, a multiple of 8; u16 type; u16 unused; its value
//! ```

use bytes::{Bytes, BytesMut};
use segue_wire::FaultKind;

pub const MAGIC: &[u8] = b"RCmb";
/// A message's length, version and type are in there.
pub const HEAD_BYTES: usize = 16;
pub const HEADER_BYTES: usize = 2256;

const LENGTH_AT: usize = 4;
const VERSION_AT: usize = 8;
const PORT_AT: usize = 10;
const TYPE_AT: usize = 12;
const COUNT_AT: usize = 14;
const ADDRESS_AT: usize = 2168;
const ADDRESS_BYTES: usize = 46;
const EXTENSIONS_AT: usize = 2214;
const GOSSIP_BYTES: usize = 104;
const EXTENSION_HEAD_BYTES: usize = 8;
const VERSION: u16 = 1;
const MEET: u16 = 2;
/// A replica asks its master to be handed its slots.
const HANDOVER: u16 = 8;
/// Redis and Valkey mean the same by the extensions before this one: host name, human name, forgotten node,
/// shard. From here on each counts for itself: 4 is an internal secret to Redis 8, and an address for clients
/// to Valkey.
const FIRST_OF_A_FAMILY: u16 = 4;

/// What the first bytes of a message tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub length: usize,
    /// PING, PONG or MEET: the messages that carry gossip and extensions.
    pub is_ping: bool,
    pub is_handover: bool,
}

impl Head {
    /// `None` while there are too few bytes.
    pub fn read(input: &[u8]) -> Result<Option<Self>, FaultKind> {
        if input.len() < HEAD_BYTES {
            return Ok(None);
        }
        let version = u16_at(input, VERSION_AT);
        if version != VERSION {
            return Err(malformed(format!("of version {version}")));
        }
        let length = length_at(input, LENGTH_AT);
        let kind = u16_at(input, TYPE_AT);
        let is_ping = kind <= MEET;
        if length < if is_ping { HEADER_BYTES } else { HEAD_BYTES } {
            return Err(malformed(format!("of {length} bytes, fewer than its header has")));
        }
        Ok(Some(Self { length, is_ping, is_handover: kind == HANDOVER }))
    }
}

/// What a header says of its sender.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sender {
    pub port: Option<u16>,
    pub address: Option<String>,
}

impl Sender {
    pub fn read(header: &[u8]) -> Self {
        let port = u16_at(header, PORT_AT);
        let field = header.get(ADDRESS_AT..ADDRESS_AT + ADDRESS_BYTES).unwrap_or_default();
        let text = field.split(|&byte| byte == 0).next().unwrap_or_default();
        let address = std::str::from_utf8(text).ok().filter(|text| !text.is_empty()).map(str::to_owned);
        Self { port: (port != 0).then_some(port), address }
    }
}

/// What a ping, pong or meet became.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Edited {
    /// `None` if nothing had to change.
    pub message: Option<Bytes>,
    pub extensions_dropped: usize,
    pub address_told: bool,
}

/// Takes out the extensions that the other family reads as something else, and writes the sender's address
/// where it left that to be seen.
pub fn edit(message: &[u8], drop_extensions: bool, address: Option<&str>) -> Result<Edited, FaultKind> {
    let gossip_bytes = usize::from(u16_at(message, COUNT_AT)) * GOSSIP_BYTES;
    let (Some(front), Some(mut rest)) =
        (message.get(..HEADER_BYTES + gossip_bytes), message.get(HEADER_BYTES + gossip_bytes..))
    else {
        return Err(malformed("shorter than its gossip".to_owned()));
    };
    let mut edited = BytesMut::from(front);
    let mut done = Edited::default();
    let mut kept: u16 = 0;
    for _ in 0..u16_at(message, EXTENSIONS_AT) {
        let length = if rest.len() < EXTENSION_HEAD_BYTES { 0 } else { length_at(rest, 0) };
        if length < EXTENSION_HEAD_BYTES || length % 8 != 0 || length > rest.len() {
            return Err(malformed(format!("with an extension of {length} bytes")));
        }
        let (extension, after) = rest.split_at(length);
        if drop_extensions && u16_at(extension, 4) >= FIRST_OF_A_FAMILY {
            done.extensions_dropped += 1;
        } else {
            kept += 1;
            edited.extend_from_slice(extension);
        }
        rest = after;
    }
    if !rest.is_empty() {
        return Err(malformed(format!("with {} bytes behind its end", rest.len())));
    }
    if let Some(address) = address.filter(|address| address.len() < ADDRESS_BYTES)
        && edited.get(ADDRESS_AT) == Some(&0)
    {
        put(&mut edited, ADDRESS_AT, address.as_bytes());
        done.address_told = true;
    }
    if done.extensions_dropped > 0 || done.address_told {
        put(&mut edited, EXTENSIONS_AT, &kept.to_be_bytes());
        // It has become no longer than a message whose length fitted.
        let length = u32::try_from(edited.len()).unwrap_or(u32::MAX);
        put(&mut edited, LENGTH_AT, &length.to_be_bytes());
        done.message = Some(edited.freeze());
    }
    Ok(done)
}

fn put(message: &mut BytesMut, at: usize, bytes: &[u8]) {
    if let Some(field) = message.get_mut(at..at + bytes.len()) {
        field.copy_from_slice(bytes);
    }
}

fn u16_at(message: &[u8], at: usize) -> u16 {
    message.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u16::from_be_bytes(*bytes))
}

fn length_at(message: &[u8], at: usize) -> usize {
    let length =
        message.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_be_bytes(*bytes));
    usize::try_from(length).unwrap_or(usize::MAX)
}

pub fn malformed(detail: String) -> FaultKind {
    FaultKind::Malformed { what: "bus message", detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extension(kind: u16, value: &[u8]) -> Vec<u8> {
        let padded = value.len().next_multiple_of(8);
        let mut bytes = u32::try_from(8 + padded).unwrap().to_be_bytes().to_vec();
        bytes.extend([kind.to_be_bytes(), [0; 2]].concat());
        bytes.extend(value);
        bytes.resize(8 + padded, 0);
        bytes
    }

    fn ping(gossip: u16, extensions: &[Vec<u8>]) -> Vec<u8> {
        let mut message = vec![0; HEADER_BYTES + usize::from(gossip) * GOSSIP_BYTES];
        message.extend(extensions.concat());
        message[..4].copy_from_slice(MAGIC);
        let length = u32::try_from(message.len()).unwrap();
        message[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&length.to_be_bytes());
        message[VERSION_AT + 1] = 1;
        message[PORT_AT..PORT_AT + 2].copy_from_slice(&6379_u16.to_be_bytes());
        message[COUNT_AT..COUNT_AT + 2].copy_from_slice(&gossip.to_be_bytes());
        let count = u16::try_from(extensions.len()).unwrap();
        message[EXTENSIONS_AT..EXTENSIONS_AT + 2].copy_from_slice(&count.to_be_bytes());
        message
    }

    #[test]
    fn a_family_s_own_extensions_go_and_the_message_stays_valid() {
        let [host, shard] = [extension(0, b"host\0"), extension(3, &[b'a'; 40])];
        let secret = extension(4, &[b'5'; 40]);
        let message = ping(2, &[host.clone(), secret, shard.clone()]);
        let edited = edit(&message, true, None).unwrap();
        assert_eq!((edited.extensions_dropped, edited.address_told), (1, false));
        assert_eq!(edited.message.unwrap(), ping(2, &[host, shard]));
        assert_eq!(edit(&message, false, None).unwrap(), Edited::default());
        assert_eq!(edit(&ping(0, &[]), true, None).unwrap(), Edited::default());
    }

    #[test]
    fn an_address_is_told_only_where_none_is_announced() {
        let message = ping(1, &[]);
        let edited = edit(&message, true, Some("10.0.0.7")).unwrap();
        let told = edited.message.unwrap();
        let sender = Sender { port: Some(6379), address: Some("10.0.0.7".to_owned()) };
        assert_eq!((told.len(), Sender::read(&told)), (message.len(), sender));
        assert_eq!(edit(&told, true, Some("10.0.0.8")).unwrap(), Edited::default());
        assert_eq!(Sender::read(&message).address, None);
    }

    #[test]
    fn heads_tell_length_and_kind() {
        assert_eq!(Head::read(&ping(0, &[])[..15]).unwrap(), None);
        assert_eq!(
            Head::read(&ping(1, &[])).unwrap(),
            Some(Head { length: HEADER_BYTES + GOSSIP_BYTES, is_ping: true, is_handover: false })
        );
        let mut publish = ping(0, &[]);
        publish[TYPE_AT] = 0x80;
        publish[TYPE_AT + 1] = 4;
        publish[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&20_u32.to_be_bytes());
        assert_eq!(
            Head::read(&publish).unwrap(),
            Some(Head { length: 20, is_ping: false, is_handover: false })
        );
    }

    #[test]
    fn damage_is_malformed() {
        let broken = |at: usize, byte: u8| {
            let mut message = ping(1, &[extension(4, &[b'5'; 40])]);
            message[at] = byte;
            Head::read(&message).is_err() || edit(&message, true, None).is_err()
        };
        let extension_at = HEADER_BYTES + GOSSIP_BYTES;
        for (at, byte) in [
            (VERSION_AT + 1, 2),
            (LENGTH_AT + 2, 0),
            (COUNT_AT + 1, 2),
            (COUNT_AT + 1, 0),
            (EXTENSIONS_AT + 1, 2),
            (EXTENSIONS_AT + 1, 0),
            (extension_at + 3, 0),
            (extension_at + 3, 47),
            (extension_at + 3, 56),
        ] {
            assert!(broken(at, byte), "byte {byte} at {at}");
        }
    }
}
