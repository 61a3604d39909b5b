//! Asks a Redis-like server what it is: `INFO server`.

use std::{io, time::Duration};

use redis::{RedisConnectionInfo, aio::MultiplexedConnection};

use crate::{
    config::{Credentials, StoreAddress},
    net,
    tls::{Keys, Stream, TlsError, handshake},
};

/// What a server says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `redis`, `valkey` or `redict`.
    pub store: &'static str,
    /// As the server writes it: `8.0.6`.
    pub version: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("{0} did not answer INFO within {1:?}")]
    TimedOut(String, Duration),
    #[error("{0} did not answer INFO: {1}")]
    Failed(String, Failed),
    #[error("the INFO of {0} names no version")]
    NoVersion(String),
}

#[derive(Debug, thiserror::Error)]
pub enum Failed {
    #[error(transparent)]
    Dial(#[from] io::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Redis(#[from] redis::RedisError),
}

/// With `keys`, over TLS. `mark` is what our own connections carry where others are intercepted.
///
/// # Errors
/// No connection, no leave to ask (`NOAUTH`: set `password_file`), no answer in time.
pub async fn probe(
    address: &StoreAddress,
    credentials: Option<&Credentials>,
    keys: Option<&Keys>,
    mark: Option<u32>,
    limit: Duration,
) -> Result<Identity, ProbeError> {
    let name = address.to_string();
    let asked = tokio::time::timeout(limit, info(address, credentials, keys, mark, limit)).await;
    let info = asked
        .map_err(|_| ProbeError::TimedOut(name.clone(), limit))?
        .map_err(|error| ProbeError::Failed(name.clone(), error))?;
    identity(&info).ok_or(ProbeError::NoVersion(name))
}

async fn info(
    address: &StoreAddress,
    credentials: Option<&Credentials>,
    keys: Option<&Keys>,
    mark: Option<u32>,
    limit: Duration,
) -> Result<String, Failed> {
    let tcp = net::dial_with(&address.to_string(), mark, limit).await?;
    let stream = match keys {
        Some(keys) => handshake::connect(keys, address.host(), tcp, limit).await?,
        None => Stream::Plain(tcp),
    };
    let (stream, _) = stream.into_parts();
    let login = login(credentials);
    let (mut connection, driver) = MultiplexedConnection::new(&login, stream).await?;
    let asked = async { redis::cmd("INFO").arg("server").query_async(&mut connection).await };
    // Ends with the connection, at the end of this function at the latest.
    tokio::select! {
        info = asked => Ok(info?),
        () = driver => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
    }
}

fn login(credentials: Option<&Credentials>) -> RedisConnectionInfo {
    let mut login = RedisConnectionInfo::default();
    if let Some(credentials) = credentials {
        login = login.set_password(credentials.password.reveal());
        if let Some(username) = &credentials.username {
            login = login.set_username(username);
        }
    }
    login
}

/// Valkey and Redict also say a `redis_version`, for clients that look no further.
fn identity(info: &str) -> Option<Identity> {
    let field =
        |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    [("valkey", "valkey_version"), ("redict", "redict_version"), ("redis", "redis_version")]
        .into_iter()
        .find_map(|(store, name)| Some(Identity { store, version: field(name)?.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_is_known_by_its_own_version() {
        let identity = |info| identity(info).map(|identity| (identity.store, identity.version));
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
}
