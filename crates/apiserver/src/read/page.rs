//! Lists in pages: the continue token, and reads of the store at the revision of the first page.
//!
//! Behaviour: `k8s.io/apiserver/pkg/storage/continue.go`.

use std::sync::Arc;

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{NO_PAD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use machinery::ApiError;
use machinery::codec::decode_json_value;
use serde::{Deserialize, Serialize};
use store::{Range, RangeEnd, Revision, StoreError};

use crate::cache::{Entry, Selection, Snapshot};
use crate::resource::Storage;
use crate::server::{Server, store_error};

/// As Go reads it: bits at the end that say nothing may be anything.
const LENIENT: GeneralPurpose =
    GeneralPurpose::new(&URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));

/// Where a list goes on.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Token {
    #[serde(default)]
    v: String,
    /// The revision of the list; -1 goes on with whatever is there.
    #[serde(default)]
    pub(super) rv: i64,
    /// The next key below the resource's prefix.
    #[serde(default)]
    start: String,
}

impl Token {
    /// Goes on after `last`.
    pub(super) fn after(last: &str, rv: i64) -> Self {
        Self {
            v: "meta.k8s.io/v1".into(),
            rv,
            start: format!("{last}\0"),
        }
    }

    /// The same place, whatever is there now.
    pub(super) fn inconsistent(self) -> Self {
        Self { rv: -1, ..self }
    }

    pub(super) fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads what [`Self::encode`] has written.
    pub(super) fn decode(text: &str, selection: &Selection) -> Result<Self, ApiError> {
        const INVALID: &str = "invalid continue token: continue key is not valid";
        let bad = |why: &str| ApiError::bad_request(format!("{INVALID}: {why}"));
        let bytes = LENIENT.decode(text).map_err(|error| match error {
            base64::DecodeError::InvalidByte(at, _) => {
                bad(&format!("illegal base64 data at input byte {at}"))
            }
            // Counted from the first of four characters that are not all there.
            _ => bad(&format!(
                "illegal base64 data at input byte {}",
                text.len() / 4 * 4
            )),
        })?;
        let (token, _) = decode_json_value(&bytes).map_err(|error| bad(&error.to_string()))?;
        let token: Self = serde_json::from_value(token).map_err(|error| bad(&error.to_string()))?;
        if token.v != "meta.k8s.io/v1" {
            let why = "server does not recognize this encoded version";
            return Err(bad(&format!("{why} {}", token.v)));
        }
        if token.rv == 0 {
            let why = "incorrect encoded start resourceVersion (version meta.k8s.io/v1)";
            return Err(bad(why));
        }
        if token.start.is_empty() {
            return Err(bad("encoded start key empty (version meta.k8s.io/v1)"));
        }
        // A token may not lead out of the range that was authorized.
        let inside = token.start.trim_start_matches('/');
        if !inside.starts_with(&selection.key_prefix) || inside.split('/').any(is_climbing) {
            return Err(bad(&token.start));
        }
        Ok(Self {
            start: inside.to_owned(),
            ..token
        })
    }
}

/// What would lead to another place if it were a path.
fn is_climbing(segment: &str) -> bool {
    matches!(segment, "" | "." | "..")
}

/// Why a page cannot be read.
pub(super) enum PageError {
    Compacted,
    Other(ApiError),
}

impl From<StoreError> for PageError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Compacted { .. } => Self::Compacted,
            other => Self::Other(store_error(other)),
        }
    }
}

fn snapshot(entries: Vec<Arc<Entry>>, revision: Revision, remaining: usize) -> Snapshot {
    Snapshot {
        entries,
        revision,
        remaining,
    }
}

/// The selected objects of the store at a revision (`None`: now), from `start` on, at most `limit` (0: all).
pub(super) async fn read(
    server: &Server,
    storage: &Storage,
    selection: &Selection,
    start: Option<&Token>,
    revision: Option<Revision>,
    limit: usize,
) -> Result<(Snapshot, bool), PageError> {
    let range_start = format!("{}{}", storage.prefix, selection.key_prefix);
    let end = RangeEnd::Before(after_prefix(range_start.as_bytes()));
    let mut from = match start {
        Some(token) => storage.full_key(&token.start),
        None => Bytes::from(range_start.into_bytes()),
    };
    let (mut entries, mut at) = (Vec::new(), revision);
    let chunk = if limit == 0 || selection.takes_all() {
        limit
    } else {
        limit.max(500)
    };
    loop {
        let range = Range {
            start: from,
            end: end.clone(),
            revision: at,
            limit: chunk,
            count_only: false,
        };
        let found = server.store().range(range).await?;
        let shown = *at.get_or_insert(found.revision);
        let (read, last) = (found.kvs.len(), found.kvs.last().map(|kv| kv.key.clone()));
        for (i, kv) in found.kvs.iter().enumerate() {
            let Ok(entry) = Entry::new(&*storage.kind, storage.prefix.as_bytes(), kv) else {
                continue;
            };
            if entry.matches(selection) {
                entries.push(Arc::new(entry));
            }
            if limit > 0 && entries.len() == limit && (i + 1 < read || found.more) {
                let remaining = found.count.saturating_sub(i + 1);
                return Ok((snapshot(entries, shown, remaining), true));
            }
        }
        match last {
            Some(last) if found.more => from = Bytes::from([&last[..], b"\0"].concat()),
            _ => return Ok((snapshot(entries, shown, 0), false)),
        }
    }
}

/// The first key behind all keys with a prefix that ends in a character below 0xff.
fn after_prefix(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    Bytes::from(end)
}
