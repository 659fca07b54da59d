//! `EncryptionConfiguration`: which resources are encrypted, by which keys.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use machinery::{codec, duration};
use serde::Deserialize;
use serde_json::Value;

use crate::kms::Kms;
use crate::provider::{Cipher, Provider};

const EVERYTHING: &str = "*.*";

/// What is encrypted, and how. Its keys are not shown.
pub struct Configuration {
    groups: Vec<Group>,
}

/// Resources that share their providers.
struct Group {
    /// `secrets`, `deployments.apps`, `*.apps`, `*.` (the core group) or `*.*`.
    resources: Vec<String>,
    /// The first encrypts, all decrypt.
    providers: Arc<[Provider]>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    resources: Vec<Resources>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resources {
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    providers: Vec<serde_json::Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    #[serde(default)]
    keys: Vec<Key>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    #[serde(default)]
    name: String,
    #[serde(default)]
    secret: String,
}

impl Configuration {
    /// Reads a file's text.
    ///
    /// # Errors
    /// The first thing that is wrong with it; never shows a key.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (value, _) = codec::decode_yaml_value(text.as_bytes()).map_err(|e| e.to_string())?;
        let file: File = serde_json::from_value(value).map_err(|_| {
            "the file is no EncryptionConfiguration: a field is unknown or of another type"
                .to_owned()
        })?;
        if file.kind != "EncryptionConfiguration"
            || file.api_version != "apiserver.config.k8s.io/v1"
        {
            let (kind, version) = (file.kind, file.api_version);
            return Err(format!(
                "no kind {kind:?} is registered for version {version:?}"
            ));
        }
        if file.resources.is_empty() {
            return Err("resources: Required value: at least one resource is required".to_owned());
        }
        let all = file.resources.into_iter().enumerate();
        let groups: Result<Vec<_>, _> = all.map(|(i, group)| read_group(i, group)).collect();
        let groups = groups?;
        let mut names: Vec<&[u8]> = Vec::new();
        for kms in groups
            .iter()
            .flat_map(|g| g.providers.iter())
            .filter_map(Provider::kms)
        {
            if names.contains(&kms.prefix()) {
                let name = String::from_utf8_lossy(kms.prefix()).into_owned();
                let name = name.rsplit(':').nth(1).unwrap_or_default().to_owned();
                return Err(format!(
                    "duplicate KMS provider name {name}, names must be unique"
                ));
            }
            names.push(kms.prefix());
        }
        Ok(Self { groups })
    }

    /// The providers of a key of the store; none: its value is left alone.
    pub(crate) fn providers(&self, key: &[u8]) -> Option<&Arc<[Provider]>> {
        let (group, resource) = resource_of(key)?;
        let matches = |pattern: &String| match pattern.split_once('.') {
            None => group.is_empty() && pattern == resource,
            Some(("*", "*")) => true,
            Some(("*", of)) => of == group,
            Some((name, of)) => of == group && name == resource,
        };
        let found = self.groups.iter().find(|g| g.resources.iter().any(matches));
        found.map(|g| &g.providers)
    }
}

/// Group and resource of a key: `/registry/secrets/ns/name`, `/registry/apps/deployments/ns/name`. Names of groups have a dot,
/// or are among those that have none.
fn resource_of(key: &[u8]) -> Option<(&str, &str)> {
    const PLAIN_GROUPS: [&str; 4] = ["apps", "autoscaling", "batch", "policy"];
    let text = std::str::from_utf8(key).ok()?;
    let mut parts = text.strip_prefix("/registry/")?.split('/');
    let first = parts.next()?;
    match first.contains('.') || PLAIN_GROUPS.contains(&first) {
        true => Some((first, parts.next()?)),
        false => Some(("", first)),
    }
}

fn read_group(index: usize, group: Resources) -> Result<Group, String> {
    let at = format!("resources[{index}]");
    if group.resources.is_empty() {
        return Err(format!(
            "{at}.resources: Required value: at least one resource is required"
        ));
    }
    if let Some(wrong) = group
        .resources
        .iter()
        .find(|r| *r != EVERYTHING && !is_pattern(r))
    {
        return Err(format!(
            "{at}.resources: Invalid value: {wrong:?}: invalid resource name"
        ));
    }
    if group.providers.is_empty() {
        return Err(format!(
            "{at}.providers: Required value: at least one provider is required"
        ));
    }
    let mut providers = Vec::new();
    for (number, provider) in group.providers.into_iter().enumerate() {
        let at = format!("{at}.providers[{number}]");
        let mut said = provider.into_iter();
        let (Some((name, settings)), None) = (said.next(), said.next()) else {
            return Err(format!(
                "{at}: Invalid value: exactly one provider must be named"
            ));
        };
        providers.extend(read_provider(&at, &name, settings)?);
    }
    Ok(Group {
        resources: group.resources,
        providers: providers.into(),
    })
}

