//! Secret: keys and values that are not for everybody's eyes. `stringData` is a way to write `data`; it is never kept.
//!
//! Upstream: `pkg/registry/core/secret`, `ValidateSecret*` in `pkg/apis/core/validation`.

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret as Typed;
use machinery::certificate::pair_problem;
use machinery::codec::{DecodeError, decode_json_value};
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path, names};
use serde_json::Value;

use crate::check::ErrorListExt;
use crate::columns;
use crate::core::configmap::{DATA_MAX, IMMUTABLE_WHEN_SET};
use crate::kind::{self, Context, Kind, Names, Part, Scope};
use crate::view::OrEmpty;

/// A token of a service account, kept for as long as the Secret is.
pub const SERVICE_ACCOUNT_TOKEN: &str = "kubernetes.io/service-account-token";
/// The annotation that names a token's service account.
pub const SERVICE_ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
/// The annotation that holds the UID of a token's service account.
pub const SERVICE_ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

/// The kind `Secret`.
pub struct Secret;

impl Kind for Secret {
    type Object = Typed;
    const NAMES: Names = Names::new("", "v1", "Secret", "secrets", "secret");
    const SCOPE: Scope = Scope::Namespaced;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text(
            "Type",
            "Used to facilitate programmatic handling of secret data. More info: \
             https://kubernetes.io/docs/concepts/configuration/secret/#secret-types",
        ),
        columns::text(
            "Data",
            "Data contains the secret data. Each key must consist of alphanumeric \
                               characters, '-', '_' or '.'. The serialized form of the secret data \
                               is a base64 encoded string, representing the arbitrary (possibly \
                               non-string) data value here. Described in \
                               https://tools.ietf.org/html/rfc4648#section-4",
        ),
        columns::AGE,
    ];
    const SELECTABLE: &'static [&'static str] = &["type"];

    fn default(object: &mut Typed) {
        crate::view::fill(&mut object.type_, "Opaque");
        if let Some(texts) = object.string_data.take() {
            let data = object.data.get_or_insert_default();
            data.extend(
                texts
                    .into_iter()
                    .map(|(k, v)| (k, ByteString(v.into_bytes()))),
            );
        }
    }

    fn prepare_update(_context: &Context, _part: Part, new: &mut Object, old: &Object) {
        // An empty type stands for the one that is there: it may not change.
        if new.str_at(&["type"]).is_empty() {
            kind::set_or_remove(new, "type", old.0.get("type").cloned());
        }
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = Path::new("data");
        let mut size = 0;
        for (key, value) in new.data.iter().flatten() {
            errors.invalid_each(&path.key(key), key, names::config_map_key(key));
            size += value.0.len();
        }
        if size > DATA_MAX {
            errors.too_long(&path, DATA_MAX);
        }
        by_type(&mut errors, &path, new);
        errors
    }

    fn validate_update(context: &Context, _part: Part, new: &Typed, old: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        errors.immutable(&Path::new("type"), &new.type_.text(), &old.type_.text());
        if old.immutable == Some(true) {
            if new.immutable != Some(true) {
                errors.forbidden(&Path::new("immutable"), IMMUTABLE_WHEN_SET);
            }
            if new.data != old.data {
                errors.forbidden(&Path::new("data"), IMMUTABLE_WHEN_SET);
            }
        }
        errors.append(Self::validate_create(context, new));
        errors
    }

    fn warnings(new: &Typed) -> Vec<String> {
        if new.type_.text() != "kubernetes.io/tls" {
            return Vec::new();
        }
        let part = |key: &str| {
            let data = new.data.as_ref().and_then(|data| data.get(key));
            data.map_or(&[][..], |value| &value.0)
        };
        let problem = pair_problem(part("tls.crt"), part("tls.key"));
        problem.into_iter().collect()
    }

    fn selectable_fields(object: &Object) -> Vec<(&'static str, String)> {
        vec![("type", object.str_at(&["type"]).to_owned())]
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let keys = object.data.as_ref().map_or(0, |d| d.len());
        let name = tree.name().into();
        Row::from(vec![
            name,
            object.type_.text().into(),
            keys.into(),
            kind::age(tree, now).into(),
        ])
    }
}

/// What each well-known type must hold.
fn by_type(errors: &mut ErrorList, path: &Path, secret: &Typed) {
    let value = |key: &str| secret.data.as_ref().and_then(|d| d.get(key));
    let mut need = |key: &str| {
        if value(key).is_none() {
            errors.required(&path.key(key), "");
        }
    };
    match secret.type_.text() {
        SERVICE_ACCOUNT_TOKEN => {
            let annotations = secret.metadata.annotations.as_ref();
            let name = annotations.and_then(|a| a.get(SERVICE_ACCOUNT_NAME));
            if name.is_none_or(String::is_empty) {
                let path = Path::new("metadata")
                    .child("annotations")
                    .key(SERVICE_ACCOUNT_NAME);
                errors.required(&path, "");
            }
        }
        "kubernetes.io/dockercfg" => docker_config(errors, path, secret, ".dockercfg"),
        "kubernetes.io/dockerconfigjson" => {
            docker_config(errors, path, secret, ".dockerconfigjson");
        }
        "kubernetes.io/basic-auth"
            if value("username").is_none() && value("password").is_none() =>
        {
            need("username");
            need("password");
        }
        "kubernetes.io/ssh-auth" if value("ssh-privatekey").is_none_or(|v| v.0.is_empty()) => {
            errors.required(&path.key("ssh-privatekey"), "");
        }
        "kubernetes.io/tls" => {
            need("tls.crt");
            need("tls.key");
        }
        _ => {}
    }
}

/// The content must be a JSON object; a message never shows it.
fn docker_config(errors: &mut ErrorList, path: &Path, secret: &Typed, key: &str) {
    let path = path.key(key);
    match secret.data.as_ref().and_then(|d| d.get(key)) {
        None => errors.required(&path, ""),
        Some(content) => {
            let why = match decode_json_value(&content.0) {
                Ok((Value::Object(_) | Value::Null, _)) => return,
                Ok((value, _)) => DecodeError::NotAnObject(go_kind(&value)).to_string(),
                Err(why) => why.to_string(),
            };
            errors.invalid(&path, "<secret contents redacted>", why);
        }
    }
}

/// The name of a JSON type in messages.
fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Null | Value::Object(_) => "object",
    }
}
