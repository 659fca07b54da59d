//! Strategic merge patch: like a merge patch, but lists merge by key where the schema says so.
//!
//! Directives: `$patch: replace|delete|merge`, `$retainKeys`, `$deleteFromPrimitiveList/field`,
//! `$setElementOrder/field`. Behaviour and wording: `k8s.io/apimachinery/pkg/util/strategicpatch`.

mod order;

use serde_json::{Map, Value};

use super::PatchError;
use crate::schema::Schema;
use crate::value::{go_display, go_type};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList";
const SET_ORDER: &str = "$setElementOrder";

/// Applies a patch to an object of this schema; without a schema no list merges.
///
/// # Errors
/// The patch is malformed or does not fit.
pub fn apply(target: &mut Value, patch: &Value, schema: Option<&Schema>) -> Result<(), PatchError> {
    let Value::Object(patch) = patch else {
        return Err(bad_request("invalid JSON document"));
    };
    let original = match std::mem::take(target) {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    *target = Value::Object(merge_map(original, patch.clone(), schema)?);
    Ok(())
}

fn bad_request(why: &str) -> PatchError {
    PatchError::BadRequest(why.to_owned())
}

fn bad_order() -> PatchError {
    bad_request("invalid patch format of setElementOrder list")
}

fn no_merge_key(item: &Value, key: &str) -> PatchError {
    let item = go_display(item);
    PatchError::Internal(format!(
        "map: {item} does not contain declared merge key: {key}"
    ))
}

fn bad_type(expected: &str, value: &Value) -> PatchError {
    let actual = go_type(value);
    PatchError::Internal(format!("expected a {expected}, but received a {actual}"))
}

const GO_LIST: &str = "[]interface {}";

fn merge_map(
    mut original: Map<String, Value>,
    mut patch: Map<String, Value>,
    schema: Option<&Schema>,
) -> Result<Map<String, Value>, PatchError> {
    if let Some(directive) = patch.get(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => {
                patch.remove(DIRECTIVE);
                Ok(patch)
            }
            Some("delete") => Ok(Map::new()),
            _ => {
                let kind = go_display(directive);
                let map = go_display(&Value::Object(patch.clone()));
                Err(PatchError::Internal(format!(
                    "unknown patch type: {kind} in map: {map}"
                )))
            }
        };
    }
    retain_keys(&mut original, &mut patch)?;
    order::merge_ordered(&mut original, &mut patch, schema)?;
    for (key, value) in patch {
        merge_field(&mut original, &key, value, schema)?;
    }
    Ok(original)
}

/// `$retainKeys` names all keys that may stay.
fn retain_keys(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
) -> Result<(), PatchError> {
    let bad = || bad_request("invalid patch format of retainKeys");
    let Some(keys) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let keys = keys.as_array().ok_or_else(bad)?;
    let listed = |key: &str| keys.iter().any(|k| k.as_str() == Some(key));
    let exempt = |key: &str| key.starts_with(DELETE_FROM) || key.starts_with(SET_ORDER);
    let stray = |(key, value): (&String, &Value)| !value.is_null() && !exempt(key) && !listed(key);
    if patch.iter().any(stray) {
        return Err(bad());
    }
    original.retain(|key, _| listed(key));
    Ok(())
}

fn merge_field(
    original: &mut Map<String, Value>,
    key: &str,
    mut value: Value,
    schema: Option<&Schema>,
) -> Result<(), PatchError> {
    let mut deleting = false;
    let mut name = key;
    if key.starts_with(DELETE_FROM) {
        let field = key
            .strip_prefix(DELETE_FROM)
            .and_then(|k| k.strip_prefix('/'));
        name = field.ok_or_else(|| bad_request("invalid patch format of primitive list"))?;
        deleting = true;
    }
    if value.is_null() {
        original.remove(name);
        return Ok(());
    }
    let field = schema.and_then(|s| s.child(name));
    let merged = match (original.remove(name), value) {
        (Some(Value::Object(old)), Value::Object(new)) => {
            let replace = field.is_some_and(|f| f.patch_strategy().replace);
            Some(Value::Object(if replace {
                new
            } else {
                merge_map(old, new, field.map(Schema::resolved))?
            }))
        }
        (Some(Value::Array(old)), Value::Array(new)) => {
            Some(Value::Array(merge_slice(old, new, field, deleting)?))
        }
        (old, _) if deleting => old,
        (_, new) => {
            value = new;
            discard_nulls(&mut value);
            without_directives(value)
        }
    };
    if let Some(merged) = merged {
        original.insert(name.to_owned(), merged);
    }
    Ok(())
}

