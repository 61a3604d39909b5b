//! What a server says it is.

use super::info::Info;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `redis`, `valkey` or `redict`.
    pub store: &'static str,
    /// As the server writes it: `8.0.6`.
    pub version: String,
}

impl Identity {
    /// Valkey and Redict also say a `redis_version`, for clients that look no further.
    pub(super) fn of(info: &Info) -> Option<Self> {
        [("valkey", "valkey_version"), ("redict", "redict_version"), ("redis", "redis_version")]
            .into_iter()
            .find_map(|(store, name)| Some(Self { store, version: info.get(name)?.to_owned() }))
    }

    /// `CLIENT PAUSE … WRITE`, `CLIENT UNPAUSE` and `FAILOVER` came with Redis 6.2, which the forks are newer than.
    pub(super) fn pauses_writes_alone(&self) -> bool {
        let mut numbers = self.version.split('.').map_while(|number| number.parse::<u32>().ok());
        self.store != "redis" || (numbers.next(), numbers.next()) >= (Some(6), Some(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_is_known_by_its_own_version() {
        let identity = |info: &str| {
            Identity::of(&Info::from(info.to_owned())).map(|identity| (identity.store, identity.version))
        };
        assert_eq!(identity("# Server\r\nredis_version:8.0.6\r\n"), Some(("redis", "8.0.6".to_owned())));
        assert_eq!(
            identity("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.2\r\n"),
            Some(("valkey", "9.1.2".to_owned()))
        );
        assert_eq!(
            identity("# Server\r\nredict_version:7.3.6\r\nredis_version:7.2.4\r\n"),
            Some(("redict", "7.3.6".to_owned()))
        );
        assert_eq!(identity("# Server\r\n"), None);
    }

    #[test]
    fn before_6_2_a_pause_holds_everybody() {
        let pauses =
            |store, version: &str| Identity { store, version: version.to_owned() }.pauses_writes_alone();
        assert!(!pauses("redis", "5.0.6") && !pauses("redis", "6.0.16"));
        assert!(pauses("redis", "6.2.0") && pauses("redis", "8.10.2") && pauses("valkey", "7.2.4"));
    }
}
