//! Readers who wait until a cache shows a revision: each is called once, when it does, however many others wait.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use store::Revision;
use tokio::sync::oneshot;

/// Those who wait, by the revision that they wait for.
#[derive(Default)]
pub(super) struct Waiters(Mutex<BTreeMap<Revision, Vec<oneshot::Sender<()>>>>);

/// Somebody who waits; when he goes, nothing is left of him.
pub(super) struct Waiting<'a> {
    waiters: &'a Waiters,
    revision: Revision,
    called: oneshot::Receiver<()>,
}

impl Waiters {
    /// Waits for this revision. The caller looks once more whether it is there before he does.
    pub(super) fn wait(&self, revision: Revision) -> Waiting<'_> {
        let (sender, called) = oneshot::channel();
        self.0.lock().entry(revision).or_default().push(sender);
        Waiting {
            waiters: self,
            revision,
            called,
        }
    }

    /// Calls all who wait for nothing newer than this.
    pub(super) fn call(&self, revision: Revision) {
        let called = {
            let mut all = self.0.lock();
            let none = |(first, _): (&Revision, _)| *first > revision;
            if all.first_key_value().is_none_or(none) {
                return;
            }
            let later = all.split_off(&(revision + 1));
            std::mem::replace(&mut *all, later)
        };
        for waiter in called.into_values().flatten() {
            // Nobody is there any more: that is no error.
            let _ = waiter.send(());
        }
    }
}

impl Waiting<'_> {
    /// Ends when the revision is there.
    pub(super) async fn called(mut self) {
        // Who waits is called as long as there is a cache, and he holds it.
        let _ = (&mut self.called).await;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.called.close();
        let mut all = self.waiters.0.lock();
        let Some(same) = all.get_mut(&self.revision) else {
            return;
        };
        same.retain(|waiter| !waiter.is_closed());
        if same.is_empty() {
            all.remove(&self.revision);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn each_is_called_when_the_revision_is_there_and_none_leaves_a_trace() {
        let waiters = Waiters::default();
        let (first, second) = (waiters.wait(5), waiters.wait(6));
        waiters.call(4);
        let mut first = Box::pin(first.called());
        assert!(first.as_mut().now_or_never().is_none());
        waiters.call(5);
        assert!(first.now_or_never().is_some());
        let mut second = Box::pin(second.called());
        assert!(second.as_mut().now_or_never().is_none());
        drop(second);
        assert!(waiters.0.lock().is_empty());
    }
}