/// Nulls in what is taken over as a whole have nothing to remove.
fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(discard_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

/// The value without what carries `$patch`; none if it does itself.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains_key(DIRECTIVE) => None,
        Value::Object(map) => {
            let kept = map.into_iter();
            let kept = kept.filter_map(|(k, v)| without_directives(v).map(|v| (k, v)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(items) => Some(items.into_iter().filter_map(without_directives).collect()),
        other => Some(other),
    }
}

fn merge_slice(
    original: Vec<Value>,
    patch: Vec<Value>,
    field: Option<&Schema>,
    deleting: bool,
) -> Result<Vec<Value>, PatchError> {
    let merges = field.is_some_and(|f| f.patch_strategy().merge);
    if !merges && !deleting {
        return Ok(patch);
    }
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    check_elements(&original, &patch)?;
    let maps = original.iter().chain(&patch).any(Value::is_object);
    if !maps {
        if deleting {
            return Ok(original
                .into_iter()
                .filter(|v| !patch.contains(v))
                .collect());
        }
        let mut merged = original.clone();
        for item in &patch {
            if !merged.contains(item) {
                merged.push(item.clone());
            }
        }
        return order::normalize(merged, &patch, &original, None);
    }
    let Some(key) = field.and_then(Schema::merge_key) else {
        let name = field.map(Schema::type_name).unwrap_or_default();
        return Err(PatchError::Internal(format!(
            "cannot merge lists without merge key for {name}"
        )));
    };
    let (original, patch) = special_elements(original, patch, key)?;
    let items = field.and_then(Schema::items).map(Schema::resolved);
    // The order before new elements came: those go before what only the server has.
    let server_order = original.clone();
    let merged = merge_by_key(original, &patch, key, items)?;
    order::normalize(merged, &patch, &server_order, Some(key))
}

/// Elements are all of one type, and none is a list.
fn check_elements(a: &[Value], b: &[Value]) -> Result<(), PatchError> {
    let mut all = a.iter().chain(b);
    let Some(first) = all.next() else {
        return Ok(());
    };
    if first.is_array() {
        let why = "lists of lists are not supported";
        return Err(PatchError::Unprocessable(why.to_owned()));
    }
    if all.any(|v| std::mem::discriminant(v) != std::mem::discriminant(first)) {
        let lists = Value::Array(vec![a.to_vec().into(), b.to_vec().into()]);
        return Err(PatchError::Internal(format!(
            "list element types are not identical: {}",
            go_display(&lists)
        )));
    }
    Ok(())
}

/// Carries out elements with `$patch`: deletions, or the replacement of the whole list.
fn special_elements(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let mut plain = Vec::new();
    let mut replace = false;
    for item in patch {
        let Some(directive) = item.get(DIRECTIVE) else {
            plain.push(item);
            continue;
        };
        match directive.as_str() {
            Some("delete") => {
                let wanted = item.get(key).ok_or_else(|| no_merge_key(&item, key))?;
                original.retain(|own| own.get(key) != Some(wanted));
            }
            Some("replace") => replace = true,
            Some("merge") => {
                let why = "merging lists cannot yet be specified in the patch";
                return Err(PatchError::Internal(why.to_owned()));
            }
            _ => {
                return Err(PatchError::Internal(format!(
                    "unknown patch type: {} in map: {}",
                    go_display(directive),
                    go_display(&item)
                )));
            }
        }
    }
    if replace {
        return Ok((plain, Vec::new()));
    }
    Ok((original, plain))
}

fn merge_by_key(
    mut original: Vec<Value>,
    patch: &[Value],
    key: &str,
    items: Option<&Schema>,
) -> Result<Vec<Value>, PatchError> {
    for item in patch {
        let wanted = item.get(key).ok_or_else(|| no_merge_key(item, key))?;
        let found = original.iter_mut().find(|own| own.get(key) == Some(wanted));
        match (found, item) {
            (Some(slot), Value::Object(patch)) => {
                let old = match std::mem::take(slot) {
                    Value::Object(map) => map,
                    _ => Map::new(),
                };
                *slot = Value::Object(merge_map(old, patch.clone(), items)?);
            }
            _ => original.push(item.clone()),
        }
    }
    Ok(original)
}

#[cfg(test)]
mod tests;
