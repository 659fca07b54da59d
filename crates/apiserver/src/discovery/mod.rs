//! Discovery: which groups, versions and resources there are, all derived from the table of kinds.
//!
//! Two forms: the old one, a document per group version, and the aggregated one, everything at once for those who
//! accept it. Behaviour: `k8s.io/apiserver/pkg/endpoints/discovery`.

mod aggregated;

use api::{AnyKind, Part, Scope, Subresource};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Response;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::body::Body;
use crate::call::Call;
use crate::negotiate::conversions;
use crate::respond;

/// Answers a discovery path; `None` when it is no such path.
pub(crate) fn answer(call: &Call) -> Option<Response<Body>> {
    let segments: Vec<&str> = call.info.path.trim_matches('/').split('/').collect();
    let document = match segments.as_slice() {
        ["api"] | ["apis"] if aggregated_version(call).is_some() => {
            let version = aggregated_version(call)?;
            return Some(aggregated::answer(call, segments[0] == "api", &version));
        }
        ["api"] => json!({
            "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [{
                "clientCIDR": "0.0.0.0/0", "serverAddress": server_address(call),
            }],
        }),
        ["apis"] => json!({
            "kind": "APIGroupList", "apiVersion": "v1",
            "groups": groups().into_iter().map(|g| group(g, false)).collect::<Vec<_>>(),
        }),
        ["api", version] => resources("", version)?,
        ["apis", name] => group(groups().into_iter().find(|g| g == name)?, true),
        ["apis", group, version] => resources(group, version)?,
        _ => return None,
    };
    Some(respond::value(200, &call.form, &document))
}

fn server_address(call: &Call) -> String {
    let settings = &call.server.settings;
    std::net::SocketAddr::new(settings.advertise_address, settings.advertise_port).to_string()
}

/// The version of aggregated discovery that a client accepts before all others.
fn aggregated_version(call: &Call) -> Option<String> {
    let first = conversions(&call.headers).into_iter().next()?;
    let known = first.kind == "APIGroupDiscoveryList"
        && first.group == "apidiscovery.k8s.io"
        && matches!(first.version.as_str(), "v2" | "v2beta1");
    known.then_some(first.version)
}

/// All named groups, in the order of the table.
fn groups() -> Vec<&'static str> {
    let mut groups = Vec::new();
    for group in api::KINDS
        .iter()
        .map(|k| k.names().group)
        .filter(|g| !g.is_empty())
    {
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups
}

/// The versions of a group, in the order of the table.
fn versions(group: &str) -> Vec<&'static str> {
    let mut versions = Vec::new();
    for names in api::KINDS
        .iter()
        .map(|k| k.names())
        .filter(|n| n.group == group)
    {
        if !versions.contains(&names.version) {
            versions.push(names.version);
        }
    }
    versions
}

/// The kinds of a group version, by plural name.
fn kinds(group: &str, version: &str) -> Vec<&'static dyn AnyKind> {
    let mut kinds: Vec<_> = api::KINDS
        .iter()
        .copied()
        .filter(|k| k.names().group == group && k.names().version == version)
        .collect();
    kinds.sort_by_key(|k| k.names().plural);
    kinds
}

fn group(name: &str, with_type: bool) -> Value {
    let version = |v: &&str| json!({"groupVersion": format!("{name}/{v}"), "version": v});
    let versions = versions(name);
    let mut out = Map::new();
    if with_type {
        out.insert("kind".into(), "APIGroup".into());
        out.insert("apiVersion".into(), "v1".into());
    }
    out.insert("name".into(), name.into());
    out.insert("versions".into(), versions.iter().map(version).collect());
    out.insert(
        "preferredVersion".into(),
        versions.first().map(version).unwrap_or_default(),
    );
    Value::Object(out)
}

