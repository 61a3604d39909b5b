//! What the kernel is to do, as a value: no command has run yet.

use std::fmt;

use crate::config::{Cidr, Config, InterceptMode, OnFailure, StoreProcess};

/// The rules of one sidecar, in the order in which the kernel tries them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The only table of nftables that is ever touched.
    pub table: String,
    pub mode: InterceptMode,
    pub families: Vec<Family>,
    /// Connections that the sidecar opens carry it.
    pub mark: u32,
    /// Packets carry it that must be delivered here whatever address they are for; also the number of the
    /// routing table that does so.
    pub delivery_mark: u32,
    pub inbound: Vec<Rule>,
    /// None where the store dials nobody.
    pub outbound: Vec<Rule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    Ipv4,
    Ipv6,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub name: String,
    pub action: Action,
    pub when: When,
}

/// What a rule does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Leaves it as it is; no later rule sees it.
    Leave,
    /// Hands it to the sidecar's listener on this port.
    HandOver(u16),
    /// Refuses it: the listener that it belongs to is gone.
    Refuse,
}

/// Which connections a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// They come over loopback: from a process of this host.
    Loopback,
    /// The sidecar opened them itself.
    Ours,
    /// The far end, which dials or is dialled, is in there.
    Far(Cidr),
    /// To one of these ports of this host.
    ToStore(Family, Vec<u16>),
    /// From the own store, to one of these ports.
    FromStore(Family, StoreProcess, Vec<u16>),
}

impl Plan {
    /// None where the config intercepts nothing.
    #[must_use]
    pub fn of(config: &Config) -> Option<Self> {
        let intercept = config.intercept.as_ref()?;
        let families: Vec<Family> = [(Family::Ipv4, intercept.ipv4), (Family::Ipv6, intercept.ipv6)]
            .into_iter()
            .filter_map(|(family, wanted)| wanted.then_some(family))
            .collect();
        let excluded = |direction: &str| -> Vec<Rule> {
            let ours = |range: &&Cidr| families.contains(&Family::of(range));
            let rule =
                |range: &Cidr| rule(format!("{direction} exclude {range}"), Action::Leave, When::Far(*range));
            intercept.exclude.iter().filter(ours).map(rule).collect()
        };
        let tproxy = intercept.mode == InterceptMode::Tproxy;

        let mut outbound = Vec::new();
        if let (Some(store), false) = (&intercept.store, intercept.outbound_ports.is_empty()) {
            outbound.push(rule("outbound ours", Action::Leave, When::Ours));
            outbound.extend(excluded("outbound"));
            let hand_over = Action::HandOver(intercept.outbound_listen_port);
            for (name, ports) in
                [("outbound", &intercept.outbound_ports), ("outbound bus", &intercept.outbound_bus_ports)]
            {
                for family in families.iter().filter(|_| !ports.is_empty()) {
                    let when = When::FromStore(*family, store.clone(), ports.clone());
                    outbound.push(rule(format!("{name} {family}"), hand_over, when));
                }
            }
        }

        let mut inbound = Vec::new();
        // The kernel asks for the destination of a connection once: those of this host were asked for in
        // the outbound chain, where there is one.
        if tproxy || outbound.is_empty() {
            inbound.push(rule("inbound loopback", Action::Leave, When::Loopback));
        }
        inbound.extend(excluded("inbound"));
        let hand_over = Action::HandOver(intercept.inbound_listen_port);
        for (name, ports) in
            [("inbound", &intercept.inbound_ports), ("inbound bus", &intercept.inbound_bus_ports)]
        {
            for family in families.iter().filter(|_| !ports.is_empty()) {
                let to_store = When::ToStore(*family, ports.clone());
                inbound.push(rule(format!("{name} {family}"), hand_over, to_store.clone()));
                // Without a listener the kernel goes on to the next rule of a tproxy, and in the end to the
                // store; a redirect needs no such rule, its connection is refused for want of a listener.
                if tproxy && intercept.on_failure == OnFailure::Closed {
                    inbound.push(rule(format!("{name} closed {family}"), Action::Refuse, to_store));
                }
            }
        }
        Some(Self {
            table: format!("segue_{}", config.node.id),
            mode: intercept.mode,
            families,
            mark: intercept.mark,
            delivery_mark: intercept.delivery_mark(),
            inbound,
            outbound,
        })
    }
}

impl Family {
    fn of(range: &Cidr) -> Self {
        if range.address().is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }
}

/// As nft and this plan's rules name it.
impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        })
    }
}

fn rule(name: impl Into<String>, action: Action, when: When) -> Rule {
    Rule { name: name.into(), action, when }
}
