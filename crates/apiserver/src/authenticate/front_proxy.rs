//! Another server passes a request on and says in headers for whom; it is believed by its certificate alone.
//!
//! Behaviour: `k8s.io/apiserver/pkg/authentication/request/headerrequest`.

use std::collections::BTreeMap;

use access::User;
use http::{HeaderMap, HeaderName};
use percent_encoding::percent_decode_str;

use crate::policy::FrontProxy;

/// The common name of the certificate of one who passes requests on, which its authority has signed.
#[derive(Clone)]
pub(crate) struct FrontProxyName(pub(crate) std::sync::Arc<str>);

/// For whom a request is, if this one may say so and does. What says it does not travel on.
pub(super) fn user(
    front: &FrontProxy,
    name: &FrontProxyName,
    headers: &mut HeaderMap,
) -> Option<User> {
    let allowed = &front.allowed_names;
    if !allowed.is_empty() && !allowed.iter().any(|own| **own == *name.0) {
        return None;
    }
    let first = |names: &[String]| {
        let values = names.iter().filter_map(|name| headers.get(name));
        let mut texts = values.filter_map(|value| value.to_str().ok());
        texts.find(|text| !text.is_empty()).map(str::to_owned)
    };
    let name = first(&front.username_headers)?;
    let uid = first(&front.uid_headers).unwrap_or_default();
    let all = |name: &String| {
        let values = headers.get_all(name).into_iter();
        let texts = values.filter_map(|value| value.to_str().ok().map(str::to_owned));
        texts.filter(|text| !text.is_empty()).collect::<Vec<_>>()
    };
    let groups = front.group_headers.iter().flat_map(all).collect();
    let extra = extra(front, headers);
    clear(front, headers);
    Some(User {
        name,
        uid,
        groups,
        extra,
    })
}

fn is_extra<'a>(front: &'a FrontProxy, header: &'a HeaderName) -> Option<&'a str> {
    let header = header.as_str();
    front.extra_headers_prefix.iter().find_map(|prefix| {
        let (start, rest) = header.split_at_checked(prefix.len())?;
        start.eq_ignore_ascii_case(prefix).then_some(rest)
    })
}

fn extra(front: &FrontProxy, headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (header, value) in headers {
        if let (Some(key), Ok(value)) = (is_extra(front, header), value.to_str()) {
            let key = percent_decode_str(key).decode_utf8();
            let key = key.map_or_else(|_| String::new(), |key| key.to_lowercase());
            extra.entry(key).or_default().push(value.to_owned());
        }
    }
    extra
}

/// Takes away what only one who passes requests on may say.
pub(super) fn clear(front: &FrontProxy, headers: &mut HeaderMap) {
    let lists = [
        &front.username_headers,
        &front.uid_headers,
        &front.group_headers,
    ];
    for name in lists.into_iter().flatten() {
        headers.remove(name);
    }
    let extra = headers
        .keys()
        .filter(|name| is_extra(front, name).is_some());
    for name in extra.cloned().collect::<Vec<_>>() {
        headers.remove(name);
    }
}
