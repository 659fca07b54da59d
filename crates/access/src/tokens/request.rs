//! `TokenRequest` in, signed token out: the `token` sub-resource of service accounts.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::BoundObjectReference;
use machinery::{ApiError, ErrorList, Object, Path};
use serde_json::{Value, json};

use super::claims::Audience;
use super::{Bindings, Claims, Ref, Tokens, WARN_AFTER_SECONDS};
use crate::{Lookup, user};

const GROUP: &str = "authentication.k8s.io";
const KIND: &str = "TokenRequest";
const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;

/// What issuing a token needs beside the request.
pub struct RequestContext<'a> {
    /// The service account, as stored.
    pub account: &'a Object,
    /// The newest objects, to find what the token is to be bound to.
    pub lookup: &'a dyn Lookup,
    /// The time of the request.
    pub now: Timestamp,
    /// A fresh UUID.
    pub token_id: &'a str,
}

/// The answer to a `TokenRequest` but for the signature.
pub struct Draft {
    answer: Object,
    claims: Claims,
    expires: Timestamp,
    /// What the client is told beside the answer.
    pub warning: Option<String>,
}

impl Draft {
    /// The middle part of the token, which is to be signed.
    pub fn payload(&self) -> String {
        let claims = serde_json::to_vec(&self.claims).expect("claims encode");
        URL_SAFE_NO_PAD.encode(claims)
    }

    /// The answer with its token.
    pub fn with(self, token: &str) -> Object {
        let mut answer = self.answer;
        let expires = seconds_precision(self.expires);
        let status = json!({"token": token, "expirationTimestamp": expires});
        answer.0.insert("status".into(), status);
        answer
    }
}

impl Tokens {
    /// Answers a `TokenRequest` for the service account in `context`; the answer is the request with its status.
    ///
    /// # Errors
    /// The request does not fit the account, is invalid, or names an object that is not there.
    pub fn issue(&self, request: &Object, context: &RequestContext) -> Result<Object, ApiError> {
        self.complete(self.draft(request, context)?)
    }

    /// Signs an answer.
    ///
    /// # Errors
    /// There is no key to sign with, or no random number.
    pub fn complete(&self, draft: Draft) -> Result<Object, ApiError> {
        let token = self.sign(draft.claims.clone());
        let token = token.ok_or_else(|| ApiError::internal("failed to generate token"))?;
        Ok(draft.with(&token))
    }

    /// The answer to a `TokenRequest` but for the signature.
    ///
    /// # Errors
    /// As [`Tokens::issue`].
    pub fn draft(&self, request: &Object, context: &RequestContext) -> Result<Draft, ApiError> {
        let account = context.account;
        let mut answer = self.completed(request, account)?;
        answer.set_meta_str("creationTimestamp", &seconds_precision(context.now));
        answer.0.insert("status".into(), Value::Null);
        let spec: k8s_openapi::api::authentication::v1::TokenRequestSpec =
            serde_json::from_value(answer.0["spec"].clone())
                .map_err(|error| ApiError::bad_request(error.to_string()))?;
        let mut seconds = spec.expiration_seconds.unwrap_or(DEFAULT_SECONDS);
        validate(seconds, spec.attestations.is_some_and(|a| !a.is_empty()))?;
        let audiences = spec.audiences.unwrap_or_default();
        let mut bindings = Bindings {
            namespace: account.namespace().to_owned(),
            serviceaccount: Ref::to(account),
            ..Bindings::default()
        };
        if let Some(reference) = &spec.bound_object_ref {
            bind(&mut bindings, reference, context)?;
        }
        let (asked, most) = (seconds, self.lifetimes.most_seconds);
        let mut warning = None;
        if most > 0 && asked > most {
            seconds = most;
            let spec = answer.object_at_mut(&["spec"]);
            spec.insert("expirationSeconds".into(), seconds.into());
            warning = Some(format!(
                "requested expiration of {asked} seconds shortened to {most} seconds"
            ));
        }
        let now = context.now.as_second();
        let extend = self.lifetimes.extends
            && bindings.pod.is_some()
            && seconds == WARN_AFTER_SECONDS
            && audiences.iter().all(|a| self.audiences.contains(a));
        if extend {
            bindings.warnafter = Some(now + seconds);
        }
        let lives = match extend {
            true => self.lifetimes.extended_seconds,
            false => seconds,
        };
        let claims = Claims {
            aud: Audience::Many(audiences),
            exp: Some(now + lives),
            iat: Some(now),
            nbf: Some(now),
            jti: context.token_id.to_owned(),
            kubernetes: bindings,
            sub: user::service_account_name(account.namespace(), account.name()),
            iss: self.issuer.clone(),
        };
        Ok(Draft {
            answer,
            claims,
            expires: context.now + SignedDuration::from_secs(seconds),
            warning,
        })
    }

