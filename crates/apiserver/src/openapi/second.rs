//! The document of version 2 as it was last asked for.
//!
//! It is large and takes long to make, and clients ask again and again whether it has changed. It is kept compressed (a
//! tenth of its size), with what it was made of; whoever asks while it is being made waits for it.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use flate2::read::GzDecoder;
use machinery::ApiError;
use serde_json::Value;
use tokio::sync::Mutex;

use super::{build, hash};
use crate::respond;
use crate::server::Server;

/// A document.
pub(super) struct Document {
    of: Sources,
    /// The hash of its bytes.
    pub(super) hash: String,
    /// The bytes, compressed.
    pub(super) zipped: Bytes,
}

impl Document {
    /// The bytes themselves.
    pub(super) fn plain(&self) -> Bytes {
        let mut plain = Vec::with_capacity(self.zipped.len() * 10);
        // What was compressed here is whole.
        let _ = GzDecoder::new(&*self.zipped).read_to_end(&mut plain);
        plain.into()
    }
}

/// The last document of one media type.
#[derive(Default)]
pub(super) struct Kept(Mutex<Option<Arc<Document>>>);

impl Kept {
    /// The document of now; `make` makes it.
    pub(super) async fn now(
        &self,
        server: &Server,
        make: impl FnOnce() -> Bytes + Send + 'static,
    ) -> Result<Arc<Document>, ApiError> {
        let mut kept = self.0.lock().await;
        // Read before the document is made: what changes meanwhile makes it old.
        let of = Sources::now(server);
        if let Some(document) = kept.as_ref().filter(|document| document.of == of) {
            return Ok(document.clone());
        }
        let made = build(move || {
            let bytes = make();
            (hash(&bytes), respond::gzip(&bytes))
        });
        let (hash, zipped) = made.await?;
        let document = Arc::new(Document { of, hash, zipped });
        *kept = Some(document.clone());
        Ok(document)
    }
}

/// What a document depends on, beside the program itself.
struct Sources {
    /// The numbers of the custom kinds' definitions.
    custom: Vec<u64>,
    /// What other servers have told.
    remote: Vec<Arc<Value>>,
}

impl Sources {
    fn now(server: &Server) -> Self {
        let remotes = server.aggregation().remotes();
        let told = remotes
            .iter()
            .filter_map(|remote| remote.documents.load().second.clone());
        Self {
            custom: server.resources().custom().serials(),
            remote: told.collect(),
        }
    }
}

impl PartialEq for Sources {
    fn eq(&self, other: &Self) -> bool {
        let same = |(one, other): (&Arc<Value>, &Arc<Value>)| Arc::ptr_eq(one, other);
        self.custom == other.custom
            && self.remote.len() == other.remote.len()
            && self.remote.iter().zip(&other.remote).all(same)
    }
}
