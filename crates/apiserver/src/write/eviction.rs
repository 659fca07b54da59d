//! The sub-resource `eviction`: a delete that is refused when the pod's disruption budget has no room for it.
//!
//! What the budget says is decided in `access::eviction`. An eviction takes its part of the budget before the pod goes,
//! in a write that fails when somebody else was faster.
//! Behaviour: `pkg/registry/core/pod/storage/eviction.go`.

use access::Lookup as _;
use access::eviction::{self, Verdict};
use api::Kind as _;
use api::policy::poddisruptionbudget::PodDisruptionBudget as BudgetKind;
use http::Response;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use machinery::{ApiError, Object, time};
use serde_json::{Value, json};

use super::delete::{DeleteOptions, delete_one};
use super::update::{Change, apply_change};
use super::{CommitError, WriteOptions, commit_put};
use crate::admit::{self, Operation};
use crate::body::{Body, RequestBody};
use crate::cache::decode_stored;
use crate::call::Call;
use crate::decode;
use crate::read::get::fetch;
use crate::resource::Resource;
use crate::respond;

/// How often an eviction is tried when others change the pod or its budget.
const TRIES: usize = 20;
const CONFLICT: u16 = 409;

/// Answers POST on `pods/eviction`.
pub(crate) async fn evict(
    call: &Call,
    resource: &Resource,
    body: RequestBody,
) -> Result<Response<Body>, ApiError> {
    let options = WriteOptions::parse(call)?;
    let mut eviction = decode::any(call, body).await?.object;
    if !matches!(eviction.kind(), "" | "Eviction") {
        return Err(ApiError::bad_request(format!(
            "not an Eviction object: {}",
            eviction.kind()
        )));
    }
    decode::check_namespace(call, resource, &mut eviction)?;
    if eviction.name() != call.info.name {
        return Err(ApiError::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let operation = Operation::create(call, resource)
        .of_kind("Eviction")
        .with_options(options.dry_run, || options.told(call, "CreateOptions"));
    admit::mutate(&operation, &mut eviction, None).await?;
    admit::validate(&operation, &eviction, None).await?;
    let wanted = eviction
        .at(&["deleteOptions"])
        .and_then(Value::as_object)
        .cloned();
    let mut delete = DeleteOptions::from_object(&Object(wanted.unwrap_or_default()))?;
    delete.dry_run |= options.dry_run;
    let status = carry_out(call, resource, &delete).await?;
    Ok(respond::value(201, &call.form, &status))
}

/// Asks the budget and deletes the pod; the answer.
async fn carry_out(
    call: &Call,
    resource: &Resource,
    wanted: &DeleteOptions,
) -> Result<Value, ApiError> {
    for attempt in 1.. {
        let pod = current(call, resource).await?;
        let view: Pod = pod
            .view()
            .map_err(|error| decode::wrong_shape(resource, &error))?;
        let budgets = call
            .server
            .list("policy", "poddisruptionbudgets", &call.info.namespace);
        let verdict = eviction::decide(&view, &budgets, call.now)?;
        let mut delete = wanted.clone();
        let (bound, budget) = match verdict {
            Verdict::Ambiguous => return Ok(ambiguous()),
            Verdict::Evict { bound, budget } => (bound, budget),
            Verdict::Spend(budget) => {
                let name = budget.metadata.name.clone().unwrap_or_default();
                if !spend(call, *budget, wanted.dry_run).await? {
                    if attempt < TRIES {
                        continue;
                    }
                    let why =
                        format!("couldn't update PodDisruptionBudget {name:?} due to conflicts");
                    return Err(ApiError::timeout(why));
                }
                (false, name)
            }
        };
        let insists = wanted.resource_version.is_some();
        if bound && !insists {
            delete.resource_version = Some(pod.resource_version().to_owned());
        }
        match remove(call, resource, &delete).await {
            Err(error) if error.code == CONFLICT && bound && !insists => {
                // Nobody's budget was asked: the pod is looked at again.
                if budget.is_empty() && attempt < TRIES {
                    continue;
                }
                return Err(match budget.is_empty() {
                    true => error,
                    false => eviction::still_processed(&budget),
                });
            }
            Err(error) => return Err(error),
            Ok(()) => return Ok(success()),
        }
    }
    unreachable!("the loop above ends by itself")
}

fn success() -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
    })
}