    /// The request with name, namespace, UID, audiences and expiry filled in.
    fn completed(&self, request: &Object, account: &Object) -> Result<Object, ApiError> {
        let mut answer = request.clone();
        answer.set_type("authentication.k8s.io/v1", KIND);
        for key in ["name", "namespace"] {
            let (asked, is) = (request.meta_str(key), account.meta_str(key));
            if !asked.is_empty() && asked != is {
                let mut errors = ErrorList::new();
                let what = if key == "name" { "name" } else { "namespace" };
                let detail = format!("must match the service account {what} if specified");
                errors.invalid(&Path::new("metadata").child(key), asked, detail);
                return Err(ApiError::invalid(GROUP, KIND, account.name(), &errors));
            }
            answer.set_meta_str(key, is);
        }
        let (asked, is) = (request.uid(), account.uid());
        if !asked.is_empty() && asked != is {
            let why = format!(
                "the UID in the token request ({asked}) does not match the UID of the service account ({is})"
            );
            return Err(ApiError::conflict(GROUP, KIND, account.name(), why));
        }
        answer.set_meta_str("uid", is);
        let spec = answer.object_at_mut(&["spec"]);
        if spec
            .get("audiences")
            .and_then(Value::as_array)
            .is_none_or(Vec::is_empty)
        {
            spec.insert("audiences".into(), json!(self.audiences));
        }
        spec.entry("expirationSeconds")
            .or_insert_with(|| DEFAULT_SECONDS.into());
        spec.entry("boundObjectRef").or_insert(Value::Null);
        Ok(answer)
    }
}

fn validate(seconds: i64, attests: bool) -> Result<(), ApiError> {
    let spec = Path::new("spec");
    let mut errors = ErrorList::new();
    if attests {
        let detail = "attestations may only be specified with a webhook bound object reference";
        errors.invalid(&spec.child("attestations"), Value::Null, detail);
    } else if seconds < MIN_SECONDS {
        let detail = "may not specify a duration less than 10 minutes";
        errors.invalid(&spec.child("expirationSeconds"), seconds, detail);
    } else if seconds > MAX_SECONDS {
        let detail = "may not specify a duration larger than 2^32 seconds";
        errors.invalid(&spec.child("expirationSeconds"), seconds, detail);
    }
    match errors.is_empty() {
        true => Ok(()),
        false => Err(ApiError::invalid(GROUP, KIND, "", &errors)),
    }
}

fn bind(
    bindings: &mut Bindings,
    reference: &BoundObjectReference,
    context: &RequestContext,
) -> Result<(), ApiError> {
    let kind = reference.kind.as_deref().unwrap_or_default();
    let api_version = reference.api_version.as_deref().unwrap_or_default();
    let name = reference.name.as_deref().unwrap_or_default();
    let find = |resource: &str, namespace: &str| {
        let found = context.lookup.get("", resource, namespace, name);
        found.ok_or_else(|| ApiError::not_found("", resource, name))
    };
    let is_core = !api_version.contains('/');
    let object = match kind {
        "Pod" if is_core => {
            let pod = find("pods", &bindings.namespace)?;
            let account = context.account.name();
            if pod.str_at(&["spec", "serviceAccountName"]) != account {
                return Err(ApiError::bad_request(format!(
                    "cannot bind token for serviceaccount \"{account}\" to pod running with different serviceaccount name."
                )));
            }
            bindings.pod = Some(Ref::to(&pod));
            let node = pod.str_at(&["spec", "nodeName"]);
            if !node.is_empty() {
                let found = context.lookup.get("", "nodes", "", node);
                let named = || Ref {
                    name: node.to_owned(),
                    uid: String::new(),
                };
                bindings.node = Some(found.map_or_else(named, |node| Ref::to(&node)));
            }
            pod
        }
        "Node" if is_core => {
            let node = find("nodes", "")?;
            bindings.node = Some(Ref::to(&node));
            node
        }
        "Secret" if is_core => {
            let secret = find("secrets", &bindings.namespace)?;
            bindings.secret = Some(Ref::to(&secret));
            secret
        }
        _ => {
            let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
            return Err(ApiError::bad_request(format!(
                "cannot bind token to object of type {group}/{version}, Kind={kind}"
            )));
        }
    };
    match reference.uid.as_deref() {
        Some(uid) if !uid.is_empty() && uid != object.uid() => {
            let why = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            );
            Err(ApiError::conflict("", kind, name, why))
        }
        _ => Ok(()),
    }
}

/// RFC 3339 without fractions, as the API writes times.
fn seconds_precision(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
