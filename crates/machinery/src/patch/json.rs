//! JSON patch (RFC 6902), bounded (security lesson 2019-1002100).
//!
//! Leniencies and wording are those of `gopkg.in/evanphx/json-patch.v4`, which upstream uses: negative indices count from
//! the end, `replace` of a key that an object lacks adds it.

use serde_json::{Map, Value};

use super::PatchError;
use crate::value::same;

/// The most operations in one patch.
pub const MAX_OPERATIONS: usize = 10_000;
/// The most bytes that `copy` operations of one patch may add.
pub const MAX_COPY_BYTES: usize = 3 * 1024 * 1024;

/// Applies a patch; on error the target is left half-patched and must be thrown away.
///
/// # Errors
/// The patch is malformed, too large, or does not fit.
pub fn apply(target: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let Value::Array(operations) = patch else {
        let kind = crate::codec::go_kind(patch);
        return Err(PatchError::BadRequest(format!(
            "json: cannot unmarshal {kind} into Go value of type jsonpatch.Patch"
        )));
    };
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    let mut copied = 0;
    for operation in operations {
        let Value::Object(operation) = operation else {
            let kind = crate::codec::go_kind(operation);
            return Err(PatchError::BadRequest(format!(
                "json: cannot unmarshal {kind} into Go value of type jsonpatch.Operation"
            )));
        };
        step(target, operation, &mut copied)?;
    }
    Ok(())
}

fn fail(why: String) -> PatchError {
    PatchError::Unprocessable(why)
}

fn step(
    doc: &mut Value,
    operation: &Map<String, Value>,
    copied: &mut usize,
) -> Result<(), PatchError> {
    let text = |key: &str| operation.get(key).and_then(Value::as_str);
    let kind = text("op").unwrap_or("unknown");
    let decode = |what: &str, why: &str| {
        fail(format!(
            "{kind} operation failed to decode {what}: {why}missing value"
        ))
    };
    let path = |why| text("path").ok_or_else(|| decode("path", why));
    let from = || text("from").ok_or_else(|| decode("from", "operation, missing from field: "));
    const NO_PATH: &str = "operation missing path field: ";
    let value = || operation.get("value").cloned().unwrap_or_default();
    match kind {
        "add" => add(doc, path("")?, value()),
        "remove" => remove(doc, path("")?),
        "replace" => replace(doc, path(NO_PATH)?, value()),
        "test" => test(doc, path(NO_PATH)?, &value()),
        "move" => {
            let taken = move_out(doc, from()?)?;
            move_in(doc, path(NO_PATH)?, taken)
        }
        "copy" => {
            let value = copy_out(doc, from()?)?;
            copy_in(doc, path("")?, value, copied)
        }
        other => Err(fail(format!("Unexpected kind: {other}"))),
    }
}

/// The container that holds the last segment of a path, and that segment.
fn find<'a>(doc: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    let mut segments = path.split('/').skip(1).map(unescape);
    let mut key = segments.next()?;
    let mut container = doc;
    for next in segments {
        let child = match container {
            Value::Object(map) => map.get_mut(&key)?,
            Value::Array(list) => {
                let index = index(&key, list.len()).ok()?;
                list.get_mut(index)?
            }
            _ => return None,
        };
        container = child;
        key = next;
    }
    (container.is_object() || container.is_array()).then_some((container, key))
}

fn unescape(segment: &str) -> String {
    segment.replace("~1", "/").replace("~0", "~")
}

/// An index below `len`; negative ones count from the end.
fn index(key: &str, len: usize) -> Result<usize, String> {
    let number: i64 = key
        .parse()
        .map_err(|_| format!("strconv.Atoi: parsing {key:?}: invalid syntax"))?;
    let bad = || format!("Unable to access invalid index: {number}: invalid index referenced");
    let length = i64::try_from(len).map_err(|_| bad())?;
    let index = if number < 0 { number + length } else { number };
    match usize::try_from(index) {
        Ok(index) if index < len => Ok(index),
        _ => Err(bad()),
    }
}

fn get(container: &Value, key: &str) -> Result<Option<Value>, String> {
    match container {
        Value::Object(map) => Ok(map.get(key).cloned()),
        Value::Array(list) => Ok(list.get(index(key, list.len())?).cloned()),
        _ => Ok(None),
    }
}

