//! Watches: a cursor over the retained history, woken when something for it was published.
//!
//! Contract: a watcher owns no queue. It remembers the next revision to look at and reads the
//! history from there, so that a slow reader holds nothing, and a reader that falls behind a
//! compaction gets [`StoreError::Compacted`] and then the end of the stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use futures::stream::BoxStream;

use crate::{Batch, Revision, StoreError};

/// The stream of a watch. After an error it ends.
pub struct WatchStream {
    batches: BoxStream<'static, Result<Batch, StoreError>>,
    progress: WatchProgress,
}

impl WatchStream {
    /// Puts a stream together, for engines. `progress` says up to which revision everything was
    /// delivered and taken.
    pub fn new(
        batches: BoxStream<'static, Result<Batch, StoreError>>,
        progress: impl Fn() -> Revision + Send + Sync + 'static,
    ) -> WatchStream {
        WatchStream {
            batches,
            progress: WatchProgress(Arc::new(progress)),
        }
    }

    /// A handle that tells how far the reader has come, usable while another task reads.
    pub fn progress(&self) -> WatchProgress {
        self.progress.clone()
    }
}

impl Stream for WatchStream {
    type Item = Result<Batch, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.as_mut().poll_next(cx)
    }
}

/// How far a watch has come; what bookmarks and reads from a watch cache are made of.
#[derive(Clone)]
pub struct WatchProgress(Arc<dyn Fn() -> Revision + Send + Sync>);

impl WatchProgress {
    /// Every matching event up to and including this revision was yielded, *and* the reader has
    /// asked for the next one since, so it is done with it. When nothing for this watch is under
    /// way this is the store's current revision, or the one before `from` if that is later.
    pub fn revision(&self) -> Revision {
        (self.0)()
    }
}
