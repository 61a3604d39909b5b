//! One HTTP request to the admin API.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, StatusCode,
    client::conn::http1,
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};

use super::Failure;
use crate::config::StoreAddress;

const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Where a listener on this address is reached from its own machine.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

pub(super) async fn get(admin: &StoreAddress, path: &str) -> Result<Value, Failure> {
    ask(admin, Method::GET, path, Vec::new()).await
}

pub(super) async fn put(admin: &StoreAddress, path: &str, body: Vec<u8>) -> Result<Value, Failure> {
    ask(admin, Method::PUT, path, body).await
}

pub(super) async fn post(admin: &StoreAddress, path: &str, body: Vec<u8>) -> Result<Value, Failure> {
    ask(admin, Method::POST, path, body).await
}

/// The JSON of a good answer; the server's own message of any other.
async fn ask(admin: &StoreAddress, method: Method, path: &str, body: Vec<u8>) -> Result<Value, Failure> {
    let (status, text) = match timeout(ANSWER_TIME_MAX, exchange(admin, method, path, body)).await {
        Ok(answer) => answer?,
        Err(_) => {
            let message = format!("the sidecar at {admin} did not answer within {ANSWER_TIME_MAX:?}");
            return Err(Failure::failed(message));
        }
    };
    let json: Result<Value, _> = serde_json::from_slice(&text);
    if status.is_success() {
        return json.map_err(|e| Failure::failed(format_args!("{admin} answered {path} with no JSON: {e}")));
    }
    let message = json.ok().and_then(|json| Some(json.get("error")?.as_str()?.to_owned()));
    Err(Failure::failed(message.unwrap_or_else(|| format!("{admin} answered {path} with {status}"))))
}

async fn exchange(
    admin: &StoreAddress,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<(StatusCode, Bytes), Failure> {
    let stream = connect(admin).await?;
    let broken = |e: &dyn std::fmt::Display| {
        Failure::failed(format_args!("the exchange with the sidecar at {admin} broke off: {e}"))
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| broken(&e))?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, admin.to_string())
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|e| broken(&e))?;
    // Ends with the exchange: the sender is dropped then.
    tokio::spawn(async move {
        if let Err(e) = connection.await {
            tracing::debug!("the admin connection ended early: {e}");
        }
    });
    let answer = sender.send_request(request).await.map_err(|e| broken(&e))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|e| broken(&e))?;
    Ok((status, body.to_bytes()))
}

async fn connect(admin: &StoreAddress) -> Result<TcpStream, Failure> {
    let why = match timeout(CONNECT_TIME_MAX, TcpStream::connect((admin.host(), admin.port()))).await {
        Ok(Ok(stream)) => return Ok(stream),
        Ok(Err(e)) => e.to_string(),
        Err(_) => format!("no connection within {CONNECT_TIME_MAX:?}"),
    };
    Err(Failure::failed(format_args!(
        "cannot reach the sidecar at {admin}: {why}; is it running, and is this the address under [admin] in \
         its config? (--admin HOST:PORT or --config FILE)"
    )))
}
