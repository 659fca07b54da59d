//! Between etcd's words and the store's.

use bytes::Bytes;
use etcd_api::etcdserverpb::ResponseHeader;
use etcd_api::mvccpb;
use store::{KeyValue, LeaseId, RangeEnd, Revision};

pub(crate) fn revision(header: Option<&ResponseHeader>) -> Revision {
    header.map_or(0, |header| number(header.revision))
}

fn number(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A key and value in buffers of their own: what came is a slice of a whole answer.
pub(crate) fn key_value(kv: &mvccpb::KeyValue) -> KeyValue {
    KeyValue {
        key: Bytes::copy_from_slice(&kv.key),
        value: Bytes::copy_from_slice(&kv.value),
        create_revision: number(kv.create_revision),
        mod_revision: number(kv.mod_revision),
        version: number(kv.version),
        lease: (kv.lease != 0).then(|| LeaseId::named(number(kv.lease))),
    }
}

/// Key and end of a range as etcd says them.
pub(crate) fn range(start: &Bytes, end: &RangeEnd) -> (Bytes, Bytes) {
    let all = || Bytes::from_static(b"\0");
    match end {
        RangeEnd::Key => (start.clone(), Bytes::new()),
        RangeEnd::Before(end) => (start.clone(), end.clone()),
        RangeEnd::Open => (first(start), all()),
        RangeEnd::Prefix => {
            let last = start.iter().rposition(|&byte| byte < 0xff);
            let Some(last) = last else {
                return (first(start), all());
            };
            let mut end = start[..=last].to_vec();
            end[last] += 1;
            (start.clone(), end.into())
        }
    }
}

/// etcd takes no empty key.
fn first(start: &Bytes) -> Bytes {
    match start.is_empty() {
        true => Bytes::from_static(b"\0"),
        false => start.clone(),
    }
}
