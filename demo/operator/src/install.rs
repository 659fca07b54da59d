//! What the operator brings along: its certificate, its kind, its webhooks.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::shout::{GROUP, PLURAL, versions};
use crate::tls::Keys;

const SECRET: &str = "operator-tls";
const NAME: &str = "operator-demo";

/// The certificate that all replicas share: whoever comes first makes it.
///
/// # Errors
/// The API server does not give it.
pub(crate) async fn keys(client: &Client, namespace: &str, service: &str) -> anyhow::Result<Keys> {
    let keys = Keys::make(&[format!("{service}.{namespace}.svc")])?;
    let data = [
        ("ca.crt", &keys.authority),
        ("tls.crt", &keys.certificate),
        ("tls.key", &keys.key),
    ];
    let data = data.map(|(key, text)| (key.to_owned(), ByteString(text.clone().into_bytes())));
    let mut secret = Secret {
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(BTreeMap::from(data)),
        ..Secret::default()
    };
    secret.metadata.name = Some(SECRET.to_owned());
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    match secrets.create(&PostParams::default(), &secret).await {
        Ok(_) => Ok(keys),
        Err(kube::Error::Api(error)) if error.code == 409 => read(&secrets.get(SECRET).await?),
        Err(error) => Err(error).context("the certificate cannot be kept"),
    }
}

fn read(secret: &Secret) -> anyhow::Result<Keys> {
    let text = |key: &str| {
        let value = secret.data.as_ref().and_then(|data| data.get(key));
        let value = value.with_context(|| format!("{SECRET} has no {key}"))?;
        anyhow::Ok(String::from_utf8(value.0.clone())?)
    };
    Ok(Keys {
        authority: text("ca.crt")?,
        certificate: text("tls.crt")?,
        key: text("tls.key")?,
    })
}

fn client_config(keys: &Keys, namespace: &str, service: &str, path: &str) -> Value {
    json!({
        "service": {"namespace": namespace, "name": service, "path": path},
        "caBundle": STANDARD.encode(&keys.authority),
    })
}

fn applied() -> PatchParams {
    PatchParams::apply(NAME).force()
}

/// The kind, in both versions, and who converts it.
///
/// # Errors
/// It is not established.
pub(crate) async fn definition(
    client: &Client,
    keys: &Keys,
    namespace: &str,
    service: &str,
) -> anyhow::Result<()> {
    let name = format!("{PLURAL}.{GROUP}");
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": {
            "group": GROUP, "scope": "Namespaced",
            "names": {"plural": PLURAL, "singular": "shout", "kind": "Shout"},
            "versions": versions(),
            "conversion": {"strategy": "Webhook", "webhook": {
                "conversionReviewVersions": ["v1"],
                "clientConfig": client_config(keys, namespace, service, "/convert"),
            }},
        },
    });
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    api.patch(&name, &applied(), &Patch::Apply(&definition))
        .await
        .context("the kind is not defined")?;
    let established = await_condition(api, &name, conditions::is_crd_established());
    if established.await?.is_none() {
        bail!("{name} is gone");
    }
    Ok(())
}

/// The admission webhooks. They know the second version; the API server converts for them.
///
/// # Errors
/// They are not configured.
pub(crate) async fn webhooks(
    client: &Client,
    keys: &Keys,
    namespace: &str,
    service: &str,
) -> anyhow::Result<()> {
    let configuration = |kind: &str, path: &str| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": NAME},
            "webhooks": [{
                "name": format!("shouts.{GROUP}"),
                "clientConfig": client_config(keys, namespace, service, path),
                "rules": [{"apiGroups": [GROUP], "apiVersions": ["v2"], "resources": [PLURAL],
                    "operations": ["CREATE", "UPDATE"]}],
                "sideEffects": "None", "admissionReviewVersions": ["v1"],
            }],
        })
    };
    let mutating = configuration("MutatingWebhookConfiguration", "/mutate");
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    api.patch(NAME, &applied(), &Patch::Apply(&mutating))
        .await?;
    let validating = configuration("ValidatingWebhookConfiguration", "/validate");
    let api: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    api.patch(NAME, &applied(), &Patch::Apply(&validating))
        .await?;
    Ok(())
}
