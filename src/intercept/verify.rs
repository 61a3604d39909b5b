//! Proves each rule in place with a real connection: the rule's counter goes up, or the rule is named.
//!
//! Outbound connections are opened with the store's user, by a thread that takes it on. Inbound ones come
//! from a [`Neighbour`], which sends from any address, such as one of each range left out, and changes no
//! route of this host. Nothing is left behind, not even by a crash.
//!
//! Live traffic of the same kind proves a rule as well: what counts is that the rule takes what it must.

use std::{
    collections::BTreeMap,
    fmt,
    io::{
        self,
        ErrorKind::{ConnectionRefused, HostUnreachable, TimedOut},
    },
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use rustix::{process::Uid, thread::set_thread_uid};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use super::{
    InterceptError, Plan,
    apply::nft,
    guard,
    neighbour::{HOST_4, HOST_6, Neighbour},
    plan::{Action, Family, Rule, When},
};
use crate::config::{Cidr, Config, StoreProcess};

/// How long one connection may take to reach its rule; it need not open.
const CONNECT_TIME_MAX: Duration = Duration::from_millis(500);
/// So many connections are tried before a rule counts as not reached: one may be lost, or late, on a busy host.
const TRIES_MAX: u32 = 2;
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// What became of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    pub rule: String,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Proved,
    /// It is in place, for when the sidecar is gone; now the sidecar runs.
    StandsBy,
    /// Why.
    NotProved(String),
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Proved => write!(f, "proved      {}", self.rule),
            Outcome::StandsBy => write!(f, "stands by   {}", self.rule),
            Outcome::NotProved(why) => write!(f, "NOT PROVED  {}: {why}", self.rule),
        }
    }
}

/// Every rule of the plan, in its order.
///
/// # Errors
/// `nft` is missing, or may not be asked.
pub fn verify(plan: &Plan, config: &Config) -> Result<Vec<Proof>, InterceptError> {
    let running = guard::is_running(&config.state.dir)?;
    let neighbour = Neighbour::new(&plan.families);
    let prove = |rule: &Rule| {
        let outcome = match counter(plan, rule)? {
            None => Outcome::NotProved("it is not in place; segue intercept install".to_owned()),
            Some(_) if rule.action == Action::Refuse && running => Outcome::StandsBy,
            Some(before) => prove(plan, config, rule, before, neighbour.as_ref())?,
        };
        Ok(Proof { rule: rule.name.clone(), outcome })
    };
    plan.inbound.iter().chain(&plan.outbound).map(prove).collect()
}