fn insert(container: &mut Value, key: &str, value: Value) -> Result<(), String> {
    match container {
        Value::Object(map) => {
            map.insert(key.to_owned(), value);
        }
        Value::Array(list) if key == "-" => list.push(value),
        Value::Array(list) => {
            let place = index(key, list.len() + 1).map_err(|e| match key.parse::<i64>() {
                Ok(_) => e,
                Err(_) => format!("value was not a proper array index: '{key}': {e}"),
            })?;
            list.insert(place, value);
        }
        _ => {}
    }
    Ok(())
}

fn take(container: &mut Value, key: &str) -> Result<Value, String> {
    match container {
        Value::Object(map) => map
            .remove(key)
            .ok_or_else(|| format!("Unable to remove nonexistent key: {key}: missing value")),
        Value::Array(list) => {
            let index = index(key, list.len())?;
            Ok(list.remove(index))
        }
        _ => Err("unknown object type".to_owned()),
    }
}

fn add(doc: &mut Value, path: &str, value: Value) -> Result<(), PatchError> {
    let (container, key) = find(doc, path).ok_or_else(|| {
        fail(format!(
            "add operation does not apply: doc is missing path: \"{path}\": missing value"
        ))
    })?;
    insert(container, &key, value)
        .map_err(|e| fail(format!("error in add for path: '{path}': {e}")))
}

fn remove(doc: &mut Value, path: &str) -> Result<(), PatchError> {
    let (container, key) = find(doc, path).ok_or_else(|| {
        fail(format!(
            "remove operation does not apply: doc is missing path: \"{path}\": missing value"
        ))
    })?;
    let taken = take(container, &key);
    taken.map_err(|e| fail(format!("error in remove for path: '{path}': {e}")))?;
    Ok(())
}

fn replace(doc: &mut Value, path: &str, value: Value) -> Result<(), PatchError> {
    if path.is_empty() {
        if !value.is_object() && !value.is_array() {
            let why = "replace operation value must be object or array: %!w(<nil>)";
            return Err(fail(why.to_owned()));
        }
        *doc = value;
        return Ok(());
    }
    let absent = |what: &str| {
        fail(format!(
            "replace operation does not apply: doc is missing {what}: {path}: missing value"
        ))
    };
    let (container, key) = find(doc, path).ok_or_else(|| absent("path"))?;
    match container {
        Value::Array(list) => {
            let index = index(&key, list.len()).map_err(|_| absent("key"))?;
            list[index] = value;
        }
        other => {
            insert(other, &key, value).map_err(|_| absent("key"))?;
        }
    }
    Ok(())
}

fn test(doc: &mut Value, path: &str, expected: &Value) -> Result<(), PatchError> {
    let failed = || fail(format!("testing value {path} failed: test failed"));
    if path.is_empty() {
        return if same(doc, expected) {
            Ok(())
        } else {
            Err(failed())
        };
    }
    let (container, key) = find(doc, path).ok_or_else(|| {
        fail(format!(
            "test operation does not apply: is missing path: {path}: missing value"
        ))
    })?;
    let found = get(container, &key);
    let found = found.map_err(|e| fail(format!("error in test for path: '{path}': {e}")))?;
    if same(&found.unwrap_or(Value::Null), expected) {
        Ok(())
    } else {
        Err(failed())
    }
}

fn missing(kind: &str, what: &str, path: &str) -> PatchError {
    fail(format!(
        "{kind} operation does not apply: doc is missing {what} path: {path}: missing value"
    ))
}

fn move_out(doc: &mut Value, from: &str) -> Result<Value, PatchError> {
    let (container, key) = find(doc, from).ok_or_else(|| missing("move", "from", from))?;
    let value = take(container, &key);
    value.map_err(|e| fail(format!("error in move for path: '{key}': {e}")))
}

fn move_in(doc: &mut Value, path: &str, value: Value) -> Result<(), PatchError> {
    let (container, key) = find(doc, path).ok_or_else(|| missing("move", "destination", path))?;
    insert(container, &key, value)
        .map_err(|e| fail(format!("error in move for path: '{path}': {e}")))
}

