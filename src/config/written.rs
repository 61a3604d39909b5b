//! The file as written: which tables and keys there are, and each value parsed to its own type.
//!
//! A required value that is missing or bad is `None` here, and its problem is already noted.

use std::{net::SocketAddr, time::Duration};

use segue_wire::{LossPolicy, Mode, PeerName, SecondConnection};

use super::{
    Limits, LogFormat, ReleaseSetting, StoreAddress,
    document::{At, Section},
    etcd::{self, WrittenEtcd},
    intercept::{self, WrittenIntercept},
    mesh::{self, WrittenMesh},
    problem::Problems,
    tls::{self, WrittenTls},
    upgrade::{self, WrittenUpgrade},
};

pub(super) struct Written {
    pub node: Option<WrittenStore>,
    pub protocol: Option<At<String>>,
    pub peers: Vec<WrittenStore>,
    pub links: Vec<WrittenLink>,
    pub intercept: Option<WrittenIntercept>,
    pub mesh: Option<WrittenMesh>,
    /// In place of it.
    pub etcd: Option<WrittenEtcd>,
    pub tls: Option<WrittenTls>,
    pub translation: WrittenTranslation,
    pub upgrade: Option<WrittenUpgrade>,
    pub admin: Option<At<SocketAddr>>,
    pub metrics: Option<At<SocketAddr>>,
    pub state_dir: Option<At<String>>,
    pub limits: Limits,
    pub log_format: Option<At<LogFormat>>,
    pub log_level: Option<At<tracing::Level>>,
}

/// `[node]` or `[[peer]]`.
#[derive(Default)]
pub(super) struct WrittenStore {
    pub id: Option<At<PeerName>>,
    pub store: Option<At<StoreAddress>>,
    pub bus_port: Option<u16>,
    pub release: Option<At<ReleaseSetting>>,
    pub username: Option<At<String>>,
    pub password_file: Option<At<String>>,
    pub tls: Option<At<bool>>,
    /// Only of a `[node]`.
    pub number: Option<u32>,
    /// Only of a `[[peer]]`.
    pub dial: Option<StoreAddress>,
    /// Only of a `[[peer]]`.
    pub mesh: Option<At<StoreAddress>>,
    pub witness: bool,
}

/// `[[link]]`.
pub(super) struct WrittenLink {
    pub listen: Option<At<SocketAddr>>,
    pub to: Option<At<String>>,
    pub peer: Option<At<String>>,
    pub tls: Option<At<bool>>,
    pub bus: bool,
}

/// `[translation]`.
#[derive(Default)]
pub(super) struct WrittenTranslation {
    pub mode: Option<At<Mode>>,
    pub loss: Option<At<LossPolicy>>,
    pub second_connection: Option<At<SecondConnection>>,
}

/// The whole file; `None` where it is not TOML.
pub(super) fn read(text: &str, problems: &mut Problems) -> Option<Written> {
    let mut root = Section::root(text, problems)?;
    if !root.has("node") {
        problems.add(root.line(), "[node]", "the table is missing; expected id, protocol and store");
    }
    let node = root.table("node", problems).map(|section| node(section, problems));
    let (node, protocol) = node.map_or((None, None), |(node, protocol)| (Some(node), protocol));
    let peers = root.tables("peer", problems).into_iter().map(|section| peer(section, problems)).collect();
    let links = root.tables("link", problems).into_iter().map(|section| link(section, problems)).collect();
    let intercept = root.table("intercept", problems).map(|section| intercept::read(section, problems));
    let (mesh, etcd) = match root.table("mesh", problems) {
        Some(section) if section.has("etcd") => (None, Some(etcd::read(section, problems))),
        section => (section.map(|section| mesh::read(section, problems)), None),
    };
    let tls = root.table("tls", problems).map(|section| tls::read(section, problems));
    let translation = root.table("translation", problems).map(|section| translation(section, problems));
    let upgrade = root.table("upgrade", problems).map(|section| upgrade::read(section, problems));
    let admin = listener(&mut root, "admin", problems);
    let metrics = listener(&mut root, "metrics", problems);
    let state_dir = root.table("state", problems).and_then(|section| state_dir(section, problems));
    let limits = root.table("limits", problems).map_or_else(Limits::default, |s| limits(s, problems));
    let (log_format, log_level) = root.table("log", problems).map_or((None, None), |s| log(s, problems));
    root.finish(problems);
    Some(Written {
        node,
        protocol,
        peers,
        links,
        intercept,
        mesh,
        etcd,
        tls,
        translation: translation.unwrap_or_default(),
        upgrade,
        admin,
        metrics,
        state_dir,
        limits,
        log_format,
        log_level,
    })
}

