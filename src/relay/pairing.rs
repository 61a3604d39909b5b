//! Two links that carry one sync: the snapshot comes on the second one, the stream on the first. The first
//! makes an offer, which the second finds and answers.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use segue_wire::Side;
use tokio::sync::Notify;

use super::link::Link;

/// The offers of links that are up, one of each.
#[derive(Debug, Default)]
pub struct Pairing {
    offers: Mutex<BTreeMap<u64, Offer>>,
    told: Notify,
}

#[derive(Debug)]
struct Offer {
    key: String,
    words: Bytes,
    dialer: IpAddr,
    listener: String,
    joined: bool,
    told: Option<Bytes>,
}

impl Pairing {
    pub fn offer(&self, link: &Link, key: String, words: Bytes) {
        let (dialer, listener) = ends(link);
        self.offers().insert(link.id, Offer { key, words, dialer, listener, joined: false, told: None });
    }

    /// The link of the same dialer to the same listener that waits for one with this key, and what it offers;
    /// the newest of several.
    pub fn join(&self, link: &Link, key: &str) -> Option<(u64, Bytes)> {
        let (dialer, listener) = ends(link);
        let mut offers = self.offers();
        let (first, offer) = offers.iter_mut().rev().find(|(_, offer)| {
            !offer.joined && offer.key == key && offer.dialer == dialer && offer.listener == listener
        })?;
        offer.joined = true;
        Some((*first, offer.words.clone()))
    }

    pub fn tell(&self, first: u64, words: Bytes) {
        if let Some(offer) = self.offers().get_mut(&first) {
            offer.told = Some(words);
        }
        self.told.notify_waiters();
    }

    /// What the link that joined this one tells; `None` if that takes longer than `limit`.
    pub async fn told(&self, first: u64, limit: Duration) -> Option<Bytes> {
        let words = || self.offers().get(&first).and_then(|offer| offer.told.clone());
        let wait = async {
            loop {
                let mut told = std::pin::pin!(self.told.notified());
                // From here on: what is told between the look and the wait is not missed.
                told.as_mut().enable();
                if let Some(words) = words() {
                    return words;
                }
                told.await;
            }
        };
        tokio::time::timeout(limit, wait).await.ok()
    }

    /// Does this link's snapshot come on another one?
    pub fn has_offer(&self, first: u64) -> bool {
        self.offers().contains_key(&first)
    }

    /// The sync is done, or the link is.
    pub fn withdraw(&self, first: u64) {
        self.offers().remove(&first);
    }

    fn offers(&self) -> MutexGuard<'_, BTreeMap<u64, Offer>> {
        self.offers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ends(link: &Link) -> (IpAddr, String) {
    (link.dialer_address().ip().to_canonical(), link.address(Side::Listener))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::relay::bounds::Held;

    const SOON: Duration = Duration::from_millis(20);
    const LATE: Duration = Duration::from_secs(60);

    fn link(id: u64, from: &str, to: &str) -> Link {
        let held = Arc::new(Held::new(1));
        let listen = "127.0.0.1:1".parse().unwrap();
        Link::new(id, listen, from.parse().unwrap(), to.to_owned(), held, &CancellationToken::new())
    }

    fn words(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn an_offer_is_found_by_its_key_between_the_same_ends_once() {
        let pairing = Pairing::default();
        pairing.offer(&link(1, "10.0.0.2:50", "10.0.0.1:6379"), "port 7".into(), words("old"));
        pairing.offer(&link(2, "10.0.0.2:51", "10.0.0.1:6379"), "port 7".into(), words("new"));
        let second = link(3, "[::ffff:10.0.0.2]:52", "10.0.0.1:6379");
        assert_eq!(pairing.join(&second, "port 8"), None);
        assert_eq!(pairing.join(&link(4, "10.0.0.3:52", "10.0.0.1:6379"), "port 7"), None);
        assert_eq!(pairing.join(&link(5, "10.0.0.2:52", "10.0.0.9:6379"), "port 7"), None);
        assert_eq!(pairing.join(&second, "port 7"), Some((2, words("new"))));
        assert_eq!(pairing.join(&second, "port 7"), Some((1, words("old"))));
        assert_eq!(pairing.join(&second, "port 7"), None);
        pairing.withdraw(1);
        assert!(!pairing.has_offer(1) && pairing.has_offer(2));
    }

    #[tokio::test]
    async fn what_is_told_is_heard_before_and_after_it_is_asked_for() {
        let pairing = Pairing::default();
        pairing.offer(&link(1, "10.0.0.2:50", "10.0.0.1:6379"), "client 9".into(), words(""));
        assert_eq!(pairing.told(1, SOON).await, None);
        let (told, ()) = tokio::join!(pairing.told(1, LATE), async { pairing.tell(1, words("at 5")) });
        assert_eq!(told, Some(words("at 5")));
        assert_eq!(pairing.told(1, LATE).await, Some(words("at 5")));
        pairing.withdraw(1);
        pairing.tell(1, words("too late"));
        assert_eq!(pairing.told(1, SOON).await, None);
    }
}
