//! Discovery: which groups, versions and resources there are, all derived from the table of kinds.
//!
//! Two forms: the old one, a document per group version, and the aggregated one, everything at once for those who
//! accept it. Behaviour: `k8s.io/apiserver/pkg/endpoints/discovery`.

mod aggregated;

use api::kind::compare_versions;
use api::{AnyKind, Part, Scope, Subresource};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Response;
use machinery::ApiError;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::aggregation::priorities;
use crate::body::Body;
use crate::call::Call;
use crate::negotiate::{Form, SUPPORTED, conversions, produce};
use crate::resource::Resource;
use crate::respond;

/// Kinds that a stock v1.37 stores in an older version than the one it serves. Here they are not; but the hash of that is
/// what tools compare.
const OLDER: [(&str, &str); 5] = [
    ("ClusterTrustBundle", "v1beta1"),
    ("CustomResourceDefinition", "v1beta1"),
    ("DeviceTaintRule", "v1beta2"),
    ("PodCertificateRequest", "v1beta1"),
    ("StorageVersionMigration", "v1beta1"),
];

/// Answers a discovery path; `None` when it is no such path.
///
/// # Errors
/// 406.
pub(crate) fn answer(call: &Call) -> Result<Option<Response<Body>>, ApiError> {
    let all = call.server.resources().all();
    let segments: Vec<&str> = call.info.path.trim_matches('/').split('/').collect();
    if let (["api"] | ["apis"], Some(version)) = (&*segments, aggregated_version(call)) {
        let is_core = segments[0] == "api";
        return Ok(Some(aggregated::answer(call, &all, is_core, &version)));
    }
    let Some(document) = document(call, &all, &segments) else {
        return Ok(None);
    };
    // The other two look at what is accepted themselves.
    if !matches!(&*segments, ["apis"] | ["apis", _]) {
        produce(&call.headers, SUPPORTED)?;
    }
    let form = Form::plain(&call.headers, &call.query)?;
    Ok(Some(respond::value(200, &form, &document)))
}

fn document(call: &Call, all: &[Resource], segments: &[&str]) -> Option<Value> {
    Some(match segments {
        ["api"] => json!({
            "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [{
                "clientCIDR": "0.0.0.0/0", "serverAddress": server_address(call),
            }],
        }),
        ["apis"] => json!({
            "kind": "APIGroupList", "apiVersion": "v1",
            "groups": listed(call, all).iter().map(|g| group(g, false)).collect::<Vec<_>>(),
        }),
        ["api", version] => resources(all, "", version)?,
        ["apis", name] => group(listed(call, all).iter().find(|g| g.name == *name)?, true),
        ["apis", group, version] => resources(all, group, version)?,
        _ => return None,
    })
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

/// A group with its versions, best first, whoever serves them.
struct Group {
    name: String,
    versions: Vec<String>,
}

/// All named groups, those of other servers where their priorities put them.
fn listed(call: &Call, all: &[Resource]) -> Vec<Group> {
    let own = groups(all).into_iter().map(|name| Group {
        name: name.to_owned(),
        versions: versions(all, name).into_iter().map(str::to_owned).collect(),
    });
    let mut listed: Vec<Group> = own.collect();
    let server = &call.server;
    listed.sort_by_cached_key(|group| {
        let (of_group, _) = priorities(server, &group.name, &group.versions[0]);
        (std::cmp::Reverse(of_group), group.name.clone())
    });
    for remote in server.aggregation().remotes().iter() {
        let (of_group, of_version) = remote.priorities;
        let Some(group) = listed.iter_mut().find(|g| g.name == remote.group) else {
            let after = |g: &Group| {
                let other = priorities(server, &g.name, &g.versions[0]).0;
                other > of_group || (other == of_group && g.name < remote.group)
            };
            let at = listed.iter().position(|g| !after(g));
            let new = Group {
                name: remote.group.clone(),
                versions: vec![remote.version.clone()],
            };
            listed.insert(at.unwrap_or(listed.len()), new);
            continue;
        };
        if group.versions.contains(&remote.version) {
            continue;
        }
        let after = |version: &String| {
            let other = priorities(server, &group.name, version).1;
            let earlier = || compare_versions(version, &remote.version).is_lt();
            other > of_version || (other == of_version && earlier())
        };
        let at = group.versions.iter().position(|v| !after(v));
        let at = at.unwrap_or(group.versions.len());
        group.versions.insert(at, remote.version.clone());
    }
    listed
}

