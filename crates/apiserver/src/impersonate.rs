//! Acting as somebody else: each part of the other identity is authorized on its own.
//!
//! Behaviour: `k8s.io/apiserver/pkg/endpoints/filters/impersonation`.

use std::collections::BTreeMap;

use access::user::{
    ANONYMOUS, SERVICE_ACCOUNTS, SYSTEM_AUTHENTICATED, SYSTEM_UNAUTHENTICATED, service_accounts_of,
    split_service_account,
};
use access::{Attributes, User};
use machinery::ApiError;
use percent_encoding::percent_decode_str;

use crate::authorize::authorize;
use crate::call::Call;

const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA: &str = "impersonate-extra-";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// Who the request is to be taken for: the caller, or whom he may act as.
///
/// # Errors
/// 403 for a part that the caller may not take on.
pub(crate) fn impersonate(call: &mut Call) -> Result<(), ApiError> {
    let wanted = wanted(call);
    let Some(name) = wanted.name else {
        if wanted.groups.is_empty() && wanted.extra.is_empty() && wanted.uid.is_empty() {
            return Ok(());
        }
        return Err(ApiError::internal(
            "requested impersonation without impersonating a user",
        ));
    };
    let account = split_service_account(&name).map(|(ns, n)| (ns.to_owned(), n.to_owned()));
    let allowed = |group: &str, resource: &str, fill: &dyn Fn(&mut Attributes)| {
        let mut attributes = Attributes::resource(&call.user, "impersonate", group, resource);
        fill(&mut attributes);
        authorize(&call.server, &attributes)
    };
    match &account {
        Some((namespace, name)) => allowed("", "serviceaccounts", &|a| {
            a.namespace.clone_from(namespace);
            a.name.clone_from(name);
        })?,
        None => allowed("", "users", &|a| a.name.clone_from(&name))?,
    }
    for group in &wanted.groups {
        allowed("", "groups", &|a| a.name.clone_from(group))?;
    }
    for (key, values) in &wanted.extra {
        for value in values {
            allowed(AUTHENTICATION, "userextras", &|a| {
                a.subresource.clone_from(key);
                a.name.clone_from(value);
            })?;
        }
    }
    if !wanted.uid.is_empty() {
        allowed(AUTHENTICATION, "uids", &|a| a.name.clone_from(&wanted.uid))?;
    }
    let mut groups = wanted.groups;
    if let (Some((namespace, _)), true) = (&account, groups.is_empty()) {
        groups = vec![SERVICE_ACCOUNTS.to_owned(), service_accounts_of(namespace)];
    }
    let everybody = if name == ANONYMOUS {
        SYSTEM_UNAUTHENTICATED
    } else {
        SYSTEM_AUTHENTICATED
    };
    if !groups
        .iter()
        .any(|g| g == SYSTEM_AUTHENTICATED || g == SYSTEM_UNAUTHENTICATED)
    {
        groups.push(everybody.to_owned());
    }
    call.user = User {
        name,
        uid: wanted.uid,
        groups,
        extra: wanted.extra,
    };
    Ok(())
}

struct Wanted {
    name: Option<String>,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

/// Reads the headers and takes them off the request.
fn wanted(call: &mut Call) -> Wanted {
    let text = |value: &http::HeaderValue| value.to_str().unwrap_or("").to_owned();
    let headers = &call.headers;
    let mut wanted = Wanted {
        name: headers.get(USER).map(text).filter(|n| !n.is_empty()),
        uid: headers.get(UID).map(text).unwrap_or_default(),
        groups: headers.get_all(GROUP).iter().map(text).collect(),
        extra: BTreeMap::new(),
    };
    for (key, value) in headers
        .iter()
        .filter_map(|(k, v)| Some((k.as_str().strip_prefix(EXTRA)?, v)))
    {
        let key = percent_decode_str(key).decode_utf8_lossy().into_owned();
        wanted.extra.entry(key).or_default().push(text(value));
    }
    let names: Vec<_> = headers
        .keys()
        .filter(|k| k.as_str().starts_with("impersonate-"))
        .cloned()
        .collect();
    for name in names {
        call.headers.remove(name);
    }
    wanted
}
