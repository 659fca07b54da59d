//! What a busy time leaves behind: when it is over, freed memory goes back to the system.
//!
//! Contract: requests set it off, and the start. From then on there is one timer until a second has passed in which hardly
//! anybody asked for anything; an idle server has none.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

/// So many requests leave enough behind to clean up.
const BUSY: u64 = 2000;
/// In this time ...
const MOMENT: Duration = Duration::from_secs(1);
/// ... no more than so many come when it is over.
const FEW: u64 = 100;

/// Counts requests, and sees to it.
#[derive(Default)]
pub(crate) struct Rest {
    requests: AtomicU64,
    /// How many there were when memory was given back last.
    tidied: AtomicU64,
    is_set: AtomicBool,
}

impl Rest {
    /// A request has come.
    pub(crate) fn note(self: &Arc<Self>) {
        let count = self.requests.fetch_add(1, Relaxed) + 1;
        let since = count.saturating_sub(self.tidied.load(Relaxed));
        if since >= BUSY && !self.is_set.load(Relaxed) {
            self.set();
        }
    }

    /// Cleans up as soon as there is a quiet moment.
    pub(crate) fn set(self: &Arc<Self>) {
        if self.is_set.swap(true, Relaxed) {
            return;
        }
        let this = self.clone();
        tokio::spawn(async move {
            loop {
                let before = this.requests.load(Relaxed);
                // Whoever still does something in this moment does it without what was kept for the busy time.
                linux::allocator::let_go();
                tokio::time::sleep(MOMENT).await;
                if this.requests.load(Relaxed) - before <= FEW {
                    break;
                }
            }
            // It fails when the runtime ends, and then the process does.
            let _ = tokio::task::spawn_blocking(linux::memory::give_back).await;
            this.tidied.store(this.requests.load(Relaxed), Relaxed);
            this.is_set.store(false, Relaxed);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_busy_time_is_cleaned_up_after_once() {
        let rest = Arc::new(Rest::default());
        (0..BUSY).for_each(|_| rest.note());
        assert!(rest.is_set.load(Relaxed));
        tokio::time::sleep(2 * MOMENT).await;
        while rest.is_set.load(Relaxed) {
            tokio::task::yield_now().await;
        }
        assert_eq!(rest.tidied.load(Relaxed), BUSY);
        rest.note();
        assert!(!rest.is_set.load(Relaxed));
    }
}
