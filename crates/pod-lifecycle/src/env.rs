//! The environment of a container.

use std::collections::BTreeMap;

use cri::v1::KeyValue;
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, Secret};

use crate::field_path::{self, Facts};
use crate::pod;

/// ConfigMaps and Secrets of the pod's namespace as far as they are known, by name. `None`: there is no such object.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// ConfigMaps.
    pub config_maps: BTreeMap<String, Option<std::sync::Arc<ConfigMap>>>,
    /// Secrets.
    pub secrets: BTreeMap<String, Option<std::sync::Arc<Secret>>>,
}

impl Sources {
    /// A ConfigMap, or why there is none.
    pub fn config_map(&self, name: &str) -> Result<&ConfigMap, String> {
        let found = self.config_maps.get(name).and_then(|c| c.as_deref());
        found.ok_or_else(|| format!("configmap \"{name}\" not found"))
    }

    /// A Secret, or why there is none.
    pub fn secret(&self, name: &str) -> Result<&Secret, String> {
        let found = self.secrets.get(name).and_then(|c| c.as_deref());
        found.ok_or_else(|| format!("secret \"{name}\" not found"))
    }
}

/// Names of the objects that a container's environment needs: ConfigMaps, then Secrets.
pub fn references(container: &Container) -> (Vec<&str>, Vec<&str>) {
    let (mut config_maps, mut secrets) = (Vec::new(), Vec::new());
    for from in container.env_from.iter().flatten() {
        config_maps.extend(from.config_map_ref.as_ref().map(|r| r.name.as_str()));
        secrets.extend(from.secret_ref.as_ref().map(|r| r.name.as_str()));
    }
    for source in container
        .env
        .iter()
        .flatten()
        .filter_map(|e| e.value_from.as_ref())
    {
        config_maps.extend(source.config_map_key_ref.as_ref().map(|r| r.name.as_str()));
        secrets.extend(source.secret_key_ref.as_ref().map(|r| r.name.as_str()));
    }
    (config_maps, secrets)
}

/// The variables of a container: its own win over those of whole objects, these over those of services.
pub fn variables(
    pod: &Pod,
    container: &Container,
    services: &BTreeMap<String, String>,
    sources: &Sources,
    facts: &Facts,
) -> Result<Vec<KeyValue>, String> {
    let mut values = from_objects(container, sources)?;
    let mut order: Vec<String> = values.keys().cloned().collect();
    for variable in container.env.iter().flatten() {
        let literal = variable.value.as_deref().unwrap_or_default();
        let value = if !literal.is_empty() {
            Some(expand(literal, |name| {
                values.get(name).or_else(|| services.get(name)).cloned()
            }))
        } else if let Some(source) = &variable.value_from {
            from_source(pod, container, source, sources, facts)?
        } else {
            Some(String::new())
        };
        if let Some(value) = value
            && values.insert(variable.name.clone(), value).is_none()
        {
            order.push(variable.name.clone());
        }
    }
    let rest = services
        .iter()
        .filter(|(name, _)| !values.contains_key(*name));
    let rest: Vec<KeyValue> = rest.map(|(k, v)| pair(k.clone(), v.clone())).collect();
    let own = order.into_iter().map(|name| {
        let value = values.remove(&name).unwrap_or_default();
        pair(name, value)
    });
    Ok(own.chain(rest).collect())
}

fn pair(key: String, value: String) -> KeyValue {
    KeyValue { key, value }
}

fn from_objects(
    container: &Container,
    sources: &Sources,
) -> Result<BTreeMap<String, String>, String> {
    let mut values = BTreeMap::new();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &from.config_map_ref {
            match sources.config_map(&reference.name) {
                Ok(map) => values.extend(
                    map.data
                        .iter()
                        .flatten()
                        .map(|(k, v)| (format!("{prefix}{k}"), v.clone())),
                ),
                Err(_) if reference.optional == Some(true) => {}
                Err(missing) => return Err(missing),
            }
        } else if let Some(reference) = &from.secret_ref {
            match sources.secret(&reference.name) {
                Ok(secret) => values.extend(
                    secret
                        .data
                        .iter()
                        .flatten()
                        .map(|(k, v)| (format!("{prefix}{k}"), text(&v.0))),
                ),
                Err(_) if reference.optional == Some(true) => {}
                Err(missing) => return Err(missing),
            }
        }
    }
    Ok(values)
}

/// The value of a `valueFrom`; `None` if it is optional and not there.
fn from_source(
    pod: &Pod,
    container: &Container,
    source: &EnvVarSource,
    sources: &Sources,
    facts: &Facts,
) -> Result<Option<String>, String> {
    let namespace = pod::namespace(pod);
    if let Some(field) = &source.field_ref {
        return field_path::field(pod, &field.field_path, facts).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        return field_path::resource(pod, Some(container), selector, facts).map(Some);
    }
    let (found, optional) = if let Some(r) = &source.config_map_key_ref {
        let found = sources.config_map(&r.name).and_then(|map| {
            let value = map.data.as_ref().and_then(|d| d.get(&r.key)).cloned();
            let (key, name) = (&r.key, &r.name);
            value.ok_or_else(|| format!("couldn't find key {key} in ConfigMap {namespace}/{name}"))
        });
        (found, r.optional)
    } else if let Some(r) = &source.secret_key_ref {
        let found = sources.secret(&r.name).and_then(|secret| {
            let value = secret.data.as_ref().and_then(|d| d.get(&r.key));
            let (key, name) = (&r.key, &r.name);
            value
                .map(|v| text(&v.0))
                .ok_or_else(|| format!("couldn't find key {key} in Secret {namespace}/{name}"))
        });
        (found, r.optional)
    } else {
        return Ok(Some(String::new()));
    };
    match found {
        Ok(value) => Ok(Some(value)),
        Err(_) if optional == Some(true) => Ok(None),
        Err(message) => Err(message),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Replaces `$(NAME)` by its value; unknown names stay as they are, `$$` is a dollar.
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(inner) = rest.strip_prefix('(') {
            if let Some(end) = inner.find(')') {
                let name = &inner[..end];
                match lookup(name) {
                    Some(value) => out.push_str(&value),
                    None => out.push_str(&format!("$({name})")),
                }
                rest = &inner[end + 1..];
            } else {
                out.push_str("$(");
                rest = inner;
            }
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// Expands every string of a command with the container's variables.
pub fn expand_all(words: Option<&Vec<String>>, variables: &[KeyValue]) -> Vec<String> {
    let lookup = |name: &str| {
        let found = variables.iter().rev().find(|v| v.key == name);
        found.map(|v| v.value.clone())
    };
    words
        .into_iter()
        .flatten()
        .map(|word| expand(word, lookup))
        .collect()
}

/// Expands `$(NAME)` in a probe's command, with the container's literal variables only.
pub fn expand_static(words: &[String], container: &Container) -> Vec<String> {
    let lookup = |name: &str| {
        let mut all = container.env.iter().flatten();
        all.find(|v| v.name == name && v.value_from.is_none())
            .map(|v| v.value.clone().unwrap_or_default())
    };
    words.iter().map(|word| expand(word, lookup)).collect()
}