/// Only `[admin] listen`.
pub(super) fn read_admin(text: &str, problems: &mut Problems) -> Option<SocketAddr> {
    let mut root = Section::root(text, problems)?;
    listener(&mut root, "admin", problems).map(|listen| listen.value)
}

fn protocol(section: &mut Section<'_>, problems: &mut Problems) -> Option<At<String>> {
    section.required_text("protocol", "the name of a protocol, such as \"redis\"", any_text, problems)
}

fn node(mut section: Section<'_>, problems: &mut Problems) -> (WrittenStore, Option<At<String>>) {
    let mut named = named(&mut section, problems);
    if named.witness {
        return (store(section, named, problems), None);
    }
    let protocol = protocol(&mut section, problems);
    let number = section.number("number", "its place among the secondaries", NUMBERS, problems);
    named.number = number.and_then(|number| number.try_into().ok());
    (store(section, named, problems), protocol)
}

fn peer(mut section: Section<'_>, problems: &mut Problems) -> WrittenStore {
    let mut named = named(&mut section, problems);
    named.mesh = section.text("mesh", mesh::ADDRESS_EXPECTED, str::parse, problems);
    if !named.witness {
        let expected = "the address that the own store is to replicate from, such as \"127.0.0.1:7402\"";
        named.dial = section.text("dial", expected, str::parse, problems).map(|dial| dial.value);
    }
    store(section, named, problems)
}

/// What a witness has, too.
fn named(section: &mut Section<'_>, problems: &mut Problems) -> WrittenStore {
    let id = section.required_text("id", "a name, such as \"n1\"", node_id, problems);
    let witness = section.flag("witness", problems).is_some_and(|witness| witness.value);
    WrittenStore { id, witness, ..WrittenStore::default() }
}

/// The rest, of which a witness may have nothing.
fn store(mut section: Section<'_>, named: WrittenStore, problems: &mut Problems) -> WrittenStore {
    if named.witness {
        section.finish(problems);
        return named;
    }
    let written = WrittenStore {
        store: section.required_text(
            "store",
            "the address of a store, such as \"127.0.0.1:6401\"",
            str::parse,
            problems,
        ),
        bus_port: section
            .number("bus_port", "a port", intercept::PORTS, problems)
            .and_then(|port| u16::try_from(port).ok()),
        release: section.text("release", RELEASE_EXPECTED, release_setting, problems),
        username: section.text("username", "a user of the store", non_empty, problems),
        password_file: section.text("password_file", "the path of a file", non_empty, problems),
        tls: section.flag("tls", problems),
        ..named
    };
    section.finish(problems);
    written
}

fn link(mut section: Section<'_>, problems: &mut Problems) -> WrittenLink {
    let written = WrittenLink {
        listen: section.required_text("listen", LISTEN_EXPECTED, listen_address, problems),
        to: section.required_text("to", "\"store\" or the id of a [[peer]]", any_text, problems),
        peer: section.text("peer", "the id of a [[peer]]", any_text, problems),
        tls: section.flag("tls", problems),
        bus: section.flag("bus", problems).is_some_and(|bus| bus.value),
    };
    section.finish(problems);
    written
}

