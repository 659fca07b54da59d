//! Patch: a change described instead of a state; applied to whatever is there, again if somebody else was faster.
//!
//! Behaviour: `k8s.io/apiserver/pkg/endpoints/handlers/patch.go`.

use api::{AnyKind, Part};
use http::Response;
use machinery::apply::{ApplyError, Versions, Wanted};
use machinery::codec::{self, Decoded};
use machinery::patch::{json, merge, strategic};
use machinery::schema::{Format, Schema};
use machinery::{ApiError, Object};
use parking_lot::Mutex;
use serde_json::Value;

use super::update::{Change, Ownership, apply_change};
use super::{Target, WriteOptions, managed, scale, written};
use crate::body::{Body, RequestBody};
use crate::call::Call;
use crate::decode;
use crate::negotiate::content_type;
use crate::resource::Resource;
use crate::schemas;

const TYPES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// Also taken; errors do not name it, as upstream's do not while its gate for CBOR is closed.
const APPLY_CBOR: &str = "application/apply-patch+cbor";

/// What objects without merge keys take.
const CUSTOM_TYPES: [&str; 3] = [TYPES[0], TYPES[1], TYPES[3]];

/// A patch, read.
pub(crate) enum Patch {
    Json(Value),
    Merge(Value),
    Strategic(Value),
    Apply(Object),
    /// What is no patch of its type: told once it is known what it would have been for.
    Unfit(ApiError),
}

/// Answers PATCH.
pub(crate) async fn patch(
    call: &Call,
    resource: &Resource,
    target: Target,
    body: RequestBody,
) -> Result<Response<Body>, ApiError> {
    let options = WriteOptions::parse(call)?;
    decode::field_validation(call)?;
    let (patch, duplicates) = read(call, resource, body).await?;
    if matches!(patch, Patch::Apply(_)) && call.query.text("fieldManager").is_empty() {
        let mut errors = machinery::ErrorList::new();
        errors.required(
            &machinery::Path::new("fieldManager"),
            "is required for apply patch",
        );
        return Err(ApiError::invalid(
            "meta.k8s.io",
            "PatchOptions",
            "",
            &errors,
        ));
    }
    if !matches!(patch, Patch::Apply(_)) && options.force {
        let mut errors = machinery::ErrorList::new();
        errors.forbidden(
            &machinery::Path::new("force"),
            "may not be specified for non-apply patch",
        );
        return Err(ApiError::invalid(
            "meta.k8s.io",
            "PatchOptions",
            "",
            &errors,
        ));
    }
    let part = match target {
        Target::Part(part) => part,
        Target::Scale => {
            return scale::patch(call, resource, &options, &patch, duplicates).await;
        }
    };
    if let Patch::Apply(applied) = patch {
        check_applied(call, resource, &applied)?;
        let applied = &applied;
        let change = Applied {
            call,
            resource,
            options: &options,
            part,
            applied,
            duplicates,
            versions: Mutex::default(),
            wanted: Mutex::default(),
        };
        let updated = apply_change(call, resource, Some(part), &options, &change).await?;
        return written(call, resource, updated);
    }
    let change = Patched {
        call,
        resource,
        patch: &patch,
        duplicates,
    };
    let updated = apply_change(call, resource, Some(part), &options, &change).await?;
    written(call, resource, updated)
}

/// What is sent to be applied.
fn applied(bytes: &[u8]) -> Result<Decoded, ApiError> {
    let why = match codec::decode_yaml(bytes) {
        Ok(decoded) => return Ok(decoded),
        // To Go a null says nothing of a map.
        Err(codec::DecodeError::NotAnObject("null")) => return Ok(Decoded::default()),
        Err(e @ codec::DecodeError::Syntax(_)) => format!("error converting YAML to JSON: {e}"),
        Err(e @ codec::DecodeError::NotAnObject(_)) => {
            format!("error unmarshaling JSON: while decoding JSON: {e}")
        }
        Err(other) => other.to_string(),
    };
    Err(ApiError::bad_request(format!(
        "error decoding patch: {why}"
    )))
}

