//! Tokens of a pod's service account, asked for anew when four fifths of their life are over.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};
use kube::Api;
use kube::api::PostParams;
use parking_lot::Mutex;
use pod_lifecycle::pod as parts;

use crate::context::Context;

/// How long a token lives that nobody said anything about, in seconds.
const DEFAULT_LIFE: i64 = 3600;

/// A token.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) value: String,
    /// When to ask for the next.
    pub(crate) refresh_at: Timestamp,
}

/// Tokens by volume and path.
type TokensOfPod = HashMap<(String, String), Token>;

/// The tokens that pods have now, by UID.
#[derive(Default)]
pub(crate) struct Tokens {
    known: Mutex<HashMap<String, TokensOfPod>>,
}

impl Tokens {
    /// The pod is gone.
    pub(crate) fn forget(&self, uid: &str) {
        self.known.lock().remove(uid);
    }
}

/// The token of a projection: the one it has, or a new one if that is getting old.
pub(super) async fn get(
    context: &Context,
    pod: &Pod,
    volume: &str,
    projection: &ServiceAccountTokenProjection,
) -> Result<Token, String> {
    let uid = parts::uid(pod);
    let key = (volume.to_owned(), projection.path.clone());
    let known = {
        let known = context.tokens.known.lock();
        known.get(uid).and_then(|t| t.get(&key)).cloned()
    };
    if let Some(token) = known.filter(|t| t.refresh_at > Timestamp::now()) {
        return Ok(token);
    }
    let token = request(context, pod, projection).await?;
    let mut known = context.tokens.known.lock();
    known
        .entry(uid.to_owned())
        .or_default()
        .insert(key, token.clone());
    Ok(token)
}

async fn request(
    context: &Context,
    pod: &Pod,
    projection: &ServiceAccountTokenProjection,
) -> Result<Token, String> {
    let account = parts::spec(pod).service_account_name.as_deref();
    let account = account.filter(|a| !a.is_empty()).unwrap_or("default");
    let life = projection.expiration_seconds.unwrap_or(DEFAULT_LIFE);
    let audience = projection.audience.clone().filter(|a| !a.is_empty());
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: audience.map(|a| vec![a]),
            expiration_seconds: Some(life),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let api: Api<ServiceAccount> = Api::namespaced(context.client.clone(), parts::namespace(pod));
    let asked = Timestamp::now();
    let answer = api
        .create_token_request(account, &PostParams::default(), &request)
        .await;
    let answer = answer.map_err(|error| format!("failed to fetch token: {error}"))?;
    let status = answer.status.unwrap_or_default();
    let (Some(value), Some(expires)) = (status.token, status.expiration_timestamp) else {
        return Err("failed to fetch token: no token in the answer".to_owned());
    };
    let life = parts::seconds_between(asked, expires.0);
    Ok(Token {
        value,
        refresh_at: parts::after(asked, life * 4 / 5),
    })
}
