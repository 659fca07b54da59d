//! The sub-resource `binding`: a scheduler gives a pod its node.
//!
//! Behaviour: `pkg/registry/core/pod/storage` (`BindingREST`).

use http::Response;
use machinery::{ApiError, ErrorList, Object, Path, time};
use serde_json::{Value, json};

use super::WriteOptions;
use super::update::{Change, apply_change};
use crate::admit::{self, Operation};
use crate::body::{Body, RequestBody};
use crate::call::Call;
use crate::decode;
use crate::resource::Resource;
use crate::respond;

/// Answers POST on `pods/binding`.
pub(crate) async fn bind(
    call: &Call,
    resource: &Resource,
    body: RequestBody,
) -> Result<Response<Body>, ApiError> {
    let binding = decode::any(call, body).await?.object;
    store(call, resource, binding).await
}

/// Answers POST on `bindings`, where the body alone says which pod is meant.
pub(crate) async fn bind_named(call: &Call, body: RequestBody) -> Result<Response<Body>, ApiError> {
    let binding = decode::any(call, body).await?.object;
    let pods = call.server.resources().get("", "v1", "pods");
    let pods = pods.ok_or_else(ApiError::path_not_found)?;
    let call = call.redirected("pods", "binding", binding.name());
    store(&call, &pods, binding).await
}

async fn store(
    call: &Call,
    resource: &Resource,
    mut binding: Object,
) -> Result<Response<Body>, ApiError> {
    let options = WriteOptions::parse(call)?;
    if !matches!(binding.kind(), "" | "Binding") {
        let why = format!("not a Binding object: {}", binding.kind());
        return Err(ApiError::bad_request(why));
    }
    decode::check_namespace(call, resource, &mut binding)?;
    if binding.name() != call.info.name {
        return Err(ApiError::bad_request(
            "name in URL does not match name in Binding object",
        ));
    }
    let operation = Operation::create(call, resource)
        .of_kind("Binding")
        .with_options(options.dry_run, || options.told(call, "CreateOptions"));
    admit::mutate(&operation, &mut binding, None).await?;
    validate(&binding)?;
    admit::validate(&operation, &binding, None).await?;
    let change = Bind {
        resource,
        binding: &binding,
        call,
    };
    apply_change(call, resource, None, &options, &change).await?;
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
    });
    Ok(respond::value(201, &call.form, &status))
}

fn validate(binding: &Object) -> Result<(), ApiError> {
    let mut errors = ErrorList::new();
    let kind = binding.str_at(&["target", "kind"]);
    let at = Path::new("target");
    if !matches!(kind, "" | "Node") {
        errors.not_supported(&at.child("kind"), kind, &["Node", "<empty>"]);
    }
    if binding.str_at(&["target", "name"]).is_empty() {
        errors.required(&at.child("name"), "");
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid("", "Binding", binding.name(), &errors))
}

struct Bind<'a> {
    call: &'a Call,
    resource: &'a Resource,
    binding: &'a Object,
}

impl Change for Bind<'_> {
    fn make(&self, current: &Object) -> Result<Object, ApiError> {
        let (name, node) = (current.name(), self.binding.str_at(&["target", "name"]));
        let conflict = |why: String| Err(self.resource.conflict(name, why));
        if !self.binding.uid().is_empty() && self.binding.uid() != current.uid() {
            return conflict(format!(
                "Precondition failed: UID in precondition: {}, UID in object meta: {}",
                self.binding.uid(),
                current.uid()
            ));
        }
        if current.deletion_timestamp().is_some() {
            return conflict(format!(
                "pod {name} is being deleted, cannot be assigned to a host"
            ));
        }
        let assigned = current.str_at(&["spec", "nodeName"]);
        if !assigned.is_empty() {
            return conflict(format!(
                "pod {name} is already assigned to node {assigned:?}"
            ));
        }
        let gates = current
            .at(&["spec", "schedulingGates"])
            .and_then(Value::as_array);
        if gates.is_some_and(|gates| !gates.is_empty()) {
            return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
        }
        let mut new = current.clone();
        new.object_at_mut(&["spec"])
            .insert("nodeName".into(), node.into());
        // Zone and region of the node, which a plug-in has put there.
        for (key, value) in self.binding.labels() {
            new.object_at_mut(&["metadata", "labels"])
                .insert(key.into(), value.into());
        }
        for (key, value) in self.binding.annotations() {
            new.object_at_mut(&["metadata", "annotations"])
                .insert(key.into(), value.into());
        }
        set_scheduled(&mut new, &time::rfc3339(self.call.now));
        Ok(new)
    }
}

/// The condition `PodScheduled` becomes true.
fn set_scheduled(pod: &mut Object, now: &str) {
    let status = pod.object_at_mut(&["status"]);
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    let Some(conditions) = conditions.as_array_mut() else {
        return;
    };
    let wanted = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now,
    });
    match conditions.iter_mut().find(|c| c["type"] == "PodScheduled") {
        Some(there) if there["status"] == "True" => {}
        Some(there) => *there = wanted,
        None => conditions.push(wanted),
    }
}
