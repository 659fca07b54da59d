//! A store whose values are encrypted in the store below.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use store::{
    Batch, Compare, Condition, Event, KeyValue, Op, Range, RangeEnd, RangeResult, Revision, Store,
    StoreError, Txn, TxnResult, WatchStream,
};

use crate::Configuration;
use crate::provider::{MARK, Provider};

/// Keys that are looked at in one go when values are written anew.
const PAGE: usize = 500;

/// A store over another one.
pub struct Encrypted {
    inner: Arc<dyn Store>,
    configuration: Arc<ArcSwap<Configuration>>,
}

fn failed(why: String) -> StoreError {
    StoreError::Unavailable { reason: why.into() }
}

impl Configuration {
    /// Makes sure that values under these keys can be encrypted: services may have to be asked.
    async fn prepare(&self, keys: impl Iterator<Item = &Bytes>) -> Result<(), StoreError> {
        for key in keys {
            let first = self.providers(key).and_then(|all| all.first());
            if let Some(kms) = first.and_then(Provider::kms) {
                kms.ready().await.map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Makes sure that these values can be decrypted.
    async fn learn(&self, found: impl Iterator<Item = &KeyValue>) -> Result<(), StoreError> {
        for one in found {
            let providers = self
                .providers(&one.key)
                .into_iter()
                .flat_map(|all| all.iter());
            for kms in providers.filter_map(Provider::kms) {
                if one.value.starts_with(kms.prefix()) {
                    let place = String::from_utf8_lossy(&one.key);
                    let why = |why| failed(format!("unable to transform key {place:?}: {why}"));
                    kms.learn(&one.value).await.map_err(why)?;
                }
            }
        }
        Ok(())
    }

    fn encrypt(&self, key: &[u8], value: Bytes) -> Result<Bytes, StoreError> {
        let Some(first) = self.providers(key).and_then(|all| all.first()) else {
            return Ok(value);
        };
        let sealed = first.encrypt(&value, key);
        sealed
            .map(Bytes::from)
            .map_err(|why| failed(why.to_string()))
    }

    fn decrypt(&self, mut found: KeyValue) -> Result<KeyValue, StoreError> {
        // A value that nobody encrypted and nobody asks to be, and that of a deletion.
        if found.value.is_empty() {
            return Ok(found);
        }
        let place = String::from_utf8_lossy(&found.key).into_owned();
        let Some(providers) = self.providers(&found.key) else {
            return match found.value.starts_with(MARK) {
                false => Ok(found),
                true => Err(failed(format!(
                    "unable to transform key {place:?}: the value is encrypted ({}) but the encryption configuration \
                     does not name its resource: add it with that key, and identity first to decrypt",
                    shown_prefix(&found.value)
                ))),
            };
        };
        let mut why = None;
        for provider in providers.iter().filter(|p| p.knows(&found.value)) {
            match provider.decrypt(&found.value, &found.key) {
                Ok(plain) => {
                    found.value = plain.into();
                    return Ok(found);
                }
                Err(failure) => why = Some(failure),
            }
        }
        let why = match why {
            Some(failure) => format!("{failure}: {}", shown_prefix(&found.value)),
            None => format!(
                "no matching prefix found: the value was encrypted as {}, a key that the encryption configuration does \
                 not have; add it after the first provider",
                shown_prefix(&found.value)
            ),
        };
        Err(failed(format!("unable to transform key {place:?}: {why}")))
    }

    fn decrypt_some(&self, found: Option<KeyValue>) -> Result<Option<KeyValue>, StoreError> {
        found.map(|found| self.decrypt(found)).transpose()
    }

    fn decrypt_event(&self, event: &Event) -> Result<Event, StoreError> {
        Ok(Event {
            kind: event.kind,
            kv: self.decrypt(event.kv.clone())?,
            previous: self.decrypt_some(event.previous.clone())?,
        })
    }

    fn decrypt_batch(&self, batch: Batch) -> Result<Batch, StoreError> {
        let touched = |event: &Event| self.providers(&event.kv.key).is_some();
        if !batch.events.iter().any(touched) {
            return Ok(batch);
        }
        let events: Result<Vec<_>, _> =
            batch.events.iter().map(|e| self.decrypt_event(e)).collect();
        Ok(Batch {
            revision: batch.revision,
            events: events?.into(),
        })
    }
}

/// What says by which key a value was encrypted: `k8s:enc:aesgcm:v1:name:`.
fn shown_prefix(stored: &[u8]) -> String {
    let ends = stored.iter().enumerate().filter(|(_, b)| **b == b':');
    let end = ends.map(|(at, _)| at + 1).nth(4).unwrap_or(0);
    String::from_utf8_lossy(&stored[..end]).into_owned()
}

impl Encrypted {
    /// A store whose values are kept in `inner` as the configuration says.
    pub fn new(inner: Arc<dyn Store>, configuration: Configuration) -> Self {
        Self {
            inner,
            configuration: Arc::new(ArcSwap::from_pointee(configuration)),
        }
    }

    /// Encrypts by another configuration from now on, open watches included.
    pub fn replace(&self, configuration: Configuration) {
        self.configuration.store(Arc::new(configuration));
    }

    /// Writes every value anew that was not written by the first provider of its resource: after that, keys further down are
    /// not needed any more. Says how many there were; values that somebody else writes meanwhile are left to him, and so
    /// are those that go away by themselves.
    ///
    /// # Errors
    /// The store cannot be read or written, or a value cannot be decrypted.
    pub async fn rewrite_stale(&self) -> Result<usize, StoreError> {
        let mut rewritten = 0;
        let mut start = Bytes::from_static(b"/registry/");
        loop {
            let range = Range {
                end: RangeEnd::Before(Bytes::from_static(b"/registry0")),
                limit: PAGE,
                ..Range::key(start.clone())
            };
            let found = self.inner.range(range).await?;
            let own = self.configuration.load_full();
            own.prepare(found.kvs.iter().map(|kv| &kv.key)).await?;
            for stored in &found.kvs {
                let first = own.providers(&stored.key).and_then(|all| all.first());
                let stale = first.is_some_and(|first| !first.is_fresh(&stored.value));
                let stale = stale && stored.lease.is_none();
                if stale && self.rewrite(stored.clone()).await?.is_some() {
                    rewritten += 1;
                }
            }
            match (found.more, found.kvs.last()) {
                (true, Some(last)) => start = [&last.key[..], b"\0"].concat().into(),
                _ => return Ok(rewritten),
            }
        }
    }

    async fn rewrite(&self, stored: KeyValue) -> Result<Option<Revision>, StoreError> {
        let (key, equals) = (stored.key.clone(), stored.mod_revision);
        let own = self.configuration.load_full();
        own.learn([&stored].into_iter()).await?;
        let plain = own.decrypt(stored)?.value;
        let value = own.encrypt(&key, plain)?;
        let txn = Txn {
            compare: vec![Compare::ModRevision {
                key: key.clone(),
                equals,
            }],
            success: vec![Op::Put {
                key,
                value,
                ttl: None,
            }],
            failure_read: Vec::new(),
        };
        Ok(match self.inner.txn(txn).await? {
            TxnResult::Committed { revision, .. } => Some(revision),
            TxnResult::Failed { .. } => None,
        })
    }
}

#[async_trait]
impl Store for Encrypted {
    async fn size_bytes(&self) -> Result<u64, StoreError> {
        self.inner.size_bytes().await
    }

    async fn refresh(&self, key: &Bytes, at: Revision) -> Result<Option<Revision>, StoreError> {
        let own = self.configuration.load_full();
        let Some(first) = own.providers(key).and_then(|all| all.first()) else {
            return self.inner.refresh(key, at).await;
        };
        own.prepare([key].into_iter()).await?;
        let found = self.inner.range(Range::key(key.clone())).await?;
        let found = found.kvs.into_iter().next();
        match found.filter(|kv| kv.mod_revision == at && kv.lease.is_none()) {
            Some(stored) if !first.is_fresh(&stored.value) => self.rewrite(stored).await,
            _ => Ok(None),
        }
    }

    async fn range(&self, range: Range) -> Result<RangeResult, StoreError> {
        let mut found = self.inner.range(range).await?;
        let own = self.configuration.load_full();
        own.learn(found.kvs.iter()).await?;
        let kvs = std::mem::take(&mut found.kvs).into_iter();
        let kvs: Result<_, _> = kvs.map(|kv| own.decrypt(kv)).collect();
        found.kvs = kvs?;
        Ok(found)
    }

    async fn txn(&self, mut txn: Txn) -> Result<TxnResult, StoreError> {
        let own = self.configuration.load_full();
        let written = txn.success.iter().filter_map(|op| match op {
            Op::Put { key, .. } | Op::PutLeased { key, .. } => Some(key),
            Op::Delete { .. } => None,
        });
        own.prepare(written).await?;
        for op in &mut txn.success {
            match op {
                Op::Put { key, value, .. } | Op::PutLeased { key, value, .. } => {
                    *value = own.encrypt(key, std::mem::take(value))?;
                }
                Op::Delete { .. } => {}
            }
        }
        let all =
            |kvs: Vec<Option<KeyValue>>| kvs.into_iter().map(|kv| own.decrypt_some(kv)).collect();
        let result = self.inner.txn(txn).await?;
        let before = match &result {
            TxnResult::Committed { previous, .. } => previous,
            TxnResult::Failed { current, .. } => current,
        };
        // What cannot be learned is not decrypted below, and says why there.
        let _ = own.learn(before.iter().flatten()).await;
        Ok(match result {
            TxnResult::Committed { revision, previous } => TxnResult::Committed {
                revision,
                // What is done is done, even when what was there before cannot be read.
                previous: previous
                    .into_iter()
                    .map(|kv| own.decrypt_some(kv).unwrap_or(None))
                    .collect(),
            },
            TxnResult::Failed { current, revision } => {
                let current: Result<Vec<_>, StoreError> = all(current);
                TxnResult::Failed {
                    current: current?,
                    revision,
                }
            }
        })
    }

    async fn watch(
        &self,
        start: Bytes,
        end: RangeEnd,
        from: Revision,
    ) -> Result<WatchStream, StoreError> {
        let watch = self.inner.watch(start, end, from).await?;
        let progress = watch.progress();
        let configuration = self.configuration.clone();
        let batches = watch.then(move |batch| {
            let own = configuration.load_full();
            async move {
                let batch = batch?;
                let old = batch.events.iter().filter_map(|e| e.previous.as_ref());
                own.learn(batch.events.iter().map(|e| &e.kv).chain(old))
                    .await?;
                own.decrypt_batch(batch)
            }
        });
        Ok(WatchStream::new(batches.boxed(), move || {
            progress.revision()
        }))
    }

    async fn compact(&self, before: Revision) -> Result<(), StoreError> {
        self.inner.compact(before).await
    }

    fn revision(&self) -> Revision {
        self.inner.revision()
    }

    async fn latest(&self) -> Result<Revision, StoreError> {
        self.inner.latest().await
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    fn condition(&self) -> Condition {
        self.inner.condition()
    }
}
