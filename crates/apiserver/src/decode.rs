//! Bodies become objects: read within bounds, checked against the request, completed, defaulted.
//!
//! Behaviour and wording: `k8s.io/apiserver/pkg/endpoints/handlers/{create,update,rest}.go`.

use bytes::Bytes;
use machinery::codec::{self, DecodeError, Decoded, MAX_BODY_BYTES};
use machinery::{ApiError, Object};

use crate::body::{RequestBody, read_limited};
use crate::call::Call;
use crate::negotiate::{Media, body_media};
use crate::protobuf;
use crate::resource::Resource;

/// Reads the whole body.
///
/// # Errors
/// 413 beyond the limit, 400 when it breaks off.
pub(crate) async fn bytes(call: &Call, body: RequestBody) -> Result<Bytes, ApiError> {
    match read_limited(body, MAX_BODY_BYTES).await {
        Ok(Some(bytes)) => {
            let of = (&*call.info.group, &*call.info.resource);
            (call.server.metrics().measures).read(of, call.info.verb, bytes.len());
            Ok(bytes)
        }
        Ok(None) => Err(too_large(MAX_BODY_BYTES)),
        Err(error) => Err(ApiError::bad_request(format!(
            "error reading the request body: {error}"
        ))),
    }
}

fn too_large(limit: usize) -> ApiError {
    let why = format!("Request entity too large: limit is {limit}");
    ApiError::new(413, "RequestEntityTooLarge", why)
}

/// Reads one object in the encoding of the request's `Content-Type`.
pub(crate) fn parse(media: Media, bytes: &[u8]) -> Result<Decoded, DecodeError> {
    match media {
        Media::Json => codec::decode_json(bytes),
        Media::Yaml => codec::decode_yaml(bytes),
        Media::Cbor => codec::decode_cbor(bytes),
        Media::Protobuf => match protobuf::decode(bytes) {
            Ok(object) => Ok(Decoded {
                object,
                duplicates: Vec::new(),
            }),
            Err(error) => Err(DecodeError::Syntax(error.to_string())),
        },
    }
}

/// Reads the body as an object of any kind.
///
/// # Errors
/// 413, 415, or 400 when it cannot be read.
pub(crate) async fn any(call: &Call, body: RequestBody) -> Result<Decoded, ApiError> {
    let media = body_media(&call.headers)?;
    let decoded = parse(media, &bytes(call, body).await?).map_err(unread)?;
    call.trail.request_body(&decoded.object);
    Ok(decoded)
}

/// 400 for a body that is none.
pub(crate) fn unread(error: DecodeError) -> ApiError {
    match error {
        DecodeError::TooLarge { limit } => too_large(limit),
        other => ApiError::bad_request(format!(
            "couldn't get version/kind; json parse error: {}",
            of_type_meta(&other)
        )),
    }
}

/// Reads the body as an object of the resource's kind, strict as the request wants it, and fills its defaults.
///
/// # Errors
/// As [`any`], and 400 for another kind, another shape or (`fieldValidation=Strict`) unknown fields.
pub(crate) async fn object(
    call: &Call,
    resource: &Resource,
    body: RequestBody,
) -> Result<Object, ApiError> {
    // Custom kinds have no protobuf.
    let media = body_media(&call.headers)?;
    let is_custom = resource.kind.may_be_outdated();
    if is_custom && media == Media::Protobuf {
        let known = ["application/json", "application/yaml"];
        return Err(ApiError::unsupported_media_type(&known));
    }
    let text = bytes(call, body).await?;
    let Decoded {
        mut object,
        duplicates,
    } = match parse(media, &text) {
        // To Go a null says nothing of a struct.
        Err(DecodeError::NotAnObject("null")) => Decoded::default(),
        read => read.map_err(|error| unrecognized(resource, media, &text, error))?,
    };
    check_type(resource, &mut object)?;
    // A custom object is read whole before its kind looks at it: what is there twice comes first.
    let order = (media == Media::Json && !is_custom).then_some(&*text);
    check_fields(call, resource, &mut object, &duplicates, order)?;
    default(resource, &mut object)?;
    call.trail.request_body(&object);
    Ok(object)
}

