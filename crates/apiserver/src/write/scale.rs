//! The sub-resource `scale`: replicas and selector of a workload as an `autoscaling/v1, Kind=Scale`.
//!
//! Behaviour: `pkg/registry/apps/deployment/storage` (`ScaleREST`) and its siblings.

use api::Part;
use api::kind::ScalePaths;
use http::Response;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use machinery::apply::Scaled;
use machinery::{ApiError, ErrorList, Object, Path, labels};
use serde_json::{Value, json};

use super::patch::{Patch, Patched, check_applied};
use super::update::{Change, Ownership, View, apply_change};
use super::{WriteOptions, Written, managed, object_answer};
use crate::body::{Body, RequestBody};
use crate::cache::decode_stored;
use crate::call::Call;
use crate::decode;
use crate::read::get::fetch;
use crate::resource::Resource;

fn fields(resource: &Resource) -> Result<ScalePaths, ApiError> {
    resource.kind.scale().ok_or_else(ApiError::path_not_found)
}

fn plain(path: &[Box<str>]) -> Vec<&str> {
    path.iter().map(|part| &**part).collect()
}

/// The selector as text: custom kinds write it so, others have an object.
fn selector_text(selector: Value) -> String {
    if let Value::String(text) = selector {
        return text;
    }
    let selector = match serde_json::from_value::<LabelSelector>(selector.clone()) {
        Ok(typed)
            if selector.get("matchLabels").is_some()
                || selector.get("matchExpressions").is_some() =>
        {
            labels::Selector::from_label_selector(&typed)
                .unwrap_or_else(|_| labels::Selector::nothing())
        }
        _ => labels::Selector::from_map(&serde_json::from_value(selector).unwrap_or_default()),
    };
    match selector.is_everything() {
        true => String::new(),
        false => selector.to_string(),
    }
}

/// The scale of an object.
fn scale_of(object: &Object, fields: &ScalePaths) -> Object {
    let selector = object.at(&plain(&fields.selector)).cloned();
    let text = selector_text(selector.unwrap_or(Value::Null));
    let number = |path: &[&str]| object.at(path).and_then(Value::as_i64).unwrap_or(0);
    let mut metadata = json!({"name": object.name(), "namespace": object.namespace(), "uid": object.uid(),
        "resourceVersion": object.resource_version()});
    metadata["creationTimestamp"] = object.meta_str("creationTimestamp").into();
    let mut spec = serde_json::Map::new();
    if number(&plain(&fields.spec_replicas)) != 0 {
        spec.insert(
            "replicas".into(),
            number(&plain(&fields.spec_replicas)).into(),
        );
    }
    let mut status = json!({"replicas": number(&plain(&fields.status_replicas))});
    if !text.is_empty() {
        status["selector"] = text.into();
    }
    let scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec,
        "status": status,
    });
    Object::from_value(scale).unwrap_or_default()
}

/// Answers GET.
pub(crate) async fn get(call: &Call, resource: &Resource) -> Result<Response<Body>, ApiError> {
    let fields = fields(resource)?;
    let storage = resource.storage("get")?;
    let key = resource.key(&call.info.namespace, &call.info.name)?;
    let found = fetch(call, storage, &key).await?;
    let found = found.ok_or_else(|| resource.not_found(&call.info.name))?;
    let object = decode_stored(&found.value, found.mod_revision);
    let object = object.ok_or_else(|| ApiError::internal("the stored object cannot be read"))?;
    let object = resource.present(&call.server, object).await?;
    object_answer(call, &kind()?, 200, scale_of(&object, &fields))
}

/// The kind of what is read and written here.
fn kind() -> Result<Resource, ApiError> {
    Resource::body("Scale").ok_or_else(ApiError::path_not_found)
}

/// Answers PUT.
pub(crate) async fn update(
    call: &Call,
    resource: &Resource,
    body: RequestBody,
) -> Result<Response<Body>, ApiError> {
    let options = WriteOptions::parse(call)?;
    let kind = kind()?;
    let mut scale = decode::object(call, &kind, body).await?;
    decode::check_namespace(call, resource, &mut scale)?;
    decode::check_name(call, &scale)?;
    let fields = fields(resource)?;
    let change = Rescale {
        resource,
        fields: &fields,
        call,
        options: &options,
        wanted: &|_: &Object| Ok(scale.clone()),
        applied: None,
        is_patch: false,
        named: !scale.resource_version().is_empty() || !scale.uid().is_empty(),
    };
    answer(
        call,
        &fields,
        apply_change(call, resource, Some(Part::Main), &options, &change).await?,
    )
}

