//! `[intercept]`: connections that the kernel hands over, so that no store needs to know of the sidecar.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use super::{document::Section, problem::Problems, written::WrittenStore};

/// Set on every connection that the sidecar opens; the next number marks packets on their way to it.
pub const MARK_DEFAULT: u32 = 0x6d;
pub const INBOUND_LISTEN_PORT_DEFAULT: u16 = 15001;
pub const OUTBOUND_LISTEN_PORT_DEFAULT: u16 = 15002;

/// What the kernel is told to hand over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intercept {
    pub mode: InterceptMode,
    /// Where peers' connections to [`Self::inbound_ports`] arrive.
    pub inbound_listen_port: u16,
    /// Where the own store's connections to [`Self::outbound_ports`] arrive.
    pub outbound_listen_port: u16,
    /// At least one, ascending.
    pub inbound_ports: Vec<u16>,
    /// Ascending; none where there is no peer to dial.
    pub outbound_ports: Vec<u16>,
    /// Where no TLS is spoken although there is a `[tls]`, of the ports that no configured store has.
    pub plain_ports: Vec<u16>,
    /// Of the own store's bus and of the peers', if the bus is intercepted; arriving where the others do.
    pub inbound_bus_ports: Vec<u16>,
    pub outbound_bus_ports: Vec<u16>,
    /// Whose connections are outbound ones; always there when there are ports of them.
    pub store: Option<StoreProcess>,
    /// Neither peers in there that dial, nor peers in there that are dialled.
    pub exclude: Vec<Cidr>,
    pub ipv4: bool,
    pub ipv6: bool,
    /// From 1; it and the number after it are used.
    pub mark: u32,
    pub on_failure: OnFailure,
}

impl Intercept {
    /// The mark of packets that the kernel must deliver to the sidecar whatever address they are for.
    #[must_use]
    pub const fn delivery_mark(&self) -> u32 {
        self.mark.saturating_add(1)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterceptMode {
    /// The store sees connections of its own host.
    Redirect,
    /// The store sees its peers' own addresses.
    Tproxy,
}

/// How the store's own connections are told from others of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreProcess {
    /// The user it runs as, by name or number.
    User(String),
    /// Its cgroup v2, relative to the root: `system.slice/redis-server.service`.
    Cgroup(String),
}

/// What becomes of the links when the sidecar is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// The rules are removed: stores reach each other directly.
    Open,
    /// The rules stay: connections are refused.
    Closed,
}

/// A range of addresses: `10.0.0.0/8`, `fd00::/8`; a single address is the range of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cidr {
    address: IpAddr,
    prefix_bits: u8,
}

impl Cidr {
    /// The first address of the range.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    #[must_use]
    pub const fn prefix_bits(&self) -> u8 {
        self.prefix_bits
    }

    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.address.is_ipv4() == ip.is_ipv4() && masked(ip, self.prefix_bits) == self.address
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_bits)
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = || "expected a range of addresses, such as \"10.0.0.0/8\" or \"fd00::/8\"".to_owned();
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| expected())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match prefix {
            None => width,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().ok().filter(|bits| *bits <= width).ok_or_else(expected)?
            }
            Some(_) => return Err(expected()),
        };
        let first = masked(address, prefix_bits);
        if first != address {
            return Err(format!(
                "the address is not the range's first one; expected \"{first}/{prefix_bits}\" or \"{address}\""
            ));
        }
        Ok(Self { address, prefix_bits })
    }
}

fn masked(ip: IpAddr, prefix_bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix_bits.into())).unwrap_or(0);
            IpAddr::V4((ip.to_bits() & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(prefix_bits.into())).unwrap_or(0);
            IpAddr::V6((ip.to_bits() & mask).into())
        }
    }
}

/// `[intercept]` as written. Ports default to what other tables say, so they are not known yet.
pub(super) struct WrittenIntercept {
    line: usize,
    place: String,
    mode: Option<InterceptMode>,
    listen_ports: [u16; 2],
    inbound_ports: Option<Vec<u16>>,
    outbound_ports: Option<Vec<u16>>,
    plain_ports: Vec<u16>,
    bus: bool,
    user: Option<String>,
    cgroup: Option<String>,
    exclude: Vec<Cidr>,
    families: [bool; 2],
    mark: u32,
    on_failure: Option<OnFailure>,
}

pub(super) const PORTS: std::ops::RangeInclusive<u64> = 1..=65_535;