/// The answer about a pod that several budgets cover, in upstream's odd form: a failure told by a success.
fn ambiguous() -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 500,
        "message": "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
    })
}

/// The pod as it is stored now.
async fn current(call: &Call, resource: &Resource) -> Result<Object, ApiError> {
    let storage = resource.storage("get")?;
    let key = resource.key(&call.info.namespace, &call.info.name)?;
    let found = fetch(call, storage, &key).await?;
    let found = found.ok_or_else(|| resource.not_found(&call.info.name))?;
    let pod = decode_stored(&found.value, found.mod_revision);
    pod.ok_or_else(|| ApiError::internal("the stored object cannot be read"))
}

/// Writes what is left of a budget; false when somebody else has changed it, as this server's cache shows by now.
async fn spend(call: &Call, budget: PodDisruptionBudget, dry_run: bool) -> Result<bool, ApiError> {
    if dry_run {
        return Ok(true);
    }
    let names = BudgetKind::NAMES;
    let resource = call
        .server
        .resources()
        .get(names.group, names.version, names.plural)
        .ok_or_else(ApiError::path_not_found)?;
    let storage = resource.storage("update")?;
    let value = serde_json::to_value(&budget).map_err(ApiError::internal)?;
    let mut object =
        Object::from_value(value).map_err(|_| ApiError::internal("a budget is no object"))?;
    object.set_type(&names.api_version(), names.kind);
    let key = resource.key(object.namespace(), object.name())?;
    let expected = object.resource_version().parse().unwrap_or_default();
    match commit_put(call, &resource, storage, &key, &mut object, expected).await {
        Ok(()) => Ok(true),
        Err(CommitError::Conflict | CommitError::Taken) => {
            storage.cache.wait_fresh().await.map(|()| false)
        }
        Err(CommitError::Failed(error)) => Err(error),
    }
}

/// Tells the pod why it goes, and deletes it.
async fn remove(call: &Call, resource: &Resource, delete: &DeleteOptions) -> Result<(), ApiError> {
    let mut delete = delete.clone();
    if !delete.dry_run {
        let change = Condemn {
            call,
            resource,
            delete: &delete,
        };
        let options = WriteOptions::default();
        let written = apply_change(call, resource, None, &options, &change).await?;
        if delete.resource_version.is_some() {
            let version = written.object.resource_version().to_owned();
            delete.resource_version = Some(version);
        }
    }
    let (namespace, name) = (&call.info.namespace, &call.info.name);
    delete_one(call, resource, namespace, name, &delete).await?;
    Ok(())
}

/// The condition `DisruptionTarget` becomes true, in the version that is meant.
struct Condemn<'a> {
    call: &'a Call,
    resource: &'a Resource,
    delete: &'a DeleteOptions,
}

impl Change for Condemn<'_> {
    fn make(&self, current: &Object) -> Result<Object, ApiError> {
        let pairs = [
            (
                "UID",
                &self.delete.uid,
                current.uid(),
                "The object might have been deleted and then recreated",
            ),
            (
                "ResourceVersion",
                &self.delete.resource_version,
                current.resource_version(),
                "The object might have been modified",
            ),
        ];
        for (what, wanted, there, perhaps) in pairs {
            if let Some(wanted) = wanted.as_ref().filter(|w| !w.is_empty() && *w != there) {
                let why = format!(
                    "the {what} in the precondition ({wanted}) does not match the {what} in record ({there}). {perhaps}"
                );
                return Err(self.resource.conflict(current.name(), why));
            }
        }
        let mut new = current.clone();
        condemn(&mut new, &time::rfc3339(self.call.now));
        Ok(new)
    }
}

fn condemn(pod: &mut Object, now: &str) {
    let status = pod.object_at_mut(&["status"]);
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    let Some(conditions) = conditions.as_array_mut() else {
        return;
    };
    let mut wanted = json!({
        "type": "DisruptionTarget", "status": "True", "lastProbeTime": null, "lastTransitionTime": now,
        "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting",
    });
    match conditions
        .iter_mut()
        .find(|c| c["type"] == "DisruptionTarget")
    {
        Some(there) => {
            if there["status"] == "True" {
                wanted["lastTransitionTime"] = there["lastTransitionTime"].take();
            }
            *there = wanted;
        }
        None => conditions.push(wanted),
    }
}
