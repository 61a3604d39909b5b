//! What stands between a driver and the stores, and can cut the driver off at any of its requests.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Notify,
};

const REQUEST_BYTES_MAX: usize = 64 << 10;

/// What becomes of the request at which the driver is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Lost,
    Delivered,
    /// It reaches the store so long after.
    Late(Duration),
}

/// Counts the requests of all connections.
#[derive(Default)]
pub struct Gate {
    seen: AtomicUsize,
    cut_at: AtomicUsize,
    fate: Mutex<Option<Fate>>,
    pub cut: Notify,
}

impl Gate {
    /// The request of this number from now on is the last; 0: none is.
    pub fn set(&self, cut_at: usize, fate: Fate) {
        *self.fate.lock().unwrap_or_else(PoisonError::into_inner) = Some(fate);
        self.seen.store(0, SeqCst);
        self.cut_at.store(cut_at, SeqCst);
    }

    fn fate(&self) -> Option<Fate> {
        let at = self.cut_at.load(SeqCst);
        let seen = self.seen.fetch_add(1, SeqCst) + 1;
        if at == 0 || seen < at {
            return None;
        }
        // Those behind it are lost with the driver.
        if seen == at { *self.fate.lock().unwrap_or_else(PoisonError::into_inner) } else { Some(Fate::Lost) }
    }
}

/// Listens before a store; the port.
pub async fn start(store: u16, gate: Arc<Gate>) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((driver, _)) = listener.accept().await {
            let Ok(store) = TcpStream::connect(("127.0.0.1", store)).await else { continue };
            let ((from_driver, mut to_driver), (mut from_store, to_store)) =
                (driver.into_split(), store.into_split());
            tokio::spawn(async move { copy(&mut from_store, &mut to_driver).await });
            tokio::spawn(pass(from_driver, to_store, gate.clone()));
        }
    });
    Ok(port)
}

async fn pass(mut driver: OwnedReadHalf, mut store: OwnedWriteHalf, gate: Arc<Gate>) {
    let mut request = vec![0; REQUEST_BYTES_MAX];
    while let Ok(length @ 1..) = driver.read(&mut request).await {
        let request = &request[..length];
        match gate.fate() {
            None => {
                if store.write_all(request).await.is_err() {
                    return;
                }
            }
            Some(fate) => {
                if fate == Fate::Delivered {
                    let _ = store.write_all(request).await;
                }
                gate.cut.notify_one();
                if let Fate::Late(time) = fate {
                    tokio::time::sleep(time).await;
                    let _ = store.write_all(request).await;
                }
            }
        }
    }
}
