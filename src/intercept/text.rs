//! A plan as text, for nft(8) and ip(8), and for people.

use std::fmt::{self, Write};

use super::plan::{Action, Family, Plan, Rule, When};
use crate::config::{InterceptMode, StoreProcess};

/// The routing rule's place: before `main`, whose is 32766, and after `local`, whose is 0.
const ROUTE_PRIORITY: u32 = 110;

/// Which address of a packet is the far end's.
#[derive(Clone, Copy)]
enum Way {
    Inbound,
    Outbound,
}

impl Plan {
    /// The whole ruleset, for `nft -f -`: one transaction, which replaces what an earlier one left.
    #[must_use]
    pub fn ruleset(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _infallible = self.write_ruleset(&mut text);
        text
    }

    /// Removes the table, for `nft -f -`; no error where there is none.
    #[must_use]
    pub fn removal(&self) -> String {
        let table = &self.table;
        format!("table inet {table}\ndelete table inet {table}\n")
    }

    /// The arguments of each `ip` command that a plan needs: what arrives with the delivery mark is
    /// delivered here, whatever address it is for. Each adds one thing.
    #[must_use]
    pub fn routes(&self) -> Vec<Vec<String>> {
        self.route_commands("add")
    }

    /// The `ip` commands that undo [`Plan::routes`], in reverse order.
    #[must_use]
    pub fn route_removals(&self) -> Vec<Vec<String>> {
        self.route_commands("del").into_iter().rev().collect()
    }

    fn route_commands(&self, verb: &str) -> Vec<Vec<String>> {
        if self.mode == InterceptMode::Redirect {
            return Vec::new();
        }
        let mark = format!("{:#x}", self.delivery_mark);
        let (table, priority) = (self.delivery_mark, ROUTE_PRIORITY);
        let words = |command: String| command.split(' ').map(str::to_owned).collect();
        let of_family = |family: &Family| {
            let (flag, everything) = match family {
                Family::Ipv4 => ("-4", "0.0.0.0/0"),
                Family::Ipv6 => ("-6", "::/0"),
            };
            [
                words(format!("{flag} route {verb} local {everything} dev lo table {table}")),
                words(format!("{flag} rule {verb} pref {priority} fwmark {mark} lookup {table}")),
            ]
        };
        self.families.iter().flat_map(of_family).collect()
    }

    fn write_ruleset(&self, text: &mut String) -> fmt::Result {
        write!(text, "{}table inet {} {{\n\tchain inbound {{\n", self.removal(), self.table)?;
        let hook = match self.mode {
            InterceptMode::Redirect => "type nat hook prerouting priority dstnat",
            InterceptMode::Tproxy => "type filter hook prerouting priority mangle",
        };
        writeln!(text, "\t\t{hook}; policy accept;")?;
        for rule in &self.inbound {
            writeln!(text, "\t\t{}", self.rule(rule, Way::Inbound))?;
        }
        text.push_str("\t}\n");
        if self.mode == InterceptMode::Tproxy {
            self.write_answers(text)?;
        }
        if !self.outbound.is_empty() {
            // -100 is dstnat, a name that older nft knows only in prerouting.
            text.push_str("\tchain outbound {\n\t\ttype nat hook output priority -100; policy accept;\n");
            for rule in &self.outbound {
                writeln!(text, "\t\t{}", self.rule(rule, Way::Outbound))?;
            }
            text.push_str("\t}\n");
        }
        text.push_str("}\n");
        Ok(())
    }

    /// A store answers to the peer's address, which the sidecar dialled it from: these answers must come
    /// back to the sidecar and not go to the peer. The connection remembers whose it is.
    fn write_answers(&self, text: &mut String) -> fmt::Result {
        let Self { mark, delivery_mark, .. } = self;
        text.push_str("\tchain answers {\n\t\ttype route hook output priority mangle; policy accept;\n");
        writeln!(
            text,
            "\t\tmeta mark {mark:#x} fib saddr type != local ct mark set {delivery_mark:#x} accept\n\
             \t\tct mark {delivery_mark:#x} meta mark set {delivery_mark:#x} accept\n\t}}"
        )
    }

    fn rule(&self, rule: &Rule, way: Way) -> String {
        let matches = self.matches(&rule.when, way);
        let action = match (rule.action, way, &rule.when) {
            (Action::Leave, ..) => "accept".to_owned(),
            (Action::HandOver(port), Way::Inbound, When::ToStore(family, _))
                if self.mode == InterceptMode::Tproxy =>
            {
                let ip = ip_word(*family);
                format!("tproxy {ip} to :{port} meta mark set {:#x} accept", self.delivery_mark)
            }
            (Action::HandOver(port), ..) => format!("redirect to :{port}"),
            (Action::Refuse, ..) => "reject with tcp reset".to_owned(),
        };
        // Only what opens a connection is refused: those from before the rules go on.
        let opening =
            if rule.action == Action::Refuse { " tcp flags & (fin | syn | rst | ack) == syn" } else { "" };
        format!("{matches}{opening} counter {action} comment \"{}\"", rule.name)
    }

    fn matches(&self, when: &When, way: Way) -> String {
        match when {
            When::Loopback => "iifname \"lo\"".to_owned(),
            When::Ours => format!("meta mark {:#x}", self.mark),
            When::Far(range) => {
                let ip = if range.address().is_ipv4() { "ip" } else { "ip6" };
                let end = match way {
                    Way::Inbound => "saddr",
                    Way::Outbound => "daddr",
                };
                format!("{ip} {end} {range}")
            }
            When::ToStore(family, ports) => {
                format!("meta nfproto {family} tcp dport {} fib daddr type local", set(ports))
            }
            When::FromStore(family, store, ports) => {
                let store = match store {
                    StoreProcess::User(user) => format!("meta skuid {}", user_word(user)),
                    StoreProcess::Cgroup(path) => {
                        let level = path.split('/').count();
                        format!("socket cgroupv2 level {level} \"{path}\"")
                    }
                };
                format!("meta nfproto {family} {store} tcp dport {}", set(ports))
            }
        }
    }
}

fn ip_word(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "ip",
        Family::Ipv6 => "ip6",
    }
}

/// A number as it is; a name in quotes, or nft could take it for a word of its own.
fn user_word(user: &str) -> String {
    if user.bytes().all(|b| b.is_ascii_digit()) { user.to_owned() } else { format!("\"{user}\"") }
}

fn set(ports: &[u16]) -> String {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    format!("{{ {} }}", ports.join(", "))
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
