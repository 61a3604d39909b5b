//! What a replica says before its `PSYNC`, and what Segue makes of it.
//!
//! Replica to master, all releases: `PING`, [`AUTH …`], `REPLCONF listening-port P`,
//! [`REPLCONF ip-address A`], `REPLCONF capa eof capa psync2 …`, [`REPLCONF version V`], `PSYNC id off`.
//! Master to replica: one line for each.

use bytes::{Bytes, BytesMut};
use segue_wire::{End, Hints, Mode, Refusal, Release, SecondConnection, Side, Verdict};

use crate::{
    releases::{self, Pair, Since, since},
    resp::{self, Command},
};

/// What stands at the front of a dialer's stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// It belongs to the handshake and gets one line in answer.
    Step,
    /// `REPLCONF …`: likewise.
    Replconf,
    /// `PSYNC id offset [FAILOVER]`.
    Psync,
    /// `SYNC`, of old.
    Sync,
    /// A client of the store, not a replica.
    Client,
}

pub fn kind(name: &[u8]) -> Kind {
    match &*name.to_ascii_uppercase() {
        b"PING" | b"AUTH" => Kind::Step,
        b"REPLCONF" => Kind::Replconf,
        b"PSYNC" => Kind::Psync,
        b"SYNC" => Kind::Sync,
        _ => Kind::Client,
    }
}

/// What a replica announced of itself.
#[derive(Debug, Default)]
pub struct Announced {
    pub listening_port: Option<u16>,
    pub address: Option<String>,
    /// It can take a snapshot of unknown length.
    pub eof: bool,
    /// Valkey says its version; Redis does not.
    pub version: Option<String>,
    /// This connection is for the snapshot alone; what comes after it is on another one.
    pub snapshot_only: bool,
    /// That one, by the name that its master has for it; Valkey does not say.
    pub main_client: Option<u64>,
}

/// A sidecar at the replica's end asks whether one at the master's end sees to the link.
pub const PEER_QUESTION: &[u8] = b"*3\r\n$8\r\nREPLCONF\r\n$5\r\nsegue\r\n$1\r\n1\r\n";
pub const PEER_YES: &[u8] = b"+SEGUE 1\r\n";
pub const PEER_NO: &[u8] = b"-ERR this link passes unchanged\r\n";

pub fn is_peers_question(replconf: &Command) -> bool {
    options(replconf).any(|(option, _)| option.eq_ignore_ascii_case(b"segue"))
}

/// Capabilities that move the snapshot to a second connection, and the masters that then do so.
const SECOND_CONNECTIONS: [(&[u8], Since); 2] =
    [(b"rdb-channel-repl", since::redis(8, 0)), (b"dual-channel", since::valkey(8, 0))];

impl Announced {
    pub fn learn(&mut self, replconf: &Command) {
        for (option, value) in options(replconf) {
            let text = || std::str::from_utf8(value).ok();
            match &*option.to_ascii_lowercase() {
                b"listening-port" => self.listening_port = text().and_then(|port| port.parse().ok()),
                b"ip-address" => self.address = text().map(str::to_owned),
                b"capa" if value.eq_ignore_ascii_case(b"eof") => self.eof = true,
                // Another sidecar may have said this one.
                b"version" if value != NEWEST_VERSION => self.version = text().map(str::to_owned),
                b"rdb-channel" => self.snapshot_only = value == "1",
                b"main-ch-client-id" => self.main_client = text().and_then(|id| id.parse().ok()),
                _ => {}
            }
        }
    }

    pub fn release(&self) -> Option<Release> {
        releases::recognize("valkey", self.version.as_deref()?)
    }

    /// What a connection for the snapshot alone knows of the other one, to join it by.
    pub fn joins(&self) -> Option<String> {
        self.snapshot_only.then(|| match self.main_client {
            Some(client) => joined_by_client(client),
            None => self.joined_by_port(),
        })
    }

    pub fn joined_by_port(&self) -> String {
        format!("port {}", self.listening_port.unwrap_or(0))
    }
}

pub fn joined_by_client(client: u64) -> String {
    format!("client {client}")
}

pub fn has_capabilities(replconf: &Command) -> bool {
    options(replconf).any(|(option, _)| option.eq_ignore_ascii_case(b"capa"))
}

