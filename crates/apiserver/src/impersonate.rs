//! Acting as somebody else: each part of the other identity is authorized on its own.
//!
//! Behaviour: `k8s.io/apiserver/pkg/endpoints/filters/impersonation`.

use std::collections::BTreeMap;
use std::sync::Arc;

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
pub(crate) async fn impersonate(call: &mut Call) -> Result<(), ApiError> {
    let wanted = wanted(call);
    let Some(name) = wanted.name.clone() else {
        if wanted.groups.is_empty() && wanted.extra.is_empty() && wanted.uid.is_empty() {
            return Ok(());
        }
        return Err(ApiError::internal(
            "requested impersonation without impersonating a user",
        ));
    };
    let account = split_service_account(&name).map(|(ns, n)| (ns.to_owned(), n.to_owned()));
    for attributes in parts(&call.user, &name, account.as_ref(), &wanted) {
        authorize(&call.server, &attributes).await?;
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
    call.known_as(Arc::new(User {
        name,
        uid: wanted.uid,
        groups,
        extra: wanted.extra,
    }));
    call.trail.impersonated(&call.user);
    Ok(())
}

/// What the caller must be allowed, a question for each part of the other identity.
fn parts(
    caller: &User,
    name: &str,
    account: Option<&(String, String)>,
    wanted: &Wanted,
) -> Vec<Attributes> {
    let ask = |group: &str, resource: &str, name: &str| {
        let mut attributes = Attributes::resource(caller, "impersonate", group, resource);
        name.clone_into(&mut attributes.name);
        attributes
    };
    let mut parts = vec![match account {
        Some((namespace, name)) => Attributes {
            namespace: namespace.clone(),
            ..ask("", "serviceaccounts", name)
        },
        None => ask("", "users", name),
    }];
    parts.extend(wanted.groups.iter().map(|group| ask("", "groups", group)));
    for (key, values) in &wanted.extra {
        parts.extend(values.iter().map(|value| Attributes {
            subresource: key.clone(),
            ..ask(AUTHENTICATION, "userextras", value)
        }));
    }
    if !wanted.uid.is_empty() {
        parts.push(ask(AUTHENTICATION, "uids", &wanted.uid));
    }
    parts
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