fn resources(group: &str, version: &str) -> Option<Value> {
    let kinds = kinds(group, version);
    if kinds.is_empty() {
        return None;
    }
    let mut all: Vec<Value> = Vec::new();
    for kind in kinds {
        all.push(resource(kind));
        all.extend(subresources(kind).into_iter().map(|s| subresource(kind, s)));
    }
    let mut out = json!({"kind": "APIResourceList", "groupVersion": group_version(group, version)});
    if !group.is_empty() {
        out["apiVersion"] = "v1".into();
    }
    out["resources"] = all.into();
    Some(out)
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

fn resource(kind: &dyn AnyKind) -> Value {
    let names = kind.names();
    let mut out = json!({
        "name": names.plural, "singularName": names.singular,
        "namespaced": kind.scope() == Scope::Namespaced, "kind": names.kind,
        "verbs": verbs(kind),
    });
    if !names.short.is_empty() {
        out["shortNames"] = names.short.into();
    }
    if !names.categories.is_empty() {
        out["categories"] = names.categories.into();
    }
    if kind.verbs().contains(&api::Verb::Get) {
        // The hash of what is stored, which may be another group's kind.
        let place = names.stored_as.unwrap_or((names.group, names.plural));
        let is_stored = |k: &&&dyn AnyKind| (k.names().group, k.names().plural) == place;
        let stored = api::KINDS
            .iter()
            .find(is_stored)
            .map_or(names, |k| k.names());
        let text = format!("{}/{}/{}", stored.group, stored.version, stored.kind);
        out["storageVersionHash"] = STANDARD.encode(&Sha256::digest(text)[..8]).into();
    }
    out
}

fn verbs(kind: &dyn AnyKind) -> Vec<&'static str> {
    kind.verbs().iter().map(|v| v.as_str()).collect()
}

/// The sub-resources of a kind, by name.
fn subresources(kind: &dyn AnyKind) -> Vec<Subresource> {
    let mut all = kind.subresources().to_vec();
    all.sort_by_key(|s| s.name());
    all
}

fn subresource(kind: &dyn AnyKind, subresource: Subresource) -> Value {
    let shown = Shown::of(kind, subresource);
    let mut out = json!({
        "name": format!("{}/{}", kind.names().plural, subresource.name()), "singularName": "",
        "namespaced": kind.scope() == Scope::Namespaced, "kind": shown.kind, "verbs": shown.verbs,
    });
    if let Some((group, version)) = shown.group_version {
        out["group"] = group.into();
        out["version"] = version.into();
    }
    out
}

/// What discovery says of a sub-resource.
pub(crate) struct Shown {
    pub(crate) kind: String,
    /// Where it is not that of the resource.
    pub(crate) group_version: Option<(&'static str, &'static str)>,
    pub(crate) verbs: &'static [&'static str],
}

impl Shown {
    /// What is to be said of this one.
    pub(crate) fn of(kind: &dyn AnyKind, subresource: Subresource) -> Self {
        let own = kind.names().kind;
        let (kind, group_version, verbs): (String, _, &'static [&'static str]) = match subresource {
            Subresource::Part(Part::Finalize) => (own.into(), None, &["update"]),
            Subresource::Part(_) => (own.into(), None, &["get", "patch", "update"]),
            Subresource::Scale { .. } => (
                "Scale".into(),
                Some(("autoscaling", "v1")),
                &["get", "patch", "update"],
            ),
            Subresource::Binding => ("Binding".into(), None, &["create"]),
            Subresource::Eviction => ("Eviction".into(), Some(("policy", "v1")), &["create"]),
            Subresource::Token => (
                "TokenRequest".into(),
                Some(("authentication.k8s.io", "v1")),
                &["create"],
            ),
            Subresource::Log => (own.into(), None, &["get"]),
            Subresource::Exec => (format!("{own}ExecOptions"), None, &["create", "get"]),
            Subresource::Attach => (format!("{own}AttachOptions"), None, &["create", "get"]),
            Subresource::PortForward => {
                (format!("{own}PortForwardOptions"), None, &["create", "get"])
            }
            Subresource::Proxy => {
                let verbs = &["create", "delete", "get", "patch", "update"];
                (format!("{own}ProxyOptions"), None, verbs)
            }
        };
        Self {
            kind,
            group_version,
            verbs,
        }
    }
}
