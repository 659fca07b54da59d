//! One suite for the contract, and what only the embedded engine can show: crashes, damage,
//! bounds.

mod backup;
mod crash;
mod history;
mod record;
mod recovery;

use bytes::Bytes;

use crate::embedded::Options;
use crate::{Op, Txn};

fn b(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str, value: &str) -> Op {
    Op::Put {
        key: b(key),
        value: b(value),
        ttl: None,
    }
}

fn txn(success: impl IntoIterator<Item = Op>) -> Txn {
    Txn {
        success: success.into_iter().collect(),
        ..Txn::default()
    }
}

/// Everything so small that a few writes set off what takes hours in life.
fn tiny() -> Options {
    Options {
        segment_bytes: 400,
        checkpoint_bytes: 600,
        checkpoint_chunk_bytes: 100,
        history_revisions: 8,
        ..Options::default()
    }
}
