//! Acting as somebody else: what the headers want, and whether the caller may. In which ways he might decides
//! `access::impersonation`; here its questions are asked, and successes remembered for a while.
//!
//! Behaviour: `k8s.io/apiserver/pkg/endpoints/filters/impersonation`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use access::impersonation::{Attempt, Key, Mode, Part, attempts};
use access::quote::quote;
use access::{Attributes, Decision, User};
use machinery::ApiError;
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;

use crate::call::Call;
use crate::kept::Kept;
use crate::server::Server;

const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA: &str = "impersonate-extra-";
/// Successes are remembered so long.
const GOOD_FOR: Duration = Duration::from_secs(10);
const MOST_SUCCESSES: usize = 8192;
/// In which way a caller has acted last: only the order of attempts follows from it.
const WAY_GOOD_FOR: Duration = Duration::from_secs(24 * 3600);
const MOST_CALLERS: usize = 10_000;

/// What is remembered of earlier requests.
pub(crate) struct Impersonations {
    /// Of whole attempts, and of the right to act as somebody without the request.
    successes: Mutex<Kept<Key, ()>>,
    /// The way that each caller has gone last.
    ways: Mutex<Kept<String, Mode>>,
}

impl Default for Impersonations {
    fn default() -> Self {
        Self {
            successes: Mutex::new(Kept::new(MOST_SUCCESSES)),
            ways: Mutex::new(Kept::new(MOST_CALLERS)),
        }
    }
}

/// Who the request is to be taken for: the caller, or whom he may act as.
///
/// # Errors
/// 400 for parts of an identity without a name; 403 when the caller may act so in no way.
pub(crate) async fn impersonate(call: &mut Call) -> Result<(), ApiError> {
    let Some(wanted) = wanted(call)? else {
        return Ok(());
    };
    let began = Instant::now();
    let outcome = find_way(call, &wanted).await;
    let mode = outcome.as_ref().ok().map(|attempt| attempt.mode.name());
    let measures = &call.server.metrics().measures;
    measures.impersonation.attempted(mode, began.elapsed());
    let attempt = outcome?;
    let constraint = Some(attempt.mode.verb()).filter(|_| attempt.mode != Mode::Legacy);
    call.known_as(Arc::new(attempt.user));
    call.trail.impersonated(&call.user, constraint);
    Ok(())
}

/// The first way that the caller may go; the one that he has gone last comes first.
async fn find_way(call: &Call, wanted: &User) -> Result<Attempt, ApiError> {
    let server = &call.server;
    let caller = &call.user.name;
    let mut open = attempts(wanted, call.attributes());
    let last = server.impersonations().ways.lock().get(caller);
    if let Some(at) = last.and_then(|last| open.iter().position(|a| a.mode == last)) {
        open[..=at].rotate_right(1);
    }
    let mut first = None;
    for attempt in open {
        match check(server, &attempt).await {
            Ok(()) => {
                if last != Some(attempt.mode) {
                    let mut ways = server.impersonations().ways.lock();
                    ways.put(caller.clone(), attempt.mode, WAY_GOOD_FOR);
                }
                return Ok(attempt);
            }
            Err(error) => _ = first.get_or_insert(error),
        }
    }
    // The old way is open to all who ask, so there is an error.
    Err(first.unwrap_or_else(|| ApiError::internal("all impersonation modes failed")))
}

async fn check(server: &Server, attempt: &Attempt) -> Result<(), ApiError> {
    let known = |key: &Key| {
        let mut successes = server.impersonations().successes.lock();
        successes.get(key).is_some()
    };
    let keys = attempt.keys();
    if keys.as_ref().is_some_and(|(whole, _)| known(whole)) {
        return Ok(());
    }
    let mode = attempt.mode.name();
    if let Some(request) = &attempt.request {
        may(server, mode, request).await?;
    }
    if !keys.as_ref().is_some_and(|(_, person)| known(person)) {
        for part in &attempt.parts {
            holds(server, mode, part).await?;
        }
    }
    if let Some((whole, person)) = keys {
        let mut successes = server.impersonations().successes.lock();
        successes.put(person, (), GOOD_FOR);
        successes.put(whole, (), GOOD_FOR);
    }
    Ok(())
}