/// Masters that write an older snapshot to a replica that does not say its version: one that ends in the
/// middle where the content has no older form, over and over. Segue asks for their own and rewrites that.
const SAY_VERSION: Since = since::valkey(8, 0);
const NEWEST_VERSION: &[u8] = b"255.255.255";

/// The command as a rewritten link needs it; `None` if that is as it came. Left out are capabilities that it
/// is not to have; said is that the replica takes whatever the master writes.
pub fn for_rewriting(replconf: &Command, pair: &Pair, second: SecondConnection) -> Option<Bytes> {
    let says_version = SAY_VERSION.has(pair.from);
    let mut said: Vec<&[u8]> = vec![b"REPLCONF"];
    for (option, value) in options(replconf) {
        let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
        if is(b"capa") && is_left_out(value, pair, second) {
            continue;
        }
        let value = if says_version && is(b"version") { NEWEST_VERSION } else { value };
        said.extend([option.as_ref(), value]);
    }
    if said.len() == 1 {
        said.extend([&b"capa"[..], b"psync2"]);
    }
    if says_version
        && has_capabilities(replconf)
        && !options(replconf).any(|(option, _)| option.eq_ignore_ascii_case(b"version"))
    {
        said.extend([&b"version"[..], NEWEST_VERSION]);
    }
    if said.iter().eq(replconf.iter()) {
        return None;
    }
    let mut out = BytesMut::new();
    resp::write(&mut out, &said);
    Some(out.freeze())
}

fn is_left_out(capability: &[u8], pair: &Pair, second: SecondConnection) -> bool {
    SECOND_CONNECTIONS.iter().any(|(named, since)| {
        capability.eq_ignore_ascii_case(named) && (second == SecondConnection::Strip || !since.has(pair.from))
    })
}

fn options(replconf: &Command) -> impl Iterator<Item = (&Bytes, &Bytes)> {
    replconf.get(1..).unwrap_or_default().chunks_exact(2).filter_map(|pair| match pair {
        [option, value] => Some((option, value)),
        _ => None,
    })
}

/// `PSYNC ? -1` or `PSYNC <replid> <offset>`, with an optional `FAILOVER`.
#[derive(Debug, PartialEq, Eq)]
pub struct Psync {
    /// The stream that the replica follows, and the offset of the last byte it has of it.
    pub resume: Option<(String, u64)>,
    /// The dialer, a master, hands over to the listener.
    pub failover: bool,
}

impl Psync {
    pub fn parse(psync: &Command) -> Self {
        let id = psync.get(1).and_then(|id| std::str::from_utf8(id).ok()).filter(|id| *id != "?");
        let next = psync.get(2).and_then(|offset| resp::integer(offset));
        // The command names the first byte that is wanted.
        let offset = next.and_then(|next| u64::try_from(next.checked_sub(1)?).ok());
        Self {
            resume: id.map(str::to_owned).zip(offset),
            failover: psync.get(3).is_some_and(|word| word.eq_ignore_ascii_case(b"FAILOVER")),
        }
    }

    pub fn write(stream: &str, offset: u64, failover: bool) -> Bytes {
        let next = offset.wrapping_add(1).to_string();
        let mut words = vec!["PSYNC", stream, &next];
        if failover {
            words.push("FAILOVER");
        }
        let mut out = BytesMut::new();
        resp::write(&mut out, &words);
        out.freeze()
    }

    pub fn write_full() -> Bytes {
        let mut out = BytesMut::new();
        resp::write(&mut out, &["PSYNC", "?", "-1"]);
        out.freeze()
    }
}

/// What is done with a link, and the release that is spoken to the replica.
#[derive(Debug)]
pub struct Decision {
    pub verdict: Verdict,
    pub target: Option<Release>,
    /// There where the verdict is to rewrite.
    pub pair: Option<Pair>,
}