fn translation(mut section: Section<'_>, problems: &mut Problems) -> WrittenTranslation {
    let written = WrittenTranslation {
        mode: section.text("mode", MODE_EXPECTED, mode, problems),
        loss: section.text("loss", LOSS_EXPECTED, loss, problems),
        second_connection: section.text("second_connection", SECOND_EXPECTED, second_connection, problems),
    };
    section.finish(problems);
    written
}

/// `[admin]` and `[metrics]`, which hold only where they listen.
fn listener(root: &mut Section<'_>, title: &'static str, problems: &mut Problems) -> Option<At<SocketAddr>> {
    let mut section = root.table(title, problems)?;
    let listen = section.required_text("listen", LISTEN_EXPECTED, listen_address, problems);
    section.finish(problems);
    listen
}

fn state_dir(mut section: Section<'_>, problems: &mut Problems) -> Option<At<String>> {
    let dir = section.required_text("dir", "the path of a folder", non_empty, problems);
    section.finish(problems);
    dir
}

fn limits(mut section: Section<'_>, problems: &mut Problems) -> Limits {
    /// An hour: a longer time-out is a mistyped one.
    const TIMEOUT_MS_MAX: u64 = 3_600_000;
    /// A command or packed value smaller than this is ordinary traffic.
    const HELD_BYTES_MIN: u64 = 64 << 10;
    const HELD_BYTES_MAX: u64 = 16 << 30;
    /// One `REPLCONF` of a real store is some hundred bytes.
    const HANDSHAKE_BYTES_MIN: u64 = 1 << 10;
    const HANDSHAKE_BYTES_MAX: u64 = 16 << 20;
    const OFFSET_MARKS_MIN: u64 = 16;
    const OFFSET_MARKS_MAX: u64 = 64 << 20;
    const HELD_BYTES_TOTAL_MAX: u64 = 1 << 40;
    const LINKS_MAX: u64 = 65_535;
    const PIPES_MAX: u64 = 4096;

    let mut limits = Limits::default();
    let total =
        section.number("held_bytes_total_max", "bytes", HELD_BYTES_MIN..=HELD_BYTES_TOTAL_MAX, problems);
    let mut size = |key, unit, range, target: &mut usize| {
        if let Some(n) = section.number(key, unit, range, problems).and_then(|n| usize::try_from(n).ok()) {
            *target = n;
        }
    };
    size("links_max", "links", 1..=LINKS_MAX, &mut limits.links_max);
    size("undecided_links_max", "links", 1..=LINKS_MAX, &mut limits.undecided_links_max);
    size("pipes_max", "pipes", 0..=PIPES_MAX, &mut limits.pipes_max);
    size("held_bytes_max", "bytes", HELD_BYTES_MIN..=HELD_BYTES_MAX, &mut limits.session.held_bytes_max);
    size(
        "handshake_bytes_max",
        "bytes",
        HANDSHAKE_BYTES_MIN..=HANDSHAKE_BYTES_MAX,
        &mut limits.session.handshake_bytes_max,
    );
    size(
        "offset_marks_max",
        "marks",
        OFFSET_MARKS_MIN..=OFFSET_MARKS_MAX,
        &mut limits.session.offset_marks_max,
    );
    let held_bytes_max = limits.session.held_bytes_max;
    let total = total.and_then(|total| usize::try_from(total).ok());
    limits.held_bytes_total_max = total.unwrap_or(limits.held_bytes_total_max.max(held_bytes_max));
    if limits.held_bytes_total_max < held_bytes_max {
        let message =
            format!("less than what one link may hold; expected held_bytes_max = {held_bytes_max} or more");
        problems.add(section.line(), "[limits] held_bytes_total_max", message);
    }
    let mut time = |key, target: &mut Duration| {
        if let Some(ms) = section.number(key, "milliseconds", 1..=TIMEOUT_MS_MAX, problems) {
            *target = Duration::from_millis(ms);
        }
    };
    time("dial_timeout_ms", &mut limits.dial_timeout);
    time("handshake_timeout_ms", &mut limits.handshake_timeout);
    time("probe_timeout_ms", &mut limits.probe_timeout);
    time("tls_handshake_timeout_ms", &mut limits.tls_handshake_timeout);
    time("pairing_timeout_ms", &mut limits.pairing_timeout);
    time("drain_ms", &mut limits.drain_time);
    section.finish(problems);
    limits
}

