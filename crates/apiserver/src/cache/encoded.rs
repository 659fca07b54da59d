//! Objects in other encodings than the store's: made when somebody first asks, shared, and kept within a bound.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;

use super::Entry;
use crate::protobuf::{self, MessageId};

/// So much of one resource is kept in protobuf.
const KEEP_BYTES: usize = 4 << 20;
/// What an entry costs beside its bytes.
const OVERHEAD: usize = 200;

/// The encodings that the versions of one resource hold on to, oldest first.
#[derive(Default)]
pub(super) struct Encodings(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    bytes: usize,
    holders: VecDeque<(Weak<Entry>, usize)>,
}

impl Encodings {
    /// The object in protobuf, without its envelope.
    pub(super) fn protobuf(&self, entry: &Arc<Entry>, message: MessageId) -> Bytes {
        if let Some(known) = entry.protobuf.load_full() {
            return Bytes::clone(&known);
        }
        let object = entry.decode().unwrap_or_default();
        let encoded = protobuf::encode_message(message, &Value::Object(object.0));
        let encoded = Bytes::from(encoded);
        entry.protobuf.store(Some(Arc::new(encoded.clone())));
        let cost = encoded.len() + OVERHEAD;
        let mut kept = self.0.lock();
        kept.bytes += cost;
        kept.holders.push_back((Arc::downgrade(entry), cost));
        while kept.bytes > KEEP_BYTES {
            let Some((oldest, cost)) = kept.holders.pop_front() else {
                break;
            };
            kept.bytes -= cost;
            if let Some(oldest) = oldest.upgrade() {
                oldest.protobuf.store(None);
            }
        }
        encoded
    }
}