fn prove(
    plan: &Plan,
    config: &Config,
    rule: &Rule,
    before: u64,
    neighbour: Result<&Neighbour, &String>,
) -> Result<Outcome, InterceptError> {
    let mut why = String::new();
    for _ in 0..TRIES_MAX {
        why = match connection(plan, config, rule) {
            Ok(connection) => match connection.open(neighbour) {
                Ok(what) => format!("{what} did not reach it"),
                Err(why) => why,
            },
            Err(why) => return Ok(Outcome::NotProved(why)),
        };
        let deadline = Instant::now() + CONNECT_TIME_MAX;
        loop {
            if counter(plan, rule)?.is_some_and(|after| after > before) {
                return Ok(Outcome::Proved);
            }
            if Instant::now() >= deadline {
                break;
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
    Ok(Outcome::NotProved(why))
}

/// Packets that a rule has taken; `None` where it is not in place.
fn counter(plan: &Plan, rule: &Rule) -> Result<Option<u64>, InterceptError> {
    let listed = match nft(&["-j", "list", "table", "inet", &plan.table], "") {
        Ok(listed) => listed,
        Err(InterceptError::Failed { said, .. }) if said.contains("No such file or directory") => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let listed: Value = serde_json::from_str(&listed).unwrap_or_default();
    Ok(counters(&listed).remove(&rule.name))
}

/// By the rules' comments, which are their names.
fn counters(listed: &Value) -> BTreeMap<String, u64> {
    let objects = listed["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
    let counted = objects.iter().filter_map(|object| {
        let rule = &object["rule"];
        let packets = rule["expr"].as_array()?.iter().find_map(|part| part["counter"]["packets"].as_u64())?;
        Some((rule["comment"].as_str()?.to_owned(), packets))
    });
    counted.collect()
}

/// A connection that one rule must take.
struct Connection {
    origin: Origin,
    from: Option<IpAddr>,
    to: SocketAddr,
}

enum Origin {
    Here { mark: Option<u32>, uid: Option<u32> },
    Neighbour,
}

fn connection(plan: &Plan, config: &Config, rule: &Rule) -> Result<Connection, String> {
    let intercept = config.intercept.as_ref().ok_or("there is no [intercept]")?;
    let inbound = plan.inbound.contains(rule);
    let ports = match &rule.when {
        When::ToStore(_, ports) | When::FromStore(_, _, ports) => ports,
        _ if inbound => &intercept.inbound_ports,
        _ => &intercept.outbound_ports,
    };
    let port = *ports.first().ok_or("it has no port")?;
    let host = |family: Family| match family {
        Family::Ipv4 => IpAddr::V4(HOST_4),
        Family::Ipv6 => IpAddr::V6(HOST_6),
    };
    let neighbour = |from, family| Connection {
        origin: Origin::Neighbour,
        from,
        to: SocketAddr::new(host(family), port),
    };
    let store = || -> Result<Origin, String> {
        match &intercept.store {
            Some(StoreProcess::User(user)) => Ok(Origin::Here { mark: None, uid: Some(uid(user)?) }),
            Some(StoreProcess::Cgroup(path)) => {
                Err(format!("only a process of the cgroup {path} can prove it"))
            }
            None => Err("there is no store_user".to_owned()),
        }
    };
    let peer = |range: Option<&Cidr>, ipv4: bool| {
        let known = config.peers.iter().filter_map(|peer| peer.store.socket_addr());
        let excluded = |ip: IpAddr| intercept.exclude.iter().any(|range| range.contains(ip));
        let in_range = |ip: IpAddr| range.map_or_else(|| !excluded(ip), |range| range.contains(ip));
        known.map(|address| address.ip()).find(|ip| ip.is_ipv4() == ipv4 && in_range(*ip))
    };
    match &rule.when {
        When::Loopback => {
            let origin = Origin::Here { mark: Some(plan.mark), uid: None };
            let to = if plan.families.contains(&Family::Ipv4) {
                IpAddr::V4(Ipv4Addr::LOCALHOST)
            } else {
                IpAddr::V6(Ipv6Addr::LOCALHOST)
            };
            Ok(Connection { origin, from: None, to: SocketAddr::new(to, port) })
        }
        When::Ours => {
            let ipv4 = plan.families.contains(&Family::Ipv4);
            let loopback =
                if ipv4 { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) };
            let to = peer(None, ipv4).unwrap_or(loopback);
            let origin = Origin::Here { mark: Some(plan.mark), uid: None };
            Ok(Connection { origin, from: None, to: SocketAddr::new(to, port) })
        }
        When::Far(range) if inbound => {
            let family = if range.address().is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
            Ok(neighbour(Some(member(range)), family))
        }
        When::Far(range) => {
            let to = peer(Some(range), range.address().is_ipv4()).unwrap_or_else(|| member(range));
            Ok(Connection { origin: store()?, from: None, to: SocketAddr::new(to, port) })
        }
        When::ToStore(family, _) => Ok(neighbour(None, *family)),
        When::FromStore(family, ..) => {
            let to = peer(None, *family == Family::Ipv4)
                .ok_or("no [[peer]] that is not left out has an address of this family to dial")?;
            Ok(Connection { origin: store()?, from: None, to: SocketAddr::new(to, port) })
        }
    }
}

/// An address in the range that a host can have: not the network's own.
fn member(range: &Cidr) -> IpAddr {
    match range.address() {
        IpAddr::V4(ip) if range.prefix_bits() < 31 => IpAddr::V4((ip.to_bits() | 1).into()),
        IpAddr::V6(ip) if range.prefix_bits() < 127 => IpAddr::V6((ip.to_bits() | 1).into()),
        ip => ip,
    }
}

/// Of a user by number or by name, as passwd(5) has it.
fn uid(user: &str) -> Result<u32, String> {
    if let Ok(uid) = user.parse() {
        return Ok(uid);
    }
    let users = std::fs::read_to_string("/etc/passwd").map_err(|error| format!("/etc/passwd: {error}"))?;
    let of_user = |line: &str| {
        let mut fields = line.split(':');
        if fields.next() != Some(user) { None } else { fields.nth(1)?.parse().ok() }
    };
    users.lines().find_map(of_user).ok_or_else(|| format!("/etc/passwd has no user {user}"))
}

impl Connection {
    /// What was tried, or why it could not be.
    fn open(self, neighbour: Result<&Neighbour, &String>) -> Result<String, String> {
        match self.origin {
            Origin::Neighbour => {
                let neighbour = neighbour.map_err(|why| format!("no neighbour to dial from: {why}"))?;
                if let Some(from) = self.from {
                    neighbour.be_also(from)?;
                }
                neighbour.run(move || self.connect())
            }
            // A thread of its own, which may take on another user.
            Origin::Here { .. } => thread::spawn(move || self.connect())
                .join()
                .unwrap_or_else(|_| Err("the thread of the connection ended badly".to_owned())),
        }
    }

    fn connect(&self) -> Result<String, String> {
        let from = self.from.map(|from| format!(" from {from}")).unwrap_or_default();
        let what = format!("a connection{from} to {}", self.to);
        let failed = |error: io::Error| format!("{what}: {error}");
        if let Origin::Here { uid: Some(uid), .. } = self.origin {
            set_thread_uid(Uid::from_raw(uid))
                .map_err(|error| format!("cannot act as the store's user {uid}: {error}"))?;
        }
        let socket = Socket::new(Domain::for_address(self.to), Type::STREAM, None).map_err(failed)?;
        if let Origin::Here { mark: Some(mark), .. } = self.origin {
            socket.set_mark(mark).map_err(failed)?;
        }
        if let Some(from) = self.from {
            socket.bind(&SocketAddr::new(from, 0).into()).map_err(failed)?;
        }
        match socket.connect_timeout(&self.to.into(), CONNECT_TIME_MAX) {
            // Refused or unanswered, or nobody has the address: it has met the rules as well.
            Err(error) if !matches!(error.kind(), ConnectionRefused | HostUnreachable | TimedOut) => {
                Err(failed(error))
            }
            _ => Ok(what),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn counters_are_found_by_their_rules_names() {
        let listed = json!({"nftables": [
            {"metainfo": {"version": "1.0.6"}},
            {"chain": {"name": "inbound"}},
            {"rule": {"comment": "inbound ipv4", "expr": [{"match": {}}, {"counter": {"packets": 3, "bytes": 180}}]}},
            {"rule": {"expr": [{"counter": {"packets": 9}}]}},
        ]});
        assert_eq!(counters(&listed), BTreeMap::from([("inbound ipv4".to_owned(), 3)]));
        assert_eq!(counters(&Value::Null), BTreeMap::new());
    }

    #[test]
    fn a_member_of_a_range_is_in_it() {
        for text in ["10.0.0.0/8", "192.0.2.4/31", "192.0.2.4/32", "fd00::/8", "fd00::2/128", "0.0.0.0/0"] {
            let range: Cidr = text.parse().unwrap();
            assert!(range.contains(member(&range)), "{text}");
        }
        assert_eq!(member(&"10.0.0.0/8".parse().unwrap()).to_string(), "10.0.0.1");
    }

    #[test]
    fn users_have_numbers() {
        assert_eq!(uid("999"), Ok(999));
        assert_eq!(uid("root"), Ok(0));
        assert!(uid("no-such-user-here").unwrap_err().contains("no-such-user-here"));
    }
}
