//! What a client says about the connection that it wants, as the object that admission sees.

use machinery::Object;
use serde_json::{Map, Value, json};

use crate::call::Call;
use crate::resource::Resource;

/// The kind of the options of a sub-resource, and the options.
pub(super) fn options(
    call: &Call,
    resource: &Resource,
    subresource: &str,
) -> (&'static str, Object) {
    let kind = match (resource.names().plural, subresource) {
        (_, "exec") => "PodExecOptions",
        (_, "attach") => "PodAttachOptions",
        (_, "portforward") => "PodPortForwardOptions",
        ("nodes", _) => "NodeProxyOptions",
        ("services", _) => "ServiceProxyOptions",
        _ => "PodProxyOptions",
    };
    let mut fields = Map::new();
    match subresource {
        "exec" | "attach" => {
            for flag in ["stdin", "stdout", "stderr", "tty"] {
                if call.query.flag(flag) {
                    fields.insert(flag.to_owned(), true.into());
                }
            }
            let container = call.query.text("container");
            if !container.is_empty() {
                fields.insert("container".to_owned(), container.into());
            }
            let command: Vec<&str> = call.query.all("command").collect();
            if subresource == "exec" {
                fields.insert("command".to_owned(), json!(command));
            }
        }
        "portforward" => {
            let ports = call.query.all("ports").flat_map(|p| p.split(','));
            let ports: Vec<u64> = ports.filter_map(|p| p.parse().ok()).collect();
            if !ports.is_empty() {
                fields.insert("ports".to_owned(), json!(ports));
            }
        }
        _ => drop(fields.insert("path".to_owned(), Value::from(call.info.rest.as_str()))),
    }
    let mut options = Object(fields);
    options.set_type("v1", kind);
    (kind, options)
}
