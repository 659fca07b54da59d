//! Whoever writes a policy or a binding must be able to read its parameters himself: policies read them for him.
//!
//! Behaviour and wording: `pkg/registry/admissionregistration/*/authz.go`.

use machinery::{ApiError, ErrorList, Object, Path};
use serde_json::Value;

use super::params::resource_of;
use super::{GROUP, Part, part_of};
use crate::admission::Request;
use crate::{Attributes, Lookup, User};

/// Looks at the write of a policy or a binding; others pass.
///
/// # Errors
/// 422: its writer may not read the parameters.
pub fn check_write(
    request: &Request<'_>,
    object: &Object,
    lookup: &dyn Lookup,
) -> Result<(), ApiError> {
    let Some((mutating, part)) = part_of(request.group, request.resource) else {
        return Ok(());
    };
    let ours = request.subresource.is_empty() && !object.0.is_empty();
    if !ours || request.user.is_in(crate::user::SYSTEM_MASTERS) {
        return Ok(());
    }
    let (field, refused) = match part {
        Part::Policy => ("paramKind", of_policy(request, object, lookup)),
        Part::Binding => ("paramRef", of_binding(mutating, request, object, lookup)),
    };
    let Some(why) = refused else { return Ok(()) };
    let mut errors = ErrorList::new();
    errors.forbidden(&Path::new("spec").child(field), why);
    Err(ApiError::invalid(
        GROUP,
        request.kind,
        object.name(),
        &errors,
    ))
}

/// The user as Go prints one.
fn shown(user: &User) -> String {
    let groups = user.groups.join(" ");
    let extra: Vec<String> = user
        .extra
        .iter()
        .map(|(key, values)| format!("{key}:[{}]", values.join(" ")))
        .collect();
    let (name, uid, extra) = (&user.name, &user.uid, extra.join(" "));
    format!("&{{{name} {uid} [{groups}] map[{extra}]}}")
}

fn may(
    request: &Request<'_>,
    verb: &str,
    kind: (&str, &str, &str),
    namespace: &str,
    name: &str,
) -> bool {
    let (group, version, resource) = kind;
    let attributes = Attributes {
        api_version: version.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        ..Attributes::resource(request.user, verb, group, resource)
    };
    request.authorizer.authorize(&attributes).is_allowed()
}

fn of_policy(request: &Request<'_>, object: &Object, lookup: &dyn Lookup) -> Option<String> {
    let kind = object.at(&["spec", "paramKind"])?;
    if request.old.and_then(|old| old.at(&["spec", "paramKind"])) == Some(kind) {
        return None;
    }
    let text = |field: &str| kind.get(field).and_then(Value::as_str).unwrap_or_default();
    let (version, name) = (text("apiVersion"), text("kind"));
    let found = resource_of((version, name), lookup);
    let resource = found.as_ref().map_or("*", |(_, resource, _)| resource);
    let (group, own) = version.split_once('/').unwrap_or(("", version));
    let allowed = may(request, "get", (group, own, resource), "*", "*");
    let user = shown(request.user);
    (!allowed).then(|| {
        format!(
            "user {user} must have \"get\" permission on all objects of the referenced paramKind (kind={name}, apiVersion={version})"
        )
    })
}

fn of_binding(
    mutating: bool,
    request: &Request<'_>,
    object: &Object,
    lookup: &dyn Lookup,
) -> Option<String> {
    let reference = object.at(&["spec", "paramRef"])?;
    let policy = object.str_at(&["spec", "policyName"]);
    let is_same = |old: &Object| {
        old.at(&["spec", "paramRef"]) == Some(reference)
            && old.str_at(&["spec", "policyName"]) == policy
    };
    if request.old.is_some_and(is_same) {
        return None;
    }
    let text = |field: &str| {
        let found = reference.get(field).and_then(Value::as_str);
        found.unwrap_or_default()
    };
    let (name, namespace) = (text("name"), text("namespace"));
    let verb = if name.is_empty() { "list" } else { "get" };
    let resource = match mutating {
        true => "mutatingadmissionpolicies",
        false => "validatingadmissionpolicies",
    };
    let found = lookup.get(GROUP, resource, "", policy);
    let kind = found.as_ref().and_then(|p| p.at(&["spec", "paramKind"]));
    let of_kind = |field: &str| {
        let found = kind.and_then(|k| k.get(field));
        found.and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let (version, kind_name) = (of_kind("apiVersion"), of_kind("kind"));
    let resolved = kind.and_then(|_| resource_of((&version, &kind_name), lookup));
    let (group, own) = version.split_once('/').unwrap_or(("", &version));
    let asked = match (kind, &resolved) {
        (None, _) => ("*", "*", "*"),
        (Some(_), None) => (group, own, "*"),
        (Some(_), Some((_, resource, _))) => (group, own, resource.as_str()),
    };
    if may(request, verb, asked, namespace, name) {
        return None;
    }
    let user = shown(request.user);
    let rest = format!(
        "to determine minimum required permissions and user {user} does not have \"{verb}\" permission for all groups, versions and resources"
    );
    Some(match (found.is_some(), kind, resolved) {
        (false, ..) => format!("unable to get policy {policy} {rest}"),
        (true, Some(_), None) => format!(
            "unable to resolve paramKind &ParamKind{{APIVersion:{version},Kind:{kind_name},}} {rest}"
        ),
        // As upstream: the words of the two kinds of bindings differ.
        _ if mutating => format!(
            "user {verb} does not have \"{user}\" permission on the object referenced by paramRef"
        ),
        _ => format!(
            "user {user} does not have \"{verb}\" permission on the object referenced by paramRef"
        ),
    })
}
