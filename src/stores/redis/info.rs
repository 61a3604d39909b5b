//! What a server says of itself in `INFO`.

use super::identity::Identity;
use crate::{config::StoreAddress, stores::driver::Seen};

pub struct Info {
    text: String,
}

/// A replica as its master counts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaLine {
    pub ip: String,
    pub port: u16,
    pub online: bool,
    /// What it acknowledged, in the master's count.
    pub offset: u64,
}

impl From<String> for Info {
    fn from(text: String) -> Self {
        Self { text }
    }
}

impl Info {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    /// `None` where it leaves out what every store says.
    pub fn seen(&self) -> Option<Seen> {
        let Identity { store, version } = Identity::of(self)?;
        let link_is_up = self.get("master_link_status") == Some("up");
        let syncs = self.is_set("master_sync_in_progress");
        Some(Seen {
            store: store.to_owned(),
            version,
            master: self.is_master(),
            linked: link_is_up && !syncs,
            follows: self.follows(),
            offset: self.offset()?,
            history: self.history()?.to_owned(),
            loading: self.is_set("loading") || self.is_set("async_loading") || syncs,
            unwritten: self.is_unwritten(),
            run: self.get("run_id").map(str::to_owned),
        })
    }

    /// After a snapshot of its master a replica writes its append-only file anew, and until then no signal ends
    /// it ("Writing initial AOF, can't exit"). While it loads one, it does not say whether it has such a file.
    fn is_unwritten(&self) -> bool {
        let writes = self.is_set("aof_rewrite_in_progress") || self.is_set("aof_rewrite_scheduled");
        let may_load = self.is_set("aof_enabled") && self.get("master_link_status") == Some("down");
        writes || may_load || self.is_set("loading")
    }

    pub fn is_of_cluster(&self) -> bool {
        self.is_set("cluster_enabled")
    }

    pub fn is_master(&self) -> bool {
        self.get("role") == Some("master")
    }

    pub fn follows(&self) -> Option<StoreAddress> {
        let (host, port) = (self.get("master_host")?, self.get("master_port")?);
        let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        address.parse().ok()
    }

    /// Of a replica what it has carried out; that of one that never had a master's data is -1.
    pub fn offset(&self) -> Option<u64> {
        let name = if self.is_master() { "master_repl_offset" } else { "slave_repl_offset" };
        Some(self.get(name)?.parse().unwrap_or_default())
    }

    pub fn history(&self) -> Option<&str> {
        self.get("master_replid")
    }

    /// It gives its role away, by `FAILOVER`.
    pub fn hands_over(&self) -> bool {
        self.get("master_failover_state").is_some_and(|state| state != "no-failover")
    }

    /// The numbers of databases that hold keys, and how many.
    pub fn databases(&self) -> Vec<(u64, u64)> {
        let database = |line: &str| {
            let (number, what) = line.strip_prefix("db")?.split_once(':')?;
            let keys = what.split(',').find_map(|field| field.strip_prefix("keys="))?;
            Some((number.parse().ok()?, keys.trim().parse().ok()?))
        };
        self.text.lines().filter_map(database).collect()
    }

    /// How often each command was carried out since the start, in the section `commandstats`.
    pub fn calls(&self) -> Vec<(&str, u64)> {
        let mut counted = Vec::new();
        for line in self.text.lines() {
            let command = line.strip_prefix("cmdstat_").and_then(|line| line.split_once(':'));
            let Some((name, what)) = command else { continue };
            let calls = what.split(',').find_map(|field| field.strip_prefix("calls="));
            counted.extend(calls.and_then(|calls| Some((name, calls.parse().ok()?))));
        }
        counted
    }

    pub fn replicas(&self) -> Vec<ReplicaLine> {
        let replica = |line: &str| {
            let (number, what) = line.strip_prefix("slave")?.split_once(':')?;
            number.parse::<u32>().ok()?;
            let field = |name| what.trim().split(',').find_map(|f| f.strip_prefix(name)?.strip_prefix('='));
            Some(ReplicaLine {
                ip: field("ip")?.to_owned(),
                port: field("port")?.parse().ok()?,
                online: field("state")? == "online",
                offset: field("offset")?.parse().ok()?,
            })
        };
        self.text.lines().filter_map(replica).collect()
    }

    pub fn is_set(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value != "0")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_counts_its_replicas() {
        let info = Info::from(
            "role:master\r\nslave0:ip=::1,port=7612,state=online,offset=50,lag=0\r\n\
             slave1:ip=10.0.0.2,port=6379,state=wait_bgsave,offset=0,lag=0\r\nslave_priority:100\r\n\
             db0:keys=3,expires=0,avg_ttl=0\r\ndb7:keys=1,expires=1,avg_ttl=9\r\n"
                .to_owned(),
        );
        let line = |ip: &str, port, online, offset| ReplicaLine { ip: ip.to_owned(), port, online, offset };
        assert_eq!(info.replicas(), [line("::1", 7612, true, 50), line("10.0.0.2", 6379, false, 0)]);
        assert_eq!(info.databases(), [(0, 3), (7, 1)]);
    }

    #[test]
    fn commands_are_counted_with_their_subcommands() {
        let info = Info::from(
            "# Commandstats\r\ncmdstat_set:calls=7,usec=9,usec_per_call=1.29\r\n\
             cmdstat_config|set:calls=1,usec=3,rejected_calls=0\r\n"
                .to_owned(),
        );
        assert_eq!(info.calls(), [("set", 7), ("config|set", 1)]);
    }

    #[test]
    fn a_replica_that_loads_is_not_linked() {
        let text = |link: &str, syncs: &str| {
            Info::from(format!(
                "redis_version:6.0.16\r\nloading:0\r\nrole:slave\r\nmaster_host:::1\r\nmaster_port:7401\r\n\
                 master_link_status:{link}\r\nmaster_sync_in_progress:{syncs}\r\nslave_repl_offset:-1\r\n\
                 master_replid:abc\r\nmaster_repl_offset:0\r\n"
            ))
        };
        let seen = text("up", "0").seen().unwrap();
        assert!(seen.linked && !seen.loading && !seen.master);
        assert_eq!((seen.follows, seen.offset), (Some("[::1]:7401".parse().unwrap()), 0));
        assert!(!seen.unwritten);
        let seen = text("down", "1").seen().unwrap();
        assert!(!seen.linked && seen.loading);
        assert_eq!(Info::from("role:master\r\n".to_owned()).seen(), None);
    }

    #[test]
    fn a_replica_ends_once_its_append_only_file_is_written() {
        let unwritten = |fields: &[&str]| Info::from(fields.join("\r\n")).is_unwritten();
        let (aof, up, down) = ("aof_enabled:1", "master_link_status:up", "master_link_status:down");
        // As 6.0, 7.0 and 8.0 have it, one after the other.
        assert!(unwritten(&[aof, down, "master_sync_in_progress:1"]));
        assert!(unwritten(&["loading:1", "aof_enabled:0", down, "master_sync_in_progress:1"]));
        assert!(unwritten(&[aof, "aof_rewrite_in_progress:1", up]));
        assert!(!unwritten(&[aof, "aof_rewrite_in_progress:0", up]));
        assert!(!unwritten(&["aof_enabled:0", down]) && !unwritten(&[aof, "role:master"]));
    }
}