/// The kind of a body is looked for before all else, by a struct of its own.
fn of_type_meta(error: &DecodeError) -> String {
    const META: &str = "struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \
        \"json:\\\"kind,omitempty\\\"\" }";
    error.to_string().replace("map[string]interface {}", META)
}

/// 400 for a body of which not even the kind can be read; it is told in short.
fn unrecognized(resource: &Resource, media: Media, body: &[u8], error: DecodeError) -> ApiError {
    const SHOWN: usize = 30;
    if let DecodeError::TooLarge { .. } = error {
        return unread(error);
    }
    let why = of_type_meta(&error);
    let short = &body[..body.len().min(SHOWN)];
    let text = match body.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => String::from_utf8_lossy(short).into_owned(),
        Some(_) => short.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    let more = if body.len() > SHOWN { " ..." } else { "" };
    // YAML becomes JSON before anybody looks for its kind.
    let step = match (media, error) {
        (Media::Yaml | Media::Protobuf, DecodeError::Syntax(_)) => "",
        _ => "couldn't get version/kind; json parse error: ",
    };
    ApiError::bad_request(format!(
        "the object provided is unrecognized (must be of type {}): {step}{why} ({text}{more})",
        resource.names().kind
    ))
}

/// 400 for a kind that is none.
pub(crate) fn unregistered(kind: &str, api_version: &str) -> ApiError {
    ApiError::bad_request(no_kind(kind, api_version))
}

fn no_kind(kind: &str, api_version: &str) -> String {
    format!(
        "no kind {kind:?} is registered for version {api_version:?} in scheme \"pkg/runtime/scheme.go:111\""
    )
}

/// Fills defaults; what does not have the kind's shape is refused.
///
/// # Errors
/// 400.
pub(crate) fn default(resource: &Resource, object: &mut Object) -> Result<(), ApiError> {
    resource
        .kind
        .default(object)
        .map_err(|error| wrong_shape(resource, &error))
}

/// 400 for an object that does not have its kind's shape.
pub(crate) fn wrong_shape(resource: &Resource, error: &dyn std::fmt::Display) -> ApiError {
    let (kind, version) = (resource.names().kind, resource.names().version);
    ApiError::bad_request(format!(
        "{kind} in version {version:?} cannot be handled as a {kind}: {error}"
    ))
}

/// Checks `apiVersion` and `kind`, or fills them in.
fn check_type(resource: &Resource, object: &mut Object) -> Result<(), ApiError> {
    let names = resource.names();
    let (version, kind) = (names.api_version(), names.kind);
    if object.api_version() == version && object.kind() == kind {
        return Ok(());
    }
    let given = (object.api_version().to_owned(), object.kind().to_owned());
    if (given.0.is_empty() || given.0 == version) && (given.1.is_empty() || given.1 == kind) {
        object.set_type(&version, kind);
        return Ok(());
    }
    let (group, short) = given.0.split_once('/').unwrap_or(("", &given.0));
    let known = api::by_kind(group, short, &given.1).is_some();
    let is_custom = resource.kind.may_be_outdated();
    if !known && !is_custom && !given.0.is_empty() && !given.1.is_empty() {
        return Err(ApiError::bad_request(format!(
            "{} in version {short:?} cannot be handled as a {kind}: {}",
            given.1,
            no_kind(&given.1, &given.0)
        )));
    }
    if given.1 == kind {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({}) does not match the expected API version ({version})",
            given.0
        )));
    }
    let package = match names.group.split('.').next() {
        None | Some("") => "core",
        Some(first) => first,
    };
    Err(ApiError::bad_request(format!(
        "{} in version {short:?} cannot be handled as a {kind}: converting ({short}.{}) to ({package}.{kind}): unknown \
         conversion",
        given.1, given.1,
    )))
}

/// Fields of a wrong type are refused. What only a strict reader would object to is refused, told as warnings, or
/// ignored, as the request wants it, in the order of the JSON `document` where one is given.
///
/// # Errors
/// 400 with the decoder's words.
pub(crate) fn check_fields(
    call: &Call,
    resource: &Resource,
    object: &mut Object,
    duplicates: &[String],
    document: Option<&[u8]>,
) -> Result<(), ApiError> {
    let mut report = resource.kind.check_fields(object, duplicates);
    if let Some(document) = document {
        machinery::schema::sort_complaints(&mut report.unknown, document);
    }
    if let Some(why) = report.type_error {
        return Err(wrong_shape(resource, &why));
    }
    object_to(call, resource, report.unknown)
}