fn copy_out(doc: &mut Value, from: &str) -> Result<Value, PatchError> {
    let (container, key) = find(doc, from).ok_or_else(|| missing("copy", "from", from))?;
    let value = get(container, &key);
    let value = value.map_err(|e| fail(format!("error in copy for from: '{from}': {e}")))?;
    Ok(value.unwrap_or_default())
}

fn copy_in(
    doc: &mut Value,
    path: &str,
    value: Value,
    copied: &mut usize,
) -> Result<(), PatchError> {
    let (container, key) = find(doc, path).ok_or_else(|| missing("copy", "destination", path))?;
    *copied += value.to_string().len();
    if *copied > MAX_COPY_BYTES {
        return Err(PatchError::TooLarge(format!(
            "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPY_BYTES}"
        )));
    }
    insert(container, &key, value)
        .map_err(|e| fail(format!("error while adding value during copy: {e}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(doc: Value, patch: Value) -> Result<Value, String> {
        let mut doc = doc;
        apply(&mut doc, &patch).map_err(|e| e.to_string())?;
        Ok(doc)
    }

    #[test]
    fn operations_apply() {
        for (doc, patch, expected) in [
            (
                json!({}),
                json!([{"op":"add","path":"/a","value":1}]),
                json!({"a":1}),
            ),
            (
                json!({"a":[1,3]}),
                json!([{"op":"add","path":"/a/1","value":2}]),
                json!({"a":[1,2,3]}),
            ),
            (
                json!({"a":[1]}),
                json!([{"op":"add","path":"/a/-","value":2}]),
                json!({"a":[1,2]}),
            ),
            (
                json!({"a":[1,2]}),
                json!([{"op":"remove","path":"/a/-1"}]),
                json!({"a":[1]}),
            ),
            (
                json!({"a/b":1}),
                json!([{"op":"replace","path":"/a~1b","value":2}]),
                json!({"a/b":2}),
            ),
            (
                json!({}),
                json!([{"op":"replace","path":"/a","value":2}]),
                json!({"a":2}),
            ),
            (
                json!({"a":1}),
                json!([{"op":"move","from":"/a","path":"/b"}]),
                json!({"b":1}),
            ),
            (
                json!({"a":1}),
                json!([{"op":"copy","from":"/a","path":"/b"}]),
                json!({"a":1,"b":1}),
            ),
            (
                json!({"a":1}),
                json!([{"op":"test","path":"/a","value":1.0}]),
                json!({"a":1}),
            ),
        ] {
            assert_eq!(run(doc, patch), Ok(expected));
        }
    }

    #[test]
    fn failures_have_upstream_wording() {
        for (patch, expected) in [
            (
                json!([{"op":"remove","path":"/x"}]),
                "error in remove for path: '/x': Unable to remove nonexistent key: x: missing value",
            ),
            (
                json!([{"op":"add","path":"/x/y","value":1}]),
                "add operation does not apply: doc is missing path: \"/x/y\": missing value",
            ),
            (
                json!([{"op":"test","path":"/a","value":2}]),
                "testing value /a failed: test failed",
            ),
            (
                json!([{"op":"replace","path":"/l/5","value":2}]),
                "replace operation does not apply: doc is missing key: /l/5: missing value",
            ),
            (json!([{"op":"jump"}]), "Unexpected kind: jump"),
            (
                json!({}),
                "json: cannot unmarshal object into Go value of type jsonpatch.Patch",
            ),
        ] {
            assert_eq!(run(json!({"a":1,"l":[]}), patch), Err(expected.to_owned()));
        }
    }

    #[test]
    fn cve_2019_1002100_patches_are_bounded() {
        let many = vec![json!({"op":"add","path":"/a","value":1}); MAX_OPERATIONS + 1];
        let error = apply(&mut json!({}), &Value::Array(many)).unwrap_err();
        assert!(matches!(error, PatchError::TooLarge(_)));
        // Each copy doubles the list.
        let mut doc = json!({"a": ["x".repeat(1024)]});
        let double = vec![json!({"op":"copy","from":"/a","path":"/a/-"}); 40];
        let error = apply(&mut doc, &Value::Array(double)).unwrap_err();
        assert!(matches!(error, PatchError::TooLarge(_)));
    }
}
