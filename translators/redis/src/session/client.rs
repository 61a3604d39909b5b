//! A store that speaks as a client of another: `MIGRATE`, by hand or for a slot that moves.
//!
//! ```text
//! dialer (source)                          listener (target)
//! [AUTH …] [SELECT n]              ->      one line each
//! RESTORE[-ASKING] key ttl payload … ->    one line each; the source deletes each key that got +OK
//! ```
//!
//! Or as one that moves whole slots, `CLUSTER SYNCSLOTS …`: the dialer gives them in Valkey, in Redis the listener.
//! What follows is a snapshot and a stream of commands of the giver's own release, and what the taker does not
//! understand it would skip, while the giver deletes it. So it passes only where all of it is understood.
//!
//! Nothing else is ever said on such a connection: whoever says anything else is a client of another kind,
//! and its bytes pass unchanged from there on. A payload is rewritten for the listener's release; one that
//! this can't take, or that would kill it, is answered here with an error, and the key stays where it is.
//!
//! The dialer's release is only what was last known of it: a store that migrates can't be asked. So it never
//! decides how a payload is read, but lets one pass that can't be read here, or not at all.
//!
//! Answers keep their order in the simplest way: before Segue answers a command itself, it holds the dialer
//! until the listener has answered all that was sent before.

use bytes::{Bytes, BytesMut};
use segue_wire::{
    Effect, Effects, FaultKind, Flow, Grade, Loss, LossPolicy, Mode, Note, Question, Refusal, Release, Side,
    Verdict,
};

use super::{MASTER, Phase, REPLICA, RedisSession};
use crate::{
    rdb::{self, Payload, Target},
    releases,
    resp::{self, Command, Head, Pass},
};

pub(super) struct Client {
    /// Lines that the listener owes, and whether it is in one.
    replies_due: u64,
    in_line: bool,
    database: u64,
    target: Known,
    /// Why slots can't move as a whole, where they can't.
    slots_stay: Option<Refusal>,
    /// It was said that payloads are rewritten here.
    is_decided: bool,
    /// The rest of a command that is too large to be looked at.
    large: Option<(Pass, Large)>,
    /// What the dialer is told in the listener's place, once its turn has come.
    own_reply: Option<String>,
}

/// What the listener's payloads must be like.
enum Known {
    NotYet,
    /// Whatever comes passes: the dialer is no store, or one of the listener's own unknown release.
    Anything,
    /// `takes_all`: so far as is known, whatever the dialer sends.
    Target {
        target: Target,
        takes_all: bool,
    },
    /// They can't be told, and why.
    Nothing(String),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Large {
    Passes,
    Stops,
}

/// What a connection of `MIGRATE` says.
enum Word {
    Auth,
    Select,
    Restore,
    Cluster,
    Other,
}

fn word(name: &[u8]) -> Word {
    match &*name.to_ascii_uppercase() {
        b"AUTH" => Word::Auth,
        b"SELECT" => Word::Select,
        b"RESTORE" | b"RESTORE-ASKING" => Word::Restore,
        b"CLUSTER" => Word::Cluster,
        _ => Word::Other,
    }
}

/// Counts the listener's answers, of a line each.
pub(super) fn count_replies(replies: &[u8], due: &mut u64, in_line: &mut bool) {
    for &byte in replies {
        if byte == b'\n' && std::mem::take(in_line) {
            *due = due.saturating_sub(1);
        } else if byte != b'\n' && byte != b'\r' {
            *in_line = true;
        }
    }
}

impl RedisSession {
    /// The dialer's command is a client's: what follows is watched if it may be a store's.
    pub(super) fn begin_client(&mut self, name: &[u8]) -> bool {
        let Phase::Handshake { replies_due, in_line } = self.phase else { return false };
        if self.hints.mode == Mode::Off || matches!(word(name), Word::Other) {
            return false;
        }
        self.phase = Phase::Client(Box::new(Client {
            replies_due,
            in_line,
            database: 0,
            target: Known::NotYet,
            slots_stay: None,
            is_decided: false,
            large: None,
            own_reply: None,
        }));
        true
    }

