//! Connections of our own to a store.

use std::{io, sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Cmd, FromRedisValue, Pipeline, RedisConnectionInfo, aio::MultiplexedConnection,
};
use tokio_util::task::AbortOnDropHandle;

use super::info::Info;
use crate::{
    config::{Credentials, StoreAddress},
    net,
    tls::{Keys, Stream, TlsError, handshake},
};

/// How a store is reached and asked.
#[derive(Clone)]
pub struct Way {
    pub address: StoreAddress,
    pub credentials: Option<Credentials>,
    /// With them, over TLS.
    pub keys: Option<Arc<Keys>>,
    /// What our own connections carry where others are intercepted.
    pub mark: Option<u32>,
    /// How long a dial may take, a handshake, and each answer.
    pub limit: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum Failed {
    #[error(transparent)]
    Dial(#[from] io::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Redis(#[from] redis::RedisError),
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
}

/// Closed when it is dropped, whatever was asked over it.
pub struct Connection {
    inner: MultiplexedConnection,
    limit: Duration,
    driver: AbortOnDropHandle<()>,
}

impl Way {
    /// # Errors
    /// No connection, no leave to ask (`NOAUTH`: set `password_file`), no answer in time.
    pub async fn connect(&self) -> Result<Connection, Failed> {
        let tcp = net::dial_with(&self.address.to_string(), self.mark, self.limit).await?;
        let stream = match &self.keys {
            Some(keys) => handshake::connect(keys, self.address.host(), tcp, self.limit).await?,
            None => Stream::Plain(tcp),
        };
        let (stream, _) = stream.into_parts();
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let login = login(self.credentials.as_ref());
        let connected = MultiplexedConnection::new_with_config(&login, stream, config);
        let (inner, driver) =
            tokio::time::timeout(self.limit, connected).await.map_err(|_| Failed::TimedOut(self.limit))??;
        let driver = AbortOnDropHandle::new(tokio::spawn(driver));
        Ok(Connection { inner, limit: self.limit, driver })
    }
}

impl Connection {
    pub async fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, Failed> {
        within(self.limit, command.query_async(&mut self.inner)).await
    }

    pub async fn ask_all<T: FromRedisValue>(&mut self, commands: &Pipeline) -> Result<T, Failed> {
        self.ask_all_within(commands, Duration::ZERO).await
    }

    /// Of a store that answers later than others, by so much.
    pub async fn ask_all_within<T: FromRedisValue>(
        &mut self,
        commands: &Pipeline,
        later: Duration,
    ) -> Result<T, Failed> {
        within(self.limit.saturating_add(later), commands.query_async(&mut self.inner)).await
    }

    /// Until the store has ended it.
    pub async fn closed(self) {
        let _ended = self.driver.await;
    }

    /// All sections that a store tells unasked.
    pub async fn info(&mut self) -> Result<Info, Failed> {
        Ok(self.ask::<String>(&redis::cmd("INFO")).await?.into())
    }
}

async fn within<T>(limit: Duration, asked: impl Future<Output = redis::RedisResult<T>>) -> Result<T, Failed> {
    Ok(tokio::time::timeout(limit, asked).await.map_err(|_| Failed::TimedOut(limit))??)
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
