//! The value of `request`.

use serde_json::{Value, json};

use crate::User;
use crate::admission::Operation;

/// How a resource and its kind are called in a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names<'a> {
    /// API group.
    pub group: &'a str,
    /// API version.
    pub version: &'a str,
    /// Plural resource name.
    pub resource: &'a str,
    /// Kind of the object.
    pub kind: &'a str,
    /// Sub-resource, or empty.
    pub subresource: &'a str,
}

/// The value of `request`: an `AdmissionRequest` without its objects. `asked` is what the client asked for, `matched` what the
/// rule that matched calls it.
#[expect(clippy::too_many_arguments, reason = "all of what a request is")]
pub fn request(
    asked: Names<'_>,
    matched: Names<'_>,
    namespace: &str,
    name: &str,
    operation: Operation,
    user: &User,
    dry_run: bool,
    options: Value,
) -> Value {
    let kind = |n: Names<'_>| json!({"group": n.group, "version": n.version, "kind": n.kind});
    let resource =
        |n: Names<'_>| json!({"group": n.group, "version": n.version, "resource": n.resource});
    let mut made = json!({
        "uid": "",
        "kind": kind(matched), "resource": resource(matched), "subResource": matched.subresource,
        "requestKind": kind(asked), "requestResource": resource(asked), "requestSubResource": asked.subresource,
        "name": name, "namespace": namespace, "operation": operation.as_str(),
        "userInfo": {"username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra},
        "dryRun": dry_run, "options": options,
    });
    // What is empty is not there, as in the reference's own encoding.
    let fields = made.as_object_mut().expect("an object was made");
    fields.retain(|key, value| {
        let may_go = [
            "subResource",
            "requestSubResource",
            "name",
            "namespace",
            "options",
        ];
        !(may_go.contains(&&**key) && (value.is_null() || value.as_str() == Some("")))
    });
    if let Some(user) = fields.get_mut("userInfo").and_then(Value::as_object_mut) {
        user.retain(|_, value| match value {
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(map) => !map.is_empty(),
            _ => false,
        });
    }
    made
}
