//! What stands between a driver and the stores, and can cut the driver off at any of its requests.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Notify,
};

const REQUEST_BYTES_MAX: usize = 64 << 10;
/// What a secondary is told that is to be master.
const PROMOTION: &[u8] = b"REPLICAOF\r\n$2\r\nNO\r\n";

/// What becomes of the request at which the driver is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Lost,
    Delivered,
    /// It reaches the store so long after.
    Late(Duration),
    /// It reaches the store, and no answer of that connection comes back.
    Unanswered,
}

/// Counts the requests of all connections.
#[derive(Default)]
pub struct Gate {
    seen: AtomicUsize,
    cut_at: AtomicUsize,
    /// The next promotion goes unanswered.
    cuts_promotion: AtomicBool,
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

    /// The next promotion reaches the store, and who asked for it does not hear of it.
    pub fn cut_promotion(&self, is_wanted: bool) {
        self.cuts_promotion.store(is_wanted, SeqCst);
    }

    pub fn waits_for_promotion(&self) -> bool {
        self.cuts_promotion.load(SeqCst)
    }

    fn fate(&self, request: &[u8]) -> Option<Fate> {
        let promotes = request.windows(PROMOTION.len()).any(|part| part == PROMOTION);
        if promotes && self.cuts_promotion.swap(false, SeqCst) {
            return Some(Fate::Unanswered);
        }
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
            let ((from_driver, to_driver), (from_store, to_store)) =
                (driver.into_split(), store.into_split());
            let is_mute = Arc::new(AtomicBool::new(false));
            tokio::spawn(answer(from_store, to_driver, is_mute.clone()));
            tokio::spawn(pass(from_driver, to_store, gate.clone(), is_mute));
        }
    });
    Ok(port)
}

async fn answer(mut store: OwnedReadHalf, mut driver: OwnedWriteHalf, is_mute: Arc<AtomicBool>) {
    let mut answer = vec![0; REQUEST_BYTES_MAX];
    while let Ok(length @ 1..) = store.read(&mut answer).await {
        if !is_mute.load(SeqCst) && driver.write_all(&answer[..length]).await.is_err() {
            return;
        }
    }
}

async fn pass(
    mut driver: OwnedReadHalf,
    mut store: OwnedWriteHalf,
    gate: Arc<Gate>,
    is_mute: Arc<AtomicBool>,
) {
    let mut request = vec![0; REQUEST_BYTES_MAX];
    while let Ok(length @ 1..) = driver.read(&mut request).await {
        let request = &request[..length];
        match gate.fate(request) {
            None => {
                if store.write_all(request).await.is_err() {
                    return;
                }
            }
            Some(fate) => {
                if fate == Fate::Unanswered {
                    is_mute.store(true, SeqCst);
                }
                if matches!(fate, Fate::Delivered | Fate::Unanswered) {
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
