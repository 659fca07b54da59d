//! The fields and resources that a container may learn about its own pod.

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

use crate::pod;
use crate::quantity::{div_ceil, milli};

/// What a pod's fields may not tell by themselves.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The addresses of the pod.
    pub pod_ips: Vec<String>,
    /// The addresses of the node.
    pub host_ips: Vec<String>,
    /// What the node has to give; stands for a limit that is not set.
    pub allocatable: BTreeMap<String, Quantity>,
}

/// The value of a `fieldRef`.
pub fn field(pod: &Pod, path: &str, facts: &Facts) -> Result<String, String> {
    let spec = pod::spec(pod);
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    Ok(match path {
        "metadata.name" => pod::name(pod).to_owned(),
        "metadata.namespace" => pod::namespace(pod).to_owned(),
        "metadata.uid" => pod::uid(pod).to_owned(),
        "metadata.labels" => lines(pod.metadata.labels.as_ref()),
        "metadata.annotations" => lines(pod.metadata.annotations.as_ref()),
        "spec.nodeName" => text(&spec.node_name),
        "spec.serviceAccountName" => text(&spec.service_account_name),
        "status.hostIP" => facts.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => facts.host_ips.join(","),
        "status.podIP" => facts.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => facts.pod_ips.join(","),
        _ => return subscript(pod, path),
    })
}

fn subscript(pod: &Pod, path: &str) -> Result<String, String> {
    let unsupported = || format!("unsupported fieldPath: {path}");
    let (field, rest) = path.split_once('[').ok_or_else(unsupported)?;
    let key = rest.strip_suffix(']').ok_or_else(unsupported)?;
    let key = key.trim_matches(['\'', '"']);
    let map = match field {
        "metadata.labels" => pod.metadata.labels.as_ref(),
        "metadata.annotations" => pod.metadata.annotations.as_ref(),
        _ => return Err(unsupported()),
    };
    Ok(map.and_then(|m| m.get(key)).cloned().unwrap_or_default())
}

/// A map as `key="escaped value"` lines, sorted.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", quote(value)))
        .collect();
    lines.join("\n")
}

/// A string in double quotes with the escapes of Go.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The value of a `resourceFieldRef`; `own` is the container that holds the reference.
pub fn resource(
    pod: &Pod,
    own: Option<&Container>,
    selector: &ResourceFieldSelector,
    facts: &Facts,
) -> Result<String, String> {
    let name = selector.container_name.as_deref().unwrap_or_default();
    let container = if name.is_empty() {
        own
    } else {
        pod::lasting_containers(pod).find(|c| c.name == name)
    };
    let container = container.ok_or_else(|| format!("container {name} not found"))?;
    let (list, name) = selector
        .resource
        .split_once('.')
        .ok_or_else(|| format!("unsupported container resource : {}", selector.resource))?;
    let resources = container.resources.as_ref();
    let limit = || resources.and_then(|r| r.limits.as_ref()?.get(name));
    let request = || resources.and_then(|r| r.requests.as_ref()?.get(name));
    let value = match list {
        "limits" => limit().or_else(|| facts.allocatable.get(name)),
        "requests" => request(),
        _ => {
            return Err(format!(
                "unsupported container resource : {}",
                selector.resource
            ));
        }
    };
    let value = value.and_then(milli).unwrap_or(0);
    let divisor = selector.divisor.as_ref().and_then(milli).filter(|d| *d > 0);
    Ok(div_ceil(value, divisor.unwrap_or(1000)).to_string())
}
