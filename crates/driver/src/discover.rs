//! Which kinds the API serves: aggregated discovery, or the older documents where that is all there is.

use control::Resource;
use control::caches::Discovered;
use kube::Client;
use serde_json::Value;

use crate::request::{self, RequestError};

const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
    application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

/// All resources in their preferred versions.
///
/// # Errors
/// The API refused or did not answer.
pub(crate) async fn discover(client: &Client) -> Result<Vec<Discovered>, RequestError> {
    let mut found = Vec::new();
    for root in ["/api", "/apis"] {
        let document = request::send(client, http::Method::GET, root, None, ACCEPT).await?;
        match document["kind"].as_str() {
            Some("APIGroupDiscoveryList") => aggregated(&document, &mut found),
            Some("APIVersions") => {
                for version in strings(&document["versions"]) {
                    legacy(client, &format!("/api/{version}"), "", version, &mut found).await?;
                }
            }
            _ => {
                for group in array(&document["groups"]) {
                    let name = group["name"].as_str().unwrap_or_default();
                    let version = group["preferredVersion"]["version"].as_str();
                    let version = version.unwrap_or_default();
                    let path = format!("/apis/{name}/{version}");
                    legacy(client, &path, name, version, &mut found).await?;
                }
            }
        }
    }
    Ok(found)
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    array(value).filter_map(Value::as_str)
}

fn text(value: &Value) -> std::borrow::Cow<'static, str> {
    value.as_str().unwrap_or_default().to_owned().into()
}

/// Every resource once, in the first version that lists it: versions stand in order of preference.
fn aggregated(document: &Value, found: &mut Vec<Discovered>) {
    for group in array(&document["items"]) {
        let name = text(&group["metadata"]["name"]);
        for version in array(&group["versions"]) {
            for entry in array(&version["resources"]) {
                let resource = Resource {
                    group: name.clone(),
                    version: text(&version["version"]),
                    plural: text(&entry["resource"]),
                    kind: text(&entry["responseKind"]["kind"]),
                    namespaced: entry["scope"] == "Namespaced",
                };
                push(resource, strings(&entry["verbs"]), found);
            }
        }
    }
}

async fn legacy(
    client: &Client,
    path: &str,
    group: &str,
    version: &str,
    found: &mut Vec<Discovered>,
) -> Result<(), RequestError> {
    let document = request::get(client, path).await?;
    for entry in array(&document["resources"]) {
        let resource = Resource {
            group: group.to_owned().into(),
            version: version.to_owned().into(),
            plural: text(&entry["name"]),
            kind: text(&entry["kind"]),
            namespaced: entry["namespaced"] == true,
        };
        if !resource.plural.contains('/') {
            push(resource, strings(&entry["verbs"]), found);
        }
    }
    Ok(())
}

fn push<'a>(resource: Resource, verbs: impl Iterator<Item = &'a str>, found: &mut Vec<Discovered>) {
    if found.iter().any(|d| d.resource.same_resource(&resource)) {
        return;
    }
    found.push(Discovered {
        resource,
        verbs: verbs.map(str::to_owned).collect(),
    });
}