pub(super) fn read(mut section: Section<'_>, problems: &mut Problems) -> WrittenIntercept {
    let line = section.line();
    let port = |n: u64| u16::try_from(n).ok();
    let listen_port = |section: &mut Section<'_>, key, default, problems: &mut Problems| {
        section.number(key, "a port", PORTS, problems).and_then(port).unwrap_or(default)
    };
    let ports = |section: &mut Section<'_>, key, problems: &mut Problems| {
        let numbers = section.numbers(key, "ports", PORTS, problems)?;
        // Ascending, and each once.
        let ports: BTreeSet<u16> = numbers.into_iter().filter_map(port).collect();
        Some(ports.into_iter().collect())
    };
    let written = WrittenIntercept {
        line,
        place: "[intercept]".to_owned(),
        mode: section.required_text("mode", MODE_EXPECTED, mode, problems).map(|mode| mode.value),
        listen_ports: [
            listen_port(&mut section, "inbound_listen_port", INBOUND_LISTEN_PORT_DEFAULT, problems),
            listen_port(&mut section, "outbound_listen_port", OUTBOUND_LISTEN_PORT_DEFAULT, problems),
        ],
        inbound_ports: ports(&mut section, "inbound_ports", problems),
        outbound_ports: ports(&mut section, "outbound_ports", problems),
        plain_ports: ports(&mut section, "plain_ports", problems).unwrap_or_default(),
        bus: section.flag("bus", problems).is_some_and(|bus| bus.value),
        user: section.text("store_user", "a user's name or number", user, problems).map(|user| user.value),
        cgroup: section.text("store_cgroup", CGROUP_EXPECTED, cgroup, problems).map(|cgroup| cgroup.value),
        exclude: section.texts("exclude", "ranges of addresses", str::parse, problems).unwrap_or_default(),
        families: [
            section.flag("ipv4", problems).is_none_or(|ipv4| ipv4.value),
            section.flag("ipv6", problems).is_none_or(|ipv6| ipv6.value),
        ],
        // The last number has none after it.
        mark: section
            .number("mark", "a packet mark", 1..=u64::from(u32::MAX) - 1, problems)
            .and_then(|mark| u32::try_from(mark).ok())
            .unwrap_or(MARK_DEFAULT),
        on_failure: section
            .required_text("on_failure", ON_FAILURE_EXPECTED, on_failure, problems)
            .map(|on_failure| on_failure.value),
    };
    section.finish(problems);
    written
}

impl WrittenIntercept {
    pub(super) const fn has_bus(&self) -> bool {
        self.bus
    }

    /// What `[intercept]` listens on, with line and place: every address.
    pub(super) fn listeners(&self) -> impl Iterator<Item = (&'static str, usize, &String, SocketAddr)> {
        self.listen_ports
            .iter()
            .map(|port| ("[intercept]", self.line, &self.place, (Ipv6Addr::UNSPECIFIED, *port).into()))
    }
}

/// `bus_port` is that of a store's bus.
pub(super) fn check(
    written: &WrittenIntercept,
    node: Option<&WrittenStore>,
    peers: &[WrittenStore],
    bus_port: impl Fn(&WrittenStore) -> Option<u16>,
    problems: &mut Problems,
) -> Option<Intercept> {
    let WrittenIntercept { line, mode, listen_ports: [inbound, outbound], .. } = *written;
    let mut wrong = |key: &str, message: &str| problems.add(line, format!("[intercept] {key}"), message);
    let store_port = |store: &WrittenStore| Some(store.store.as_ref()?.value.port());
    let inbound_ports =
        written.inbound_ports.clone().unwrap_or_else(|| node.and_then(store_port).into_iter().collect());
    let of_peers = |port: &dyn Fn(&WrittenStore) -> Option<u16>| -> Vec<u16> {
        let ports: BTreeSet<u16> = peers.iter().filter_map(port).collect();
        ports.into_iter().collect()
    };
    let outbound_ports = written.outbound_ports.clone().unwrap_or_else(|| of_peers(&store_port));
    let (mut inbound_bus_ports, mut outbound_bus_ports) = (Vec::new(), Vec::new());
    if written.bus {
        inbound_bus_ports.extend(node.and_then(&bus_port));
        if !outbound_ports.is_empty() {
            outbound_bus_ports = of_peers(&bus_port);
        }
        let clash = |ports: &[u16], bus_ports: &[u16]| ports.iter().any(|port| bus_ports.contains(port));
        if clash(&inbound_ports, &inbound_bus_ports) || clash(&outbound_ports, &outbound_bus_ports) {
            wrong("inbound_ports, outbound_ports", "a bus port is among them; bus = true sees to it");
        }
    }
    if inbound == outbound {
        wrong("outbound_listen_port", "it is the inbound port, too; give each direction its own");
    }
    let caught = [&inbound_ports, &outbound_ports, &inbound_bus_ports, &outbound_bus_ports];
    if caught.into_iter().flatten().any(|port| [inbound, outbound].contains(port)) {
        wrong("inbound_ports, outbound_ports", "the sidecar's own listener is among them: a loop");
    }
    let store = match (&written.user, &written.cgroup) {
        (Some(_), Some(_)) => {
            wrong("store_cgroup", "there is a store_user, too; expected one of them");
            None
        }
        (Some(user), None) => Some(StoreProcess::User(user.clone())),
        (None, Some(cgroup)) => Some(StoreProcess::Cgroup(cgroup.clone())),
        (None, None) => None,
    };
    if store.is_none() && !outbound_ports.is_empty() {
        wrong(
            "store_user",
            "it is missing; expected the user that the store runs as (or store_cgroup), or \
             outbound_ports = [] to leave the store's own connections alone",
        );
    }
    let [ipv4, ipv6] = written.families;
    if !(ipv4 || ipv6) {
        wrong("ipv4, ipv6", "both are off: there is nothing to intercept");
    }
    // 0 and 253 to 255 are the kernel's own routing tables; ours has the number of the second mark.
    if (252..=254).contains(&written.mark) {
        wrong("mark", "the number after it names one of the kernel's own routing tables; expected another");
    }
    Some(Intercept {
        mode: mode?,
        inbound_listen_port: inbound,
        outbound_listen_port: outbound,
        inbound_ports,
        outbound_ports,
        plain_ports: written.plain_ports.clone(),
        inbound_bus_ports,
        outbound_bus_ports,
        store,
        exclude: written.exclude.clone(),
        ipv4,
        ipv6,
        mark: written.mark,
        on_failure: written.on_failure?,
    })
}