/// All named groups of this server, in order.
fn groups(all: &[Resource]) -> Vec<&str> {
    let mut groups = Vec::new();
    for resource in all {
        let group = resource.names().group;
        if !group.is_empty() && !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups
}

/// The versions of a group, in order.
fn versions<'a>(all: &'a [Resource], group: &str) -> Vec<&'a str> {
    let mut versions = Vec::new();
    for names in all.iter().map(Resource::names).filter(|n| n.group == group) {
        if !versions.contains(&names.version) {
            versions.push(names.version);
        }
    }
    versions
}

/// The resources of a group version, by plural name.
fn of_version<'a>(all: &'a [Resource], group: &str, version: &str) -> Vec<&'a Resource> {
    let fits = |r: &&Resource| r.names().group == group && r.names().version == version;
    let mut found: Vec<&Resource> = all.iter().filter(fits).collect();
    found.sort_by_key(|r| r.names().plural);
    // A custom kind never hides one of the program.
    found.dedup_by_key(|r| r.names().plural);
    found
}

fn group(Group { name, versions }: &Group, with_type: bool) -> Value {
    let version = |v: &String| json!({"groupVersion": format!("{name}/{v}"), "version": v});
    let mut out = Map::new();
    if with_type {
        out.insert("kind".into(), "APIGroup".into());
        out.insert("apiVersion".into(), "v1".into());
    }
    out.insert("name".into(), name.as_str().into());
    out.insert("versions".into(), versions.iter().map(version).collect());
    out.insert(
        "preferredVersion".into(),
        versions.first().map(version).unwrap_or_default(),
    );
    Value::Object(out)
}

fn resources(all: &[Resource], group: &str, version: &str) -> Option<Value> {
    let found = of_version(all, group, version);
    if found.is_empty() {
        return None;
    }
    let mut all: Vec<Value> = Vec::new();
    for found in found {
        let kind = &*found.kind;
        all.push(resource(found));
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

fn resource(resource: &Resource) -> Value {
    let kind = &*resource.kind;
    let names = kind.names();
    let mut out = json!({
        "name": names.plural, "singularName": names.singular,
        "namespaced": kind.scope() == Scope::Namespaced, "kind": names.kind,
        "verbs": verbs(kind),
    });
    if !names.short.is_empty() {
        out["shortNames"] = json!(names.short);
    }
    if !names.categories.is_empty() {
        out["categories"] = json!(names.categories);
    }
    // The hash of what is stored, which may be another kind.
    if let Some(stored) = resource.stored_kind() {
        let stored = stored.names();
        let version = OLDER.iter().find(|(kind, _)| *kind == stored.kind);
        let version = version.map_or(stored.version, |(_, version)| version);
        let text = format!("{}/{version}/{}", stored.group, stored.kind);
        out["storageVersionHash"] = STANDARD.encode(&Sha256::digest(text)[..8]).into();
    }
    out
}

/// The verbs of a kind; one that is going takes nothing new.
fn verbs(kind: &dyn AnyKind) -> Vec<&'static str> {
    let going = kind.refuses_create().is_some();
    let grows = |verb: &&str| matches!(*verb, "create" | "update" | "patch");
    let verbs = kind.verbs().iter().map(|v| v.as_str());
    verbs.filter(|verb| !going || !grows(verb)).collect()
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
