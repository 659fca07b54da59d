//! The sub-resource `scale`: replicas and selector of a workload as an `autoscaling/v1, Kind=Scale`.
//!
//! Behaviour: `pkg/registry/apps/deployment/storage` (`ScaleREST`) and its siblings.

use api::{Part, Subresource};
use http::Response;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use machinery::{ApiError, ErrorList, Object, Path, labels};
use serde_json::{Value, json};

use super::patch::Patch;
use super::update::{Change, apply_change};
use super::{WriteOptions, Written};
use crate::body::{Body, RequestBody};
use crate::cache::decode_stored;
use crate::call::Call;
use crate::decode;
use crate::read::get::fetch;
use crate::resource::Resource;
use crate::respond;

#[derive(Clone, Copy)]
struct Fields {
    spec: &'static [&'static str],
    status: &'static [&'static str],
    selector: &'static [&'static str],
}

fn fields(subresource: Subresource) -> Result<Fields, ApiError> {
    match subresource {
        Subresource::Scale {
            spec_replicas,
            status_replicas,
            selector,
        } => Ok(Fields {
            spec: spec_replicas,
            status: status_replicas,
            selector,
        }),
        _ => Err(ApiError::path_not_found()),
    }
}

/// The scale of an object.
fn scale_of(object: &Object, fields: Fields) -> Object {
    let selector = object.at(fields.selector).cloned().unwrap_or(Value::Null);
    let text = match serde_json::from_value::<LabelSelector>(selector.clone()) {
        Ok(typed)
            if selector.get("matchLabels").is_some()
                || selector.get("matchExpressions").is_some() =>
        {
            labels::Selector::from_label_selector(&typed)
                .unwrap_or_else(|_| labels::Selector::nothing())
        }
        _ => labels::Selector::from_map(&serde_json::from_value(selector).unwrap_or_default()),
    };
    let number = |path: &[&str]| object.at(path).and_then(Value::as_i64).unwrap_or(0);
    let mut metadata = json!({"name": object.name(), "namespace": object.namespace(), "uid": object.uid(),
        "resourceVersion": object.resource_version()});
    metadata["creationTimestamp"] = object.meta_str("creationTimestamp").into();
    let mut spec = serde_json::Map::new();
    if number(fields.spec) != 0 {
        spec.insert("replicas".into(), number(fields.spec).into());
    }
    let mut status = json!({"replicas": number(fields.status)});
    if !text.is_everything() {
        status["selector"] = text.to_string().into();
    }
    let scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec,
        "status": status,
    });
    Object::from_value(scale).unwrap_or_default()
}

/// Answers GET.
pub(crate) async fn get(
    call: &Call,
    resource: &Resource,
    subresource: Subresource,
) -> Result<Response<Body>, ApiError> {
    let fields = fields(subresource)?;
    let storage = resource.storage("get")?;
    let key = resource.key(&call.info.namespace, &call.info.name)?;
    let found = fetch(call, storage, &key).await?;
    let found = found.ok_or_else(|| resource.not_found(&call.info.name))?;
    let object = decode_stored(&found.value, found.mod_revision);
    let object = object.ok_or_else(|| ApiError::internal("the stored object cannot be read"))?;
    Ok(respond::value(
        200,
        &call.form,
        &scale_of(&object, fields).into_value(),
    ))
}

/// Answers PUT.
pub(crate) async fn update(
    call: &Call,
    resource: &Resource,
    subresource: Subresource,
    body: RequestBody,
) -> Result<Response<Body>, ApiError> {
    let options = WriteOptions::parse(call)?;
    let scale = decode::any(call, body).await?.object;
    if !matches!(scale.kind(), "" | "Scale") {
        let why = format!("wrong object passed to Scale update: {}", scale.kind());
        return Err(ApiError::bad_request(why));
    }
    let fields = fields(subresource)?;
    let change = Rescale {
        fields,
        wanted: &|_: &Object| Ok(scale.clone()),
        named: true,
    };
    answer(
        call,
        fields,
        apply_change(call, resource, Some(Part::Main), &options, &change).await?,
    )
}

/// Answers PATCH.
pub(crate) async fn patch(
    call: &Call,
    resource: &Resource,
    subresource: Subresource,
    options: &WriteOptions,
    patch: &Patch,
) -> Result<Response<Body>, ApiError> {
    let fields = fields(subresource)?;
    let change = Rescale {
        fields,
        wanted: &|current: &Object| match patch {
            // Replicas are all there is to apply.
            Patch::Apply(applied) => Ok(applied.clone()),
            patch => patch.apply_to(None, current.clone()),
        },
        named: false,
    };
    answer(
        call,
        fields,
        apply_change(call, resource, Some(Part::Main), options, &change).await?,
    )
}

fn answer(call: &Call, fields: Fields, written: Written) -> Result<Response<Body>, ApiError> {
    let scale = scale_of(&written.object, fields).into_value();
    Ok(respond::value(200, &call.form, &scale))
}

struct Rescale<'a> {
    fields: Fields,
    wanted: &'a (dyn Fn(&Object) -> Result<Object, ApiError> + Send + Sync),
    named: bool,
}

impl Change for Rescale<'_> {
    fn make(&self, current: &Object) -> Result<Object, ApiError> {
        let scale = (self.wanted)(&scale_of(current, self.fields))?;
        let replicas = match scale.at(&["spec", "replicas"]) {
            None | Some(Value::Null) => 0,
            Some(value) => value.as_i64().ok_or_else(|| {
                let why = "cannot be handled as a Scale: spec.replicas is no number";
                ApiError::bad_request(format!("Scale in version \"v1\" {why}"))
            })?,
        };
        if replicas < 0 {
            let mut errors = ErrorList::new();
            let at = Path::new("spec").child("replicas");
            errors.invalid(&at, replicas, "must be greater than or equal to 0");
            return Err(ApiError::invalid(
                "autoscaling",
                "Scale",
                current.name(),
                &errors,
            ));
        }
        let mut new = current.clone();
        if let Some((last, parents)) = self.fields.spec.split_last() {
            new.object_at_mut(parents)
                .insert((*last).into(), replicas.into());
        }
        new.set_meta_str("resourceVersion", scale.resource_version());
        if !scale.uid().is_empty() {
            new.set_meta_str("uid", scale.uid());
        }
        Ok(new)
    }

    fn names_version(&self) -> bool {
        self.named
    }
}
