//! Signs the ConfigMap `cluster-info` of `kube-public` with every bootstrap token that may sign, so that whoever holds
//! one can tell that the authority in it is the cluster's own.
//!
//! A detached JWS by HMAC-SHA256 with the token's secret, as `jws-kubeconfig-<id>`.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control::{Action, Key, Look, Plan, Reconciler, Wake};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use ring::hmac;

use super::{datum, expiration, is_token};

const PUBLIC: &str = "kube-public";
const NAME: &str = "cluster-info";
const CONTENT: &str = "kubeconfig";
const SIGNATURE: &str = "jws-kubeconfig-";
/// Index of all bootstrap tokens.
const TOKENS: &str = "bootstrap-tokens";

/// The controller.
pub struct BootstrapSigner;

/// All that a decision may depend on.
pub struct Observed {
    /// The ConfigMap.
    pub info: Arc<ConfigMap>,
    /// All bootstrap tokens.
    pub tokens: Vec<Arc<Secret>>,
    /// The moment of the decision.
    pub now: Timestamp,
}

/// Whether this is the ConfigMap that is signed.
pub(crate) fn is_info(map: &ConfigMap) -> bool {
    let meta = &map.metadata;
    meta.name.as_deref() == Some(NAME) && meta.namespace.as_deref() == Some(PUBLIC)
}

/// The one item there is.
fn item(concerned: bool) -> Vec<Key> {
    concerned
        .then(|| Key::new(PUBLIC, NAME))
        .into_iter()
        .collect()
}

impl Reconciler for BootstrapSigner {
    type Observed = Observed;

    const NAME: &'static str = "bootstrap-signer";

    fn wake(on: &mut Wake<'_>) {
        on.index::<Secret>(TOKENS, |secret| {
            let token = is_token(secret).then(|| TOKENS.to_owned());
            token.into_iter().collect()
        })
        .on::<Secret>(|change, _| item(is_token(change.latest())))
        .on::<ConfigMap>(|change, _| item(is_info(change.latest())));
    }

    fn observe(&self, look: &Look<'_>) -> Option<Observed> {
        Some(Observed {
            info: look.caches.of::<ConfigMap>().get(look.key)?,
            tokens: look.caches.of::<Secret>().indexed(TOKENS, TOKENS),
            now: look.now,
        })
    }

    fn reconcile(o: &Observed) -> Plan {
        let data = o.info.data.clone().unwrap_or_default();
        let Some(content) = data.get(CONTENT) else {
            return Plan::idle("there is nothing to sign");
        };
        let signs = |secret: &&Arc<Secret>| {
            let id = datum(secret, "token-id");
            let name = secret.metadata.name.as_deref().unwrap_or_default();
            let named = name.strip_prefix("bootstrap-token-") == Some(id);
            let alive = expiration(secret).is_none_or(|at| at > o.now);
            let usable = !id.is_empty() && !datum(secret, "token-secret").is_empty();
            named && usable && alive && datum(secret, "usage-bootstrap-signing") == "true"
        };
        let mut wanted: BTreeMap<String, String> = data
            .iter()
            .filter(|(key, _)| !key.starts_with(SIGNATURE))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        for secret in o.tokens.iter().filter(signs) {
            let id = datum(secret, "token-id");
            let signature = signature(content, id, datum(secret, "token-secret"));
            wanted.insert(format!("{SIGNATURE}{id}"), signature);
        }
        if wanted == data {
            return Plan::idle("the signatures are right");
        }
        let mut map = ConfigMap::clone(&o.info);
        map.data = Some(wanted);
        Plan {
            actions: vec![Action::update(&map, None)],
            because: "the signatures are not those of the tokens".to_owned(),
            ..Plan::default()
        }
    }
}

/// A JWS whose content stands elsewhere.
pub fn signature(content: &str, id: &str, secret: &str) -> String {
    let header = serde_json::json!({"alg": "HS256", "kid": id}).to_string();
    let header = URL_SAFE_NO_PAD.encode(header);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(content));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, signed.as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
}
