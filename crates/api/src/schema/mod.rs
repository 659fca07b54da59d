//! The schemas of all kinds: types and descriptions from `k8s-openapi`, list kinds and merge rules from our own table.
//!
//! [`registry`] is the compact graph that the request road walks; [`definitions`] gives the JSON schemas with
//! descriptions, built on demand for OpenAPI documents and dropped afterwards. `facts.txt` is the one table of what the
//! crate lacks (`go.txt` of what messages tell beyond it); a test checks it against the reference data when that is at hand.

mod facts;
mod roots;

use std::sync::LazyLock;

use machinery::schema::{Registry, Schema};
use serde_json::{Map, Value};

static REGISTRY: LazyLock<Registry> = LazyLock::new(|| Registry::new(with_go));

/// The schemas of all kinds, each built when first used.
pub fn registry() -> &'static Registry {
    &REGISTRY
}

/// The schema of a definition, for example `io.k8s.api.apps.v1.Deployment`.
pub fn get(definition: &str) -> Option<Schema> {
    registry().get(definition)
}

/// The schema of a kind.
pub fn of_kind(group: &str, version: &str, kind: &str) -> Option<Schema> {
    get(&definition_name(group, version, kind))
}

/// The schema of a definition that is part of the kinds that objects are written of; none before one of them was used.
pub(crate) fn get_known(definition: &str) -> Option<Schema> {
    registry().known(definition).or_else(|| {
        HOLDERS.iter().find_map(|holder| {
            registry().get(holder)?;
            registry().known(definition)
        })
    })
}

/// Kinds that between them hold the specifications that are told apart in messages.
const HOLDERS: &[&str] = &[
    "io.k8s.api.core.v1.Pod",
    "io.k8s.api.core.v1.PersistentVolumeClaim",
    "io.k8s.api.core.v1.PersistentVolume",
];

/// The schema of metadata: no root of its own, it comes with any kind.
pub fn object_meta() -> Option<Schema> {
    const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    registry().get("io.k8s.api.core.v1.ConfigMap")?;
    get(META)
}

/// The name of a kind's definition: `io.k8s.api.` and the first part of the group for most.
pub fn definition_name(group: &str, version: &str, kind: &str) -> String {
    let package = match group {
        "" => "api.core",
        "apiextensions.k8s.io" => "apiextensions-apiserver.pkg.apis.apiextensions",
        "apiregistration.k8s.io" => "kube-aggregator.pkg.apis.apiregistration",
        "meta.k8s.io" => "apimachinery.pkg.apis.meta",
        "internal.apiserver.k8s.io" => "api.apiserverinternal",
        other => {
            let short = other.split('.').next().unwrap_or(other);
            return format!("io.k8s.api.{short}.{version}.{kind}");
        }
    };
    format!("io.k8s.{package}.{version}.{kind}")
}

/// The JSON schemas of a definition and of all that it refers to, with the facts of our table; none if no kind, list or
/// option type has this name.
pub fn definitions(name: &str) -> Option<Map<String, Value>> {
    let mut all = roots::build(name)?;
    all.values_mut().for_each(release_metadata);
    facts::add(&mut all);
    Some(all)
}

/// The same with what only messages tell.
fn with_go(name: &str) -> Option<Map<String, Value>> {
    let mut all = definitions(name)?;
    facts::add_go(&mut all);
    Some(all)
}

/// The schema of a list of custom objects, whose definition is `name`.
pub fn list_definition(name: &str, kind: &str) -> Value {
    let reference = |name: &str| serde_json::json!({"$ref": format!("#/definitions/{name}")});
    let metadata = reference("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta");
    let mut list = roots::list_schema(name, reference(name), metadata);
    list["description"] = format!("{kind}List is a list of {kind}").into();
    list
}

/// The crate's types always have metadata and say that it is required; the API does not ask for it.
fn release_metadata(definition: &mut Value) {
    if let Some(Value::Array(required)) = definition.get_mut("required") {
        required.retain(|field| field != "metadata");
        if required.is_empty()
            && let Value::Object(map) = definition
        {
            map.remove("required");
        }
    }
}

#[cfg(test)]
mod openapi_tests;
#[cfg(test)]
mod tests;