async fn read(
    call: &Call,
    resource: &Resource,
    body: RequestBody,
) -> Result<(Patch, Vec<String>), ApiError> {
    let media = content_type(&call.headers);
    if !TYPES.contains(&media.as_str()) && media != APPLY_CBOR {
        return Err(match resource.kind.may_be_outdated() {
            true => ApiError::unsupported_media_type(&CUSTOM_TYPES),
            false => ApiError::of_route(415, "UnsupportedMediaType", "415: Unsupported Media Type"),
        });
    }
    let bytes = decode::bytes(call, body).await?;
    let bad = |error: codec::DecodeError| match media.as_str() {
        "application/merge-patch+json" => ApiError::bad_request("invalid JSON patch"),
        _ => ApiError::bad_request(format!("error decoding patch: {error}")),
    };
    if media == TYPES[3] {
        let Decoded { object, duplicates } = applied(&bytes)?;
        call.trail.request_patch(|| Value::Object(object.0.clone()));
        return Ok((Patch::Apply(object), duplicates));
    }
    if media == APPLY_CBOR {
        let Decoded { object, duplicates } = codec::decode_cbor(&bytes)
            .map_err(|e| ApiError::bad_request(format!("error decoding CBOR: {e}")))?;
        return Ok((Patch::Apply(object), duplicates));
    }
    let (value, duplicates) = codec::decode_json_value(&bytes).map_err(bad)?;
    call.trail.request_patch(|| value.clone());
    let wrong = |what: &str, wanted: &str| {
        ApiError::bad_request(format!(
            "error decoding patch: json: cannot unmarshal {what} into Go value of type {wanted}"
        ))
    };
    let is_list = media == TYPES[0];
    let unfit = match (&value, is_list) {
        (Value::Array(_), true) | (Value::Object(_) | Value::Null, false) => None,
        (_, true) => Some(wrong(json_type(&value), "[]handlers.jsonPatchOp")),
        (_, false) => Some(wrong(json_type(&value), "map[string]interface {}")),
    };
    if let Some(error) = unfit {
        return Ok((Patch::Unfit(error), duplicates));
    }
    let duplicates = match &value {
        Value::Array(operations) if is_list => about_operations(operations, duplicates),
        _ => duplicates,
    };
    let patch = match media.as_str() {
        "application/json-patch+json" => Patch::Json(value),
        "application/merge-patch+json" => Patch::Merge(value),
        _ => Patch::Strategic(value),
    };
    Ok((patch, duplicates))
}

/// What a strict reader objects to in the operations of a JSON patch.
fn about_operations(operations: &[Value], duplicates: Vec<String>) -> Vec<String> {
    const KNOWN: [&str; 4] = ["op", "path", "from", "value"];
    let fields = operations.iter().enumerate().flat_map(|(i, operation)| {
        let keys = operation.as_object().into_iter().flatten();
        keys.map(move |(key, _)| (i, key.as_str()))
    });
    let unknown = fields.filter(|(_, key)| !KNOWN.contains(key));
    let unknown = unknown.map(|(i, key)| format!("unknown field \"[{i}].{key}\""));
    let all = duplicates.into_iter().chain(unknown);
    all.map(|what| format!("json patch {what}")).collect()
}

/// What Go's decoder calls a value.
fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

impl Patch {
    /// Applies a patch that is no server-side apply.
    ///
    /// # Errors
    /// The patch is malformed or does not fit.
    pub(crate) fn apply_to(
        &self,
        kind: Option<&dyn AnyKind>,
        current: Object,
    ) -> Result<Object, ApiError> {
        let mut value = current.into_value();
        match self {
            Self::Json(patch) => json::apply(&mut value, patch)?,
            Self::Merge(patch) => merge::apply(&mut value, patch),
            Self::Strategic(_) if kind.is_some_and(|k| !k.merges_strategically()) => {
                return Err(ApiError::unsupported_media_type(&CUSTOM_TYPES));
            }
            Self::Strategic(patch) => {
                let schema = kind.and_then(schemas::of);
                strategic::apply(&mut value, patch, schema.as_ref())?;
            }
            Self::Apply(_) => return Err(ApiError::unsupported_media_type(&TYPES[..3])),
            Self::Unfit(error) => return Err(error.clone()),
        }
        Object::from_value(value).map_err(|_| ApiError::bad_request("the patch leaves no object"))
    }
}

/// A patch that is no server-side apply.
pub(super) struct Patched<'a> {
    pub(super) call: &'a Call,
    pub(super) resource: &'a Resource,
    pub(super) patch: &'a Patch,
    pub(super) duplicates: Vec<String>,
}

