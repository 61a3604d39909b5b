//! The end of links: at once where it costs nothing, else when the snapshot under way has arrived.

use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use super::{Shared, link::Link};

const LOOK_PERIOD: Duration = Duration::from_millis(20);

impl Shared {
    /// Ends every link at once, and every one that is about to open.
    pub fn end_links(&self) {
        self.stop.cancel();
    }

    /// Asks the links concerned to end: those with a snapshot under way when it is loaded or
    /// `limits.drain_ms` have passed, the others now.
    pub(super) async fn drain(&self, concerned: impl Fn(&Link) -> bool) {
        let limit = self.config().limits.drain_time;
        let start = Instant::now();
        loop {
            let in_time = start.elapsed() < limit;
            let mut waiting = 0_usize;
            for link in self.links().values().filter(|link| !link.end.is_cancelled() && concerned(link)) {
                if in_time && link.snapshot_under_way.load(Relaxed) {
                    waiting = waiting.saturating_add(1);
                } else {
                    link.end.cancel();
                }
            }
            if waiting == 0 {
                return;
            }
            tokio::time::sleep(LOOK_PERIOD).await;
        }
    }
}