async fn holds(server: &Server, mode: &'static str, part: &Part) -> Result<(), ApiError> {
    match part {
        Part::One(attributes) => may(server, mode, attributes).await,
        Part::Many(all, each) => {
            if may(server, mode, all).await.is_ok() {
                return Ok(());
            }
            for attributes in each {
                may(server, mode, attributes).await?;
            }
            Ok(())
        }
        Part::Never(error) => Err(error.clone()),
    }
}

/// An error of an authorizer is no internal one here: it stands in the refusal.
async fn may(server: &Server, mode: &'static str, attributes: &Attributes) -> Result<(), ApiError> {
    let began = Instant::now();
    let verdict = server.authorizers().decide(server, attributes).await;
    let allowed = verdict.decision == Decision::Allow;
    let measures = &server.metrics().measures;
    measures.impersonation.asked(mode, allowed, began.elapsed());
    if allowed {
        return Ok(());
    }
    let texts = [verdict.error, verdict.reason];
    let texts: Vec<_> = texts.into_iter().filter(|text| !text.is_empty()).collect();
    Err(attributes.forbidden(&texts.join(": ")))
}

/// Whom the headers want; takes them off the request.
///
/// # Errors
/// 400 when nobody is named.
fn wanted(call: &mut Call) -> Result<Option<User>, ApiError> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = &call.headers;
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, value) in headers
        .iter()
        .filter_map(|(k, v)| Some((k.as_str().strip_prefix(EXTRA)?, v)))
    {
        extra.entry(unescaped(key)).or_default().push(text(value));
    }
    let wanted = User {
        name: headers.get(USER).map(text).unwrap_or_default(),
        uid: headers.get(UID).map(text).unwrap_or_default(),
        groups: headers.get_all(GROUP).iter().map(text).collect(),
        extra,
    };
    if wanted.name.is_empty() {
        if wanted == User::default() {
            return Ok(None);
        }
        let shown = shown(&wanted);
        return Err(ApiError::bad_request(format!(
            "requested {shown} without impersonating a user name"
        )));
    }
    let names: Vec<_> = headers
        .keys()
        .filter(|k| k.as_str().starts_with("impersonate-"))
        .cloned()
        .collect();
    for name in names {
        call.headers.remove(name);
    }
    Ok(Some(wanted))
}

/// A key as it was before it became part of a header's name; one that is not escaped rightly is taken as it stands.
fn unescaped(key: &str) -> String {
    let mut rest = key;
    while let Some(at) = rest.find('%') {
        let digits = rest.as_bytes().get(at + 1..at + 3);
        if !digits.is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit)) {
            return key.to_owned();
        }
        rest = &rest[at + 3..];
    }
    percent_decode_str(key).decode_utf8_lossy().into_owned()
}

/// A user as upstream's messages show one.
fn shown(user: &User) -> String {
    let list = |texts: &[String]| match texts {
        [] => "[]string(nil)".to_owned(),
        texts => {
            let quoted: Vec<_> = texts.iter().map(|t| quote(t)).collect();
            format!("[]string{{{}}}", quoted.join(", "))
        }
    };
    let extra: Vec<_> = user
        .extra
        .iter()
        .map(|(key, values)| format!("{}:{}", quote(key), list(values)))
        .collect();
    let extra = match extra.as_slice() {
        [] => "map[string][]string(nil)".to_owned(),
        all => format!("map[string][]string{{{}}}", all.join(", ")),
    };
    format!(
        "&user.DefaultInfo{{Name:{}, UID:{}, Groups:{}, Extra:{extra}}}",
        quote(&user.name),
        quote(&user.uid),
        list(&user.groups)
    )
}
