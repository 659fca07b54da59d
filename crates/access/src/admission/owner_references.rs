//! OwnerReferencesPermissionEnforcement: who changes the owners of an object could delete it, and who makes an owner wait
//! for it may finalize the owner.
//!
//! Behaviour: `plugin/pkg/admission/gc`.

use api::{KINDS, Scope};
use machinery::{ApiError, Object};
use serde_json::Value;

use super::{Operation, Request};
use crate::{Attributes, Lookup, Verdict};

pub(super) fn validate(
    request: &Request,
    object: &Object,
    lookup: &dyn Lookup,
) -> Result<(), ApiError> {
    let writes = matches!(request.operation, Operation::Create | Operation::Update);
    // Old kubelets corrupt the owners with a status; its strategy keeps them.
    let status = request.is_for("", "pods") && request.subresource == "status";
    if !writes || status {
        return Ok(());
    }
    let (new, old) = (owners(object), request.old.map(owners).unwrap_or_default());
    if new == old {
        return Ok(());
    }
    if request.operation == Operation::Update {
        let attributes = Attributes {
            api_version: "*".to_owned(),
            namespace: request.namespace.to_owned(),
            subresource: request.subresource.to_owned(),
            name: request.name.to_owned(),
            ..Attributes::resource(request.user, "delete", request.group, request.resource)
        };
        let verdict = request.authorizer.authorize(&attributes);
        if !verdict.is_allowed() {
            let why = said(&verdict);
            let why = format!("cannot set an ownerRef on a resource you can't delete: {why}");
            return Err(request.forbidden(object, why));
        }
    }
    let blocking = newly_blocking(new, old);
    if blocking.is_empty() || finalizes(request, "*", "*", "*", "", "*").is_allowed() {
        return Ok(());
    }
    for owner in blocking {
        check_owner(request, object, owner, lookup)?;
    }
    Ok(())
}

fn owners(object: &Object) -> &[Value] {
    let found = object.at(&["metadata", "ownerReferences"]);
    found.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Reason and error, as upstream prints the two.
fn said(verdict: &Verdict) -> String {
    let error = match verdict.error.as_str() {
        "" => "<nil>",
        error => error,
    };
    format!("{}, {error}", verdict.reason)
}

/// Owners that would have to wait, and did not before.
fn newly_blocking<'a>(new: &'a [Value], old: &[Value]) -> Vec<&'a Value> {
    let blocks = |owner: &Value| owner["blockOwnerDeletion"] == true;
    let before = |owner: &Value| old.iter().rev().find(|o| o["uid"] == owner["uid"]);
    new.iter()
        .filter(|owner| blocks(owner) && before(owner).is_none_or(|old| !blocks(old)))
        .collect()
}

fn finalizes(
    request: &Request,
    group: &str,
    version: &str,
    resource: &str,
    namespace: &str,
    name: &str,
) -> Verdict {
    let attributes = Attributes {
        api_version: version.to_owned(),
        namespace: namespace.to_owned(),
        subresource: "finalizers".to_owned(),
        name: name.to_owned(),
        ..Attributes::resource(request.user, "update", group, resource)
    };
    request.authorizer.authorize(&attributes)
}

fn check_owner(
    request: &Request,
    object: &Object,
    owner: &Value,
    lookup: &dyn Lookup,
) -> Result<(), ApiError> {
    let text = |key: &str| owner[key].as_str().unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let Some((resource, namespaced)) = find(group, kind, lookup) else {
        let no = format!("no matches for kind \"{kind}\" in version \"{api_version}\"");
        return Err(request.forbidden(object, format!(
            "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion {api_version} Kind {kind}: {no}"
        )));
    };
    let namespace = if namespaced { request.namespace } else { "" };
    let verdict = finalizes(request, group, version, &resource, namespace, text("name"));
    if verdict.is_allowed() {
        return Ok(());
    }
    let why = said(&verdict);
    Err(request.forbidden(object, format!(
        "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: {why}"
    )))
}

/// Plural name of a kind and whether it lives in namespaces: of the table of kinds, or of a custom definition.
fn find(group: &str, kind: &str, lookup: &dyn Lookup) -> Option<(String, bool)> {
    let is = |names: api::kind::Named<'_>| names.group == group && names.kind == kind;
    if let Some(found) = KINDS.iter().find(|one| is(one.names())) {
        let plural = found.names().plural.to_owned();
        return Some((plural, found.scope() == Scope::Namespaced));
    }
    let definitions = lookup.list("apiextensions.k8s.io", "customresourcedefinitions", "");
    let found = definitions.iter().find(|definition| {
        definition.str_at(&["spec", "group"]) == group
            && definition.str_at(&["spec", "names", "kind"]) == kind
    })?;
    let plural = found.str_at(&["spec", "names", "plural"]).to_owned();
    Some((plural, found.str_at(&["spec", "scope"]) == "Namespaced"))
}
