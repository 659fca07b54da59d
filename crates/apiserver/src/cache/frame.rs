//! Watch events on the wire: a line of JSON, protobuf after its length, or an item of a CBOR sequence.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use machinery::codec::encode_cbor;
use serde_json::{Value, json};

use super::{Cache, Change, Entry, Told};
use crate::negotiate::Media;
use crate::protobuf::{self, MessageId};

/// An encoding that needs nothing but the stored object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Json,
    Protobuf(MessageId),
    Cbor,
}

/// The events of one change, each made once for all watchers.
#[derive(Default)]
pub(super) struct Frames {
    json: [OnceLock<Bytes>; 3],
    /// Protobuf and CBOR, which nobody may ask for.
    others: OnceLock<Box<[[OnceLock<Bytes>; 3]; 2]>>,
}

impl Frames {
    fn get(&self, wire: Wire, told: Told) -> &OnceLock<Bytes> {
        let others = || self.others.get_or_init(Box::default);
        match wire {
            Wire::Json => &self.json[told as usize],
            Wire::Protobuf(_) => &others()[0][told as usize],
            Wire::Cbor => &others()[1][told as usize],
        }
    }
}

impl Change {
    /// The watch event on the wire, made once for all watchers.
    pub(crate) fn frame(&self, cache: &Cache, wire: Wire, told: Told) -> Bytes {
        let make = || event_frame(cache, wire, told, &self.state(told));
        self.frames.get(wire, told).get_or_init(make).clone()
    }
}

/// A watch event on the wire.
fn event_frame(cache: &Cache, wire: Wire, told: Told, entry: &Arc<Entry>) -> Bytes {
    let mut out = Vec::with_capacity(entry.len() + 64);
    write_event(&mut out, cache, wire, told, entry);
    Bytes::from(out)
}

/// Writes a watch event.
pub(crate) fn write_event(
    out: &mut Vec<u8>,
    cache: &Cache,
    wire: Wire,
    told: Told,
    entry: &Arc<Entry>,
) {
    match wire {
        Wire::Json => {
            out.extend_from_slice(b"{\"type\":\"");
            out.extend_from_slice(told.as_str().as_bytes());
            out.extend_from_slice(b"\",\"object\":");
            entry.write(out);
            out.extend_from_slice(b"}\n");
        }
        Wire::Protobuf(message) => {
            let names = cache.kind.names();
            let raw = cache.protobuf(entry, message);
            let object = protobuf::envelope(&names.api_version(), names.kind, &raw);
            protobuf::write_watch_frame(out, told.as_str(), &object);
        }
        Wire::Cbor => {
            let object = entry.decode().unwrap_or_default().into_value();
            write_value_event(out, Media::Cbor, told.as_str(), object);
        }
    }
}

/// Writes a watch event about a tree.
pub(crate) fn write_value_event(out: &mut Vec<u8>, media: Media, what: &str, object: Value) {
    match media {
        Media::Json | Media::Yaml => {
            // A tree of JSON has no way to fail to encode into a Vec.
            let _ = serde_json::to_writer(&mut *out, &json!({"type": what, "object": object}));
            out.push(b'\n');
        }
        // Whatever is watched in protobuf has a form in it.
        Media::Protobuf => {
            let object = protobuf::encode(&object).unwrap_or_default();
            protobuf::write_watch_frame(out, what, &object);
        }
        Media::Cbor => {
            out.extend_from_slice(&encode_cbor(&json!({"type": what, "object": object})));
        }
    }
}
