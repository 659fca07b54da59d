//! The objects that a policy is given as `params`.

use k8s_openapi::api::admissionregistration::v1::{ParamKind, ParamRef};
use machinery::Object;
use machinery::labels::Selector;
use serde_json::Value;

use crate::Lookup;

fn named(kind: &ParamKind) -> (&str, &str) {
    (
        kind.api_version.as_deref().unwrap_or_default(),
        kind.kind.as_deref().unwrap_or_default(),
    )
}

/// Whether the kind of parameters is one.
///
/// # Errors
/// It is not.
pub(super) fn known(kind: Option<&ParamKind>, lookup: &dyn Lookup) -> Result<(), String> {
    let Some((version, kind)) = kind.map(named) else {
        return Ok(());
    };
    if resource_of((version, kind), lookup).is_some() {
        return Ok(());
    }
    let version = match version.contains('/') {
        true => version.to_owned(),
        false => format!("/{version}"),
    };
    Err(format!(
        "failed to find resource referenced by paramKind: '{version}, Kind={kind}'"
    ))
}

/// The parameters of a binding; a policy that takes none is asked once without. The error is for the failure policy.
pub(super) fn collect(
    kind: Option<&ParamKind>,
    reference: Option<&ParamRef>,
    namespace: &str,
    lookup: &dyn Lookup,
) -> Result<Vec<Option<Value>>, String> {
    let (Some(kind), Some(reference)) = (kind, reference) else {
        return Ok(vec![None]);
    };
    let named = named(kind);
    let Some((group, resource, namespaced)) = resource_of(named, lookup) else {
        let (version, kind) = named;
        return Err(format!(
            "paramKind kind `&ParamKind{{APIVersion:{version},Kind:{kind},}}` not known"
        ));
    };
    let own = reference.namespace.as_deref().unwrap_or_default();
    let namespace = match (namespaced, own, namespace) {
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
    let found = match (reference.name.as_deref(), &reference.selector) {
        (Some(name), None) if !name.is_empty() => {
            let found = lookup.get(&group, &resource, namespace, name);
            found.into_iter().collect()
        }
        (_, Some(selector)) => {
            let selector = Selector::from_label_selector(selector)?;
            let mut all = lookup.list(&group, &resource, namespace);
            all.retain(|o| selector.matches(|key| o.label(key)));
            all
        }
        _ => return Err("one of name or selector must be provided".to_owned()),
    };
    if found.is_empty() && reference.parameter_not_found_action.as_deref() == Some("Deny") {
        return Err(
            "no params found for policy binding with `Deny` parameterNotFoundAction".to_owned(),
        );
    }
    let (version, kind) = named;
    let shown = |object: &Object| {
        let mut object = object.clone();
        object.set_type(version, kind);
        Some(object.into_value())
    };
    Ok(found.iter().map(|object| shown(object)).collect())
}

/// The group and plural name of a kind, and whether it lives in namespaces.
pub(super) fn resource_of(
    (version, kind): (&str, &str),
    lookup: &dyn Lookup,
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
