//! The address of a store: a host, which may be a name, and a port.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

/// Where a store listens. A host name stays text: it is looked up each time that it is dialled.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreAddress {
    host: String,
    port: u16,
}

impl StoreAddress {
    /// An IP address (without brackets) or a host name.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Never 0.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Another port of the same host.
    #[must_use]
    pub fn with_port(&self, port: u16) -> Self {
        Self { host: self.host.clone(), port }
    }

    /// The address itself, where the host is one and not a name.
    #[must_use]
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        self.host.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, self.port))
    }
}

impl From<SocketAddr> for StoreAddress {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}

impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a host and a port, such as \"127.0.0.1:6401\", \"[::1]:6401\" or \"store.example:6401\"")]
pub struct ParseStoreAddressError;

impl FromStr for StoreAddress {
    type Err = ParseStoreAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = match text.parse::<SocketAddr>() {
            Ok(address) => Self::from(address),
            Err(_) => {
                let (host, port) = text.split_once(':').ok_or(ParseStoreAddressError)?;
                let port_ok = port.bytes().all(|b| b.is_ascii_digit());
                let port = port.parse().ok().filter(|_| port_ok && is_host_name(host));
                Self { host: host.to_owned(), port: port.ok_or(ParseStoreAddressError)? }
            }
        };
        if address.port == 0 { Err(ParseStoreAddressError) } else { Ok(address) }
    }
}

/// Letters, digits, `-` and `_` in labels joined by dots (RFC 1123, and the `_` of service names). A
/// last label of digits alone is a mistyped IPv4 address, not a name.
fn is_host_name(text: &str) -> bool {
    let label_ok = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    let last_is_number = text.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
    text.len() <= 253 && text.split('.').all(label_ok) && !last_is_number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_round_trip() {
        for text in ["127.0.0.1:6401", "[::1]:6401", "localhost:1", "redis-0.redis_ns.svc:65535"] {
            assert_eq!(text.parse::<StoreAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn only_an_ip_is_a_socket_address() {
        let address = |text: &str| text.parse::<StoreAddress>().unwrap().socket_addr();
        assert_eq!(address("[::1]:6401"), Some("[::1]:6401".parse().unwrap()));
        assert_eq!(address("localhost:6401"), None);
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "localhost",
            ":6401",
            "6401",
            "a:0",
            "127.0.0.1:0",
            "a:65536",
            "a:+1",
            "::1:6401",
            "127.0.0:6401",
            "a b:1",
            "a..b:1",
        ] {
            assert_eq!(text.parse::<StoreAddress>(), Err(ParseStoreAddressError), "{text}");
        }
    }
}