/// `*` alone is none; `*.` and `*.group` are.
fn is_pattern(text: &str) -> bool {
    let (name, group) = text.split_once('.').unwrap_or((text, ""));
    let plain = |text: &str| {
        text.chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c))
    };
    !name.is_empty() && (plain(name) || name == "*" && text.contains('.')) && plain(group)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KmsFile {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    endpoint: String,
    timeout: Option<String>,
    cachesize: Option<i64>,
}

fn read_kms(at: &str, settings: Value) -> Result<Provider, String> {
    let file: KmsFile = serde_json::from_value(settings)
        .map_err(|error| format!("{at}: Invalid value: {error}"))?;
    let invalid = |field: &str, value: &str, why: &str| {
        Err(format!("{at}.{field}: Invalid value: {value:?}: {why}"))
    };
    if file.name.is_empty() {
        let why = "name is a mandatory field for a provider";
        return Err(format!("{at}.name: Required value: {why}"));
    }
    if file.name.contains(':') {
        let why = format!(
            "invalid KMS provider name {}, must not contain ':'",
            file.name
        );
        return invalid("name", &file.name, &why);
    }
    if file.api_version != "v2" {
        let why = "unsupported apiVersion apiVersion for KMS provider, only v2 is supported";
        return invalid("apiVersion", &file.api_version, why);
    }
    if file.cachesize.is_some() {
        return invalid("cachesize", "", "cachesize is not supported in v2");
    }
    if file.endpoint.is_empty() {
        return invalid("endpoint", "", "endpoint is a mandatory field for a kms");
    }
    let Some(path) = file
        .endpoint
        .strip_prefix("unix://")
        .filter(|p| p.starts_with('/'))
    else {
        let scheme = file
            .endpoint
            .split_once("://")
            .map_or("", |(scheme, _)| scheme);
        let why = format!("unsupported scheme {scheme:?} for KMS provider, only unix is supported");
        return invalid("endpoint", &file.endpoint, &why);
    };
    let given = file.timeout.as_deref().unwrap_or("3s");
    let timeout = duration::parse(given).and_then(|d| Duration::try_from(d).ok());
    let Some(timeout) = timeout.filter(|timeout| !timeout.is_zero()) else {
        return invalid("timeout", given, "timeout should be a positive value");
    };
    let kms = Kms::new(&file.name, path.into(), timeout);
    Ok(Provider::Kms(Arc::new(kms)))
}

fn read_provider(at: &str, name: &str, settings: Value) -> Result<Vec<Provider>, String> {
    match name {
        "identity" => return Ok(vec![Provider::Identity]),
        "aesgcm" | "aescbc" | "secretbox" => {}
        "kms" => return read_kms(&format!("{at}.kms"), settings).map(|kms| vec![kms]),
        other => return Err(format!("{at}: Invalid value: unknown provider {other:?}")),
    }
    let at = format!("{at}.{name}.keys");
    // What is wrong is not repeated: it may be a key.
    let keys: Keys = serde_json::from_value(settings)
        .map_err(|_| format!("{at}: Invalid value: must be a list of names and secrets"))?;
    if keys.keys.is_empty() {
        return Err(format!(
            "{at}: Required value: at least one key is required"
        ));
    }
    let mut out = Vec::new();
    for (index, key) in keys.keys.iter().enumerate() {
        let at = format!("{at}[{index}]");
        if key.name.is_empty() || key.name.contains(':') {
            return Err(format!(
                "{at}.name: Required value: a name without colons is required"
            ));
        }
        let secret = STANDARD.decode(&key.secret);
        let secret = secret.map_err(|_| {
            format!("{at}.secret: Invalid value: \"REDACTED\": secret must be base64 encoded")
        })?;
        let cipher = Cipher::new(name, &secret)
            .map_err(|why| format!("{at}.secret: Invalid value: \"REDACTED\": {why}"))?;
        let prefix = format!("k8s:enc:{name}:v1:{}:", key.name).into_bytes();
        out.push(Provider::Key { prefix, cipher });
    }
    Ok(out)
}
