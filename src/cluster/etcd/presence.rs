//! The own place among the others: a lease that is kept, the own word on it, and the leader's key when it is free.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use segue_wire::PeerName;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    RETRY_INTERVAL,
    gateway::{Channel, Fault, Gateway, code},
    messages::{
        Blob, Compare, Grant, LeaseId, Leased, Number, Operation, Put, Range, Revoked, Transacted,
        Transaction,
    },
    view::{Lease, View},
};
use crate::{cluster::Machine, seldom::Seldom};

/// A word is written at most this often: etcd keeps every one until it is compacted.
pub const WORD_INTERVAL: Duration = Duration::from_millis(500);
/// A word that is the same as before is written again after this long, to be known as new.
pub const WORD_REPEAT_INTERVAL: Duration = Duration::from_secs(2);
/// The last thing that is said to etcd may take this long.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(1);
/// How often a lease is kept before it would end.
const BEATS_OF_A_LEASE: u32 = 3;

pub(super) struct Presence<M> {
    own: PeerName,
    view: Arc<View<M>>,
    gateway: Arc<Gateway>,
    channel: Channel,
    /// In etcd's whole seconds.
    lease_time: Duration,
    word: watch::Receiver<Bytes>,
    said: Option<Said>,
    seldom: Seldom,
}

struct Said {
    word: Bytes,
    at: Instant,
}

impl<M: Machine> Presence<M> {
    pub fn new(
        own: PeerName,
        view: Arc<View<M>>,
        gateway: Arc<Gateway>,
        lease_time: Duration,
        word: watch::Receiver<Bytes>,
    ) -> Self {
        let channel = gateway.channel();
        Self { own, view, gateway, channel, lease_time, word, said: None, seldom: Seldom::default() }
    }

    pub async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(self.keep()).await;
        // Whatever was under way on the other connection.
        self.channel = self.gateway.channel();
        if timeout(LEAVE_TIME_MAX, self.leave()).await.is_err() {
            tracing::debug!("no time to give the lease back: it is left to end by itself");
        }
    }

    async fn keep(&mut self) -> Infallible {
        loop {
            let Err(fault) = self.stay().await;
            if let Some(unsaid) = self.seldom.is_due(&fault.to_string(), std::time::Instant::now()) {
                tracing::warn!(unsaid, "this sidecar has no place in etcd now: {fault}");
            }
            sleep(RETRY_INTERVAL).await;
        }
    }

    /// Gives the lease back, so that the others need not wait for its end.
    async fn leave(&mut self) {
        let Some(lease) = self.view.lease() else { return };
        self.view.set_lease(None);
        let request = LeaseId { id: Number(lease.id) };
        if let Err(fault) = self.channel.call::<Revoked>("/v3/lease/revoke", &request).await {
            tracing::debug!("the lease is left to end by itself: {fault}");
        }
    }

    async fn stay(&mut self) -> Result<Infallible, Fault> {
        let mut beats = interval(self.lease_time / BEATS_OF_A_LEASE);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let not_before = self.said.as_ref().map_or_else(Instant::now, |said| said.at + WORD_INTERVAL);
            tokio::select! {
                _ = beats.tick() => self.beat().await?,
                () = new_word(&mut self.word, not_before) => self.say().await?,
                () = self.view.vacant.notified() => self.campaign().await?,
            }
        }
    }

    async fn beat(&mut self) -> Result<(), Fault> {
        let Some(lease) = self.view.lease() else { return self.enter().await };
        let asked = Instant::now();
        let request = LeaseId { id: Number(lease.id) };
        let kept: Leased = self.channel.call_line("/v3/lease/keepalive", &request).await?;
        let Some(time) = time(&kept) else {
            self.view.set_lease(None);
            return self.enter().await;
        };
        self.view.set_lease(Some(Lease { id: lease.id, until: asked + time }));
        self.campaign().await
    }

    async fn enter(&mut self) -> Result<(), Fault> {
        let asked = Instant::now();
        let seconds = i64::try_from(self.lease_time.as_secs()).unwrap_or(i64::MAX);
        let granted: Leased = self.channel.call("/v3/lease/grant", &Grant { ttl: Number(seconds) }).await?;
        let until = asked + time(&granted).unwrap_or_default();
        self.view.set_lease(Some(Lease { id: granted.id.0, until }));
        self.said = None;
        self.say().await?;
        self.campaign().await
    }

    async fn say(&mut self) -> Result<(), Fault> {
        let Some(lease) = self.view.lease() else { return Ok(()) };
        let word = self.word.borrow_and_update().clone();
        let is_repeated = |said: &Said| said.word == word && said.at.elapsed() < WORD_REPEAT_INTERVAL;
        if self.said.as_ref().is_some_and(is_repeated) {
            return Ok(());
        }
        let at = Instant::now();
        let key = self.view.keys().node(&self.own);
        let put = Put { key, value: Blob(word.clone()), lease: Number(lease.id) };
        let done = self.transact(Vec::new(), vec![Operation::RequestPut(put)], Vec::new()).await;
        match &done {
            Ok(Some(_)) => self.said = Some(Said { word, at }),
            Ok(None) => {}
            // The next one may come late.
            Err(_) => self.word.mark_changed(),
        }
        done.map(drop)
    }

    /// Leads where nobody does.
    async fn campaign(&mut self) -> Result<(), Fault> {
        let Some(lease) = self.view.lease().filter(|_| self.view.leader().is_none()) else { return Ok(()) };
        let key = self.view.keys().leader();
        let put = Put { key: key.clone(), value: self.own.to_string().into(), lease: Number(lease.id) };
        let range = || Operation::RequestRange(Range::one(&key));
        let success = vec![Operation::RequestPut(put), range()];
        let compare = vec![Compare::mod_revision(&key, 0)];
        if let Some(done) = self.transact(compare, success, vec![range()]).await? {
            self.view.learned_leader(done.header.revision.0, done.found());
        }
        Ok(())
    }

    /// `None` where the lease is gone: the next beat gets another.
    async fn transact(
        &mut self,
        compare: Vec<Compare>,
        success: Vec<Operation>,
        failure: Vec<Operation>,
    ) -> Result<Option<Transacted>, Fault> {
        match self.channel.call("/v3/kv/txn", &Transaction { compare, success, failure }).await {
            Err(fault) if fault.is(code::NOT_FOUND) => {
                self.view.set_lease(None);
                Ok(None)
            }
            done => done.map(Some),
        }
    }
}

/// How long etcd says that it lasts; `None` of one that is gone.
fn time(lease: &Leased) -> Option<Duration> {
    u64::try_from(lease.ttl.0).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
}

/// To be dropped at any time: a word stays new until it is taken.
async fn new_word(word: &mut watch::Receiver<Bytes>, not_before: Instant) {
    sleep_until(not_before).await;
    if word.changed().await.is_err() {
        // Nobody says anything any more.
        std::future::pending().await
    }
}
