//! Nothing new in a namespace that does not exist or is going away; some namespaces never go.
//!
//! Behaviour: `k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle`. The answer about namespaces must be the
//! newest: content made while a namespace is being emptied would be left behind (CVE-2024-7598 is of this family).

use machinery::{ApiError, Object};

use super::{Awaited, Operation, Request};
use crate::Lookup;

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) fn admit(
    request: &Request,
    object: &mut Object,
    lookup: &dyn Lookup,
) -> Result<(), ApiError> {
    let is_namespace = request.is_for("", "namespaces");
    if request.operation == Operation::Delete && is_namespace && IMMORTAL.contains(&request.name) {
        let why = "this namespace may not be deleted";
        return Err(ApiError::forbidden("", "namespaces", request.name, why));
    }
    if !concerns(request) {
        return Ok(());
    }
    let namespace = request.namespace;
    let Some(found) = lookup.get("", "namespaces", "", namespace) else {
        return Err(ApiError::not_found("", "namespaces", namespace));
    };
    if found.str_at(&["status", "phase"]) != "Terminating" {
        return Ok(());
    }
    let why = format!(
        "unable to create new content in namespace {namespace} because it is being terminated"
    );
    let mut error = request.forbidden(object, why);
    if let Some(details) = error.details.as_mut() {
        let message = format!("namespace {namespace} is being terminated");
        let cause = (
            "NamespaceTerminating".to_owned(),
            message,
            "metadata.namespace".to_owned(),
        );
        details.causes.push(cause);
    }
    Err(error)
}

/// A create in a namespace; a review of rights must not tell whether the namespace exists.
fn concerns(request: &Request) -> bool {
    request.operation == Operation::Create
        && !request.namespace.is_empty()
        && !request.is_for("", "namespaces")
        && !request.is_for("authorization.k8s.io", "localsubjectaccessreviews")
}

pub(super) fn awaits(request: &Request, lookup: &dyn Lookup) -> Option<Awaited> {
    let missing = || {
        lookup
            .get("", "namespaces", "", request.namespace)
            .is_none()
    };
    (concerns(request) && missing()).then(|| Awaited {
        resource: "namespaces",
        namespace: String::new(),
        name: request.namespace.to_owned(),
    })
}

/// NamespaceExists: nothing at all in a namespace that does not exist.
pub(super) fn exists(request: &Request, _: &Object, lookup: &dyn Lookup) -> Result<(), ApiError> {
    let inside = !request.namespace.is_empty() && !request.is_for("", "namespaces");
    let connects = request.operation == Operation::Connect;
    let missing = || {
        lookup
            .get("", "namespaces", "", request.namespace)
            .is_none()
    };
    match inside && !connects && missing() {
        true => Err(ApiError::not_found("", "namespaces", request.namespace)),
        false => Ok(()),
    }
}
