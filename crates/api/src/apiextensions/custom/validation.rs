//! Everything wrong with an object of a custom kind.
//!
//! Behaviour: `.../registry/customresource/{strategy,status_strategy,validator}.go`.

use machinery::field::{ErrorType, FieldError};
use machinery::structural::{self, list_duplicates};
use machinery::{ErrorList, Object, Path};
use serde_json::Value;

use super::{Custom, embedded};
use crate::{Part, meta};

/// Everything wrong with a new object, or with one that replaces `old` through `part`.
pub(super) fn validate(kind: &Custom, part: Part, new: &Object, old: Option<&Object>) -> ErrorList {
    let schema = kind.version().structural();
    let tree = Value::Object(new.0.clone());
    let before = old.map(|old| Value::Object(old.0.clone()));
    let mut errors = match part {
        Part::Status => status(kind, &tree, before.as_ref()),
        _ => structural::validate(&tree, before.as_ref(), schema, &Path::default()),
    };
    if part != Part::Status {
        scale_spec(&mut errors, kind, new);
    }
    scale_status(&mut errors, kind, new);
    if part != Part::Status {
        // The root's own metadata has been checked like that of any object.
        for (key, value) in &new.0 {
            if let Some(schema) = schema.child(key) {
                embedded::validate(&mut errors, &Path::new(key), value, schema);
            }
        }
    }
    // What was wrong already may stay wrong.
    let repeats = |tree: &Value| list_duplicates(tree, schema);
    if before
        .as_ref()
        .is_none_or(|before| repeats(before).is_empty())
    {
        errors.append(repeats(&tree));
    }
    if !structural::has_rules(schema) {
        return errors;
    }
    let meta = match old {
        None => meta::validate_object_meta(kind, new),
        Some(old) => meta::validate_object_meta_update(new, old),
    };
    if errors.0.iter().chain(&meta.0).any(is_blocking) {
        let why = "some validation rules were not checked because the object was invalid; correct the existing errors to \
            complete validation";
        errors.invalid(&Path::new("<nil>"), Value::Null, why);
    } else {
        errors.append(structural::check_rules(&tree, before.as_ref(), schema));
    }
    errors
}

/// Rules are not run over an object of the wrong shape.
fn is_blocking(error: &FieldError) -> bool {
    matches!(
        error.kind,
        ErrorType::NotSupported
            | ErrorType::Required
            | ErrorType::TooLong
            | ErrorType::TooMany
            | ErrorType::TypeInvalid
    )
}

fn status(kind: &Custom, new: &Value, old: Option<&Value>) -> ErrorList {
    let schema = kind.version().structural().properties.get("status");
    match (new.get("status"), schema) {
        (Some(status), Some(schema)) => {
            let old = old.and_then(|old| old.get("status"));
            structural::validate(status, old, schema, &Path::new("status"))
        }
        _ => ErrorList::new(),
    }
}

/// The value at a path; Go's complaint about what is no object on the way there.
fn at<'a>(object: &'a Object, path: &[Box<str>]) -> Result<Option<&'a Value>, String> {
    let Some((first, rest)) = path.split_first() else {
        return Ok(None);
    };
    let mut there = object.0.get(&**first);
    for (depth, key) in rest.iter().enumerate() {
        there = match there {
            Some(Value::Object(fields)) => fields.get(&**key),
            Some(Value::Null) | None => return Ok(None),
            Some(other) => {
                let at = &path[..depth + 2];
                return Err(wrong_type(at, other, "map[string]interface{}"));
            }
        };
    }
    Ok(there)
}

fn wrong_type(path: &[Box<str>], value: &Value, wanted: &str) -> String {
    format!(
        ".{} accessor error: {} is of the type {}, expected {wanted}",
        path.join("."),
        machinery::value::go_display(value),
        machinery::value::go_type(value)
    )
}

fn replicas(errors: &mut ErrorList, object: &Object, path: &[Box<str>]) {
    let name = Path::new(&format!(".{}", path.join(".")));
    let value = match at(object, path) {
        Ok(Some(value)) => value,
        Ok(None) => return,
        Err(why) => return errors.invalid(&name, 0, why),
    };
    match value.as_i64() {
        None => errors.invalid(&name, 0, wrong_type(path, value, "int64")),
        Some(n) if n < 0 => errors.invalid(&name, n, "should be a non-negative integer"),
        Some(n) if n > i64::from(i32::MAX) => {
            let why = format!("should be less than or equal to {}", i32::MAX);
            errors.invalid(&name, n, why);
        }
        Some(_) => {}
    }
}

fn scale_spec(errors: &mut ErrorList, kind: &Custom, object: &Object) {
    if let Some(scale) = &kind.version().scale {
        replicas(errors, object, &scale.spec_replicas);
    }
}

fn scale_status(errors: &mut ErrorList, kind: &Custom, object: &Object) {
    let Some(scale) = &kind.version().scale else {
        return;
    };
    replicas(errors, object, &scale.status_replicas);
    let why = match at(object, &scale.selector) {
        Ok(None | Some(Value::String(_))) => return,
        Ok(Some(value)) => wrong_type(&scale.selector, value, "string"),
        Err(why) => why,
    };
    let at = Path::new(&format!(".{}", scale.selector.join(".")));
    errors.invalid(&at, "", why);
}
