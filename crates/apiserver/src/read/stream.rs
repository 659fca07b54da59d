//! The bytes of a list, written piece by piece as the client takes them, in any encoding that needs nothing but the
//! stored objects.
//!
//! Small lists go out whole, with their length. Of a big one only the piece under way is in memory; compressed, too.
//! Protobuf says the length of a list before the list, so a big one is measured first.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderValue, Response, header};
use machinery::ApiError;
use machinery::codec::write_cbor;
use serde_json::{Value, json};

use crate::body::{Body, BoxError};
use crate::cache::{Cache, Entry, Wire};
use crate::protobuf;
use crate::resource::Storage;
use crate::respond;
use crate::shape::Shaper;

/// Lists up to this size are sent whole.
const WHOLE_BYTES: usize = 128 * 1024;
/// Bigger ones in chunks of about this size.
const CHUNK_BYTES: usize = 64 * 1024;

/// Answers with a list of these objects.
///
/// # Errors
/// 500: the server ends while a list is measured.
pub(super) async fn answer(
    storage: &Storage,
    shaper: &Shaper,
    wire: Wire,
    metadata: &Value,
    entries: Vec<Arc<Entry>>,
) -> Result<Response<Body>, ApiError> {
    // How big a big one is does not matter, and to look at all of its objects takes longer than its first piece.
    let size = entries.iter().try_fold(0, |size, entry| {
        let size = size + entry.len();
        (size <= WHOLE_BYTES).then_some(size)
    });
    let items = Items {
        cache: storage.cache.clone(),
        wire,
        typed: shaper.types_items(),
    };
    let names = shaper.resource.names();
    let (kind, api_version) = (names.list_kind(), names.api_version());
    let head = match wire {
        Wire::Json => format!(
            "{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{metadata},\"items\":["
        )
        .into_bytes(),
        Wire::Protobuf(_) => {
            let mut own = Vec::new();
            protobuf::write_list_metadata(&mut own, metadata);
            let length = own.len() + items.measure(&entries, size.is_none()).await?;
            let mut head = Vec::new();
            protobuf::write_envelope_head(&mut head, &api_version, &kind, length);
            head.extend_from_slice(&own);
            head
        }
        Wire::Cbor => cbor_head(&kind, &api_version, metadata, entries.len()),
    };
    let pieces = Pieces {
        items,
        entries,
        next: 0,
        head: Some(head),
        done: false,
    };
    let content_type = shaper.form.media.as_str();
    if let Some(size) = size {
        let bytes = pieces.fold(Vec::with_capacity(size + 128), |mut all, piece| {
            all.extend_from_slice(&piece);
            all
        });
        return Ok(respond::whole(
            200,
            &shaper.form,
            content_type,
            bytes.into(),
        ));
    }
    Ok(streamed(pieces, content_type, shaper.form.gzip))
}

fn streamed(pieces: Pieces, content_type: &'static str, gzip: bool) -> Response<Body> {
    let chunk = |piece: Vec<u8>| Ok::<_, BoxError>(Bytes::from(piece));
    let body = match gzip {
        true => Body::stream(futures::stream::iter(Compressed::new(pieces).map(chunk))),
        false => Body::stream(futures::stream::iter(pieces.map(chunk))),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    let private = HeaderValue::from_static("no-cache, private");
    headers.insert(header::CACHE_CONTROL, private);
    if gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    response
}

fn cbor_head(kind: &str, api_version: &str, metadata: &Value, count: usize) -> Vec<u8> {
    let rest = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata});
    let mut out = machinery::codec::encode_cbor(&rest);
    // Three keys were written; the fourth follows.
    out[3] = 0xa4;
    write_cbor(&mut out, &"items".into());
    machinery::codec::write_cbor_array_head(&mut out, count);
    out
}

/// How the items of a list are written.
#[derive(Clone)]
struct Items {
    cache: Arc<Cache>,
    wire: Wire,
    /// Each item carries its kind.
    typed: bool,
}

impl Items {
    fn write(&self, out: &mut Vec<u8>, entry: &Arc<Entry>, first: bool) {
        match self.wire {
            Wire::Json => {
                if !first {
                    out.push(b',');
                }
                match self.typed {
                    true => entry.write(out),
                    false => entry.write_item(out),
                }
            }
            Wire::Protobuf(message) => {
                protobuf::write_item(out, &self.cache.protobuf(entry, message));
            }
            Wire::Cbor => {
                let mut object = entry.decode().unwrap_or_default();
                if !self.typed {
                    object.0.remove("kind");
                    object.0.remove("apiVersion");
                }
                write_cbor(out, &object.into_value());
            }
        }
    }

    fn end(&self) -> &'static [u8] {
        match self.wire {
            Wire::Json => b"]}\n",
            Wire::Protobuf(_) => protobuf::ENVELOPE_END,
            Wire::Cbor => b"",
        }
    }

    /// The length of all items in protobuf; where there are many, on a thread that may be busy for a while.
    async fn measure(&self, entries: &[Arc<Entry>], many: bool) -> Result<usize, ApiError> {
        let (items, entries) = (self.clone(), entries.to_vec());
        let sum = move || {
            let Wire::Protobuf(message) = items.wire else {
                return 0;
            };
            let length = |entry| {
                let length = items.cache.protobuf(entry, message).len();
                length + protobuf::item_overhead(length)
            };
            entries.iter().map(length).sum()
        };
        match many {
            true => tokio::task::spawn_blocking(sum)
                .await
                .map_err(ApiError::internal),
            false => Ok(sum()),
        }
    }
}

/// A list in pieces.
struct Pieces {
    items: Items,
    entries: Vec<Arc<Entry>>,
    next: usize,
    head: Option<Vec<u8>>,
    done: bool,
}

impl Iterator for Pieces {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.done {
            return None;
        }
        let mut out = Vec::with_capacity(CHUNK_BYTES + 8192);
        if let Some(head) = self.head.take() {
            out.extend_from_slice(&head);
        }
        while out.len() < CHUNK_BYTES {
            let Some(entry) = self.entries.get(self.next) else {
                out.extend_from_slice(self.items.end());
                self.done = true;
                break;
            };
            self.items.write(&mut out, entry, self.next == 0);
            self.next += 1;
        }
        Some(out)
    }
}

/// Pieces, compressed.
struct Compressed {
    pieces: Pieces,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Compressed {
    fn new(pieces: Pieces) -> Self {
        let encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let encoder = Some(encoder);
        Self { pieces, encoder }
    }
}

impl Iterator for Compressed {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        // Writing into a Vec has no way to fail.
        loop {
            let encoder = self.encoder.as_mut()?;
            let Some(piece) = self.pieces.next() else {
                return self.encoder.take()?.finish().ok();
            };
            let _ = encoder.write_all(&piece);
            if encoder.get_ref().len() >= CHUNK_BYTES / 4 {
                return Some(std::mem::take(encoder.get_mut()));
            }
        }
    }
}