/// Answers PATCH.
pub(crate) async fn patch(
    call: &Call,
    resource: &Resource,
    options: &WriteOptions,
    patch: &Patch,
    duplicates: Vec<String>,
) -> Result<Response<Body>, ApiError> {
    let (fields, kind) = (fields(resource)?, kind()?);
    if let Patch::Apply(applied) = patch {
        check_applied(call, &kind, applied)?;
    }
    let patched = Patched {
        call,
        resource: &kind,
        patch,
        duplicates,
    };
    let change = Rescale {
        resource,
        fields: &fields,
        call,
        options,
        wanted: &|current: &Object| patched.make(current),
        is_patch: true,
        applied: match patch {
            Patch::Apply(applied) => Some(applied),
            _ => None,
        },
        named: false,
    };
    answer(
        call,
        &fields,
        apply_change(call, resource, Some(Part::Main), options, &change).await?,
    )
}

fn answer(call: &Call, fields: &ScalePaths, written: Written) -> Result<Response<Body>, ApiError> {
    object_answer(call, &kind()?, 200, scale_of(&written.object, fields))
}

/// Whether an update has to name the version that it replaces.
fn resource_needs_version(resource: &Resource) -> bool {
    !resource.kind.unconditional_update()
}

struct Rescale<'a> {
    call: &'a Call,
    resource: &'a Resource,
    options: &'a WriteOptions,
    fields: &'a ScalePaths,
    wanted: &'a (dyn Fn(&Object) -> Result<Object, ApiError> + Send + Sync),
    /// What is applied, instead of what is wanted.
    applied: Option<&'a Object>,
    is_patch: bool,
    named: bool,
}

impl Rescale<'_> {
    /// The wanted scale and who owns its replicas.
    fn scale(&self, live: &Object) -> Result<Object, ApiError> {
        if let Some(applied) = self.applied {
            return managed::apply_scale(self.call, self.options, applied, live);
        }
        let mut scale = (self.wanted)(live)?;
        managed::track_scale(self.call, self.options, live, &mut scale);
        Ok(scale)
    }
}

impl Rescale<'_> {
    /// A patch may be bound to one incarnation of the object.
    fn check_uid(&self, scale: &Object, current: &Object) -> Result<(), ApiError> {
        let (given, there) = (scale.uid(), current.uid());
        if !self.is_patch || given.is_empty() || given == there {
            return Ok(());
        }
        let names = self.resource.names();
        let why = format!(
            "Precondition failed: UID in precondition: {given}, UID in object meta: {there}"
        );
        let resource = format!("{}/scale", names.plural);
        Err(ApiError::conflict(
            names.group,
            &resource,
            current.name(),
            why,
        ))
    }
}

impl Change for Rescale<'_> {
    fn make(&self, current: &Object) -> Result<Object, ApiError> {
        let replicas = plain(&self.fields.spec_replicas);
        let api_version = self.resource.names().api_version();
        let scaled = Scaled {
            object: current,
            api_version: &api_version,
            replicas: &replicas,
        };
        let mut live = scale_of(current, self.fields);
        scaled.show(&mut live);
        let scale = self.scale(&live)?;
        self.check_uid(&scale, current)?;
        let mut new = current.clone();
        self.take_over(&scale, &mut new)?;
        scaled.take_over(&scale, &mut new);
        let version = match (
            scale.resource_version(),
            resource_needs_version(self.resource),
        ) {
            ("", true) => current.resource_version(),
            (given, _) => given,
        };
        new.set_meta_str("resourceVersion", version);
        if !scale.uid().is_empty() {
            new.set_meta_str("uid", scale.uid());
        }
        Ok(new)
    }

    fn ownership(&self) -> Ownership {
        Ownership::Settled
    }

    fn names_version(&self) -> bool {
        self.named
    }

    fn view(&self) -> Option<&dyn View> {
        Some(self)
    }
}

impl View for Rescale<'_> {
    fn kind(&self) -> &'static str {
        "Scale"
    }

    fn of(&self, object: &Object) -> Object {
        scale_of(object, self.fields)
    }

    /// Replicas are all that a scale says.
    fn take_over(&self, scale: &Object, object: &mut Object) -> Result<(), ApiError> {
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
                object.name(),
                &errors,
            ));
        }
        if let Some((last, parents)) = self.fields.spec_replicas.split_last() {
            object
                .object_at_mut(&plain(parents))
                .insert(last.to_string(), replicas.into());
        }
        Ok(())
    }
}