const MODE_EXPECTED: &str = "\"redirect\" or \"tproxy\"";
const ON_FAILURE_EXPECTED: &str = "\"open\" or \"closed\"";
const CGROUP_EXPECTED: &str = "a cgroup v2, such as \"system.slice/redis-server.service\"";

fn mode(text: &str) -> Result<InterceptMode, String> {
    match text {
        "redirect" => Ok(InterceptMode::Redirect),
        "tproxy" => Ok(InterceptMode::Tproxy),
        _ => Err(format!("expected {MODE_EXPECTED}")),
    }
}

fn on_failure(text: &str) -> Result<OnFailure, String> {
    match text {
        "open" => Ok(OnFailure::Open),
        "closed" => Ok(OnFailure::Closed),
        _ => Err(format!("expected {ON_FAILURE_EXPECTED}")),
    }
}

/// As useradd(8) allows them; nothing that would end a quoted text of nft.
fn user(text: &str) -> Result<String, &'static str> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if text.is_empty() || text.len() > 32 || text.starts_with('-') || !text.bytes().all(good) {
        return Err("expected the name or number of the user that the store runs as");
    }
    Ok(text.to_owned())
}

fn cgroup(text: &str) -> Result<String, String> {
    let path = text.trim_matches('/');
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.@:/".contains(&b);
    let parts_ok = path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if !parts_ok || !path.bytes().all(good) || path.len() > 255 {
        return Err(format!("expected {CGROUP_EXPECTED}"));
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_written() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "10.1.2.3/32", "fd00::/8", "::/0"] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), text);
        }
        assert_eq!("10.1.2.3".parse::<Cidr>().unwrap().to_string(), "10.1.2.3/32");
        for text in ["10.0.0.0/33", "10.0.0.0/+8", "10.0.0.1/8", "fd00::1/8", "a/8", "10.0.0.0/", ""] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_range_contains_its_own_family_only() {
        let contains = |range: &str, ip: &str| range.parse::<Cidr>().unwrap().contains(ip.parse().unwrap());
        assert!(contains("10.0.0.0/8", "10.255.0.1"));
        assert!(!contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("0.0.0.0/0", "192.0.2.1"));
        assert!(!contains("0.0.0.0/0", "fd00::1"));
        assert!(contains("::/0", "fd00::1"));
    }

    #[test]
    fn names_that_would_leave_their_quotes_are_refused() {
        assert!(user("redis").is_ok() && user("999").is_ok());
        assert!(user("a b").is_err() && user("\"").is_err() && user("-x").is_err());
        assert_eq!(cgroup("/system.slice/redis@1.service").unwrap(), "system.slice/redis@1.service");
        assert!(cgroup("a/../b").is_err() && cgroup("a\"b").is_err() && cgroup("").is_err());
    }
}
