//! Files with settings: each says what it is, and is read strictly.

use machinery::codec;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads the text of a file that must be of a kind of `apiserver.config.k8s.io`.
///
/// # Errors
/// What keeps it from being one: its syntax, its kind, or a field that is unknown or there twice.
pub(crate) fn read<T: DeserializeOwned>(text: &str, kind: &str) -> Result<T, String> {
    let decoded = codec::decode_yaml_value(text.as_bytes());
    let (value, duplicates) = decoded.map_err(|e| e.to_string())?;
    if let Some(duplicate) = duplicates.first() {
        return Err(strict(duplicate));
    }
    let text = |key: &str| value[key].as_str().unwrap_or_default();
    let (version, found) = (text("apiVersion"), text("kind"));
    let known = ["v1", "v1beta1", "v1alpha1"].map(|v| format!("apiserver.config.k8s.io/{v}"));
    if found != kind || !known.iter().any(|k| k == version) {
        return Err(format!(
            "expected {kind} of apiserver.config.k8s.io/v1, found {found} of {version}"
        ));
    }
    body(value)
}

/// What a document says beside what it is.
///
/// # Errors
/// A field that is unknown or of another type.
pub(crate) fn body<T: DeserializeOwned>(mut document: Value) -> Result<T, String> {
    if let Value::Object(fields) = &mut document {
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    serde_json::from_value(document).map_err(strict)
}

/// What a strict reader says.
fn strict(error: impl std::fmt::Display) -> String {
    format!("strict decoding error: {error}")
}