impl Patched<'_> {
    /// A patch that leaves what no kind reads is refused as a field of the request.
    fn refused(&self, error: ApiError, sent: &Value) -> ApiError {
        let (kind, is_custom) = {
            let names = self.resource.names();
            (names.kind.to_owned(), self.resource.kind.may_be_outdated())
        };
        let why = error
            .message
            .split_once(&format!("cannot be handled as a {kind}: "));
        let (400, Some((_, why)), false) = (error.code, why, is_custom) else {
            return error;
        };
        let (shown, why) = match self.patch {
            Patch::Strategic(patch) => (go_map(patch), self.unstructured(why)),
            _ => (sent.to_string(), why.to_owned()),
        };
        let mut errors = machinery::ErrorList::new();
        errors.invalid(&machinery::Path::new("patch"), shown, why);
        ApiError::invalid("", "", "", &errors)
    }

    /// What is merged strategically is read as a tree, by a reader with other words than that of JSON.
    fn unstructured(&self, why: &str) -> String {
        let schema = schemas::of(&*self.resource.kind);
        let told = schema.and_then(|schema| unstructured(why, &schema));
        told.unwrap_or_else(|| why.to_owned())
    }

    /// A patch moves no object.
    fn check_place(&self, patched: &Object) -> Result<(), ApiError> {
        decode::check_name(self.call, patched)?;
        let (given, wanted) = (patched.namespace(), self.call.info.namespace.as_str());
        if self.resource.is_namespaced() && !given.is_empty() && given != wanted {
            let why = "the namespace of the provided object does not match the namespace sent on the request";
            return Err(ApiError::bad_request(why));
        }
        Ok(())
    }
}

/// Behaviour: `k8s.io/apimachinery/pkg/runtime/converter.go`.
fn unstructured(why: &str, schema: &Schema) -> Option<String> {
    let rest = why.strip_prefix("json: cannot unmarshal ")?;
    let (got, rest) = rest.split_once(" into Go struct field ")?;
    let (at, wanted) = rest.split_once(" of type ")?;
    let mut words = got.split(' ');
    let json = words.next()?;
    let is_float = words.next().is_some_and(|number| number.contains('.'));
    let got = match json {
        "object" => "map",
        "array" => "slice",
        "number" if is_float => "float64",
        "number" => "int64",
        other => other,
    };
    if wanted.starts_with("[]") {
        return Some(format!("cannot restore slice from {got}"));
    }
    if wanted.starts_with("map[") {
        return Some(format!("cannot restore map from {got}"));
    }
    // To Go a number is a character, and a fraction nearly a number.
    let converts = |wanted: &str| {
        (got == "int64" && wanted == "string") || (is_float && wanted.starts_with("int"))
    };
    if !wanted.contains('.') && converts(wanted) {
        return Some(format!("cannot convert {got} to {wanted}"));
    }
    if !wanted.contains('.') {
        return Some(format!("unrecognized type: {wanted}"));
    }
    // The first name is that of a type, and so are those of what Go embeds.
    let names = at.split('.').skip(1);
    let mut field = schema;
    for name in names.filter(|name| !name.starts_with(char::is_uppercase)) {
        while let Some(items) = field.items() {
            field = items;
        }
        field = field.child(name)?;
    }
    match field.kind() {
        machinery::schema::Kind::Object => Some(format!("cannot restore struct from: {got}")),
        machinery::schema::Kind::String
            if matches!(field.format(), Format::DateTime | Format::MicroTime) =>
        {
            Some(format!(
                "json: cannot unmarshal {json} into Go value of type string"
            ))
        }
        machinery::schema::Kind::String if got == "int64" => {
            Some(format!("cannot convert {got} to {wanted}"))
        }
        machinery::schema::Kind::String => Some("unrecognized type: string".to_owned()),
        _ => None,
    }
}

/// A value as Go prints it.
fn go_map(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let fields: Vec<String> = map
                .iter()
                .map(|(k, v)| format!("{k}:{}", go_map(v)))
                .collect();
            format!("map[{}]", fields.join(" "))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go_map).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl Change for Patched<'_> {
    fn make(&self, current: &Object) -> Result<Object, ApiError> {
        let mut patched = self
            .patch
            .apply_to(Some(&*self.resource.kind), current.clone())?;
        let sent = Value::Object(patched.0.clone());
        let checked = decode::check_fields(
            self.call,
            self.resource,
            &mut patched,
            &self.duplicates,
            None,
        );
        checked.map_err(|error| self.refused(error, &sent))?;
        decode::default(self.resource, &mut patched).map_err(|error| self.refused(error, &sent))?;
        self.check_place(&patched)?;
        Ok(patched)
    }
}