    pub(super) fn take_from_client(
        &mut self,
        input: &mut BytesMut,
        out: &mut Effects,
    ) -> Result<Flow, FaultKind> {
        loop {
            let Phase::Client(client) = &mut self.phase else { return Ok(Flow::More) };
            if let Some((pass, large)) = &mut client.large {
                let piece = input.split_to(pass.advance(input)?).freeze();
                if *large == Large::Passes {
                    out.send(MASTER, piece);
                }
                if !pass.done() {
                    return Ok(Flow::More);
                }
                client.large = None;
            }
            if let Some(reply) = client.own_reply.take() {
                if client.replies_due > 0 {
                    client.own_reply = Some(reply);
                    return Ok(Flow::Hold);
                }
                out.send_slice(REPLICA, reply.as_bytes());
            }
            let (argc, word, end) = match resp::head(input)? {
                Head::Incomplete => return self.bounded(input),
                Head::Blank(len) => {
                    out.send(MASTER, input.split_to(len).freeze());
                    continue;
                }
                Head::Foreign => (0, Word::Other, 0),
                Head::Command { argc, name, end } => (argc, word(name), end),
            };
            let limits = self.limits;
            let (limit, max) = match (&word, &client.target) {
                (Word::Other, _) | (Word::Restore | Word::Cluster, Known::Anything) => {
                    self.pass_on(out);
                    return Ok(Flow::More);
                }
                (Word::Restore | Word::Cluster, Known::NotYet) => {
                    out.push(Effect::Ask(Question::Client));
                    self.waiting = true;
                    return Ok(Flow::Hold);
                }
                (Word::Restore, _) => {
                    client.decide(out);
                    ("held_bytes_max", limits.held_bytes_max)
                }
                // A list of slots can be long.
                (Word::Cluster, _) => ("held_bytes_max", limits.held_bytes_max),
                (Word::Auth | Word::Select, _) => ("handshake_bytes_max", limits.handshake_bytes_max),
            };
            match self.collect.take(input, limit, max) {
                Ok(None) => return Ok(Flow::More),
                Ok(Some((raw, command))) if matches!(word, Word::Restore) => {
                    client.restore(raw, &command, &limits, self.hints.on_loss, out);
                }
                Ok(Some((raw, command))) if matches!(word, Word::Cluster) => {
                    if !client.keeps_slots(&command, out) {
                        out.send(MASTER, raw);
                        self.pass_on(out);
                        return Ok(Flow::More);
                    }
                }
                Ok(Some((raw, command))) => client.setup(raw, &command, &word, out),
                Err(FaultKind::TooLarge { limit, max, .. }) if matches!(word, Word::Restore) => {
                    self.collect = resp::Collect::default();
                    let front = input.split_to(end).freeze();
                    let large = client.large(front, out);
                    client.large = Some((Pass::new(argc.saturating_sub(1)), large));
                    if large == Large::Stops {
                        client.refuse(&format!("the value is larger than {limit} = {max} bytes"), None, out);
                    }
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    /// The stores at the two ends, or `None` if the dialer is none.
    pub(super) fn client_is(&mut self, stores: Option<(Option<Release>, Option<Release>)>) {
        let (known, slots_stay) = match stores {
            None => (Known::Anything, None),
            Some((dialer, listener)) => (
                self.payloads_for(dialer.as_ref(), listener.as_ref()),
                self.slots_stay(dialer.as_ref(), listener.as_ref()),
            ),
        };
        if let Phase::Client(client) = &mut self.phase {
            client.target = known;
            client.slots_stay = slots_stay;
        }
    }

    fn slots_stay(&self, dialer: Option<&Release>, listener: Option<&Release>) -> Option<Refusal> {
        let (Some(dialer), Some(listener)) = (dialer, listener) else {
            let side = if dialer.is_none() { Side::Dialer } else { Side::Listener };
            return Some(Refusal::UnknownRelease { side });
        };
        let (from, to) = if dialer.store() == "valkey" { (dialer, listener) } else { (listener, dialer) };
        let understood = match &self.hints.mode {
            Mode::Pin(pin) | Mode::Upgrade(pin) => releases::older(pin, to).unwrap_or(to),
            Mode::Auto | Mode::Off => to,
        };
        let stay = releases::verdict(from, understood) != Verdict::Same;
        stay.then(|| Refusal::SlotMigration { from: from.clone(), to: understood.clone() })
    }

    fn payloads_for(&self, source: Option<&Release>, target: Option<&Release>) -> Known {
        let Some(target) = target else {
            return Known::Nothing("the release of the target is not known".to_owned());
        };
        let target = match &self.hints.mode {
            Mode::Pin(pin) | Mode::Upgrade(pin) => releases::older(pin, target).unwrap_or(target),
            Mode::Auto | Mode::Off => target,
        };
        let takes_all = source.is_some_and(|source| releases::verdict(source, target) == Verdict::Same);
        match releases::rdb_target(target) {
            Some(target) => Known::Target { target, takes_all },
            None if takes_all => Known::Anything,
            None => Known::Nothing(format!("what {target} can take is not known")),
        }
    }
}

impl Client {
    pub(super) fn take_replies(&mut self, input: &mut BytesMut, out: &mut Effects) {
        count_replies(input, &mut self.replies_due, &mut self.in_line);
        out.send(REPLICA, input.split().freeze());
    }

    fn decide(&mut self, out: &mut Effects) {
        if !std::mem::replace(&mut self.is_decided, true) {
            let target = match &self.target {
                Known::Target { target, .. } => Some(target.release.clone()),
                Known::NotYet | Known::Anything | Known::Nothing(_) => None,
            };
            out.note(Note::Decided { verdict: Verdict::Rewrite, target });
        }
    }

    fn pass(&mut self, command: Bytes, out: &mut Effects) {
        self.replies_due += 1;
        out.send(MASTER, command);
    }

    fn setup(&mut self, raw: Bytes, command: &Command, word: &Word, out: &mut Effects) {
        if matches!(word, Word::Select)
            && let Some(database) = command.get(1).and_then(|number| resp::integer(number))
        {
            self.database = u64::try_from(database).unwrap_or(0);
        }
        self.pass(raw, out);
    }

    /// Whether the command would move slots as a whole, and must not; it is answered then.
    fn keeps_slots(&mut self, cluster: &Command, out: &mut Effects) -> bool {
        let moves = cluster.get(1).is_some_and(|word| word.eq_ignore_ascii_case(b"SYNCSLOTS"));
        let Some(refusal) = self.slots_stay.as_ref().filter(|_| moves) else { return false };
        self.own_reply = Some(format!("-ERR Segue refuses this: {refusal}\r\n"));
        out.note(Note::Refused(refusal.clone()));
        true
    }

    /// `RESTORE key ttl payload …`
    fn restore(
        &mut self,
        raw: Bytes,
        command: &Command,
        limits: &segue_wire::Limits,
        on_loss: LossPolicy,
        out: &mut Effects,
    ) {
        const PAYLOAD_AT: usize = 3;
        let (Some(key), Some(payload)) = (command.get(1), command.get(PAYLOAD_AT)) else {
            // The listener says what it lacks.
            return self.pass(raw, out);
        };
        let (target, takes_all) = match &self.target {
            Known::Target { target, takes_all } => (target, *takes_all),
            Known::Nothing(why) => {
                let why = why.clone();
                return self.refuse(&why, Some(key), out);
            }
            Known::NotYet | Known::Anything => return self.pass(raw, out),
        };
        let release = &target.release;
        match rdb::rewrite_payload(payload, target, limits) {
            Ok(Payload::Same) => self.pass(raw, out),
            Ok(Payload::Rewritten(older, losses)) => {
                let data = losses.iter().find(|loss| loss.grade == Grade::Data);
                if let Some(loss) = data.filter(|_| on_loss == LossPolicy::Refuse) {
                    let why = format!("loss = \"refuse\" and {release} cannot represent {loss}");
                    return self.refuse(&why, Some(key), out);
                }
                let cut: Vec<u8> = key.iter().take(Loss::KEY_BYTES_MAX).copied().collect();
                for loss in losses {
                    out.note(Note::Lost(Loss { key: Some(cut.clone()), db: self.database, ..loss }));
                }
                let mut said = command.clone();
                if let Some(argument) = said.get_mut(PAYLOAD_AT) {
                    *argument = older.into();
                }
                out.note(Note::Translated("migrate"));
                let mut written = BytesMut::new();
                resp::write(&mut written, &said);
                self.pass(written.freeze(), out);
            }
            // Whatever the policy: left out, the key would be nowhere.
            Ok(Payload::None(loss)) => {
                let why = format!("{release} cannot represent {loss}");
                self.refuse(&why, Some(key), out);
            }
            Err(_) if takes_all => self.pass(raw, out),
            Err(fault) => self.refuse(&fault.to_string(), Some(key), out),
        }
    }

    fn large(&mut self, front: Bytes, out: &mut Effects) -> Large {
        if matches!(self.target, Known::Target { takes_all: true, .. }) {
            self.pass(front, out);
            return Large::Passes;
        }
        Large::Stops
    }

    fn refuse(&mut self, why: &str, key: Option<&Bytes>, out: &mut Effects) {
        let key = key.map(|key| key.get(..Loss::KEY_BYTES_MAX).unwrap_or(key).escape_ascii().to_string());
        let of_key = key.map(|key| format!(" of key \"{key}\"")).unwrap_or_default();
        let line = format!("-ERR Segue refuses the value{of_key}: {why}").replace(['\r', '\n'], " ");
        out.note(Note::Translated("migrate-refused"));
        self.own_reply = Some(line + "\r\n");
    }
}