fn log(
    mut section: Section<'_>,
    problems: &mut Problems,
) -> (Option<At<LogFormat>>, Option<At<tracing::Level>>) {
    let format = section.text("format", "\"text\" or \"json\"", log_format, problems);
    let level = section.text("level", LEVEL_EXPECTED, log_level, problems);
    section.finish(problems);
    (format, level)
}

pub(super) const LISTEN_EXPECTED: &str = "an IP address and a port, such as \"127.0.0.1:7401\"";
const RELEASE_EXPECTED: &str = "\"auto\" or a release <store>-<major>.<minor>, such as \"redis-8.0\"";
const MODE_EXPECTED: &str = "\"auto\", \"off\" or a release <store>-<major>.<minor>, such as \"redis-6.0\"";
const LOSS_EXPECTED: &str = "\"refuse\" or \"degrade\"";
const SECOND_EXPECTED: &str = "\"strip\" or \"translate\"";
const LEVEL_EXPECTED: &str = "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"";

const NUMBERS: std::ops::RangeInclusive<u64> = 0..=65_535;

/// Longest name of a node: it becomes a metric label and a part of file names.
const ID_BYTES_MAX: usize = 64;

fn node_id(text: &str) -> Result<PeerName, String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric())
        || !text.bytes().all(good)
        || text.len() > ID_BYTES_MAX
    {
        return Err(format!(
            "expected a name of letters, digits, \"-\", \"_\" and \".\" that starts with a letter or digit, \
             at most {ID_BYTES_MAX} bytes"
        ));
    }
    if text == "store" {
        return Err("\"store\" means the own store in [[link]] to; expected another name".to_owned());
    }
    Ok(text.into())
}

fn release_setting(text: &str) -> Result<ReleaseSetting, String> {
    match text {
        "auto" => Ok(ReleaseSetting::Auto),
        _ => text.parse().map(ReleaseSetting::Fixed).map_err(|_| format!("expected {RELEASE_EXPECTED}")),
    }
}

fn mode(text: &str) -> Result<Mode, String> {
    text.parse().map_err(|_| format!("expected {MODE_EXPECTED}"))
}

fn second_connection(text: &str) -> Result<SecondConnection, String> {
    SecondConnection::named(text).ok_or_else(|| format!("expected {SECOND_EXPECTED}"))
}

fn loss(text: &str) -> Result<LossPolicy, String> {
    LossPolicy::named(text).ok_or_else(|| format!("expected {LOSS_EXPECTED}"))
}

fn log_format(text: &str) -> Result<LogFormat, &'static str> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("expected \"text\" or \"json\""),
    }
}

fn log_level(text: &str) -> Result<tracing::Level, String> {
    match text {
        "error" => Ok(tracing::Level::ERROR),
        "warn" => Ok(tracing::Level::WARN),
        "info" => Ok(tracing::Level::INFO),
        "debug" => Ok(tracing::Level::DEBUG),
        "trace" => Ok(tracing::Level::TRACE),
        _ => Err(format!("expected {LEVEL_EXPECTED}")),
    }
}

pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("expected {LISTEN_EXPECTED}"))
}

pub(super) fn non_empty(text: &str) -> Result<String, &'static str> {
    if text.is_empty() { Err("expected a text that is not empty") } else { Ok(text.to_owned()) }
}

fn any_text(text: &str) -> Result<String, std::convert::Infallible> {
    Ok(text.to_owned())
}
