//! The objects that a policy is given as `params`.

use k8s_openapi::api::admissionregistration::v1::{ParamKind, ParamRef};
use machinery::labels::Selector;
use serde_json::Value;

use super::matching::{Target, has_labels};

/// The parameters of a binding; a policy that takes none is asked once without. The error is for the failure policy.
pub(super) fn collect(
    kind: Option<&ParamKind>,
    reference: Option<&ParamRef>,
    target: &Target<'_>,
) -> Result<Vec<Option<Box<Value>>>, String> {
    let (Some(kind), Some(reference)) = (kind, reference) else {
        return Ok(vec![None]);
    };
    let named = (
        kind.api_version.as_deref().unwrap_or_default(),
        kind.kind.as_deref().unwrap_or_default(),
    );
    let Some((group, resource, namespaced)) = resource_of(named, target) else {
        let (version, kind) = named;
        return Err(format!(
            "failed to find resource referenced by paramKind: '{}, Kind={kind}'",
            gv(version)
        ));
    };
    let own = reference.namespace.as_deref().unwrap_or_default();
    let namespace = match (namespaced, own, target.request.namespace) {
        (false, "", _) => "",
        (false, ..) => {
            return Err(
                "paramRef.namespace must not be provided for a cluster-scoped `paramKind`"
                    .to_owned(),
            );
        }
        (true, "", "") => {
            return Err("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".to_owned());
        }
        (true, "", request) => request,
        (true, own, _) => own,
    };
    let found: Vec<Value> = match (reference.name.as_deref(), &reference.selector) {
        (Some(name), None) if !name.is_empty() => {
            let found = target.lookup.get(&group, &resource, namespace, name);
            found
                .map(|o| Value::Object(o.0.clone()))
                .into_iter()
                .collect()
        }
        (_, Some(selector)) => {
            let selector = Selector::from_label_selector(selector)?;
            let all = target.lookup.list(&group, &resource, namespace);
            let all = all.iter().map(|o| Value::Object(o.0.clone()));
            all.filter(|o| has_labels(&selector, o)).collect()
        }
        _ => return Err("one of name or selector must be provided".to_owned()),
    };
    if found.is_empty() && reference.parameter_not_found_action.as_deref() == Some("Deny") {
        return Err(
            "no params found for policy binding with `Deny` parameterNotFoundAction".to_owned(),
        );
    }
    let (version, kind) = named;
    Ok(found
        .into_iter()
        .map(|mut value| {
            value["apiVersion"] = version.into();
            value["kind"] = kind.into();
            Some(Box::new(value))
        })
        .collect())
}

fn gv(version: &str) -> String {
    match version.contains('/') {
        true => version.to_owned(),
        false => format!("/{version}"),
    }
}

/// The group and plural name of a kind, and whether it lives in namespaces.
fn resource_of(
    (version, kind): (&str, &str),
    target: &Target<'_>,
) -> Option<(String, String, bool)> {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    if let Some(known) = api::by_kind(group, version, kind) {
        let namespaced = known.scope() == api::kind::Scope::Namespaced;
        return Some((
            group.to_owned(),
            known.names().plural.to_owned(),
            namespaced,
        ));
    }
    let lookup = target.lookup;
    let all = lookup.list("apiextensions.k8s.io", "customresourcedefinitions", "");
    all.iter().find_map(|definition| {
        let spec = |path: &[&str]| {
            let path: Vec<&str> = std::iter::once("spec")
                .chain(path.iter().copied())
                .collect();
            definition.str_at(&path).to_owned()
        };
        let own = spec(&["group"]) == group && spec(&["names", "kind"]) == kind;
        own.then(|| {
            let namespaced = spec(&["scope"]) == "Namespaced";
            (group.to_owned(), spec(&["names", "plural"]), namespaced)
        })
    })
}