/// `listener` is the master, `dialer` the replica.
pub fn decide(hints: &Hints, dialer: &End, listener: &End) -> Decision {
    let refuse = |refusal| Decision { verdict: Verdict::Refuse(refusal), target: None, pair: None };
    if hints.mode == Mode::Off {
        return Decision { verdict: Verdict::Same, target: dialer.release.clone(), pair: None };
    }
    let Some(from) = &listener.release else {
        return refuse(Refusal::UnknownRelease { side: Side::Listener });
    };
    let Some(to) = &dialer.release else {
        return refuse(Refusal::UnknownRelease { side: Side::Dialer });
    };
    let target = match &hints.mode {
        Mode::Pin(pin) => releases::older(pin, to),
        Mode::Upgrade(before) => releases::older(before, to).or(Some(to)),
        Mode::Auto | Mode::Off => Some(to),
    };
    let Some(target) = target else {
        return refuse(Refusal::UnsupportedPair { from: from.clone(), to: to.clone() });
    };
    let verdict = releases::verdict(from, target);
    let pair = (verdict == Verdict::Rewrite).then(|| Pair::new(from, target)).flatten();
    Decision { verdict, target: Some(target.clone()), pair }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &[&str]) -> Command {
        words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
    }

    #[test]
    fn psync_names_the_next_byte() {
        let psync = Psync::parse(&command(&["PSYNC", "abc", "11"]));
        assert_eq!(psync, Psync { resume: Some(("abc".into(), 10)), failover: false });
        assert_eq!(&Psync::write("abc", 10, false)[..], b"*3\r\n$5\r\nPSYNC\r\n$3\r\nabc\r\n$2\r\n11\r\n");
        assert_eq!(Psync::parse(&command(&["PSYNC", "?", "-1"])).resume, None);
        assert!(Psync::parse(&command(&["PSYNC", "abc", "1", "FAILOVER"])).failover);
    }

    #[test]
    fn capabilities_for_a_second_connection_are_left_out() {
        let pair = pair("redis-8.0", "redis-6.0");
        let said = |words: &[&str]| for_rewriting(&command(words), &pair, SecondConnection::Strip);
        let replconf = ["REPLCONF", "capa", "eof", "capa", "psync2", "capa", "rdb-channel-repl"];
        assert_eq!(said(&replconf), Some(written(&["REPLCONF", "capa", "eof", "capa", "psync2"])));
        assert_eq!(said(&["REPLCONF", "capa", "eof"]), None);
        assert_eq!(said(&["REPLCONF", "version", "8.1.1"]), None);
        let alone = said(&["REPLCONF", "capa", "dual-channel"]);
        assert_eq!(alone, Some(written(&["REPLCONF", "capa", "psync2"])));
    }

    #[test]
    fn a_second_connection_is_offered_to_masters_that_know_it() {
        let said = |from, to, capability| {
            let replconf = command(&["REPLCONF", "capa", "psync2", "capa", capability]);
            for_rewriting(&replconf, &pair(from, to), SecondConnection::Translate)
        };
        assert_eq!(said("redis-8.10", "redis-8.0", "rdb-channel-repl"), None);
        let alone = Some(written(&["REPLCONF", "capa", "psync2"]));
        assert_eq!(said("redis-8.10", "valkey-8.0", "dual-channel"), alone);
        assert_eq!(said("redis-7.4", "redis-7.2", "rdb-channel-repl"), alone);
        assert_eq!(said("redict-7.3", "redis-7.2", "rdb-channel-repl"), alone);
        let newest =
            written(&["REPLCONF", "capa", "psync2", "capa", "dual-channel", "version", "255.255.255"]);
        assert_eq!(said("valkey-9.1", "valkey-8.0", "dual-channel"), Some(newest));
    }

    #[test]
    fn a_valkey_is_asked_for_its_own_snapshot() {
        let pair = pair("valkey-9.1", "redis-7.2");
        let said = |words: &[&str]| for_rewriting(&command(words), &pair, SecondConnection::Strip);
        let capabilities = ["REPLCONF", "capa", "eof", "capa", "psync2"];
        let newest = ["REPLCONF", "capa", "eof", "capa", "psync2", "version", "255.255.255"];
        assert_eq!(said(&capabilities), Some(written(&newest)));
        assert_eq!(
            said(&["REPLCONF", "version", "8.1.1"]),
            Some(written(&["REPLCONF", "version", "255.255.255"]))
        );
        assert_eq!(said(&["REPLCONF", "listening-port", "6379"]), None);
        assert_eq!(said(&newest), None);
        let mut announced = Announced::default();
        announced.learn(&command(&newest));
        assert_eq!(announced.release(), None, "what another sidecar said");
    }

    fn pair(from: &str, to: &str) -> Pair {
        Pair::new(&from.parse().unwrap(), &to.parse().unwrap()).unwrap()
    }

    fn written(words: &[&str]) -> Bytes {
        let mut out = BytesMut::new();
        resp::write(&mut out, words);
        out.freeze()
    }

    fn end(release: Option<&str>) -> End {
        End { name: "x".into(), release: release.map(|release| release.parse().unwrap()) }
    }

    fn hints(mode: Mode) -> Hints {
        Hints {
            near: Side::Listener,
            mode,
            on_loss: segue_wire::LossPolicy::Refuse,
            second_connection: SecondConnection::Strip,
            nonce: [0; 20],
        }
    }

    #[test]
    fn an_unknown_release_is_refused_and_never_guessed() {
        let decision = decide(&hints(Mode::Auto), &end(None), &end(Some("redis-8.0.2")));
        assert_eq!(decision.verdict, Verdict::Refuse(Refusal::UnknownRelease { side: Side::Dialer }));
        let decision = decide(&hints(Mode::Auto), &end(Some("redis-6.0")), &end(None));
        assert_eq!(decision.verdict, Verdict::Refuse(Refusal::UnknownRelease { side: Side::Listener }));
        assert_eq!(decide(&hints(Mode::Off), &end(None), &end(None)).verdict, Verdict::Same);
    }

    #[test]
    fn a_pin_is_spoken_to_all_but_older_peers() {
        let pin = || hints(Mode::Pin("redis-6.0".parse().unwrap()));
        let target =
            |to| decide(&pin(), &end(Some(to)), &end(Some("redis-8.0.2"))).target.unwrap().to_string();
        assert_eq!(target("redis-8.0.2"), "redis-6.0");
        assert_eq!(target("redis-5.0"), "redis-5.0");
    }

    #[test]
    fn an_upgrade_holds_links_to_what_both_old_stores_and_the_peer_read() {
        let decided = |before: &str, from: &str, to: &str| {
            let hints = hints(Mode::Upgrade(before.parse().unwrap()));
            let Decision { verdict, target, .. } = decide(&hints, &end(Some(to)), &end(Some(from)));
            (verdict.label(), target.unwrap().to_string())
        };
        let is = |decided: (&'static str, String), verdict, target: &str| {
            assert_eq!(decided, (verdict, target.to_owned()));
        };
        is(decided("redis-6.0", "redis-6.0", "redis-6.0"), "same", "redis-6.0");
        is(decided("redis-6.0", "redis-6.0", "redis-8.0.6"), "same", "redis-6.0");
        is(decided("redis-6.0", "redis-8.0.6", "redis-6.0"), "rewrite", "redis-6.0");
        is(decided("redis-6.0", "redis-8.0.6", "redis-8.0.6"), "rewrite", "redis-6.0");
        is(decided("redis-6.0", "redis-8.0.6", "redis-5.0"), "rewrite", "redis-5.0");
        is(decided("redis-7.0", "redis-7.0", "valkey-8.1"), "same", "redis-7.0");
        is(decided("redis-7.0", "valkey-8.1", "redis-7.0"), "rewrite", "redis-7.0");
        is(decided("redis-7.0", "valkey-8.1", "valkey-8.1"), "rewrite", "redis-7.0");
        // Nothing that one of these writes is for the other to read as it is: each link as without an upgrade.
        is(decided("redis-8.0.6", "redis-8.0.6", "redis-8.0.6"), "same", "redis-8.0.6");
        is(decided("redis-8.0.6", "redis-8.0.6", "valkey-9.1"), "rewrite", "valkey-9.1");
        is(decided("redis-8.0.6", "valkey-9.1", "redis-8.0.6"), "rewrite", "redis-8.0.6");
        is(decided("redis-8.0.6", "valkey-9.1", "valkey-9.1"), "same", "valkey-9.1");
        is(decided("valkey-9.1", "redis-8.0.6", "valkey-9.1"), "rewrite", "valkey-9.1");
        is(decided("valkey-9.1", "redis-8.0.6", "redis-8.0.6"), "same", "redis-8.0.6");
    }
}