/// The same for what a server-side apply sends, once it is merged. Its unknown fields are not looked for: whatever the
/// request wants, the merge refuses them with words of its own.
///
/// # Errors
/// 400 with the decoder's words.
pub(crate) fn object_to_applied(call: &Call, duplicates: &[String]) -> Result<(), ApiError> {
    match field_validation(call)? {
        FieldValidation::Ignore => {}
        FieldValidation::Strict if !duplicates.is_empty() => {
            let why = duplicates.join(", ");
            return Err(ApiError::bad_request(format!(
                "error strict decoding patch: error converting YAML to JSON: {why}"
            )));
        }
        _ => duplicates.iter().for_each(|problem| warn(call, problem)),
    }
    Ok(())
}

/// Tells a complaint; one that is a list of the YAML reader's is told line by line.
fn warn(call: &Call, complaint: &str) {
    let lines = complaint.strip_prefix(codec::YAML_COMPLAINTS);
    let lines = lines.map_or(vec![complaint], |lines| lines.lines().collect());
    lines.into_iter().for_each(|line| call.warn(line.trim()));
}

/// Refuses, tells or ignores what only a strict reader objects to.
fn object_to(call: &Call, resource: &Resource, problems: Vec<String>) -> Result<(), ApiError> {
    match field_validation(call)? {
        FieldValidation::Ignore => {}
        FieldValidation::Strict if !problems.is_empty() => {
            let why = machinery::schema::strict_error(&problems);
            return Err(wrong_shape(resource, &why));
        }
        _ => problems.iter().for_each(|problem| warn(call, problem)),
    }
    Ok(())
}

/// What happens to unknown and duplicate fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

/// The `fieldValidation` of a request.
pub(crate) fn field_validation(call: &Call) -> Result<FieldValidation, ApiError> {
    match call.query.text("fieldValidation") {
        "" | "Warn" => Ok(FieldValidation::Warn),
        "Ignore" => Ok(FieldValidation::Ignore),
        "Strict" => Ok(FieldValidation::Strict),
        other => {
            let mut errors = machinery::ErrorList::new();
            let supported = ["", "Ignore", "Strict", "Warn"];
            errors.not_supported(&machinery::Path::new("fieldValidation"), other, &supported);
            Err(ApiError::invalid(
                "meta.k8s.io",
                write_options(call),
                "",
                &errors,
            ))
        }
    }
}

/// The name of the options of a write, as errors give it.
pub(crate) fn write_options(call: &Call) -> &'static str {
    match call.info.verb {
        "create" => "CreateOptions",
        "update" => "UpdateOptions",
        "patch" => "PatchOptions",
        _ => "DeleteOptions",
    }
}

/// The namespace of an object must be that of the path; it is filled in when it is not given.
pub(crate) fn check_namespace(
    call: &Call,
    resource: &Resource,
    object: &mut Object,
) -> Result<(), ApiError> {
    if !resource.is_namespaced() {
        object.set_meta_str("namespace", "");
        return Ok(());
    }
    let wanted = call.info.namespace.as_str();
    if wanted.is_empty() {
        return Err(ApiError::bad_request(
            "an empty namespace may not be set during creation",
        ));
    }
    match object.namespace() {
        "" => object.set_meta_str("namespace", wanted),
        given if given == wanted => {}
        _ => {
            let why = "the namespace of the provided object does not match the namespace sent on the request";
            return Err(ApiError::bad_request(why));
        }
    }
    Ok(())
}

/// The name of an object that replaces another must be that of the path.
pub(crate) fn check_name(call: &Call, object: &Object) -> Result<(), ApiError> {
    let (given, wanted) = (object.name(), call.info.name.as_str());
    if given.is_empty() {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({wanted} based on URL) was undeterminable: name must be provided"
        )));
    }
    if given != wanted {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({wanted})"
        )));
    }
    Ok(())
}