/// The object of an apply must be of the kind and name in the path.
pub(super) fn check_applied(
    call: &Call,
    resource: &Resource,
    applied: &Object,
) -> Result<(), ApiError> {
    let names = resource.names();
    let (version, kind) = (names.api_version(), names.kind);
    if applied.kind() != kind || applied.api_version() != version {
        let given = applied.api_version();
        let (group, version, kind) = match given.split_once('/') {
            // Nobody's group version: Go makes nothing of it, nor of the kind.
            Some((_, version)) if version.contains('/') => ("", "", ""),
            Some((group, version)) => (group, version, applied.kind()),
            None => ("", given, applied.kind()),
        };
        return Err(ApiError::bad_request(format!(
            "invalid object type: {group}/{version}, Kind={kind}"
        )));
    }
    if !applied.name().is_empty() && applied.name() != call.info.name {
        decode::check_name(call, applied)?;
    }
    if applied
        .metadata()
        .is_some_and(|m| m.get("managedFields").is_some_and(|f| !f.is_null()))
    {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    Ok(())
}

struct Applied<'a> {
    call: &'a Call,
    resource: &'a Resource,
    options: &'a WriteOptions,
    part: Part,
    applied: &'a Object,
    duplicates: Vec<String>,
    /// The object as managers of other versions see it, as far as it had to be known.
    versions: Mutex<Versions>,
    wanted: Mutex<Option<Wanted>>,
}

impl Applied<'_> {
    fn apply(&self, current: Option<&Object>) -> Result<Object, ApiError> {
        let merged = managed::apply(
            self.call,
            self.resource,
            self.options,
            self.part,
            self.applied,
            current,
            &self.versions.lock(),
        );
        let mut merged = merged.map_err(|error| {
            if let ApplyError::Wants(wanted) = &error {
                *self.wanted.lock() = Some(Wanted::clone(wanted));
            }
            ApiError::from(error)
        })?;
        decode::object_to_applied(self.call, &self.duplicates)?;
        self.check_shape(&merged)?;
        if current.is_none() {
            self.check_uid()?;
        }
        decode::check_namespace(self.call, self.resource, &mut merged)?;
        if current.is_none() {
            decode::check_name(self.call, &merged)?;
        }
        merged.set_meta_str("name", &self.call.info.name);
        decode::default(self.resource, &mut merged)?;
        Ok(merged)
    }

    /// What fits the schema of those who merge need not fit the kind.
    fn check_shape(&self, merged: &Object) -> Result<(), ApiError> {
        let kind = &self.resource.kind;
        if kind.may_be_outdated() {
            return Ok(());
        }
        let Some(why) = kind.check_fields(&mut merged.clone(), &[]).type_error else {
            return Ok(());
        };
        let names = kind.names();
        let what = format!("{}/{}, Kind={}", names.group, names.version, names.kind);
        let place = format!("{}/{}", self.applied.namespace(), self.applied.name());
        // Times are read by a reader of their own.
        let step = match why.starts_with("parsing time") {
            true => "",
            false => "error decoding from json: ",
        };
        let message = format!(
            "failed to convert new object ({place}; {what}) to proper version: unable to convert unstructured object to \
             {what}: {step}{why}"
        );
        Err(ApiError::new(500, "", message))
    }

    /// Only what exists has a UID.
    fn check_uid(&self) -> Result<(), ApiError> {
        match self.applied.uid() {
            "" => Ok(()),
            uid => Err(self.resource.conflict(
                &self.call.info.name,
                format!(
                    "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                ),
            )),
        }
    }
}

impl Change for Applied<'_> {
    fn make(&self, current: &Object) -> Result<Object, ApiError> {
        self.apply(Some(current))
    }

    fn ownership(&self) -> Ownership {
        Ownership::Settled
    }

    fn wanted(&self) -> Option<Wanted> {
        self.wanted.lock().take()
    }

    fn learn(&self, wanted: Wanted, found: Option<(Value, Schema)>) {
        self.versions.lock().learn(wanted, found);
    }

    fn make_new(&self) -> Option<Result<Object, ApiError>> {
        (self.part == Part::Main).then(|| self.apply(None))
    }
}
